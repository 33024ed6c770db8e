"""Images to be labelled, as they come: opened for listing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from cnn_transfer.datasets.given import GivenDataset
from cnn_transfer.images import ImageListing, fingerprint_of, list_unlabelled
from cnn_transfer.parameters import ParameterError


class NewImagesDataset(GivenDataset[ImageListing]):
    """A folder of images, a manifest, a table of images, or one image; see `cnn_transfer.images.list_unlabelled`.

    It is listed once: what comes later is left for the next run.

    Args:
        filepath: Local path or address, such as `s3://bucket/photos`; None: not said yet.
        follow_links: Whether links in a local folder may lead out of it.
        columns: What a table's columns are called; see `images.list_images`.
        given: See `GivenDataset`.
    """

    def __init__(
        self,
        filepath: str | None = None,
        follow_links: bool = False,
        columns: Mapping[str, str] | None = None,
        **given: Any,
    ) -> None:
        super().__init__(filepath, **given)
        self._follow_links, self._columns = follow_links, dict(columns or {})

    def load(self) -> ImageListing:
        return self._listing

    def check(self) -> None:
        """See whether there are images.

        Raises:
            FileNotFoundError: When nothing is there.
            ModuleNotFoundError: When the file system needs a package that is not installed.
            ParameterError: When no path was given.
            ValueError: When there is no image.
        """
        self.fingerprint()  # lists them; `load` would hide the kind of error

    def fingerprint(self) -> str | None:
        """Digest of the names, sizes, times and checksums that the file system has: equal when nothing has changed.

        None for a manifest, whose images lie elsewhere.
        """
        return self._listing.fingerprint

    def identity(self) -> dict[str, Any]:
        """What was chosen, whatever is there."""
        return super().identity() | {"columns": self._columns}

    @cached_property
    def _listing(self) -> ImageListing:
        if self._filepath is None:
            raise ParameterError(
                "images must be a folder, a manifest, a table of images or one image. Received: nothing. Say which: "
                "kedro run --pipelines predict --params images=PATH"
            )
        digest = fingerprint_of(self._filepath, self._storage_options, self._follow_links)
        if digest is not None and self._columns:
            digest = hashlib.blake2b(f"{digest}{json.dumps(self._columns)}".encode(), digest_size=16).hexdigest()
        listing = list_unlabelled(self._filepath, self._follow_links, self._columns, **self._storage_options)
        return replace(listing, fingerprint=digest)
