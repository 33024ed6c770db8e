"""Labelled images as they come: opened for listing, never written."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset
from kedro.io.core import DatasetError

from cnn_transfer.images import ImageListing, list_cifar10, list_images


class RawImagesDataset(AbstractDataset[NoReturn, ImageListing]):
    """A Parquet file (`image` struct of `bytes` and `path`, `label`) or a folder with one folder a class.

    Args:
        filepath: The file or folder.
        made_by: Command that makes it, told to a user who has not got it.
        metadata: For Kedro's plugins.
    """

    def __init__(self, filepath: str, made_by: str | None = None, metadata: dict[str, Any] | None = None) -> None:
        self.filepath = Path(filepath)
        self.made_by = made_by
        self.metadata = metadata

    def load(self) -> ImageListing:
        return list_images(self.filepath)

    def save(self, data: NoReturn) -> None:
        raise DatasetError(f"Raw images are never written. Received: {type(data).__name__} for {self.filepath}.")

    def _exists(self) -> bool:
        return self.filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self.filepath}


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

    def save(self, data: NoReturn) -> None:
        raise DatasetError(f"CIFAR-10 is never written. Received: {type(data).__name__}.")

    def _describe(self) -> dict[str, Any]:
        return {"origin": self._origin}
