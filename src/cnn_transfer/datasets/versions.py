"""Versions of datasets as folders `<filepath>/<version>/` of a file system: their content, copies, and removal.

A run has the version of everything it works with under its own name. What it takes from another run becomes a version
of its own, so that each run can be read, moved and deleted by itself; on a local disk that costs no space (hard links).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractVersionedDataset

PARTIAL = ".partial-"  # names of what is being written, or was when its process was killed
CHECKSUMS = ("ETag", "etag", "md5Hash", "content_md5")  # that object stores give without reading


def version_folder(dataset: AbstractVersionedDataset[Any, Any], version: str) -> str:
    """The folder of a version, whether it is there or not."""
    return str(dataset._get_versioned_path(version).parent)


def exists(dataset: AbstractVersionedDataset[Any, Any], version: str) -> bool:
    """Whether there is a complete version of this name."""
    filesystem, path = _filesystem(dataset), dataset._get_versioned_path(version)
    filesystem.invalidate_cache()
    last = getattr(dataset, "LAST_FILE", None)  # its presence makes a folder complete
    return bool(filesystem.exists(str(path / last if last else path)))


def digest(dataset: AbstractVersionedDataset[Any, Any], version: str) -> str:
    """What a version holds, as one digest of its files' names and contents; from checksums where the store has them.

    Raises:
        FileNotFoundError: When there is no such version.
    """
    total = hashlib.blake2b(digest_size=16)
    for name, info in _files(dataset, version).items():
        total.update(f"{name}\0{info['size']}\0{_content(_filesystem(dataset), info)}\0".encode())
    return total.hexdigest()


def adopt(dataset: AbstractVersionedDataset[Any, Any], version: str, as_version: str) -> None:
    """Make the content of a version a version of another name too, whole or not at all.

    On a local disk files are linked, or copied where links are not possible; an object store copies them itself.

    Raises:
        FileNotFoundError: When there is no such version.
    """
    files = _files(dataset, version)
    origin, goal = version_folder(dataset, version), version_folder(dataset, as_version)
    if _is_local(dataset):
        _link(origin, goal, list(files))
        return
    last = getattr(dataset, "LAST_FILE", None)
    filesystem = _filesystem(dataset)
    for name in sorted(files, key=lambda name: (PurePosixPath(name).name == last, name)):
        filesystem.copy(f"{origin}/{name}", f"{goal}/{name}")


def discard(dataset: AbstractVersionedDataset[Any, Any], version: str) -> None:
    """Remove a version with what a killed process left of it; nothing happens when there is none.

    Datasets that go on from what is unfinished (`KEEPS_UNFINISHED`) keep that.
    """
    filesystem, folder = _filesystem(dataset), version_folder(dataset, version)
    filesystem.invalidate_cache()
    if not filesystem.exists(folder):
        return
    if not getattr(dataset, "KEEPS_UNFINISHED", False):
        filesystem.rm(folder, recursive=True)
        return
    for path in filesystem.ls(folder, detail=False):
        if not PurePosixPath(path).name.startswith(PARTIAL):
            filesystem.rm(path, recursive=True)


def _filesystem(dataset: AbstractVersionedDataset[Any, Any]) -> Any:
    return dataset._fs  # type: ignore[attr-defined]  # as all datasets of kedro-datasets call it


def _is_local(dataset: AbstractVersionedDataset[Any, Any]) -> bool:
    protocol = _filesystem(dataset).protocol
    return "file" in ([protocol] if isinstance(protocol, str) else protocol)


def _files(dataset: AbstractVersionedDataset[Any, Any], version: str) -> dict[str, dict[str, Any]]:
    """What the file system knows of each file of a version, by its name in the folder, in order."""
    filesystem, folder = _filesystem(dataset), version_folder(dataset, version)
    filesystem.invalidate_cache()
    found = filesystem.find(folder, detail=True)
    whole = {
        path.rsplit(folder, maxsplit=1)[-1].lstrip("/"): found[path] for path in sorted(found) if PARTIAL not in path
    }
    if not whole:
        raise FileNotFoundError(f"There is no version {version} of {dataset._filepath}.")
    return whole


def _content(filesystem: Any, info: dict[str, Any]) -> str:
    for key in CHECKSUMS:
        if info.get(key):
            return str(info[key])
    with filesystem.open(info["name"], "rb") as stream:
        total = hashlib.blake2b(digest_size=16)
        while chunk := stream.read(2**20):
            total.update(chunk)
    return total.hexdigest()


def _link(origin: str, goal: str, names: list[str]) -> None:
    """Build the folder one level too deep for anybody who looks for versions, then move it to its place."""
    workplace = Path(goal).parent / f"{PARTIAL}{uuid.uuid4().hex}"
    new = workplace / Path(goal).name
    try:
        for name in names:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(Path(origin) / name, new / name)
            except OSError:
                shutil.copy2(Path(origin) / name, new / name)
        try:
            new.rename(goal)
        except OSError:
            if not Path(goal).exists():  # else another process was faster
                raise
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
