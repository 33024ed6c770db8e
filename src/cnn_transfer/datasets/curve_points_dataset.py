"""The points of a learning curve as versioned folders that grow point by point."""

from __future__ import annotations

import shutil
from pathlib import Path

from cnn_transfer.datasets.local_folder import LocalFolder
from cnn_transfer.evaluation.curve_points import (
    CONTENTS,
    CurvePoint,
    PlannedPoint,
    open_curve_points,
    write_curve_points,
)


class CurvePointsDataset(LocalFolder[list[PlannedPoint], list[CurvePoint]]):
    """A folder with one file a point: saving measures the points and keeps each at once, loading reads them.

    A version grows under `<version>/.partial-<name>` and gets its name when it is complete. Unlike other datasets, it
    stays when the process ends before, by an error or killed: the next run, of whatever version, takes every point from
    it, and from finished versions, that is made from the same.

    Args:
        filepath: Local folder.
        version: Kedro's version.
        metadata: For Kedro's plugins.
    """

    WHAT = "A collection of points is"
    LAST_FILE = CONTENTS
    KEEPS_UNFINISHED = True  # see versions.discard

    def load(self) -> list[CurvePoint]:
        return open_curve_points(Path(self._get_load_path()))

    def save(self, data: list[PlannedPoint]) -> None:
        final = Path(self._get_save_path())
        partial = final.with_name(f".partial-{final.name}")
        write_curve_points(data, partial, [*self._earlier(), *self._unfinished()])
        if self._version is None and final.exists():
            shutil.rmtree(final)
        partial.rename(final)

    def _earlier(self) -> list[Path]:
        return super()._earlier() if self._version else [Path(self._filepath)]

    def _unfinished(self) -> list[Path]:
        path = Path(self._filepath)
        return sorted(path.glob(f"*/.partial-{path.name}"), reverse=True)
