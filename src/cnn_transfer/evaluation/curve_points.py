"""The points of a learning curve on disk: measured one after the other, each kept as soon as it is there.

A point is what a network that learnt from so many labels says of the test images. A collection is a folder:

    <side>-<labels>-<seed>-<digest>.parquet     the predictions of one point
    written.json                                which of them were measured for it, in the same order
    points.json                                 the points of the curve, in order; written last

The digest in a name is of all that a point is made from. A file of the same name is the same point, wherever it lies:
in a finished collection, or in one whose writing was cut off.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cnn_transfer.evaluation.probabilities import counted

CONTENTS = "points.json"  # written last
TRANSFER, SCRATCH = "transfer", "scratch"  # the sides

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedPoint:
    """A point that is measured while it is written.

    Attributes:
        side: `transfer` or `scratch`.
        labels: Training images a class.
        seed: Of the draw of labels and of all that is random in the training.
        digest: Of all that the point is made from.
        measure: Makes its predictions of the test images.
    """

    side: str
    labels: int
    seed: int
    digest: str
    measure: Callable[[], pd.DataFrame]

    @property
    def file(self) -> str:
        """Name of its file."""
        return f"{self.side}-{self.labels}-{self.seed}-{self.digest}.parquet"


@dataclass(frozen=True)
class CurvePoint:
    """A point that was measured.

    Attributes:
        side: `transfer` or `scratch`.
        labels: Training images a class.
        seed: Of the draw of labels and of all that is random in the training.
        predictions: Of the test images: `id`, `label`, `predicted`, perhaps `group`, and the probabilities.
    """

    side: str
    labels: int
    seed: int
    predictions: pd.DataFrame


def write_curve_points(
    planned: Sequence[PlannedPoint],
    folder: Path,
    earlier: Sequence[Path] = (),
    kept: Callable[[Path], object] = lambda _: None,
) -> None:
    """Measure the points that are nowhere yet, and keep each at once.

    Args:
        planned: The points, in order.
        folder: Where they are kept. What it holds already, of a run that was cut off, is taken as it is.
        earlier: Other collections, finished or not, to take points from.
        kept: Called with each file as soon as it is complete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries, computed = [], []
    for number, point in enumerate(planned, start=1):
        target = folder / point.file
        found = next((place / point.file for place in (folder, *earlier) if (place / point.file).exists()), None)
        start = time.perf_counter()
        if found is None:
            _write(point.measure(), target)
        elif found != target:
            _link(found, target)
        kept(target)
        computed.append(found is None)
        entries.append({"side": point.side, "labels": point.labels, "seed": point.seed, "file": point.file})
        LOGGER.info(
            "point %d of %d: %s, %s a class, seed %d: %s",
            *(number, len(planned), point.side, counted(point.labels, "label"), point.seed),
            f"{time.perf_counter() - start:.1f} s" if found is None else "known already",
        )
    (folder / "written.json").write_text(json.dumps({"computed": computed}))
    kept(folder / "written.json")
    partial = folder / f".{CONTENTS}"
    partial.write_text(json.dumps(entries, indent=2))
    partial.replace(folder / CONTENTS)
    kept(folder / CONTENTS)


def open_curve_points(folder: Path) -> list[CurvePoint]:
    """Read a finished collection, in the order in which it was planned."""
    return list(_read(folder))


def _read(folder: Path) -> Iterator[CurvePoint]:
    for entry in json.loads((folder / CONTENTS).read_text()):
        yield CurvePoint(entry["side"], entry["labels"], entry["seed"], pd.read_parquet(folder / entry["file"]))


def _write(predictions: pd.DataFrame, target: Path) -> None:
    """Whole or not at all: a process that is killed leaves no half file under the name."""
    partial = target.with_name(f".{target.name}")
    predictions.to_parquet(partial, index=False)
    partial.replace(target)


def _link(file: Path, link: Path) -> None:
    """A second name for a file that is never changed, or a copy where the disk has no such thing."""
    try:
        os.link(file, link)
    except OSError:
        partial = link.with_name(f".{link.name}")
        shutil.copyfile(file, partial)
        partial.replace(link)
