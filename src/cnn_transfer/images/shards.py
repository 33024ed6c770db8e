"""Tables of images in several files, as hubs and libraries for data write them.

They are called `data/train-00000-of-00002.parquet`, or `train/data-00000-of-00001.arrow`, and each is read as `tables`
does. A word of its name, or the name of a folder it lies in, may be that of a split; a column `split` comes first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from cnn_transfer.images.decoding import SUFFIXES
from cnn_transfer.images.folders import is_unwanted
from cnn_transfer.images.listing import ARROW_SUFFIXES, Encoded, ImageListing, read_split
from cnn_transfer.images.locations import is_local
from cnn_transfer.images.reasons import UnusableSetError, rejected_table
from cnn_transfer.images.tables import (
    as_attributes,
    fitting_tables,
    has_image_column,
    holds_images,
    is_table,
    list_manifest,
    list_table,
    read_manifest,
    texts_of,
)

SHARD_SUFFIXES = {".parquet", *ARROW_SUFFIXES}
DEEPEST = 3  # folders one in the other
CACHE = re.compile(r"cache-\w+\.arrow")  # what Hugging Face `datasets` made of a saved set on the way


def find_shards(filesystem: Any, folder: str, depth: int = DEEPEST) -> list[str]:
    """Tables that lie in a folder, or in its folders, when some of them hold images and nothing else there is one.

    Its folders must be called `data` or like splits, or there is one only, as of the variant of a set: others are
    classes, and listing what is in them may take long.

    Args:
        filesystem: Where it is.
        folder: Its path.
        depth: How far below it is looked.

    Returns:
        Their paths, relative to the folder; none where it is of another form.
    """
    try:
        top = list(_visible(filesystem, folder))
    except OSError:  # what is in the way is told when the folder is listed
        return []
    files, folders = ([name for name, is_folder in top if is_folder == wanted] for wanted in (False, True))
    if any(PurePosixPath(name).suffix.lower() in SUFFIXES for name in files):
        return []
    if len(folders) > 1 and any(name != "data" and read_split(name) is None for name in folders):
        return []
    tables = [name for name in files if _is_shard(name)]
    for name in folders:
        inner = find_shards(filesystem, f"{folder}/{name}", depth - 1) if depth else []
        if not inner:  # a class, or a split with classes in it
            return []
        tables += [f"{name}/{path}" for path in inner]
    return sorted(tables) if any(holds_images(filesystem, f"{folder}/{name}") for name in tables) else []


def holds_tables(filesystem: Any, path: str) -> bool:
    """Whether images are listed by one table or several: that is soon done, and fails where columns are missing."""
    if filesystem.isdir(path):
        return bool(find_shards(filesystem, path))
    return is_table(filesystem, path) or bool(fitting_tables(filesystem, path))


def list_shards(
    filesystem: Any, folder: str, shards: list[str], labelled: bool = True, columns: Mapping[str, str] | None = None
) -> ImageListing:
    """List tables as one set; names of images begin with that of their table.

    Args:
        filesystem: Where they are.
        folder: What they lie in.
        shards: See `find_shards`; those without a column of images are set aside.
        labelled: Whether there must be a column of labels.
        columns: As for `list_table`.

    Raises:
        ValueError: When one is damaged, lacks the column of labels, or names a split that is none, or several.
    """
    paths = {name: f"{folder}/{name}" for name in shards}
    kept = [name for name in shards if has_image_column(filesystem, paths[name])]
    parts = [_named_after(list_table(filesystem, paths[name], labelled, columns), name) for name in kept]
    others = [(name, None, "other_file", "a table without images") for name in shards if name not in kept]
    ends = np.cumsum([len(part.table) for part in parts])
    attributes = pd.concat([part.attributes for part in parts], ignore_index=True)
    return ImageListing(
        table=pd.concat([part.table for part in parts], ignore_index=True),
        read=partial(_read, tuple(part.read for part in parts), tuple(ends.tolist())),
        rejected=pd.concat([rejected_table(others), *(part.rejected for part in parts)], ignore_index=True),
        attributes=as_attributes(attributes["id"], attributes.drop(columns="id")),
    )


def list_fitting(
    filesystem: Any,
    pattern: str,
    tables: list[str],
    labelled: bool = True,
    columns: Mapping[str, str] | None = None,
) -> ImageListing:
    """List tables of one folder, named by a pattern, as one set: tables of images, or manifests.

    Args:
        filesystem: Where they are.
        pattern: Such as `set/*.csv`.
        tables: Their paths; see `fitting_tables`.
        labelled: Whether there must be a column of labels; of several manifests one is enough.
        columns: As for `list_table`.

    Raises:
        ValueError: As `list_shards` and `list_manifest` do.
    """
    if any(holds_images(filesystem, path) for path in tables):
        folder = PurePosixPath(pattern).parent
        names = [str(PurePosixPath(path).relative_to(folder)) for path in tables]
        return list_shards(filesystem, str(folder), names, labelled, columns)
    frames = []
    for path in tables:
        frame, side = read_manifest(filesystem, path, columns or {}), _split_of(PurePosixPath(path).name)
        if side is not None:
            frame["split"] = texts_of(frame["split"]).fillna(side) if "split" in frame else side
        frames.append(frame)
    return list_manifest(pd.concat(frames, ignore_index=True), filesystem, pattern, labelled, columns or {})


def _visible(filesystem: Any, folder: str) -> Iterator[tuple[str, bool]]:
    """Names in a folder, and whether each is one itself; neither hidden nor a system's."""
    if is_local(filesystem):
        with os.scandir(folder) as entries:
            yield from ((entry.name, entry.is_dir()) for entry in entries if not is_unwanted(entry.name))
        return
    for entry in filesystem.ls(folder, detail=True):
        name = PurePosixPath(entry["name"]).name
        if entry["name"].rstrip("/") != folder.rstrip("/") and not is_unwanted(name):  # consoles leave empty objects
            yield name, entry["type"] == "directory"


def _is_shard(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SHARD_SUFFIXES and not CACHE.fullmatch(name)


def _named_after(listing: ImageListing, shard: str) -> ImageListing:
    """The listing with the table's name before those of its images, and its split where they have none."""
    side = _split_of(shard)
    table = listing.table.assign(id=f"{shard}/" + listing.table["id"])
    if side is not None:
        table["split"] = table["split"].fillna(side)
    rejected, attributes = (part.assign(id=f"{shard}/" + part["id"]) for part in (listing.rejected, listing.attributes))
    return replace(listing, table=table, rejected=rejected, attributes=attributes)


def _split_of(shard: str) -> str | None:
    """The split that a word of the file's name names, or else the nearest folder that is called like one.

    Raises:
        UnusableSetError: When words of the name are of several splits.
    """
    path = PurePosixPath(shard)
    found = {word: side for word in re.split(r"[-_. ]", path.name) if (side := read_split(word))}
    if len({*found.values()}) > 1:
        raise UnusableSetError(
            f"The name of a table must be of one split. {shard} names {' and '.join(found)}: rename it; a column split "
            "says of each image where it belongs."
        )
    folders = (read_split(folder.name) for folder in path.parents)
    return next(iter(found.values()), None) or next(filter(None, folders), None)


def _read(
    reads: tuple[Callable[[np.ndarray], Iterator[Encoded]], ...], ends: tuple[int, ...], rows: np.ndarray
) -> Iterator[Encoded]:
    start = 0
    for read, end in zip(reads, ends, strict=True):
        own = rows[(rows >= start) & (rows < end)] - start
        if len(own):
            yield from read(own)
        start = end
