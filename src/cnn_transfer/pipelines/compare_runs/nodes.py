"""Nodes of the stage `compare_runs`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cnn_transfer.evaluation import Figure
from cnn_transfer.evaluation.run_comparison import collect_runs, differences, draw_runs, runs_table


def compare_runs(summaries: Mapping[str, Any], provenances: Mapping[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Put what the runs reached, and what differed between them, into a table each."""
    runs = collect_runs(summaries, provenances)
    return runs_table(runs), differences(runs)


def draw(table: pd.DataFrame, changes: pd.DataFrame) -> Figure:
    """Draw the runs in their order, each with what it changed."""
    return draw_runs(table, changes)
