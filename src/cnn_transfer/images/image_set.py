"""A labelled set of images on disk: opened, never loaded whole.

A set is a folder:

    table.parquet         one row an image: id, label, width_px, height_px (before resizing)
    rejected.parquet      one row an image that could not be used: id, label, reason, detail
    pixels-00000.arrow …  the images in the order of the table, as Arrow's fixed-shape tensors of uint8
    set.json              shape of an image, class names, number of images, fingerprint

The shards are memory-mapped: reading an image touches its pages only, in any order. `pandas.read_parquet` reads the
tables; pyarrow, polars and Ray read the shards.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from tqdm import tqdm

from cnn_transfer.images.decoding import DecodedImages

SHARD_BYTES = 256 * 2**20


@dataclass(frozen=True)
class ImageSet:
    """Labelled images of one size.

    Attributes:
        table: One row an image: `id`, `label`, `width_px`, `height_px`.
        rejected: One row an image that was set aside: `id`, `label`, `reason`, `detail`.
        class_names: Sorted names of the classes; a class index is a position in it.
        image_shape: (height, width, channels) of the pixels.
        fingerprint: Digest of ids, labels and pixels, independent of the order of the images.
        shards: Memory-mapped pixels, each (n, height, width, channels) uint8, in the order of the table.
    """

    table: pd.DataFrame
    rejected: pd.DataFrame
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    fingerprint: str
    shards: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def classes(self) -> np.ndarray:
        """Class index of each image, (n,) int32."""
        return np.asarray(pd.Categorical(self.table["label"], self.class_names).codes, np.int32)

    def pixels(self, rows: np.ndarray) -> np.ndarray:
        """Copy the images at `rows` (any order, repeats allowed) into memory: (len(rows), h, w, c) uint8."""
        if len(self.shards) == 1:
            return np.asarray(self.shards[0][rows])
        rows = np.asarray(rows)
        starts = np.cumsum([0, *(len(shard) for shard in self.shards)])
        shard_of_row = np.searchsorted(starts, rows, side="right") - 1
        result = np.empty((len(rows), *self.image_shape), np.uint8)
        for index in np.unique(shard_of_row):
            here = shard_of_row == index
            result[here] = self.shards[index][rows[here] - starts[index]]
        return result

    def rows(self, splits: pd.DataFrame, split: str) -> np.ndarray:
        """Row numbers of the images that a table of splits (columns `id`, `split`) assigns to `split`.

        Raises:
            ValueError: When the table of splits is not about exactly these images.
        """
        if not np.array_equal(splits["id"].to_numpy(), self.table["id"].to_numpy()):
            raise ValueError(
                f"The table of splits must list the {len(self)} images of this set in its order. Received: "
                f"{len(splits)} other rows. Run the preprocess stage again, so that both have one version."
            )
        return np.flatnonzero(splits["split"].to_numpy() == split)


def write_image_set(images: DecodedImages, folder: Path) -> None:
    """Decode images and write them as a set, one chunk at a time.

    The caller makes the result visible (by renaming `folder`) when this returns.

    Args:
        images: The images to decode.
        folder: A folder that does not exist yet.

    Raises:
        ValueError: When no image could be used.
    """
    if not len(images):
        raise ValueError("The image set is empty: no image was listed. Check where its images come from.")
    folder.mkdir(parents=True)
    tables, rejected, digests = [], [], []
    shard_images = max(1, SHARD_BYTES // int(np.prod(images.image_format.shape)))
    with tqdm(total=len(images), unit="images", desc="decoding", disable=None) as progress, _Shards(folder) as shards:
        for table, pixels, set_aside in images:
            tables.append(table)
            rejected.append(set_aside)
            for start in range(0, len(pixels), shard_images):
                shards.write(pixels[start : start + shard_images], shard_images)
            digests += [
                hashlib.blake2b(f"{row.id}\0{row.label}\0".encode() + image.tobytes(), digest_size=16).hexdigest()
                for row, image in zip(table.itertuples(), pixels, strict=True)
            ]
            progress.update(len(table) + len(set_aside))
    table = pd.concat(tables, ignore_index=True)
    rejected_table = pd.concat(rejected, ignore_index=True)
    if table.empty:
        raise ValueError(
            f"None of the {len(images)} images could be read. First reason: {rejected_table.iloc[0].to_dict()}."
        )
    table.to_parquet(folder / "table.parquet", index=False)
    rejected_table.astype(str).to_parquet(folder / "rejected.parquet", index=False)
    card = {
        "images": len(table),
        "image_shape": list(images.image_format.shape),
        "class_names": sorted(table["label"].unique()),
        "fingerprint": hashlib.blake2b("".join(sorted(digests)).encode(), digest_size=16).hexdigest(),
    }
    (folder / "set.json").write_text(json.dumps(card, indent=2))


class _Shards:
    """Writes batches of pixels into numbered Arrow files, starting a new one when one is full."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count, self._rows = folder, 0, 0
        self._writer: pa.RecordBatchFileWriter | None = None

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, pixels: np.ndarray, shard_images: int) -> None:
        array = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(pixels))
        batch = pa.RecordBatch.from_arrays([array], ["pixels"])
        if self._writer is None or self._rows + len(pixels) > shard_images:
            self.__exit__()
            file = self._folder / f"pixels-{self._count:05d}.arrow"
            self._writer = pa.ipc.new_file(str(file), batch.schema)
            self._count, self._rows = self._count + 1, 0
        self._writer.write_batch(batch)
        self._rows += len(pixels)


def open_image_set(folder: Path) -> ImageSet:
    """Open a set without reading its pixels.

    Raises:
        ValueError: When the files of the set do not belong together.
    """
    card = json.loads((folder / "set.json").read_text())
    table = pd.read_parquet(folder / "table.parquet")
    shape = tuple(card["image_shape"])
    shards = tuple(shard for file in sorted(folder.glob("pixels-*.arrow")) for shard in _map_shard(file, shape))
    stored = sum(len(shard) for shard in shards)
    if not len(table) == stored == card["images"]:
        raise ValueError(
            f"The image set {folder} is damaged: set.json promises {card['images']} images, the table has "
            f"{len(table)}, the shards hold {stored}. Run the preprocess stage again."
        )
    return ImageSet(
        table=table,
        rejected=pd.read_parquet(folder / "rejected.parquet"),
        class_names=tuple(card["class_names"]),
        image_shape=shape,
        fingerprint=card["fingerprint"],
        shards=shards,
    )


def _map_shard(file: Path, shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
    """The record batches of one file as arrays that share its memory map."""
    with pa.memory_map(str(file)) as source:
        reader = pa.ipc.open_file(source)
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index).column("pixels").to_numpy_ndarray().reshape(-1, *shape)
