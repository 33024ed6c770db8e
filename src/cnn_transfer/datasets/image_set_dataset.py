"""Image sets as versioned folders."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cnn_transfer.datasets.local_folder import LocalFolder
from cnn_transfer.images import DecodedImages, ImageSet, open_image_set, write_image_set
from cnn_transfer.images.reasons import PASSING_REASONS


class ImageSetDataset(LocalFolder[DecodedImages, ImageSet]):
    """A folder that holds an image set: saving decodes and writes it in chunks, loading opens it.

    What the latest version holds of the same content and in the same format is not decoded again.

    Args:
        filepath: Folder, on this machine or on a store.
        version: Kedro's version.
        credentials: For the file system.
        metadata: For Kedro's plugins.
    """

    LAST_FILE = "set.json"
    NOT_CONTENT = ("written.json", "states.parquet", "pixels-*.arrow")  # the table has a digest of each image's pixels

    def unread(self, version: str) -> int:
        """How many images a complete version lacks for what may have passed since, such as a store's silence."""
        path = f"{self._get_versioned_path(version)}/rejected.parquet"
        with self._fs.open(path, "rb") as file:
            return int(pd.read_parquet(file)["reason"].isin(PASSING_REASONS).sum())

    def _open(self, folder: Path) -> ImageSet:
        return open_image_set(folder)

    def _write(self, data: DecodedImages, folder: Path) -> None:
        earlier = self._earlier()
        write_image_set(data, folder, next(earlier, None))
        earlier.close()  # until now the local copy has to stay
