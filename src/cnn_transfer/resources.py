"""What a node costs: the memory that its process needed at most, and how many images went through it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cnn_transfer.images import DecodedImages, ImageSet
from cnn_transfer.prediction.labelling import ImagesToLabel
from cnn_transfer.transfer import FeatureExtraction

CLEAR_REFERENCES, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
RESET_PEAK = "5"  # proc_pid_clear_refs(5)


def reset_peak_memory() -> None:
    """Let the peak begin anew, where the system can do that (Linux)."""
    try:
        CLEAR_REFERENCES.write_text(RESET_PEAK)
    except OSError:
        return


def peak_memory_mb() -> float | None:
    """The largest resident memory of this process since the reset, in MB; None where the system does not say."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    kilobytes = next((line.split()[1] for line in lines if line.startswith("VmHWM:")), None)
    return None if kilobytes is None else round(int(kilobytes) * 1024 / 1e6, 1)


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
    """Of a training log; that of a search holds several fits, a table of trials has one row a fit."""
    if "trial" in table:
        return int(table.groupby("trial")["images_processed"].max().sum())
    return int(table["images_processed"].max()) if "phase" in table and len(table) else 0
