"""Exports as versioned folders: the files by themselves, and the release that they become part of."""

from __future__ import annotations

from pathlib import Path

from cnn_transfer.datasets.local_folder import LocalFolder
from cnn_transfer.exporting import Files, Release, read_files, write_files, write_release
from cnn_transfer.prediction import Predictor


class ExportedFilesDataset(LocalFolder[Files, Files]):
    """A folder of exports, whose content is in memory between two nodes.

    Args:
        filepath: Folder, on this machine or on a store.
        version: Kedro's version.
        credentials: For the file system.
        metadata: For Kedro's plugins.
    """

    LAST_FILE = "complete"

    def _open(self, folder: Path) -> Files:
        return read_files(folder)

    def _write(self, data: Files, folder: Path) -> None:
        folder.mkdir(parents=True)
        write_files(data, folder)
        (folder / self.LAST_FILE).touch()


class ReleaseDataset(LocalFolder[Release, Predictor]):
    """A release; loading opens its predictor, computed by Keras.

    Args:
        filepath: Folder, on this machine or on a store.
        version: Kedro's version.
        credentials: For the file system.
        metadata: For Kedro's plugins.
    """

    LAST_FILE = "exports.json"

    def _open(self, folder: Path) -> Predictor:
        return Predictor.load(folder)

    def _write(self, data: Release, folder: Path) -> None:
        write_release(data, folder)
