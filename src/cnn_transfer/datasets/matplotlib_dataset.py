"""Figures, as a PNG to look at and an SVG for pages.

It is imported where a catalog names it, and not by the package: commands that only look must not pay for matplotlib.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from kedro_datasets import matplotlib
from kedro_datasets._typing import ImagePreview

from cnn_transfer.datasets.atomic import AtomicSave
from cnn_transfer.datasets.versions import remove, write_whole
from cnn_transfer.evaluation import Figure, as_svg


class MatplotlibDataset(AtomicSave, matplotlib.MatplotlibDataset):
    """Kedro's matplotlib dataset, written atomically: a PNG to look at, and beside it an SVG for pages, which loads."""

    def save(self, data: Figure) -> None:
        vector = self._vector(self._get_save_path())
        drawn = as_svg(data).encode()
        try:
            write_whole(self._fs, vector, drawn)
            super().save(data)  # last: a version exists when its PNG does
        except BaseException:
            remove(self._fs, vector)
            raise

    def load(self) -> str:
        return str(self._fs.cat_file(self._vector(self._get_load_path())).decode())

    def preview(self) -> ImagePreview:
        """The PNG, for kedro-viz; None where no run has made it (see `atomic`)."""
        return super().preview() if self.exists() else None

    @staticmethod
    def _vector(path: PurePosixPath) -> str:
        return str(path.with_suffix(".svg"))
