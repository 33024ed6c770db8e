"""Features by several networks as versioned folders."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from kedro.io import AbstractVersionedDataset, Version
from kedro.io.core import DatasetError, get_protocol_and_path

from cnn_transfer.datasets.atomic import AtomicSave
from cnn_transfer.transfer import FeatureSet
from cnn_transfer.transfer.feature_collection import (
    CONTENTS,
    Extractions,
    open_feature_collection,
    write_feature_collection,
)


class _FeatureCollectionFolder(AbstractVersionedDataset[Extractions, dict[str, FeatureSet]]):
    def __init__(self, filepath: str, version: Version | None = None, metadata: dict[str, Any] | None = None) -> None:
        protocol, path = get_protocol_and_path(filepath, version)
        if protocol != "file":
            raise DatasetError(f"Features are memory-mapped and need a local folder. Received: {filepath}.")
        self._fs = fsspec.filesystem("file", auto_mkdir=True)
        self.metadata = metadata
        super().__init__(PurePosixPath(path), version, self._fs.exists, self._fs.glob)

    def load(self) -> dict[str, FeatureSet]:
        return open_feature_collection(Path(self._get_load_path()))

    def save(self, data: Extractions) -> None:
        write_feature_collection(data, Path(self._get_save_path()), self._earlier())

    def _earlier(self) -> list[Path]:
        """The complete versions, the newest first."""
        if self._version is None:
            return []
        name = Path(self._filepath).name
        return [file.parent for file in sorted(Path(self._filepath).glob(f"*/{name}/{CONTENTS}"), reverse=True)]

    def _exists(self) -> bool:
        return bool(self._fs.exists(str(self._get_load_path())))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "version": self._version}


class FeatureCollectionDataset(AtomicSave, _FeatureCollectionFolder):
    """A folder with one folder of features a network: saving computes and writes them, loading opens them.

    What an earlier version holds of the same network and the same pixels is not computed again, whatever its name was.

    Args:
        filepath: Local folder.
        version: Kedro's version.
        metadata: For Kedro's plugins.
    """
