"""Which releases there are: they lie as a catalog has them, `<folder>/<version>/release/`, on any file system.

One is complete when it has `exports.json`, which is written last. The time of that file says which is the newest: names
need not sort.
"""

from __future__ import annotations

import glob
from collections.abc import Mapping
from typing import Any, NamedTuple

from fsspec import AbstractFileSystem

from cnn_transfer.exporting.release import EXPORTS


class PublishedRelease(NamedTuple):
    """A complete release.

    Attributes:
        address: Of its folder, a local path or an address of fsspec.
        completed: When `exports.json` was written, seconds since 1970.
    """

    address: str
    completed: float

    @property
    def version(self) -> str:
        """Name of its version."""
        return self.address.rstrip("/").split("/")[-2]


def complete_releases(filesystem: AbstractFileSystem, path: str) -> list[PublishedRelease]:
    """Complete releases at a place, the one that was completed last first.

    Args:
        filesystem: Of fsspec.
        path: In it, a folder of versions, or one release.
    """
    filesystem.invalidate_cache()
    if filesystem.isfile(f"{path}/{EXPORTS}"):
        found = {f"{path}/{EXPORTS}": filesystem.info(f"{path}/{EXPORTS}")}
    else:
        found = filesystem.glob(f"{glob.escape(path)}/*/release/{EXPORTS}", detail=True)
    releases = [
        PublishedRelease(_address(filesystem, name.removesuffix(f"/{EXPORTS}")), _written(info))
        for name, info in found.items()
    ]
    return sorted(releases, key=lambda release: (release.completed, release.address), reverse=True)


def content_of(filesystem: AbstractFileSystem, path: str) -> frozenset[tuple[str, int, float]]:
    """What a store says of the files of a release, name, bytes and time of each: another one once any was written.

    Args:
        filesystem: Of fsspec.
        path: In it, of a release.
    """
    found = filesystem.find(path, detail=True)
    return frozenset((name, info["size"], _written(info)) for name, info in found.items())


def _address(filesystem: AbstractFileSystem, path: str) -> str:
    return str(filesystem.unstrip_protocol(path)).removeprefix("file://")


def _written(info: Mapping[str, Any]) -> float:
    """When a file was written, as file systems of fsspec say it."""
    when = info["mtime"] if "mtime" in info else info["LastModified"].timestamp()
    return float(when)
