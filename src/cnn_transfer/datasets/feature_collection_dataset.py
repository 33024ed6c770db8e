"""Features by several networks as versioned folders."""

from __future__ import annotations

from pathlib import Path

from cnn_transfer.datasets.atomic import AtomicSave
from cnn_transfer.datasets.local_folder import LocalFolder
from cnn_transfer.transfer import FeatureSet
from cnn_transfer.transfer.feature_collection import (
    CONTENTS,
    Extractions,
    open_feature_collection,
    write_feature_collection,
)


class _FeatureCollectionFolder(LocalFolder[Extractions, dict[str, FeatureSet]]):
    WHAT = "A collection of features is"
    LAST_FILE = CONTENTS

    def load(self) -> dict[str, FeatureSet]:
        return open_feature_collection(Path(self._get_load_path()))

    def save(self, data: Extractions) -> None:
        write_feature_collection(data, Path(self._get_save_path()), self._earlier())


class FeatureCollectionDataset(AtomicSave, _FeatureCollectionFolder):
    """A folder with one folder of features a network: saving computes and writes them, loading opens them.

    What an earlier version holds of the same network and the same pixels is not computed again, whatever its name was.

    Args:
        filepath: Local folder.
        version: Kedro's version.
        metadata: For Kedro's plugins.
    """
