"""Labels that people gave to images, as they come."""

from __future__ import annotations

import hashlib
from typing import Any

import pandas as pd

from cnn_transfer.datasets.given import GivenDataset
from cnn_transfer.datasets.versions import find_versions, open_path
from cnn_transfer.images import open_location
from cnn_transfer.images.tables import read_labels
from cnn_transfer.parameters import ParameterError


class LabelTableDataset(GivenDataset[pd.DataFrame]):
    """A table of ids and labels, or a folder of such tables; see `cnn_transfer.images.tables.read_labels`.

    Args:
        filepath: Local path or address; None: not said yet.
        how_to_name: What to do then, for the message.
        optional_with: `filepath` of a versioned entry; where there is a version of it, no table needs to be named, and
            none is an empty one.
        given: See `GivenDataset`.
    """

    def __init__(
        self,
        filepath: str | None = None,
        how_to_name: str = "",
        optional_with: dict[str, str] | None = None,
        **given: Any,
    ) -> None:
        super().__init__(filepath, **given)
        self._how_to_name, self._optional_with = how_to_name, optional_with

    def load(self) -> pd.DataFrame:
        return self._read()

    def check(self) -> None:
        """See whether there are labels.

        Raises:
            FileNotFoundError: When nothing is there.
            ModuleNotFoundError: When the file system needs a package that is not installed.
            ParameterError: When no path was given.
            ValueError: When the table lacks a column.
        """
        self._read()  # `load` would hide the kind of error

    def identity(self) -> dict[str, Any]:
        """What was chosen, and what it says: what a run has measured by a table is not what longer ones show."""
        content = hashlib.blake2b(self._read().to_csv().encode(), digest_size=16).hexdigest()
        return super().identity() | {"content": content}

    def _read(self) -> pd.DataFrame:
        if self._filepath is None:
            if self._optional_with and find_versions(*open_path(self._optional_with["filepath"])):
                return pd.DataFrame(columns=["id", "label"], dtype="str")
            raise ParameterError(f"a table of labels is needed. Received: nothing. {self._how_to_name}")
        filesystem, path = open_location(self._filepath, self._storage_options)
        if not filesystem.exists(path):
            raise FileNotFoundError(f"Labels were expected at {self._filepath}, but nothing is there.")
        return read_labels(filesystem, path)
