"""All versions of a JSON or Parquet file that another entry of the catalog writes."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Any, NoReturn

import pandas as pd
from kedro.io import AbstractDataset
from kedro.io.core import DatasetError

from cnn_transfer.datasets.versions import find_versions, open_path


class AllVersionsDataset(AbstractDataset[NoReturn, dict[str, Any]]):
    """Read-only: each version's content by its name, the oldest first; of a file that cannot be read, the reason.

    A version whose folder is there without the file, since its run was cut off, is left out: nothing was written.

    Args:
        filepath: That of the versioned entry, local or an address.
        credentials: For the file system of fsspec.
        metadata: For Kedro's plugins.
    """

    def __init__(
        self, filepath: str, credentials: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        self._fs, self._filepath = open_path(filepath, credentials=credentials)
        self.metadata = metadata

    def load(self) -> dict[str, Any]:
        return {PurePosixPath(file).parent.name: self._read(file) for file in self._files()}

    def save(self, data: NoReturn) -> None:
        raise DatasetError(f"{self._filepath} is written by its own entry. Received: {type(data).__name__}.")

    def _files(self) -> list[str]:
        versions = reversed(find_versions(self._fs, self._filepath))
        return [str(self._filepath / version / self._filepath.name) for version in versions]

    def _read(self, file: str) -> Any:
        try:
            with self._fs.open(file, "rb") as stream:
                return pd.read_parquet(stream) if file.endswith(".parquet") else json.load(stream)
        except (OSError, ValueError) as error:
            return f"{type(error).__name__}: {error}"

    def _exists(self) -> bool:
        return bool(self._files())

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
