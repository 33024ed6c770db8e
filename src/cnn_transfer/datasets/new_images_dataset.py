"""Images to be labelled, as they come: opened for listing, never written."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any, NoReturn

from kedro.io import AbstractDataset
from kedro.io.core import DatasetError

from cnn_transfer.images import ImageListing, fingerprint_of, list_unlabelled, open_location


class NewImagesDataset(AbstractDataset[NoReturn, ImageListing]):
    """A folder of images, a manifest, a table of images, or one image; see `cnn_transfer.images.list_unlabelled`.

    It is listed once: what comes later is left for the next run.

    Args:
        filepath: Local path or address, such as `s3://bucket/photos`; None: not said yet.
        follow_links: Whether links in a local folder may lead out of it.
        credentials: For the file system, as Kedro reads them from `credentials.yml`.
        fs_args: Further arguments of the file system.
        metadata: For Kedro's plugins.
    """

    def __init__(
        self,
        filepath: str | None = None,
        follow_links: bool = False,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._filepath = filepath
        self.metadata = metadata
        self._follow_links = follow_links
        self._storage_options = {**(fs_args or {}), **(credentials or {})}

    def load(self) -> ImageListing:
        return self._listing

    def check(self) -> None:
        """See whether there are images.

        Raises:
            FileNotFoundError: When nothing is there.
            ModuleNotFoundError: When the file system needs a package that is not installed.
            ValueError: When no path was given, or there is no image.
        """
        self.fingerprint()  # lists them; `load` would hide the kind of error

    def fingerprint(self) -> str | None:
        """Digest of the names, sizes, times and checksums that the file system has: equal when nothing has changed.

        None for a manifest, whose images lie elsewhere.
        """
        return self._listing.fingerprint

    def save(self, data: NoReturn) -> None:
        raise DatasetError(f"New images are never written. Received: {type(data).__name__} for {self._filepath}.")

    @cached_property
    def _listing(self) -> ImageListing:
        if self._filepath is None:
            raise ValueError(
                "images must be a folder, a manifest, a table of images or one image. Received: nothing. Say which: "
                "kedro run --pipelines predict --params images=PATH"
            )
        digest = fingerprint_of(self._filepath, self._storage_options)
        listing = list_unlabelled(self._filepath, self._follow_links, **self._storage_options)
        return replace(listing, fingerprint=digest)

    def _exists(self) -> bool:
        if self._filepath is None:
            return False
        filesystem, path = open_location(self._filepath, self._storage_options)
        return bool(filesystem.exists(path))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
