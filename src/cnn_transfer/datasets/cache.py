"""Local copies of versions that lie on a remote store, for what is memory-mapped.

A copy is a folder in the cache: complete or not there, fetched once for all processes of a machine. Its name holds a
digest of the version's address and of what the store says of its last file, so that it never serves for another one.

    TRANSFER_CACHE       the folder; cnn-transfer in the user's cache folder (~/.cache) when it is not set
    TRANSFER_CACHE_GB    what its copies take at most, 20 when it is not set: the least recently opened ones go first

What a process opens or writes at the moment is locked (flock, which a process that is killed lets go) and stays.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from fsspec import AbstractFileSystem

from cnn_transfer.datasets.versions import PARTIAL, modified

DEFAULT_GB = 20.0
FETCHED_AT_ONCE = 8  # files


def cache_folder() -> Path:
    """Where the copies lie."""
    usual = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cnn-transfer"
    return Path(os.environ.get("TRANSFER_CACHE") or usual).expanduser()


def most_bytes() -> float:
    """What the copies take at most.

    Raises:
        ValueError: When the environment variable holds no positive number.
    """
    value = os.environ.get("TRANSFER_CACHE_GB") or DEFAULT_GB
    with contextlib.suppress(ValueError):
        if float(value) > 0:
            return float(value) * 1e9
    raise ValueError(f"TRANSFER_CACHE_GB must be a number above 0, in gigabytes. Received: {value}; without it, 20")


@contextlib.contextmanager
def local_copy(filesystem: AbstractFileSystem, path: str, last_file: str) -> Iterator[Path]:
    """A local folder with the files of a complete one on a store, fetched if need be; it stays while it is opened."""
    copy = _place(filesystem, path, last_file)
    while (lock := _lock(copy, fcntl.LOCK_SH)) is None:
        _fetch(filesystem, path, copy)
    try:
        os.utime(copy)
        yield copy
    finally:
        os.close(lock)


@contextlib.contextmanager
def working_folder(name: str) -> Iterator[Path]:
    """A folder in the cache to write into; it is removed in the end, unless it was given another name."""
    folder = cache_folder() / f"{PARTIAL}{name}-{uuid.uuid4().hex}"
    folder.mkdir(parents=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


def keep(folder: Path, filesystem: AbstractFileSystem, path: str, last_file: str) -> None:
    """Make what was written and stored the local copy, so that it need not be fetched."""
    _rename(folder, _place(filesystem, path, last_file))
    _make_room(0)


def check_cache() -> None:
    """Find out early whether the cache can be used.

    Raises:
        OSError: When nothing can be written there.
        ValueError: When the limit is no number.
    """
    most_bytes()
    with working_folder("check"):
        pass


def _place(filesystem: AbstractFileSystem, path: str, last_file: str) -> Path:
    info: dict[str, Any] = filesystem.info(f"{path}/{last_file}")
    identity = (filesystem.unstrip_protocol(path), info["size"], info.get("ETag"), modified(info))
    name = PurePosixPath(path).name
    return cache_folder() / f"{name}-{hashlib.blake2b(repr(identity).encode(), digest_size=12).hexdigest()}"


def _fetch(filesystem: AbstractFileSystem, path: str, copy: Path) -> None:
    files = filesystem.find(path, detail=True)
    _make_room(sum(info["size"] for info in files.values()))
    with working_folder(copy.name) as folder:
        local = {name: folder / PurePosixPath(name).relative_to(path) for name in files}
        filesystem.get(list(local), [str(file) for file in local.values()], batch_size=FETCHED_AT_ONCE)
        for name, file in local.items():
            if file.stat().st_size != files[name]["size"]:
                raise OSError(
                    f"{name} has {files[name]['size']} bytes and {file.stat().st_size} of them came. Try again."
                )
        _rename(folder, copy)


def _rename(folder: Path, copy: Path) -> None:
    try:
        folder.rename(copy)
    except OSError:
        if not copy.is_dir():  # else another process was first
            raise


def _lock(folder: Path, how: int) -> int | None:
    """A lock on a folder, let go by closing it; none when the folder is gone, or taken and not waited for."""
    try:
        lock = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with contextlib.suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(lock, how)
        if os.path.samestat(os.fstat(lock), os.stat(folder)):  # else it was removed while it was waited for
            return lock
    os.close(lock)
    return None


def _make_room(needed: int) -> None:
    """Remove what killed processes left, and the copies that were opened longest ago, until there is room."""
    folders = [entry for entry in cache_folder().glob("*") if entry.is_dir()]
    sizes = {folder: _size(folder) for folder in folders}
    used = sum(sizes.values()) + needed
    for folder in sorted(folders, key=lambda folder: (not folder.name.startswith(PARTIAL), _opened(folder))):
        left_behind = folder.name.startswith(PARTIAL)
        if not left_behind and used <= most_bytes():
            return
        if (lock := _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)) is None:
            continue
        try:
            gone = folder if left_behind else folder.rename(folder.with_name(f"{PARTIAL}{uuid.uuid4().hex}"))
            shutil.rmtree(gone, ignore_errors=True)
            used -= sizes[folder]
        finally:
            os.close(lock)


def _size(folder: Path) -> int:
    with contextlib.suppress(FileNotFoundError):  # another process makes room, too
        return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return 0


def _opened(folder: Path) -> float:
    with contextlib.suppress(FileNotFoundError):
        return folder.stat().st_mtime
    return 0.0
