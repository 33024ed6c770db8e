"""Features as versioned folders."""

from __future__ import annotations

from pathlib import Path

from cnn_transfer.datasets.atomic import AtomicSave
from cnn_transfer.datasets.local_folder import LocalFolder
from cnn_transfer.transfer.features import FeatureExtraction, FeatureSet, open_features, write_features


class _FeaturesFolder(LocalFolder[FeatureExtraction, FeatureSet]):
    WHAT = "A set of features is"
    LAST_FILE = "features.json"

    def load(self) -> FeatureSet:
        return open_features(Path(self._get_load_path()))

    def save(self, data: FeatureExtraction) -> None:
        write_features(data, Path(self._get_save_path()), self._earlier())


class FeaturesDataset(AtomicSave, _FeaturesFolder):
    """A folder that holds features: saving computes and writes them, loading opens them.

    What an earlier version holds of the same network and the same pixels is not computed again.

    Args:
        filepath: Local folder.
        version: Kedro's version.
        metadata: For Kedro's plugins.
    """
