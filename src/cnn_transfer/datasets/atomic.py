"""Whole or not at all: versioned datasets that write under a temporary name and rename.

Kedro's file datasets open the final path for writing, so that a killed process leaves half a file, which a later load
takes for the latest version. Here the data first goes to `<version>/.partial-<name>`, which no load looks for.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from kedro_datasets import json, matplotlib, pandas, text

from cnn_transfer.evaluation import Figure, as_svg


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


class TextDataset(AtomicSave, text.TextDataset):
    """Kedro's text dataset, written atomically."""


class MatplotlibDataset(AtomicSave, matplotlib.MatplotlibDataset):
    """Kedro's matplotlib dataset, written atomically: a PNG to look at, and beside it an SVG for pages, which loads."""

    def save(self, data: Figure) -> None:
        vector = self._vector(self._get_save_path())
        drawn = as_svg(data).encode()
        data.set_layout_engine("none")  # it has been laid out: again for the PNG would take a third of the time
        self._fs.makedirs(str(PurePosixPath(vector).parent), exist_ok=True)
        try:
            self._fs.pipe_file(vector, drawn)
            super().save(data)  # last: a version exists when its PNG does
        except BaseException:
            if self._fs.exists(vector):
                self._fs.rm(vector)
            raise

    def load(self) -> str:
        return str(self._fs.cat_file(self._vector(self._get_load_path())).decode())

    @staticmethod
    def _vector(path: PurePosixPath) -> str:
        return str(path.with_suffix(".svg"))
