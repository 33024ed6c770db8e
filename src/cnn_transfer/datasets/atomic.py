"""Whole or not at all: versioned datasets that write under a temporary name and rename.

Kedro's file datasets open the final path for writing, so that a killed process leaves half a file, which a later load
takes for the latest version. Here the data first goes to `<version>/.partial-<name>`, which no load looks for.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from kedro_datasets import json, matplotlib, pandas


class AtomicSave:
    """Put before a versioned fsspec dataset in the list of base classes: `class X(AtomicSave, JSONDataset)`."""

    _fs: Any
    _writing: bool = False

    def _get_save_path(self) -> PurePosixPath:
        path: PurePosixPath = super()._get_save_path()  # type: ignore[misc]
        return path.with_name(f".partial-{path.name}") if self._writing else path

    def save(self, data: Any) -> None:
        """Write to a temporary name beside the final one, then rename; nothing is left when writing fails."""
        final = self._get_save_path()
        self._writing = True
        partial = str(self._get_save_path())
        try:
            super().save.__wrapped__(self, data)  # type: ignore[misc]
            self._fs.mv(partial, str(final), recursive=True)
        except BaseException:
            if self._fs.exists(partial):
                self._fs.rm(partial, recursive=True)
            raise
        finally:
            self._writing = False


class JSONDataset(AtomicSave, json.JSONDataset):
    """Kedro's JSON dataset, written atomically."""


class ParquetDataset(AtomicSave, pandas.ParquetDataset):
    """Kedro's pandas Parquet dataset, written atomically."""


class MatplotlibDataset(AtomicSave, matplotlib.MatplotlibDataset):
    """Kedro's matplotlib dataset, written atomically."""
