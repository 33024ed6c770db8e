"""Image sets as versioned folders."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from kedro.io import AbstractVersionedDataset, Version
from kedro.io.core import DatasetError, get_protocol_and_path

from cnn_transfer.datasets.atomic import AtomicSave
from cnn_transfer.images import DecodedImages, ImageSet, open_image_set, write_image_set


class _ImageSetFolder(AbstractVersionedDataset[DecodedImages, ImageSet]):
    def __init__(self, filepath: str, version: Version | None = None, metadata: dict[str, Any] | None = None) -> None:
        protocol, path = get_protocol_and_path(filepath, version)
        if protocol != "file":
            raise DatasetError(f"An image set is memory-mapped and needs a local folder. Received: {filepath}.")
        self._fs = fsspec.filesystem("file", auto_mkdir=True)
        self.metadata = metadata
        super().__init__(PurePosixPath(path), version, self._fs.exists, self._fs.glob)

    def load(self) -> ImageSet:
        return open_image_set(Path(self._get_load_path()))

    def save(self, data: DecodedImages) -> None:
        write_image_set(data, Path(self._get_save_path()), self._earlier())

    def _earlier(self) -> Path | None:
        """The latest complete version, whose images need not be decoded again."""
        if self._version is None:
            return None
        name = Path(self._filepath).name
        found = sorted(Path(self._filepath).glob(f"*/{name}/set.json"))
        return found[-1].parent if found else None

    def _exists(self) -> bool:
        return bool(self._fs.exists(str(self._get_load_path())))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "version": self._version}


class ImageSetDataset(AtomicSave, _ImageSetFolder):
    """A folder that holds an image set: saving decodes and writes it in chunks, loading opens it.

    What the latest version holds of the same content and in the same format is not decoded again.

    Args:
        filepath: Local folder.
        version: Kedro's version.
        metadata: For Kedro's plugins.
    """
