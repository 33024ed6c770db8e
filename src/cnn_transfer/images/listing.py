"""Listing labelled images where they lie: what there is, and how to read the encoded bytes of it.

A listing is opened, never loaded: its table has one row an image with the columns `id` (unique, independent of where
the set is stored) and `label` (the class name); the encoded images are read in order when somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True)
class ImageListing:
    """Labelled images that have not been read yet.

    Attributes:
        table: One row an image, columns `id` and `label`, both strings.
        read: Yields, for increasing row numbers, the image in the form that its origin has: encoded bytes, the path
            of a file, or pixels ((height, width, channels) uint8).
    """

    table: pd.DataFrame
    read: Callable[[np.ndarray], Iterator[bytes | Path | np.ndarray]]

    def sample(self, images_per_class: int | None, seed: int) -> np.ndarray:
        """Row numbers, increasing, of at most `images_per_class` images of each class (all of them for None)."""
        if images_per_class is None:
            return np.arange(len(self.table))
        shuffled = self.table["label"].sample(frac=1, random_state=seed)
        return np.sort(shuffled.groupby(shuffled).head(images_per_class).index.to_numpy())


def list_images(path: Path) -> ImageListing:
    """List a Parquet file or a folder of class folders.

    Raises:
        FileNotFoundError: When nothing is at `path`.
        ValueError: When it is neither form, or holds no image.
    """
    if not path.exists():
        raise FileNotFoundError(f"Images were expected at {path}, but nothing is there.")
    if path.is_dir():
        return list_class_folders(path)
    if path.suffix == ".parquet":
        return list_parquet(path)
    raise ValueError(f"Images must be a .parquet file or a folder with one folder a class. Received: {path}.")


def list_class_folders(folder: Path) -> ImageListing:
    """List `folder/<class name>/<image file>`, classes and files in alphabetical order."""
    files = sorted(
        file
        for class_folder in folder.iterdir()
        if class_folder.is_dir()
        for file in class_folder.rglob("*")
        if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file() and not _is_hidden(file.relative_to(folder))
    )
    if not files:
        raise ValueError(
            f"No image in {folder}. Expected one folder a class with image files in it, such as {folder}/cat/1.png."
        )
    names = [file.relative_to(folder) for file in files]
    table = pd.DataFrame({"id": [name.as_posix() for name in names], "label": [name.parts[0] for name in names]})
    return ImageListing(table, lambda rows: (files[row] for row in rows))


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def list_parquet(file: Path) -> ImageListing:
    """List a Parquet file in the form of Hugging Face `datasets`: `image` (struct of `bytes`, `path`) and `label`.

    Raises:
        ValueError: When a column is missing or of another type, a path or label is missing, or a path occurs twice.
    """
    parquet = pq.ParquetFile(file, memory_map=True)
    schema = parquet.schema_arrow
    fields = {field.name: field.type for field in schema.field("image").type} if _has_image_struct(schema) else {}
    if not {"bytes", "path"} <= fields.keys() or "label" not in schema.names:
        found = ", ".join(f"{field.name}: {field.type}" for field in schema)
        raise ValueError(f"{file} must have the columns image (struct of bytes, path) and label. Found: {found}.")
    table = parquet.read(["image.path", "label"]).flatten().to_pandas()
    table = table.rename(columns={"image.path": "id"})[["id", "label"]]
    for column, problem, bad in (
        ("id", "image.path must not be missing", table["id"].isna()),
        ("id", "image.path must be different in every row", table["id"].duplicated(keep=False)),
        ("label", "label must not be missing", table["label"].isna()),
    ):
        if bad.any():
            rows = ", ".join(f"row {row}: {table[column][row]}" for row in np.flatnonzero(bad)[:5])
            raise ValueError(f"{problem} in {file}. Found {bad.sum()} such rows ({rows}).")
    table = table.astype(str)
    return ImageListing(table, lambda rows: _read_parquet(parquet, rows))


def _has_image_struct(schema: pa.Schema) -> bool:
    return "image" in schema.names and pa.types.is_struct(schema.field("image").type)


def _read_parquet(parquet: pq.ParquetFile, rows: np.ndarray) -> Iterator[bytes]:
    """Read one row group at a time, so that memory does not grow with the file."""
    start = 0
    for group in range(parquet.num_row_groups):
        stop = start + parquet.metadata.row_group(group).num_rows
        wanted = rows[(rows >= start) & (rows < stop)] - start
        if len(wanted):
            column = parquet.read_row_group(group, ["image.bytes"]).column("image")
            images = pa.compute.struct_field(column, "bytes")
            yield from (value.as_py() for value in images.take(pa.array(wanted)))
        start = stop
