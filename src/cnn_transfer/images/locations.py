"""Where images lie: the file system of a path or an address, and archives that are read where they are."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from fsspec.implementations.zip import ZipFileSystem

from cnn_transfer.images.reasons import UnusableSetError

ARCHIVE = ".zip"
S3_ATTEMPTS = 2
MOST_BYTES = 2**30  # of a file in an archive, unpacked: what a small one may claim to hold


class Archive(ZipFileSystem):  # type: ignore[misc]
    """A `.zip` file as a file system; what would unpack to more than `MOST_BYTES` is not read."""

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        """Content of a file.

        Raises:
            OSError: When it is too large.
        """
        if (size := self.info(path)["size"]) > MOST_BYTES:
            raise OSError(f"{size:,} bytes unpacked; at most {MOST_BYTES:,} are read from an archive")
        content: bytes = super().cat_file(path, start, end, **kwargs)
        return content


def open_location(location: str | Path, storage_options: Mapping[str, Any]) -> tuple[Any, str]:
    """The file system of an address and the path in it; a local path becomes absolute.

    Raises:
        ModuleNotFoundError: When the file system needs a package that is not installed.
        UnusableSetError: When there is no such kind of address.
    """
    try:
        filesystem, path = fsspec.core.url_to_fs(str(location), **storage_options)
    except ImportError as error:
        raise ModuleNotFoundError(
            f"{location} needs a package that is not installed ({error}). For s3:// install the extra: "
            "pip install 'cnn-transfer[s3]'."
        ) from error
    except ValueError as error:
        raise UnusableSetError(
            f"{location} must be a path, or an address of a kind that fsspec knows, such as s3://bucket/folder. "
            f"{error}."
        ) from error
    return with_few_attempts(filesystem), path.rstrip("/")


def with_few_attempts(filesystem: Any) -> Any:
    """The file system, which tells soon that a server is down.

    s3fs repeats what botocore has given up after several attempts, and all of that once more for an object that is
    read. By its own 5 times 5, an image would be tried 25 times or more.
    """
    if "s3" in np.atleast_1d(filesystem.protocol):
        filesystem.retries = S3_ATTEMPTS
    return filesystem


def open_archive(filesystem: fsspec.AbstractFileSystem, path: str) -> Archive:
    """A `.zip` file on a file system.

    Raises:
        UnusableSetError: When it is none, or damaged.
    """
    protocol = str(np.atleast_1d(filesystem.protocol)[0])
    try:
        return Archive(fo=path, target_protocol=protocol, target_options=dict(filesystem.storage_options))
    except zipfile.BadZipFile as error:
        raise UnusableSetError(
            f"{path} must be a zip archive, as its name says. Received: something else, or a part of one ({error}). "
            "Was it downloaded or copied to its end?"
        ) from error


def is_local(filesystem: fsspec.AbstractFileSystem) -> bool:
    """Whether paths of this file system are paths of this machine."""
    return "file" in np.atleast_1d(filesystem.protocol)


def address_of(filesystem: fsspec.AbstractFileSystem, path: str) -> str:
    """What people give to name a place: a local path, or an address that `open_location` opens."""
    if is_local(filesystem):
        return path
    address = str(filesystem.unstrip_protocol(path))
    if not isinstance(filesystem, ZipFileSystem):
        return address
    archive, protocol = (filesystem.storage_options[name] for name in ("fo", "target_protocol"))
    return f"{address}::{archive if protocol in {None, 'file'} else f'{protocol}://{archive}'}"
