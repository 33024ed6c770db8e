"""Whole or not at all: versioned datasets of single files that become visible when they are complete.

Kedro's file datasets open the final path for writing, so that a killed process leaves half a file, and so does, on any
store, an error, which closes the file. Here the data first goes to a local file that no load looks for: on a disk
beside the final one, `<version>/.partial-<name>`, which is renamed then; for other stores to a temporary folder, from
where it is uploaded (an object is there when all of it has arrived).
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from kedro.io import DatasetError
from kedro_datasets import json, pandas, text
from kedro_datasets._typing import JSONPreview, TablePreview

from cnn_transfer.datasets.versions import PART_BYTES, PARTIAL, VersionsByTime, is_local


class AtomicSave(VersionsByTime):
    """Put before a versioned fsspec dataset in the list of base classes: `class X(AtomicSave, JSONDataset)`."""

    _staged: PurePosixPath | None = None

    def _get_save_path(self) -> PurePosixPath:
        return self._staged or super()._get_save_path()  # type: ignore[misc]

    def save(self, data: Any) -> None:
        """Write to a local file, then rename or upload it; nothing is left when writing fails."""
        final, store = str(self._get_save_path()), self._fs
        with _staged(store, final) as staged:
            self._fs, self._staged = fsspec.filesystem("file"), PurePosixPath(staged)
            try:
                super().save.__wrapped__(self, data)  # type: ignore[misc]
            finally:
                self._fs, self._staged = store, None
            if is_local(store):
                staged.replace(final)
                return
            try:
                store.put_file(str(staged), final, chunksize=PART_BYTES)
            except FileNotFoundError as error:  # Kedro would say that a file of the same name exists
                raise DatasetError(f"{final} cannot be written: {error}.") from error


@contextlib.contextmanager
def _staged(store: fsspec.AbstractFileSystem, final: str) -> Iterator[Path]:
    """Where a file is written first; it is removed in the end if it is still there."""
    if is_local(store):
        staged = Path(final).with_name(f"{PARTIAL}{Path(final).name}")
        staged.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield staged
        finally:
            staged.unlink(missing_ok=True)
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / PurePosixPath(final).name


# Of what no run has made a preview is None: kedro-viz would log an error for each such dataset. It knows tables, JSON
# and pictures by the name of the type that `preview` returns, which therefore cannot be `… | None`.


class JSONDataset(AtomicSave, json.JSONDataset):
    """Kedro's JSON dataset, written atomically."""

    def preview(self) -> JSONPreview:
        """All of it, for kedro-viz."""
        return super().preview() if self.exists() else None


class _Table(AtomicSave):
    def preview(self, nrows: int = 5) -> TablePreview:
        """The first rows with six digits, for kedro-viz; Kedro's reads local files only."""
        if not self.exists():  # type: ignore[attr-defined]
            return None
        rows = self.load().head(nrows).map(lambda value: float(f"{value:.6g}") if isinstance(value, float) else value)  # type: ignore[attr-defined]
        return TablePreview(rows.to_dict(orient="split"))


class CSVDataset(_Table, pandas.CSVDataset):
    """Kedro's pandas CSV dataset, written atomically: for tables that people go over in a spreadsheet."""


class ParquetDataset(_Table, pandas.ParquetDataset):
    """Kedro's pandas Parquet dataset, written atomically."""


class TextDataset(AtomicSave, text.TextDataset):
    """Kedro's text dataset, written atomically."""
