"""Folders of class folders, with or without `train/`, `val/` and `test/` above them, local or remote."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cnn_transfer.images.decoding import SUFFIXES
from cnn_transfer.images.listing import (
    LISTING_COLUMNS,
    Encoded,
    ImageListing,
    RemoteFile,
    is_local,
    listing_table,
    read_split,
)
from cnn_transfer.images.reasons import UnusableSetError, note_table, rejected_table

UNLABELLED = "_unlabelled"
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


def list_folder(filesystem: Any, folder: str, follow_links: bool) -> ImageListing:
    """List `<class>/…/<image>`, or `<split>/<class>/…/<image>` when all folders are named after splits.

    Images in a folder `_unlabelled` (beside the classes or the splits) have no label.

    Raises:
        ValueError: When there is no image in a class folder, or names of splits and classes are mixed.
    """
    entries = _walk_local(Path(folder), follow_links) if is_local(filesystem) else _walk_remote(filesystem, folder)
    found = sorted(entries, key=lambda entry: entry.parts)
    folders = sorted({entry.parts[0] for entry in found if len(entry.parts) > 1 and not entry.reason} - {UNLABELLED})
    with_splits = _has_splits(folders, folder)
    rows, files, rejected = [], [], []
    empty: dict[str, str] = {}
    for entry in found:
        name = _printable("/".join(entry.parts))
        below_split = with_splits and read_split(entry.parts[0]) is not None
        place = entry.parts[1:] if below_split else entry.parts
        label = _printable(place[0]) if len(place) > 1 and place[0] != UNLABELLED else None
        if entry.reason == EMPTY_FOLDER:
            if place and place[0] != UNLABELLED:
                empty["/".join(entry.parts[: len(entry.parts) - len(place) + 1])] = place[0]
        elif entry.reason:
            rejected.append((name, label, entry.reason, entry.detail))
        elif len(place) < 2:
            suffix = Path(name).suffix.lower()
            reason = "other_file" if suffix and suffix not in SUFFIXES else "stray_file"
            rejected.append((name, None, reason, "beside the class folders"))
        else:
            rows.append((name, label, read_split(entry.parts[0]) if below_split else None, None))
            files.append(entry.file)
    full = {"/".join(entry.parts[:depth]) for entry in found if entry.reason != EMPTY_FOLDER for depth in (1, 2)}
    notes = [
        (_printable(name), _printable(label), "empty_class", "an empty folder")
        for name, label in empty.items()
        if name not in full
    ]
    if not any(label is not None for _, label, _, _ in rows):
        raise UnusableSetError(
            f"No image in {folder}. Expected one folder a class with image files in it, such as {folder}/cat/1.png."
        )
    table = listing_table(pd.DataFrame(rows, columns=LISTING_COLUMNS))
    return ImageListing(table, partial(_read, tuple(files)), rejected=rejected_table(rejected), notes=note_table(notes))


def list_flat(filesystem: Any, folder: str, follow_links: bool) -> ImageListing:
    """List every file below a folder as an unlabelled image, wherever it lies.

    Raises:
        ValueError: When there is none.
    """
    entries = _walk_local(Path(folder), follow_links) if is_local(filesystem) else _walk_remote(filesystem, folder)
    names, files, rejected = [], [], []
    for entry in sorted(entries, key=lambda entry: entry.parts):
        name = _printable("/".join(entry.parts))
        if not entry.reason:
            names.append(name)
            files.append(entry.file)
        elif entry.reason != EMPTY_FOLDER:
            rejected.append((name, None, entry.reason, entry.detail))
    if not files:
        raise UnusableSetError(f"There is no image in {folder}. Expected image files in it, or in folders below it.")
    table = listing_table(pd.DataFrame({"id": names}))
    return ImageListing(table, partial(_read, tuple(files)), rejected=rejected_table(rejected))


def _read(files: tuple[str | RemoteFile, ...], rows: np.ndarray) -> Iterator[Encoded]:
    return (files[row] for row in rows)


def _has_splits(folders: list[str], folder: str) -> bool:
    """Whether the top folders are splits; one class may be called `train` (or `test`) when there are others."""
    splits = [name for name in folders if read_split(name)]
    others = [name for name in folders if not read_split(name)]
    if len({read_split(name) for name in splits}) > 1 and others:
        raise UnusableSetError(
            f"{folder} mixes folders of splits ({', '.join(splits)}) with other folders ({', '.join(others)}). "
            "Move the others into the splits, or rename the splits if they are classes."
        )
    if splits and not others and not any(read_split(name) == "training" for name in splits):
        raise UnusableSetError(f"{folder} has the splits {', '.join(splits)} but no train folder beside them.")
    return bool(splits) and not others


def _printable(name: str) -> str:
    r"""A name that any table can hold: bytes that are not UTF-8 are written as \xNN, and a backslash as two."""
    if name.isascii() and "\\" not in name:  # nearly all are, and encoding takes a quarter of the listing
        return name
    return os.fsencode(name.replace("\\", "\\\\")).decode("utf-8", "backslashreplace")


def _unwanted(name: str) -> str:
    if name.lower() in SYSTEM_NAMES:
        return "system_file"
    return "hidden_file" if name.startswith(".") else ""


def _walk_local(root: Path, follow_links: bool) -> Iterator[_Entry]:
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
            if reason := _unwanted(entry.name):
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
        unwanted = [reason for part in parts if (reason := _unwanted(part))]
        yield _Entry(parts, RemoteFile(filesystem, path), *unwanted[:1])
