"""Labels that people gave to images, as they come: read, never written."""

from __future__ import annotations

from typing import Any, NoReturn

import pandas as pd
from kedro.io import AbstractDataset
from kedro.io.core import DatasetError

from cnn_transfer.images import open_location
from cnn_transfer.images.tables import read_labels


class LabelTableDataset(AbstractDataset[NoReturn, pd.DataFrame]):
    """A table of ids and labels, or a folder of such tables; see `cnn_transfer.images.tables.read_labels`.

    Args:
        filepath: Local path or address; None: not said yet.
        how_to_name: What to do then, for the message.
        credentials: For the file system, as Kedro reads them from `credentials.yml`.
        fs_args: Further arguments of the file system.
        metadata: For Kedro's plugins.
    """

    def __init__(
        self,
        filepath: str | None = None,
        how_to_name: str = "",
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._filepath = filepath
        self._how_to_name = how_to_name
        self.metadata = metadata
        self._storage_options = {**(fs_args or {}), **(credentials or {})}

    def load(self) -> pd.DataFrame:
        return self._read()

    def save(self, data: NoReturn) -> None:
        raise DatasetError(f"Labels of people are never written. Received: {type(data).__name__} for {self._filepath}.")

    def check(self) -> None:
        """See whether there are labels.

        Raises:
            FileNotFoundError: When nothing is there.
            ModuleNotFoundError: When the file system needs a package that is not installed.
            ValueError: When no path was given, or the table lacks a column.
        """
        self._read()  # `load` would hide the kind of error

    def _read(self) -> pd.DataFrame:
        if self._filepath is None:
            raise ValueError(f"a table of labels is needed. Received: nothing. {self._how_to_name}")
        filesystem, path = open_location(self._filepath, self._storage_options)
        if not filesystem.exists(path):
            raise FileNotFoundError(f"Labels were expected at {self._filepath}, but nothing is there.")
        return read_labels(filesystem, path)

    def _exists(self) -> bool:
        if self._filepath is None:
            return False
        filesystem, path = open_location(self._filepath, self._storage_options)
        return bool(filesystem.exists(path))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
