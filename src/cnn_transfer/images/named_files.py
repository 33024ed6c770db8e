"""The files that a manifest names: where each lies, and what to do when they lie elsewhere.

Tables often know an image's number and not its folder or its extension. So names may have wildcards where somebody says
how they are made of the table's columns: `**` for any folders or none, `*` within the name of a folder, and `.*` for
any extension.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from posixpath import join, normpath, split
from typing import Any

import numpy as np
import pandas as pd

from cnn_transfer.images.decoding import SUFFIXES
from cnn_transfer.images.listing import Encoded, RemoteFile
from cnn_transfer.images.locations import is_local, open_location
from cnn_transfer.images.reasons import UnusableSetError

MOST_LOOKED_FOR = 20  # files of which a remedy is made when none is there


def find_files(filesystem: Any, manifest: str, names: pd.Series) -> pd.Series:
    """Names with wildcards replaced by the paths that fit them; what nothing fits stays as it is.

    Args:
        filesystem: Where the manifest is.
        manifest: Its path.
        names: Of files, relative to the manifest or absolute; missing values allowed.

    Returns:
        Names, those that were found relative to the manifest, or absolute as they were.

    Raises:
        UnusableSetError: When several files fit one name.
    """
    folder = str(PurePosixPath(manifest).parent)
    below: dict[str, dict[str, list[str]]] = {}  # what each folder has that was looked through
    found: dict[str, str] = {}
    for name in names[names.str.contains("*", regex=False, na=False)].unique():
        where, own = split(normpath(join(folder, name)))
        root = where.partition("*")[0].rpartition("/")[0] if "*" in where else where
        if root not in below:
            below[root] = _by_name(filesystem, root)
        fits = _folders_like(where)
        places = sorted(place for place in below[root].get(own, []) if fits.fullmatch(split(place)[0] + "/"))
        if len(places) > 1:  # beside an image may lie what is said of it, under the same name
            places = [place for place in places if PurePosixPath(place).suffix.lower() in SUFFIXES] or places
        match places:
            case [one]:
                found[name] = one if name.startswith("/") else one.removeprefix(f"{folder}/")
            case [one, other, *_]:
                raise UnusableSetError(
                    f"A name in {manifest} must fit one file. {name} fits {one} and {other}: say more of its folder or "
                    "its extension."
                )
    return names.map(lambda name: found.get(name, name), na_action="ignore").astype("str")


def open_files(filesystem: Any, manifest: str, names: Sequence[str], column: str) -> tuple[Encoded, ...]:
    """The files that a manifest names.

    Args:
        filesystem: Where the manifest is.
        manifest: Its path.
        names: Of files: relative to the manifest, absolute, or addresses.
        column: Of the names, or how they are made of several; for the remedy.

    Raises:
        UnusableSetError: When all are local, and none is there.
    """
    folder = str(PurePosixPath(manifest).parent)
    files = tuple(_file(filesystem, folder, name) for name in names)
    if files and not any(map(_may_be_there, files)):
        absent = (
            f"None of the {len(files):,} files that {manifest} names is there, such as {files[0]!s}."
            if len(files) > 1
            else f"The file that {manifest} names is not there: {files[0]!s}."
        )
        raise UnusableSetError(f"{absent} {_remedy(filesystem, folder, names, column)}")
    return files


@cache
def _folders_like(pattern: str) -> re.Pattern[str]:
    """A pattern of paths of folders, with wildcards, as a regular expression."""
    escaped = re.escape(pattern + "/").replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
    return re.compile(escaped, re.DOTALL)


def _may_be_there(file: Encoded) -> bool:
    """Whether a local file is there; reading tells of others, and of one that cannot be asked for."""
    try:
        return not isinstance(file, Path) or file.exists()
    except OSError:
        return True


def _file(filesystem: Any, folder: str, name: str) -> Encoded:
    if "://" in name:
        if name.partition("://")[0] in np.atleast_1d(filesystem.protocol):  # with the manifest's own credentials
            return RemoteFile(filesystem, filesystem._strip_protocol(name))
        return RemoteFile(*open_location(name, {}))
    if not is_local(filesystem):
        return RemoteFile(filesystem, normpath(f"{folder}/{name}"))
    if "\\" in name and not Path(folder, name).exists():  # written on Windows
        name = name.replace("\\", "/")
    return Path(folder, name)


def _remedy(filesystem: Any, folder: str, names: Sequence[str], column: str) -> str:
    """Where files of the first names are below the folder of a manifest, and how to say so."""
    below = _by_name(filesystem, folder)
    found: list[PurePosixPath] = []
    endings = set()
    for name in names[:MOST_LOOKED_FOR]:
        own = PurePosixPath(name.replace("\\", "/")).name.removesuffix(".*")
        places = [PurePosixPath(place).relative_to(folder) for place in below.get(own) or below.get(f"{own}.*", [])]
        endings |= {place.name.removeprefix(own) for place in places}
        found += places
    if not found:
        return f"Paths are looked for from {folder} on, and no file of that name is below it."
    told = f"There is {found[0]}"
    folders = {str(place.parent) for place in found}
    if "/" in names[0].replace("\\", "/"):
        above, is_below, ending = str(found[0]).rpartition(names[0])
        if not is_below or not ending:
            return f"{told}: paths must be relative to {folder}, or absolute."
        folders = {above.rstrip("/") or "."}
    where = folders.pop() if len(folders) == 1 else "./**"
    suffix = endings.pop() if len(endings) == 1 else ".*"
    made = column.removeprefix("./").removesuffix(".*") if "{" in column else f"{{{column}}}"
    return (
        f"{told}: say so with target_columns.file={where}/{made}{suffix} (of a source: source_columns, of new images: "
        "images_columns)."
    )


def _by_name(filesystem: Any, root: str) -> dict[str, list[str]]:
    """All files below a folder by name, and by name with `.*` in place of the extension; links to folders are left."""
    if is_local(filesystem):
        paths = [join(folder, name) for folder, _, names in os.walk(root) for name in names]
    else:
        paths = filesystem.find(root) if filesystem.isdir(root) else []
    found: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        own = PurePosixPath(path)
        found[own.name].append(path)
        found[f"{own.stem}.*"].append(path)
    return found
