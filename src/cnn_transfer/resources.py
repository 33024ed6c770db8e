"""What a node costs: the memory that its process needed at most, and how many images went through it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cnn_transfer.images import DecodedImages, ImageSet
from cnn_transfer.prediction.labelling import ImagesToLabel
from cnn_transfer.transfer import FeatureExtraction

STATUS = Path("/proc/self/status")
OWN = ("RssAnon:", "RssShmem:")  # proc_pid_status(5): files that are mapped can be given back, and are no need
SECONDS_BETWEEN_LOOKS = 0.05


class MemoryWatch:
    """The most memory of its own that this process has had, looked at twenty times a second (Linux)."""

    def __init__(self) -> None:
        self._peak = 0.0
        self._thread: threading.Thread | None = None

    def reset(self) -> None:
        """Let the peak begin anew."""
        if self._thread is None and own_memory_mb() is not None:
            self._thread = threading.Thread(target=self._look, name="memory", daemon=True)
            self._thread.start()
        self._peak = 0.0

    def peak_mb(self) -> float | None:
        """The peak since the reset, without files that are mapped; None where the system does not say."""
        now = own_memory_mb()
        return None if now is None else round(max(self._peak, now), 1)

    def _look(self) -> None:
        while (now := own_memory_mb()) is not None:
            self._peak = max(self._peak, now)
            time.sleep(SECONDS_BETWEEN_LOOKS)


def own_memory_mb() -> float | None:
    """Resident memory of this process that no file is behind, in MB; None where the system does not say."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith(OWN)]
    return sum(kilobytes) * 1024 / 1e6 if kilobytes else None


def count_images(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> int | None:
    """How many images a node worked on: trained, predicted, decoded, or those of the set that it reads.

    An image counts each time that it went through a network in training, and once for each network that predicted it.
    """
    tables = [value for value in outputs.values() if isinstance(value, pd.DataFrame)]
    trained = sum(_trained(table) for table in tables if "images_processed" in table)
    predicted = sum(len(table) for table in tables if any(str(name).startswith("probability_") for name in table))
    if trained or predicted:
        return trained or predicted
    for value in outputs.values():
        if isinstance(value, DecodedImages):
            return len(value.rows)
        if isinstance(value, ImagesToLabel):
            return len(value)
        if isinstance(value, FeatureExtraction):
            return len(value.rows) + len(value.copied)
    return max((len(value.table) for value in inputs.values() if isinstance(value, ImageSet)), default=None)


def _trained(table: pd.DataFrame) -> int:
    """Of a training log, whose fits begin with a row before any step; a table of trials has one row a fit.

    What a fit goes on from was counted before: images of another fit, and those that gave the head its features.
    """
    if "phase" not in table or table.empty:
        return 0
    fits = table.groupby("trial" if "trial" in table else "phase")["images_processed"]
    return int((fits.max() - fits.min()).sum())
