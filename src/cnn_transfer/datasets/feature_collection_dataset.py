"""Features by several networks as versioned folders."""

from __future__ import annotations

from pathlib import Path

from cnn_transfer.datasets.local_folder import LocalFolder
from cnn_transfer.transfer import FeatureSet
from cnn_transfer.transfer.feature_collection import (
    CONTENTS,
    Extractions,
    open_feature_collection,
    write_feature_collection,
)


class FeatureCollectionDataset(LocalFolder[Extractions, dict[str, FeatureSet]]):
    """A folder with one folder of features a network: saving computes and writes them, loading opens them.

    What an earlier version holds of the same network and the same pixels is not computed again, whatever its name was.

    Args:
        filepath: Folder, on this machine or on a store.
        version: Kedro's version.
        credentials: For the file system.
        metadata: For Kedro's plugins.
    """

    LAST_FILE = CONTENTS
    NOT_CONTENT = ("written.json",)

    def _open(self, folder: Path) -> dict[str, FeatureSet]:
        return open_feature_collection(folder)

    def _write(self, data: Extractions, folder: Path) -> None:
        write_feature_collection(data, folder, self._earlier())
