"""Figures, as a PNG to look at and an SVG for pages.

Kedro's MatplotlibDataset imports `matplotlib.pyplot` with its module, which nobody here draws with and which every run
would pay for, also one that draws nothing anew.
"""

from __future__ import annotations

import base64
from pathlib import PurePosixPath

from kedro_datasets._typing import ImagePreview

from cnn_transfer.datasets.atomic import AtomicSave
from cnn_transfer.datasets.versions import VersionedFile, remove, write_whole
from cnn_transfer.evaluation import Figure, as_svg


class _FigureFile(VersionedFile[Figure, str]):
    SUFFIX = ".png"

    def load(self) -> str:
        return str(self._fs.cat_file(self._vector(self._get_load_path())).decode())

    def save(self, data: Figure) -> None:
        data.savefig(self._get_save_path(), format="png")  # a local path, which AtomicSave gives

    def preview(self) -> ImagePreview:
        """The PNG, for kedro-viz; None where no run has made it (see `atomic`)."""
        if not self.exists():
            return None
        return ImagePreview(base64.b64encode(self._fs.cat_file(str(self._get_load_path()))).decode())

    @staticmethod
    def _vector(path: PurePosixPath) -> str:
        return str(path.with_suffix(".svg"))


class MatplotlibDataset(AtomicSave, _FigureFile):
    """A figure of matplotlib, written atomically: a PNG to look at, and beside it an SVG for pages, which loads.

    Args:
        filepath: Any fsspec address that ends in `.png`.
        version: Kedro's version.
        credentials: For the file system.
        metadata: For Kedro's plugins.
    """

    def save(self, data: Figure) -> None:
        vector = self._vector(self._get_save_path())
        drawn = as_svg(data).encode()
        try:
            write_whole(self._fs, vector, drawn)
            super().save(data)  # last: a version exists when its PNG does
        except BaseException:
            remove(self._fs, vector)
            raise
