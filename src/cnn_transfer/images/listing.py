"""Listing images where they lie: what there is, what each is called, and how to read its encoded bytes.

A listing is opened, never loaded. Its table has one row an image, all columns strings, missing values allowed but in
`id`:

    id      unique, and independent of where the set is stored: a path relative to the set, or a row's number
    label   class name; missing for an unlabelled image
    split   side of a given split: training, validation or test; missing when it is to be drawn; training_only for an
            image that is not dealt with the others, such as one whose label was asked for because it is hard;
            training_too for one that is, and serves for training even beyond the number of labels that are wanted
    group   what must stay on one side, such as a patient; missing when the image stands alone
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import numpy as np
import pandas as pd

from cnn_transfer.images.locations import ARCHIVE, is_local, open_archive, open_location
from cnn_transfer.images.reasons import UnusableSetError, note_table, rejected_table

LISTING_COLUMNS = ["id", "label", "split", "group"]
TRAINING_ONLY, TRAINING_TOO, UNUSED = "training_only", "training_too", "unused"
SPLIT_NAMES = {
    "train": "training",
    "training": "training",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
    TRAINING_ONLY: TRAINING_ONLY,
}


TEXT_SUFFIXES = {".csv", ".tsv"}
ARROW_SUFFIXES = {".arrow", ".feather"}
TABLE_SUFFIXES = {*TEXT_SUFFIXES, ".parquet", *ARROW_SUFFIXES}
TELLING_FACTS = ("size", "mtime", "LastModified", "ETag", "md5Hash", "CRC")  # change with a remote file's content
SIDES = ("test", "validation", "training")  # who keeps a picture that is on several


class RemoteFile(NamedTuple):
    """A file that is read through fsspec."""

    filesystem: fsspec.AbstractFileSystem
    path: str


Encoded = bytes | str | Path | RemoteFile | np.ndarray  # a string is the path of a local file


def no_attributes() -> pd.DataFrame:
    """The attributes of images of which nothing else is known."""
    return pd.DataFrame({"id": pd.Series(dtype="str")})


@dataclass(frozen=True)
class ImageListing:
    """Images that have not been read yet.

    Attributes:
        table: One row an image, the columns of `LISTING_COLUMNS`.
        read: Yields, for increasing row numbers, the image in the form that its origin has: encoded bytes, a file to
            read, or pixels ((height, width, channels) uint8). It can be pickled, for workers on other machines.
        name: What people call the set.
        rejected: What was found but is no image of the set: `id`, `label`, `reason`, `detail`.
        notes: What is remarkable about the set: `id`, `label`, `note`, `detail`.
        attributes: `id` and what else a manifest says of each image, by its own column names.
        fingerprint: See `fingerprint_of`; None where it is not known.
    """

    table: pd.DataFrame
    read: Callable[[np.ndarray], Iterator[Encoded]]
    name: str = ""
    rejected: pd.DataFrame = field(default_factory=lambda: rejected_table([]))
    notes: pd.DataFrame = field(default_factory=lambda: note_table([]))
    attributes: pd.DataFrame = field(default_factory=no_attributes)
    fingerprint: str | None = None

    def sample(self, images_per_class: int | None, seed: int) -> np.ndarray:
        """Row numbers, increasing, of at most `images_per_class` images of each class (all of them for None).

        The draw is nested: fewer images are a subset of more. Unlabelled images count as a class of their own, and
        given splits are drawn from one by one, so that none of them is lost.
        """
        if images_per_class is None:
            return np.arange(len(self.table))
        table = listing_table(self.table)
        table["split"] = table["split"].mask(table["split"].isin([TRAINING_TOO, UNUSED]))
        ranks = pd.Series(hash_ranks(table["id"], seed), table.index)
        chosen = ranks.sort_values().groupby([table["label"], table["split"]], dropna=False).head(images_per_class)
        return np.sort(chosen.index.to_numpy())


def listing_table(table: pd.DataFrame) -> pd.DataFrame:
    """The columns of a listing, as strings; a column that is not there holds missing values."""
    return table.reindex(columns=LISTING_COLUMNS).astype("str")


def hash_ranks(names: pd.Series, seed: int) -> list[str]:
    """A digest of the seed and each name: sorting by it is a shuffle in which no name's place depends on the others."""
    return [hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).hexdigest() for name in names.to_numpy(object)]


def list_images(
    location: str | Path,
    follow_links: bool = False,
    name_pattern: str | None = None,
    columns: Mapping[str, str] | None = None,
    **storage_options: Any,
) -> ImageListing:
    """List a folder of class folders, a manifest, or one or several tables with the images in them.

    Args:
        location: Local path or fsspec address, such as `s3://bucket/photos`; of several tables in one folder what their
            names have in common, as in `photos/*.csv`.
        follow_links: Whether links in a local folder may lead out of it.
        name_pattern: Where classes have no folders: regular expression on the path below the folder, whose group
            `label`, or first group, is the class; groups `split` and `group` may be in it, too.
        columns: Where the columns of a table have other names: these by `file` (its path), `label`, `split`, `group`.
            In place of a column, a file may be made of several, as in `images/{image_id}.jpg`; with wildcards, as in
            `./**/{image_id}.*`, it is looked for (see `named_files`). A label may be marked in one column a class, as
            in `{MEL}{NV}`: the one that is above 0.
        storage_options: For the file system of fsspec.

    Raises:
        FileNotFoundError: When nothing is at `location`.
        ModuleNotFoundError: When the file system needs a package that is not installed.
        ValueError: When it is none of these forms, or holds no image.
    """
    from cnn_transfer.images.folders import list_folder
    from cnn_transfer.images.shards import find_shards, list_fitting, list_shards
    from cnn_transfer.images.tables import fitting_tables, is_table, list_table

    filesystem, path = _open_existing(location, storage_options)
    if is_table(filesystem, path):
        _refuse_pattern(name_pattern, f"{location} is a table")
        listing = list_table(filesystem, path, columns=columns)
    elif tables := fitting_tables(filesystem, path):
        _refuse_pattern(name_pattern, f"{location} names tables")
        listing = list_fitting(filesystem, path, tables, columns=columns)
    elif filesystem.isdir(path) and (shards := find_shards(filesystem, path)):
        _refuse_pattern(name_pattern, f"{location} is a folder of tables")
        listing = list_shards(filesystem, path, shards, columns=columns)
    elif filesystem.isdir(path):
        _refuse_columns(columns, location)
        listing = list_folder(filesystem, path, follow_links, name_pattern)
    else:
        raise UnusableSetError(
            f"Images must be a folder of class folders or of tables, or a file {', '.join(sorted(TABLE_SUFFIXES))}. "
            f"Received: {location}. Archives other than {ARCHIVE} must be unpacked, and tables of other forms saved as "
            "CSV."
        )
    if listing.table["label"].isna().all():
        raise UnusableSetError(f"{location} lists no labelled image.")
    return _named(listing, _name_of(path or location))


def list_unlabelled(
    location: str | Path, follow_links: bool = False, columns: Mapping[str, str] | None = None, **storage_options: Any
) -> ImageListing:
    """List images that need no labels: all files of a folder, a manifest or table without `label`, or one image.

    Args:
        location: Local path or fsspec address.
        follow_links: Whether links in a local folder may lead out of it.
        columns: As for `list_images`.
        storage_options: For the file system of fsspec.

    Raises:
        FileNotFoundError: When nothing is at `location`.
        ModuleNotFoundError: When the file system needs a package that is not installed.
        ValueError: When a table has no images, or a folder no file.
    """
    from cnn_transfer.images.decoding import SUFFIXES, is_image
    from cnn_transfer.images.folders import list_flat
    from cnn_transfer.images.shards import find_shards, list_fitting, list_shards
    from cnn_transfer.images.tables import fitting_tables, list_table

    filesystem, path = _open_existing(location, storage_options)
    if tables := fitting_tables(filesystem, path):
        listing = list_fitting(filesystem, path, tables, labelled=False, columns=columns)
    elif filesystem.isdir(path) and (shards := find_shards(filesystem, path)):
        listing = list_shards(filesystem, path, shards, labelled=False, columns=columns)
    elif filesystem.isdir(path):
        _refuse_columns(columns, location)
        listing = list_flat(filesystem, path, follow_links)
    elif Path(path).suffix.lower() in TABLE_SUFFIXES:
        listing = list_table(filesystem, path, labelled=False, columns=columns)
    else:
        if Path(path).suffix.lower() not in SUFFIXES and not is_image(filesystem.read_block(path, 0, 32)):
            raise UnusableSetError(
                f"Images must be a folder, a table ({', '.join(sorted(TABLE_SUFFIXES))}) or an image. Received: "
                f"{location}, which is none. Archives other than {ARCHIVE} must be unpacked."
            )
        file = Path(path) if is_local(filesystem) else RemoteFile(filesystem, path)
        table = listing_table(pd.DataFrame({"id": [Path(path).name]}))
        listing = ImageListing(table, partial(_read_one, file))
    if listing.table.empty:
        raise UnusableSetError(f"There is no image in {location}: it lists none.")
    return replace(listing, name=_name_of(path or location))


def is_there(filesystem: Any, path: str) -> bool:
    """Whether there is something of that name, or tables whose names fit it."""
    from cnn_transfer.images.tables import fitting_tables

    return bool(filesystem.exists(path) or fitting_tables(filesystem, path))


def about_wildcards(location: str | Path) -> str:
    """What a wildcard in a path stands for, told where there is one and nothing was found."""
    told = " In a path, * stands for tables of one folder, and only in the last part, as in photos/*.csv."
    return told if "*" in str(location) else ""


def _name_of(path: str | Path) -> str:
    """What a set is called, after its file, or its folder."""
    place = Path(path)
    return place.parent.name if "*" in place.name else place.stem


def _refuse_pattern(pattern: str | None, what: str) -> None:
    if pattern:
        raise UnusableSetError(f"A pattern of names is for folders of images; {what}, whose columns say more.")


def _refuse_columns(columns: Mapping[str, str] | None, folder: str | Path) -> None:
    if columns:
        raise UnusableSetError(f"Names of columns are for tables; {folder} is a folder.")


def _read_one(file: Encoded, rows: np.ndarray) -> Iterator[Encoded]:
    return (file for _ in rows)


def _open_existing(location: str | Path, storage_options: Mapping[str, Any]) -> tuple[Any, str]:
    filesystem, path = open_images(location, storage_options)
    filesystem.invalidate_cache()  # fsspec remembers what it listed earlier in this process
    if not is_there(filesystem, path):
        raise FileNotFoundError(f"Images were expected at {location}, but nothing is there.{about_wildcards(location)}")
    return filesystem, path


def open_images(location: str | Path, storage_options: Mapping[str, Any]) -> tuple[Any, str]:
    """As `open_location`; but a `.zip` file is a folder, or the one in it in which all else lies.

    Raises:
        ModuleNotFoundError: When the file system needs a package that is not installed.
        UnusableSetError: When there is no such kind of address, or the archive is damaged.
    """
    filesystem, path = open_location(location, storage_options)
    if not path.lower().endswith(ARCHIVE) or not filesystem.isfile(path):
        return filesystem, path
    archive = open_archive(filesystem, path)
    return archive, _only_folder(archive.find(""))


def _only_folder(names: Iterable[str]) -> str:
    """The folder that holds all that somebody packed, as in `archive.zip/flowers/…`; nothing where there is none."""
    from cnn_transfer.images.folders import is_unwanted

    tops = {name.partition("/")[:2] for name in names if not is_unwanted(name.partition("/")[0])}
    top, slash = tops.pop() if len(tops) == 1 else ("", "")
    return top if slash and not read_split(top) else ""


def fingerprint_of(location: str | Path, storage_options: Mapping[str, Any], follow_links: bool = False) -> str | None:
    """Digest of all that a file system says of the images at a place, without reading them.

    Args:
        location: Local path or fsspec address.
        storage_options: For the file system of fsspec.
        follow_links: As for `list_images`: the same files are found.

    Returns:
        A digest of the files' names, sizes, times of change and checksums; None where the images lie elsewhere, as
        those that a manifest names. A file whose content was replaced by one of the same size, and whose time of change
        was set back, as editors of metadata do, still has another time of its status on a local disk.

    Raises:
        ModuleNotFoundError: When the file system needs a package that is not installed.
    """
    from cnn_transfer.images.folders import walk_local
    from cnn_transfer.images.tables import fitting_tables, holds_images, is_table

    filesystem, path = open_images(location, storage_options)
    filesystem.invalidate_cache()
    if fitting_tables(filesystem, path) or (is_table(filesystem, path) and not holds_images(filesystem, path)):
        return None
    total = hashlib.blake2b(digest_size=16)
    found: list[tuple[str, list[str]]]
    if not is_local(filesystem):
        files = sorted(filesystem.find(path, detail=True).items())
        found = [(name, [str(info[key]) for key in TELLING_FACTS if key in info]) for name, info in files]
    elif os.path.isdir(path):
        entries = sorted(walk_local(Path(path), follow_links))
        found = [(os.sep.join(entry.parts), [*_status(entry.file), entry.reason, entry.detail]) for entry in entries]
    else:
        found = [("", _status(path))]
    for name, known in found:
        total.update("\0".join([name.removeprefix(path), *known, ""]).encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _status(file: Any) -> list[str]:
    """Size and times of a local file, of what a link leads to; nothing where there is none."""
    try:
        status = os.stat(file)
    except OSError:
        return []
    return [str(value) for value in (status.st_size, status.st_mtime_ns, status.st_ctime_ns)]


def rank_sides(splits: pd.Series) -> pd.Series:
    """Position of each given split in `SIDES`; those to be drawn come last."""
    places = {side: place for place, side in enumerate(SIDES)} | {TRAINING_ONLY: SIDES.index("training")}
    return splits.map(places).astype("float").fillna(len(SIDES))


def read_split(name: str) -> str | None:
    """The split that a folder or a manifest's value names, or None."""
    return SPLIT_NAMES.get(name.strip().lower())


def _named(listing: ImageListing, name: str) -> ImageListing:
    """The listing with its name and a note on labels that differ only by case or white space."""
    labels = pd.Series(sorted(listing.table["label"].dropna().unique()), dtype="str")
    similar = labels.groupby(labels.str.normalize("NFKC").str.split().str.join(" ").str.casefold()).agg(list)
    several = [group for group in similar if len(group) > 1]
    rows = [("", label, "similar_labels", ", ".join(map(repr, group))) for group in several for label in group]
    notes = pd.concat([listing.notes, note_table(rows)], ignore_index=True)
    return replace(listing, name=name, notes=notes)
