"""Labelled images as they come: opened for listing, never written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NoReturn

from fsspec.utils import get_protocol
from kedro.io import AbstractDataset
from kedro.io.core import DatasetError

from cnn_transfer.images import (
    ImageListing,
    correct_labels,
    fingerprint_of,
    holds_tables,
    is_there,
    list_cifar10,
    list_images,
    open_images,
    open_location,
)


class RawImagesDataset(AbstractDataset[NoReturn, ImageListing]):
    """A folder of class folders, a manifest, or Parquet or Arrow files of images; see `cnn_transfer.images.listing`.

    Args:
        filepath: Local path or address, such as `s3://bucket/photos`.
        labels: Table of labels, or folder of such tables, in place of those of the images; see `images.correct_labels`.
        name_pattern: What the names of a folder's images say; see `images.list_images`.
        columns: What a table's columns are called; see `images.list_images`.
        made_by: Command that makes it, told to a user who has not got it.
        follow_links: Whether links in a local folder may lead out of it.
        credentials: For the file system, as Kedro reads them from `credentials.yml`.
        fs_args: Further arguments of the file system.
        metadata: For Kedro's plugins.
    """

    def __init__(
        self,
        filepath: str,
        labels: str | None = None,
        name_pattern: str | None = None,
        columns: Mapping[str, str] | None = None,
        made_by: str | None = None,
        follow_links: bool = False,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self.filepath = str(filepath)
        self.labels = None if labels is None else str(labels)
        self.name_pattern, self.columns = name_pattern, dict(columns or {})
        self.made_by = made_by
        self.metadata = metadata
        self._follow_links = follow_links
        self._storage_options = {**(fs_args or {}), **(credentials or {})}

    def load(self) -> ImageListing:
        return self._list()

    def check(self) -> None:
        """See whether what is there can be read as it is to be; folders of images take long to list, in their node.

        Raises:
            ModuleNotFoundError: When the file system needs a package that is not installed.
            ValueError: When it cannot, or none of the files is there that it names.
        """
        filesystem, path = open_images(self.filepath, self._storage_options)
        if self.columns or not filesystem.isdir(path) or holds_tables(filesystem, path):
            self._list()  # `load` would hide the kind of error

    def _list(self) -> ImageListing:
        listing = list_images(
            self.filepath, self._follow_links, self.name_pattern, self.columns, **self._storage_options
        )
        return correct_labels(listing, self.labels, self._options_of_labels) if self.labels else listing

    def fingerprint(self) -> str | None:
        """Digest of the names, sizes, times and checksums that the file system has: equal when nothing has changed.

        And of how they are read, and what the tables of labels say. None for a manifest, whose images lie elsewhere.
        """
        images = fingerprint_of(self.filepath, self._storage_options, self._follow_links)
        if images is None or not (self.labels or self.name_pattern or self.columns):
            return images
        digest = hashlib.blake2b(json.dumps([self.name_pattern, self.columns]).encode(), digest_size=16)
        if self.labels is None:
            return f"{images} {digest.hexdigest()}"
        filesystem, path = open_location(self.labels, self._options_of_labels)
        for name in sorted(filesystem.find(path)) if filesystem.isdir(path) else [path]:
            digest.update(filesystem.cat_file(name))
        return f"{images} {digest.hexdigest()}"

    def identity(self) -> dict[str, Any]:
        """What was chosen, whatever is there."""
        return {
            "filepath": self.filepath, "labels": self.labels, "name_pattern": self.name_pattern, "columns": self.columns
        }  # fmt: skip

    def save(self, data: NoReturn) -> None:
        raise DatasetError(f"Raw images are never written. Received: {type(data).__name__} for {self.filepath}.")

    def labels_exist(self) -> bool:
        """Whether the table of labels is there, or none is named."""
        if self.labels is None:
            return True
        filesystem, path = open_location(self.labels, self._options_of_labels)
        return bool(filesystem.exists(path))

    @property
    def _options_of_labels(self) -> dict[str, Any]:
        """The options of the images' file system, where the labels lie on the same."""
        protocols = [get_protocol(str(place)) for place in (self.filepath, self.labels)]
        return self._storage_options if protocols[0] == protocols[1] else {}

    def _exists(self) -> bool:
        return is_there(*open_images(self.filepath, self._storage_options))

    def _describe(self) -> dict[str, Any]:
        more = {"labels": self.labels, "name_pattern": self.name_pattern, "columns": self.columns}
        return {"filepath": self.filepath} | {name: value for name, value in more.items() if value}


class CIFAR10Dataset(AbstractDataset[NoReturn, ImageListing]):
    """The training part of CIFAR-10, downloaded once by Keras.

    Args:
        origin: Address of the archive.
        sha256: Digest of the archive.
        metadata: For Kedro's plugins.
    """

    def __init__(self, origin: str, sha256: str, metadata: dict[str, Any] | None = None) -> None:
        self._origin, self._sha256 = origin, sha256
        self.metadata = metadata

    def load(self) -> ImageListing:
        return list_cifar10(self._origin, self._sha256)

    def fingerprint(self) -> str:
        """The archive's digest."""
        return self._sha256

    def identity(self) -> dict[str, Any]:
        """What was chosen."""
        return {"sha256": self._sha256}

    def save(self, data: NoReturn) -> None:
        raise DatasetError(f"CIFAR-10 is never written. Received: {type(data).__name__}.")

    def _describe(self) -> dict[str, Any]:
        return {"origin": self._origin}
