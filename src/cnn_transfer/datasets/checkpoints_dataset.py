"""Where unfinished fits keep their state: a folder a run, handed to the nodes that train."""

from __future__ import annotations

from typing import Any, NoReturn

from kedro.io import AbstractDataset, Version
from kedro.io.core import DatasetError

from cnn_transfer.datasets.versions import open_path
from cnn_transfer.training import Checkpoints


class CheckpointsDataset(AbstractDataset[NoReturn, Checkpoints]):
    """A folder for checkpoints, `<filepath>/<version>/`; it is there even before anything is in it.

    Loading hands the folder out, and fits write to it as they go on: nothing is saved by a node, so that the graph has
    no output that a killed node owes.

    Args:
        filepath: Folder, local or at an address of fsspec.
        version: Kedro's version; its save version names the folder of the run. None: `filepath` itself.
        credentials: Of the file system.
        metadata: For Kedro's plugins.
    """

    def __init__(
        self,
        filepath: str,
        version: Version | None = None,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._fs, self._filepath = open_path(filepath, version, credentials)
        self._version, self.metadata = version, metadata

    def load(self) -> Checkpoints:
        version = self._version.save if self._version else None
        return Checkpoints(str(self._filepath / (version or "")), self._fs)

    def fingerprint(self) -> str:
        """The same for all states: where a fit goes on changes nothing in its result."""
        return "checkpoints"

    def save(self, data: NoReturn) -> None:
        raise DatasetError(f"Checkpoints are written by fits, not by nodes. Received: {type(data).__name__}.")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "version": self._version}
