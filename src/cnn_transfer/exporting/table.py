"""What was found of all exports, in one table, and in a few lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from cnn_transfer.exporting.speed import BATCHES

RATES = tuple(f"images_per_second_{size}" for size in BATCHES)
Entries = Sequence[Mapping[str, Any]]


def export_table(parity: Entries, speed: Entries) -> pd.DataFrame:
    """One row each of Keras's two references and of the exports; what was not measured of a row is missing.

    Args:
        parity: See `compare`.
        speed: See `time_exports`.
    """
    compared = pd.DataFrame(list(parity))
    table = pd.DataFrame(list(speed)).merge(compared, on="name", how="left")
    return table.astype({"passed": "boolean", "shown": "boolean"}).astype(
        dict.fromkeys(("images", "validation_images", "changed"), "Int64") | dict.fromkeys(RATES, float)
    )


def describe_exports(table: pd.DataFrame) -> list[str]:
    """Lines for the terminal."""
    exports = table[table["passed"].notna()]
    lines = []
    for row in exports.to_dict("records"):
        state = "passed" if row["passed"] else "FAILED"
        lines.append(
            f"{row['name']:<15} {state}, {row['megabytes']:.2f} MB, {row['latency_ms']:.2f} ms an image "
            f"({row['times_predict']:.0f} times as fast as Keras's predict)"
        )
        lines.append(f"{'':<15} {row['verdict']}")
    return lines
