"""Image sets as versioned folders."""

from __future__ import annotations

from pathlib import Path

from cnn_transfer.datasets.atomic import AtomicSave
from cnn_transfer.datasets.local_folder import LocalFolder
from cnn_transfer.images import DecodedImages, ImageSet, open_image_set, write_image_set


class _ImageSetFolder(LocalFolder[DecodedImages, ImageSet]):
    WHAT = "An image set is"
    LAST_FILE = "set.json"

    def load(self) -> ImageSet:
        return open_image_set(Path(self._get_load_path()))

    def save(self, data: DecodedImages) -> None:
        write_image_set(data, Path(self._get_save_path()), next(iter(self._earlier()), None))


class ImageSetDataset(AtomicSave, _ImageSetFolder):
    """A folder that holds an image set: saving decodes and writes it in chunks, loading opens it.

    What the latest version holds of the same content and in the same format is not decoded again.

    Args:
        filepath: Local folder.
        version: Kedro's version.
        metadata: For Kedro's plugins.
    """
