"""Versions of a dataset on any file system of fsspec: which are complete, which is the newest; copies and removal.

A version is a folder of the dataset's own, named after the run that wrote it:

    <filepath>/<version>/<name>                 a file, perhaps with others beside it, or a folder
    <filepath>/<version>/.partial-<name>        being written, or left by a process that was killed
    <filepath>/.partial-<version>-<random>/     the same of a version that is being adopted

It is complete, and exists for every reader, when its last file is there: `<name>`, or `<name>/<LAST_FILE>`. On a disk
that comes with a rename; an object store has none, and the last file is uploaded last.

A run has the version of everything it works with under its own name. What it takes from another run becomes a version
of its own, so that each run can be read, moved and deleted by itself; on a local disk that costs no space (hard links),
but for the tables and pages that people write in, which are copied.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import time
import uuid
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, TypeVar

import fsspec
from fsspec import AbstractFileSystem
from kedro.io import AbstractVersionedDataset, Version
from kedro.io.core import DatasetError, VersionNotFoundError, get_protocol_and_path

from cnn_transfer.images.locations import with_few_attempts

PARTIAL = ".partial-"  # begins the names of what is being written, or was when its process was killed
TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d)\.(\d\d)\.(\d\d\.\d+)Z")  # Kedro's versions, in UTC
PART_BYTES = 256 * 2**20  # files below two parts are uploaded at once: an object store's checksum is of their content
CLOCKS_DIFFER_S = 60  # at most, where somebody looks after them
MOST_LISTED = 10  # versions named in an error
WRITTEN_IN = {".csv", ".html"}  # by people: in place, which would change all links

Dataset = AbstractVersionedDataset[Any, Any]
Saved = TypeVar("Saved")
Loaded = TypeVar("Loaded")
Info = dict[str, Any]


class VersionsByTime:
    """Put before a versioned dataset in the list of base classes: its versions are ordered by time, not by name.

    Kedro takes the greatest name for the latest version, which is wrong for `nightly-9` and `nightly-10`, and for names
    beside timestamps.
    """

    LAST_FILE: ClassVar[str] = ""  # of a version that is a folder: what makes it complete
    KEEPS_UNFINISHED: ClassVar[bool] = False  # whether the next save goes on with what a killed process left
    NOT_CONTENT: ClassVar[tuple[str, ...]] = ()  # patterns of files that say how a version was made, or repeat others

    _fs: Any
    _filepath: PurePosixPath
    _version: Version | None

    def _get_versions(self) -> list[str]:
        found = find_versions(self._fs, self._filepath, self.LAST_FILE)
        return [str(self._filepath / version / self._filepath.name) for version in found]

    def _get_load_path(self) -> PurePosixPath:
        path: PurePosixPath = super()._get_load_path()  # type: ignore[misc]
        if self._version and self._version.load and not self._is_complete(path):
            raise VersionNotFoundError(missing_version(self, self._version.load))
        return path

    def _is_complete(self, path: str | PurePosixPath) -> bool:
        return bool(self._fs.exists(str(PurePosixPath(path) / self.LAST_FILE)))


def open_path(
    filepath: str, version: Version | None = None, credentials: dict[str, Any] | None = None
) -> tuple[AbstractFileSystem, PurePosixPath]:
    """The file system of an entry of the catalog, which makes folders by itself, and the path in it."""
    protocol, path = get_protocol_and_path(filepath, version)
    arguments = {"auto_mkdir": True} if protocol == "file" else {}
    filesystem = fsspec.filesystem(protocol, **(credentials or {}), **arguments)
    return with_few_attempts(filesystem), PurePosixPath(path)


class VersionedFile(AbstractVersionedDataset[Saved, Loaded]):
    """A file of a format that Kedro has no dataset for, or a costly one; each says how it is written and read."""

    SUFFIX: ClassVar[str]  # of its name

    def __init__(
        self,
        filepath: str,
        version: Version | None = None,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        if not filepath.endswith(self.SUFFIX):
            raise DatasetError(
                f"The filepath of {type(self).__name__} must end in {self.SUFFIX}. Received: {filepath}."
            )
        self._fs, path = open_path(filepath, version, credentials)
        self.metadata = metadata
        super().__init__(path, version, self._fs.exists, self._fs.glob)

    def _exists(self) -> bool:
        return bool(self._fs.exists(str(self._get_load_path())))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "version": self._version}


def find_versions(filesystem: AbstractFileSystem, filepath: PurePosixPath, last_file: str = "") -> list[str]:
    """The complete versions at a path, the newest first.

    The time of a version is the one that its name says, if that is a timestamp of Kedro's, or else the one when it was
    completed: of its folder on a disk, of its last file on other stores.
    """
    last = filepath.name / PurePosixPath(last_file)
    times = {}
    for path, info in find_files(filesystem, filepath).items():
        version, *rest = PurePosixPath(path).relative_to(filepath).parts
        if PurePosixPath(*rest) == last and not version.startswith(PARTIAL):
            times[version] = _time(filesystem, filepath / version, info)
    return sorted(times, key=lambda version: (times[version], version), reverse=True)


def find_files(filesystem: AbstractFileSystem, folder: PurePosixPath) -> dict[str, Info]:
    """All files below a folder; on an object store one request for a thousand of them, and nothing from memory."""
    filesystem.invalidate_cache()
    found: dict[str, Info] = filesystem.find(str(folder), detail=True)
    return {path: info for path, info in found.items() if path != str(folder)}


def version_folder(dataset: Dataset, version: str) -> PurePosixPath:
    """The folder of a version, whether it is there or not."""
    return dataset._get_versioned_path(version).parent


def asked_for(dataset: Any) -> str | None:
    """The version that a dataset is to load, whether it is there or not; None: the newest, or it has no versions."""
    return dataset._version.load if isinstance(dataset, AbstractVersionedDataset) and dataset._version else None


def address_of(dataset: Dataset) -> str:
    """Where the version lies that a dataset loads: a path of this machine, or an address."""
    path, filesystem = str(dataset._get_load_path()), _filesystem(dataset)
    return path if is_local(filesystem) else str(filesystem.unstrip_protocol(path))


def exists(dataset: Dataset, version: str) -> bool:
    """Whether there is a complete version of this name."""
    filesystem, last = _filesystem(dataset), str(_last_file(dataset, version))
    filesystem.invalidate_cache()
    return bool(filesystem.exists(last))


def digest(dataset: Dataset, version: str) -> str:
    """What a version holds, as one digest of its files' names and contents; from checksums where the store has them.

    An object store's checksum (ETag) of a file below 512 MB is the same for a copy. Names that begin with `.partial-`
    and those in `NOT_CONTENT` are left out.

    Raises:
        VersionNotFoundError: When there is no such version.
    """
    whole = hashlib.blake2b(digest_size=16)
    for name, info in sorted(_files(dataset, version).items()):
        if not any(fnmatch(PurePosixPath(name).name, pattern) for pattern in getattr(dataset, "NOT_CONTENT", ())):
            content = info.get("ETag") or _content_digest(_filesystem(dataset), info["name"])
            whole.update(f"{name}\0{info['size']}\0{content}\0".encode())
    return whole.hexdigest()


def was_edited(dataset: Dataset, version: str, made: str) -> bool:
    """Whether somebody has written in a version since it was made; of what nobody writes in, it is not looked.

    Args:
        dataset: A dataset of the catalog.
        version: A version of it.
        made: The digest that it had.

    Raises:
        VersionNotFoundError: When there is no such version.
    """
    return PurePosixPath(dataset._filepath).suffix in WRITTEN_IN and digest(dataset, version) != made


def adopt(dataset: Dataset, version: str, as_version: str) -> None:
    """Make the content of a version a version of another name too, whole or not at all.

    On a local disk files are linked, or copied where links are not possible; an object store copies them itself. Two
    processes may do the same at once.

    Raises:
        VersionNotFoundError: When there is no such version.
    """
    filesystem = _filesystem(dataset)
    origin, goal = version_folder(dataset, version), version_folder(dataset, as_version)
    last = str(_last_file(dataset, version).relative_to(origin))
    there = [str(PurePosixPath(path).relative_to(goal)) for path in find_files(filesystem, goal)]
    if last in there:
        return
    files = _files(dataset, version)
    if is_local(filesystem):
        _link_folder(dataset, list(files), Path(origin), Path(goal))
        return
    for name in set(there) - files.keys():
        remove(filesystem, str(goal / name))  # of a process that was killed
    for name in sorted(files, key=lambda name: (name == last, name)):
        filesystem.cp_file(str(origin / name), str(goal / name))


def discard(dataset: Dataset, version: str) -> None:
    """Remove a version with what a killed process left of it; nothing happens when there is none.

    What is unfinished stays where the next save goes on with it (`KEEPS_UNFINISHED`).
    """
    filesystem, folder, last = _filesystem(dataset), version_folder(dataset, version), _last_file(dataset, version)
    if getattr(dataset, "KEEPS_UNFINISHED", False):
        remove(filesystem, str(last))
        return
    remove(filesystem, str(folder), first=str(last))
    if is_local(filesystem):
        for partial in Path(dataset._filepath).glob(f"{PARTIAL}{version}-{'?' * 32}"):
            shutil.rmtree(partial, ignore_errors=True)


def write_whole(filesystem: AbstractFileSystem, path: str, content: bytes) -> None:
    """Write a small file that is there when all of it is: under another name first on a disk, at once elsewhere."""
    if not is_local(filesystem):
        filesystem.pipe_file(path, content)
        return
    partial = Path(path).with_name(f"{PARTIAL}{uuid.uuid4().hex}")
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def is_local(filesystem: AbstractFileSystem) -> bool:
    """Whether paths of this file system are paths of this machine."""
    protocol = filesystem.protocol
    return "file" in ([protocol] if isinstance(protocol, str) else protocol)


def modified(info: Info) -> float | None:
    """When a file was written last, in seconds since 1970, if the file system says so in its listing."""
    time = info.get("LastModified", info.get("mtime"))
    return time.timestamp() if isinstance(time, datetime) else time


def remove(filesystem: AbstractFileSystem, path: str, first: str | None = None) -> None:
    """Remove a file or a folder, if it is there, and before all else in it what makes it a complete version."""
    if is_local(filesystem):
        for place in (first, path):
            with contextlib.suppress(FileNotFoundError):
                if place is not None:
                    filesystem.rm(place, recursive=True)
        return
    filesystem.invalidate_cache()
    for file in sorted(filesystem.find(path), key=lambda file: file != first):  # one request if there is nothing
        filesystem.rm_file(file)


def _filesystem(dataset: Any) -> Any:
    return dataset._fs  # as all datasets of kedro-datasets call it


def _last_file(dataset: Dataset, version: str) -> PurePosixPath:
    return dataset._get_versioned_path(version) / getattr(dataset, "LAST_FILE", "")


def missing_version(dataset: Any, version: str) -> str:
    """That a version is not there, and which ones are."""
    there = find_versions(dataset._fs, dataset._filepath, getattr(dataset, "LAST_FILE", ""))
    if not there:
        return f"There is no version of {dataset._filepath} yet."
    more = f" and {len(there) - MOST_LISTED} older ones" if len(there) > MOST_LISTED else ""
    listed = f"{', '.join(there[:MOST_LISTED])}{more}"
    return f"There is no version {version} of {dataset._filepath}. There are, the newest first: {listed}."


def _files(dataset: Dataset, version: str) -> dict[str, Info]:
    """What a store says of the files of a version, by their path in its folder."""
    folder, last = version_folder(dataset, version), str(_last_file(dataset, version))
    found = find_files(_filesystem(dataset), folder)
    if last not in found:
        raise VersionNotFoundError(missing_version(dataset, version))
    files = {str(PurePosixPath(path).relative_to(folder)): info for path, info in found.items()}
    return {name: info for name, info in files.items() if not name.startswith(PARTIAL)}


def is_to_come(version: str) -> bool:
    """Whether its name says a time that is not yet, by more than clocks of several machines differ."""
    named = _named_time(version)
    return named is not None and named > time.time() + CLOCKS_DIFFER_S


def _named_time(version: str) -> float | None:
    if match := TIMESTAMP.fullmatch(version):
        with contextlib.suppress(ValueError):  # a thirteenth month
            return datetime.fromisoformat(":".join(match.groups())).replace(tzinfo=UTC).timestamp()
    return None


def _time(filesystem: AbstractFileSystem, folder: PurePosixPath, info: Info) -> float:
    if (named := _named_time(folder.name)) is not None:
        return named
    if is_local(filesystem):
        return os.stat(folder).st_mtime  # of the folder: an adopted file keeps its own
    return modified(info) or float(filesystem.modified(info["name"]).timestamp())


def _content_digest(filesystem: AbstractFileSystem, path: str) -> str:
    whole = hashlib.blake2b(digest_size=16)
    with filesystem.open(path, "rb") as file:
        while block := file.read(2**20):
            whole.update(block)
    return whole.hexdigest()


def _link_folder(dataset: Dataset, names: list[str], origin: Path, goal: Path) -> None:
    """Build the folder under a name that is no version's, then give it its name unless another process was first."""
    partial = goal.with_name(f"{PARTIAL}{goal.name}-{uuid.uuid4().hex}")
    try:
        for name in names:
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            _link(origin / name, partial / name)
        try:
            partial.rename(goal)
        except OSError:
            if not exists(dataset, goal.name):
                shutil.rmtree(goal)  # what a killed process left
                partial.rename(goal)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _link(file: Path, link: Path) -> None:
    if file.suffix not in WRITTEN_IN:
        with contextlib.suppress(OSError):  # another disk, or one without links
            os.link(file, link)
            return
    shutil.copy2(file, link)
