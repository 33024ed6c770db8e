"""Features as versioned folders."""

from __future__ import annotations

from pathlib import Path

from cnn_transfer.datasets.local_folder import LocalFolder
from cnn_transfer.transfer.features import FeatureExtraction, FeatureSet, open_features, write_features


class FeaturesDataset(LocalFolder[FeatureExtraction, FeatureSet]):
    """A folder that holds features: saving computes and writes them, loading opens them.

    What an earlier version holds of the same network and the same pixels is not computed again.

    Args:
        filepath: Folder, on this machine or on a store.
        version: Kedro's version.
        credentials: For the file system.
        metadata: For Kedro's plugins.
    """

    LAST_FILE = "features.json"
    NOT_CONTENT = ("written.json",)

    def _open(self, folder: Path) -> FeatureSet:
        return open_features(folder)

    def _write(self, data: FeatureExtraction, folder: Path) -> None:
        write_features(data, folder, self._earlier())
