"""Folders of class folders, with or without `train/`, `val/` and `test/` above them, local or remote."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cnn_transfer.images.decoding import SUFFIXES, UnusableImageError, is_image, read_encoded
from cnn_transfer.images.listing import (
    LISTING_COLUMNS,
    SPLIT_NAMES,
    TABLE_SUFFIXES,
    Encoded,
    ImageListing,
    RemoteFile,
    listing_table,
    read_split,
)
from cnn_transfer.images.locations import address_of, is_local
from cnn_transfer.images.reasons import UnusableSetError, note_table, rejected_table

UNLABELLED = "_unlabelled"
MOST_LOOKED_INTO = 20  # files of a folder in which none is called like an image
EMPTY_FOLDER = "empty_folder"  # no reason to set anything aside: nothing is there
SYSTEM_NAMES = {
    "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin", "lost+found",
    "system volume information", "__pycache__",
}  # fmt: skip


class _Entry(NamedTuple):
    """Something found in the folder: the names on the way to it, how to read it, and a reason to set it aside."""

    parts: tuple[str, ...]
    file: str | RemoteFile
    reason: str = ""
    detail: str = ""


class _Said(NamedTuple):
    """What the place or the name of an image says of it."""

    label: str | None
    split: str | None = None
    group: str | None = None


def list_folder(filesystem: Any, folder: str, follow_links: bool, name_pattern: str | None = None) -> ImageListing:
    """List `<class>/…/<image>`, or `<split>/<class>/…/<image>` when all folders are named after splits.

    Images in a folder `_unlabelled` (beside the classes or the splits) have no label. With a pattern, folders are no
    classes: see `list_images`; what it does not match is set aside.

    Raises:
        ValueError: When there is no image in a class folder, or none that the pattern matches; when names of splits and
            classes are mixed, or a split is none.
    """
    entries = walk_local(Path(folder), follow_links) if is_local(filesystem) else _walk_remote(filesystem, folder)
    found = sorted(entries, key=lambda entry: entry.parts)
    folders = sorted({entry.parts[0] for entry in found if len(entry.parts) > 1 and not entry.reason} - {UNLABELLED})
    at = partial(_at, filesystem, folder)
    _check_open(found, folders, at())
    with_splits = _has_splits(folders, at()) if name_pattern is None else _has_splits(folders)
    if name_pattern is None:
        if with_splits:
            _check_depth_below_splits(found, at())
        else:
            _check_depth(found, folders, at)
    rows, files, rejected = [], [], []
    empty: dict[str, str] = {}
    for entry in found:
        name = _printable("/".join(entry.parts))
        depth = int(with_splits and read_split(entry.parts[0]) is not None)
        side, place = entry.parts[:depth], entry.parts[depth:]
        said = _said_by_folder(side, place) if name_pattern is None else _said_by_name(name_pattern, name, side, place)
        if entry.reason == EMPTY_FOLDER:
            if place and place[0] != UNLABELLED and name_pattern is None:
                empty["/".join([*side, place[0]])] = place[0]
        elif entry.reason:
            closed = _closed_class(entry, place) if name_pattern is None else None
            rejected.append((name, said.label if said else closed, entry.reason, entry.detail))
        elif said is None:
            suffix = Path(name).suffix.lower()
            reason = "other_file" if suffix and suffix not in SUFFIXES else "stray_file"
            why = f"{name_pattern} does not match it" if name_pattern else "beside the class folders"
            rejected.append((name, None, reason, why))
        else:
            rows.append((name, *said))
            files.append(entry.file)
    full = {"/".join(entry.parts[:depth]) for entry in found if entry.reason != EMPTY_FOLDER for depth in (1, 2)}
    notes = [
        (_printable(name), _printable(label), "empty_class", "an empty folder")
        for name, label in empty.items()
        if name not in full
    ]
    if not any(label is not None for _, label, _, _ in rows):
        if name_pattern is not None:
            strays = [name for name, _, reason, _ in rejected if reason == "stray_file"]
            others = f"{len(strays):,} others, such as {strays[0]}" if strays else "no other"
            raise UnusableSetError(f"No image in {at()} has a name that {name_pattern} matches. Found: {others}.")
        loose, tables = (_beside(found, suffixes) for suffixes in (SUFFIXES, TABLE_SUFFIXES))
        lie = f" lies in a class folder: {len(loose):,} lie beside each other, such as {loose[0]}" if loose else ""
        by_table = f" If {tables[0]} says which class each is of, give {at(tables[0])} instead." if tables else ""
        raise UnusableSetError(
            f"No image in {at()}{lie}. Expected one folder a class with image files in it, such as "
            f"{at('cat/1.png')}.{by_table} "
            "Where names tell the class instead, as in cat.1.png, say how: target_name_pattern='^([a-z]+)' (of a "
            "source: source_name_pattern)."
        )
    table = listing_table(pd.DataFrame(rows, columns=LISTING_COLUMNS))
    return ImageListing(table, partial(_read, tuple(files)), rejected=rejected_table(rejected), notes=note_table(notes))


def list_flat(filesystem: Any, folder: str, follow_links: bool) -> ImageListing:
    """List every file below a folder as an unlabelled image, wherever it lies.

    Raises:
        ValueError: When there is none, or none is called like an image and the first ones are none.
    """
    entries = walk_local(Path(folder), follow_links) if is_local(filesystem) else _walk_remote(filesystem, folder)
    names, files, rejected = [], [], []
    for entry in sorted(entries, key=lambda entry: entry.parts):
        name = _printable("/".join(entry.parts))
        if not entry.reason:
            names.append(name)
            files.append(entry.file)
        elif entry.reason != EMPTY_FOLDER:
            rejected.append((name, None, entry.reason, entry.detail))
    is_called_so = any(Path(name).suffix.lower() in SUFFIXES for name in names)
    if not is_called_so and not any(map(_may_be_image, read_encoded(files[:MOST_LOOKED_INTO]))):
        others = f" Found: {len(files):,} others, such as {names[0]}." if files else ""
        raise UnusableSetError(
            f"There is no image in {_at(filesystem, folder)}. Expected image files in it, or in folders below it."
            f"{others}"
        )
    table = listing_table(pd.DataFrame({"id": names}))
    return ImageListing(table, partial(_read, tuple(files)), rejected=rejected_table(rejected))


def _may_be_image(read: bytes | np.ndarray | UnusableImageError) -> bool:
    """Whether what was read begins like one; what could not be read is told of each image."""
    return not isinstance(read, bytes) or is_image(read)


def _said_by_folder(side: tuple[str, ...], place: tuple[str, ...]) -> _Said | None:
    """Of `<class>/…/<image>`, below the folder of a split or not; None beside the class folders."""
    if len(place) < 2:
        return None
    return _Said(None if place[0] == UNLABELLED else _printable(place[0]), *map(read_split, side))


def _closed_class(entry: _Entry, place: tuple[str, ...]) -> str | None:
    """The class of a folder that is not looked into, of which nothing else would tell; None of anything else."""
    is_class = len(place) == 1 and place[0] != UNLABELLED
    return _printable(place[0]) if is_class and _is_closed_folder(entry) else None


def _is_closed_folder(entry: _Entry) -> bool:
    return entry.reason in {"unreadable", "link_outside"} and os.path.isdir(str(entry.file))


def _said_by_name(pattern: str, name: str, side: tuple[str, ...], place: tuple[str, ...]) -> _Said | None:
    """By the groups of a pattern; None where it says no label."""
    if len(place) > 1 and place[0] == UNLABELLED:
        return _Said(None, *map(read_split, side))
    if (match := re.search(pattern, name)) is None:
        return None
    named = match.groupdict()
    if not (label := named.get("label", match[1])):
        return None
    split = next(map(read_split, side), None)
    if "split" in named and (split := read_split(named["split"] or "")) is None:
        allowed = ", ".join(SPLIT_NAMES)
        raise UnusableSetError(f"{pattern} finds no split in {name}: {named['split']!r}. Allowed: {allowed}.")
    return _Said(label, split, named.get("group"))


def _read(files: tuple[str | RemoteFile, ...], rows: np.ndarray) -> Iterator[Encoded]:
    return (files[row] for row in rows)


def _has_splits(folders: list[str], folder: str | None = None) -> bool:
    """Whether the top folders are splits; one class may be called `train` (or `test`) when there are others.

    With the name of the folder, where top folders are nothing else than splits or classes: an error where they are
    mixed, or there is no `train`.
    """
    splits = [name for name in folders if read_split(name)]
    others = [name for name in folders if not read_split(name)]
    if folder is not None and len({read_split(name) for name in splits}) > 1 and others:
        raise UnusableSetError(
            f"{folder} mixes folders of splits ({', '.join(splits)}) with other folders ({', '.join(others)}). "
            "Move the others into the splits, or rename the splits if they are classes."
        )
    has_training = any(read_split(name) == "training" for name in splits)
    if folder is not None and splits and not others and not has_training:
        raise UnusableSetError(f"{folder} has the splits {', '.join(splits)} but no train folder beside them.")
    return has_training and not others


def _at(filesystem: Any, folder: str, *inside: str) -> str:
    """How people name the folder, or something in it."""
    return address_of(filesystem, "/".join([folder, *inside]) if folder else "".join(inside))


def _check_open(found: list[_Entry], folders: list[str], folder: str) -> None:
    """See whether each split that is given can be looked into: another one would be drawn in its place.

    Raises:
        UnusableSetError: When one cannot.
    """
    tops = [entry for entry in found if len(entry.parts) == 1 and read_split(entry.parts[0])]
    closed = [entry for entry in tops if entry.reason == "broken_link" or _is_closed_folder(entry)]
    if closed and _has_splits([*folders, *(entry.parts[0] for entry in closed)]):
        name, reason, detail = closed[0].parts[0], closed[0].reason, closed[0].detail
        allow = ", or set follow_links: true at its entry of the catalog" if reason == "link_outside" else ""
        raise UnusableSetError(
            f"The split {name} of {folder} is given, but cannot be looked into: {reason}, {detail}. Make the folder "
            f"readable{allow}; or take it away, and the split is drawn from the others."
        )


def _check_depth(found: list[_Entry], folders: list[str], at: Callable[..., str]) -> None:
    """See whether the top folders are classes, and not what archives of sets put above them.

    Raises:
        UnusableSetError: When there is one only, which has folders or beside which is a table, or all are called like
            splits in other words, as `training_set` and `seg_test`, and have folders in them.
    """
    below = {entry.parts[0] for entry in found if len(entry.parts) > 2 and not entry.reason}
    if len(folders) == 1:
        tables = _beside(found, TABLE_SUFFIXES)
        one = f"In {at()} is one folder only, {folders[0]}, and a classifier needs at least two classes."
        if tables:
            raise UnusableSetError(f"{one} If {tables[0]} says which they are, give {at(tables[0])} instead.")
        if below:
            raise UnusableSetError(f"{one} If they are the folders in it, give {at(folders[0])} instead.")
    sides = {name: {split for word in re.split(r"[-_. ]", name) if (split := read_split(word))} for name in folders}
    told = set().union(*sides.values())
    are_splits = "training" in told and len(told) > 1 and all(len(words) == 1 for words in sides.values())
    if are_splits and below.issuperset(folders):
        raise UnusableSetError(
            f"The folders {', '.join(folders)} of {at()} are called like splits, and have folders in them. Rename "
            "them to train, val and test, with the folders of the classes in each. If they are classes, say so: "
            "target_name_pattern='^([^/]+)/' (of a source: source_name_pattern)."
        )


def _beside(found: list[_Entry], suffixes: Collection[str]) -> list[str]:
    """Names of the files beside the top folders that end so."""
    names = [entry.parts[0] for entry in found if len(entry.parts) == 1 and not entry.reason]
    return [name for name in names if Path(name).suffix.lower() in suffixes]


def _check_depth_below_splits(found: list[_Entry], folder: str) -> None:
    """See whether the folders of the splits hold one folder alone, with folders in it.

    Raises:
        UnusableSetError: When they do, so that the classes lie deeper.
    """
    depths = {(entry.parts[1], len(entry.parts)) for entry in found if len(entry.parts) > 2 and not entry.reason}
    classes = {name for name, _ in depths} - {UNLABELLED}
    if len(classes) == 1 and any(depth > 3 for name, depth in depths if name in classes):
        raise UnusableSetError(
            f"In the splits of {folder} is one folder only, {classes.pop()}, and a classifier needs at least two "
            "classes. If they are the folders that the images lie in, say so: target_name_pattern='([^/]+)/[^/]+$' "
            "(of a source: source_name_pattern)."
        )


def _printable(name: str) -> str:
    r"""A name that any table can hold: bytes that are not UTF-8 are written as \xNN, and a backslash as two."""
    if name.isascii() and "\\" not in name:  # nearly all are, and encoding takes a quarter of the listing
        return name
    return os.fsencode(name.replace("\\", "\\\\")).decode("utf-8", "backslashreplace")


def is_unwanted(name: str) -> str:
    """The reason to set a file or folder of that name aside, or nothing."""
    if name.lower() in SYSTEM_NAMES:
        return "system_file"
    return "hidden_file" if name.startswith(".") else ""


def walk_local(root: Path, follow_links: bool) -> Iterator[_Entry]:
    """Everything below a folder; what is set aside as a folder is one entry."""
    real_root = os.path.realpath(root)
    pending: list[tuple[str, tuple[str, ...], frozenset[str]]] = [(str(root), (), frozenset({real_root}))]
    while pending:
        folder, parts, above = pending.pop()
        try:
            with os.scandir(folder) as entries:
                found = list(entries)
        except OSError as error:
            if not parts:
                raise
            yield _Entry(parts, folder, "unreadable", error.strerror or type(error).__name__)
            continue
        if parts and not found:
            yield _Entry(parts, folder, EMPTY_FOLDER)
        for entry in found:
            here = (*parts, entry.name)
            if reason := is_unwanted(entry.name):
                yield _Entry(here, entry.path, reason)
                continue
            real = os.path.realpath(entry.path) if entry.is_symlink() else ""
            if real and not os.path.exists(real):
                yield _Entry(here, entry.path, "broken_link", f"leads to {_printable(real)}")
            elif real and any(Path(one).is_relative_to(real) for one in above):
                yield _Entry(here, entry.path, "link_loop", f"leads to {_printable(real)}")
            elif real and not follow_links and not Path(real).is_relative_to(real_root):
                yield _Entry(here, entry.path, "link_outside", f"leads to {_printable(real)}")
            elif entry.is_dir():
                real_folder = real or os.path.join(os.path.realpath(folder), entry.name)
                pending.append((entry.path, here, above | {real_folder}))
            elif entry.is_file():
                yield _Entry(here, entry.path)
            else:  # a pipe, a socket or a device: reading it may never end
                yield _Entry(here, entry.path, "unreadable", "neither a file nor a folder")


def _walk_remote(filesystem: Any, root: str) -> Iterator[_Entry]:
    for path in filesystem.find(root):
        if path.endswith("/"):  # an empty object, by which the consoles of object stores show a folder
            continue
        parts = tuple(path.removeprefix(root).strip("/").split("/"))
        unwanted = [reason for part in parts if (reason := is_unwanted(part))]
        yield _Entry(parts, RemoteFile(filesystem, path), *unwanted[:1])
