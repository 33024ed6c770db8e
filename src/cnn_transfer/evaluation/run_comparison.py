"""Runs side by side: what they reached, and what they were made with.

A run is known by its version. Its summary (`summary.json`) says what it reached, its provenance what it was made with;
either may be missing or damaged, which is said and stops nothing.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cnn_transfer.evaluation.figures import BASELINE_COLOUR, TRANSFER_COLOUR, Figure, drawable, new_figure
from cnn_transfer.evaluation.probabilities import part_text
from cnn_transfer.evaluation.summary import seconds_of_run

FIGURES = [
    "target_accuracy", "target_accuracy_low", "target_accuracy_high", "baseline_accuracy", "random_accuracy",
    "difference", "difference_low", "difference_high", "training_cost_ratio",
]  # fmt: skip
WORDS = ["verdict", "source", "target", "strategy", "delivered", "precision"]
NEEDED = ["target_accuracy", "target_accuracy_low", "target_accuracy_high"]
COMPLETE, UNKNOWN, SKIPPED = "complete", "provenance unknown", "skipped"
COMPARED = ("parameters", "data", "precision", "python", "packages", "hardware")
FAILED = "baseline failed"
VERDICT_COLOURS = {"positive": TRANSFER_COLOUR, "negative": BASELINE_COLOUR, FAILED: "#bbbbbb"}
MOST_DRAWN = 40  # runs, the newest


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        version: Its name, which begins with its time.
        summary: What it reached; empty when it cannot be read.
        provenance: What it was made with; None when that is not known.
        problem: Why something of it is missing, or nothing.
    """

    version: str
    summary: Mapping[str, Any]
    provenance: Mapping[str, Any] | None
    problem: str = ""

    @property
    def status(self) -> str:
        """Whether both parts are there."""
        return SKIPPED if not self.summary else UNKNOWN if self.provenance is None else COMPLETE


def collect_runs(summaries: Mapping[str, Any], provenances: Mapping[str, Any]) -> list[Run]:
    """Bring the parts of each run together.

    Args:
        summaries: By version, the oldest first; see `summarise`. A text says why one cannot be read.
        provenances: By version; see `provenance`. A text says why one cannot be read.
    """
    return [_run(version, summaries[version], provenances.get(version)) for version in summaries]


def runs_table(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a run, the oldest first.

    Returns:
        Columns `run`, `status` (`complete`, `provenance unknown`, `skipped`), `problem`, `verdict`, `source`,
        `target`, `strategy`, `delivered`, `precision`, the accuracies and their difference with intervals (0-1),
        `training_cost_ratio`, `n_train`, `n_validation`, `n_test`, `seconds` (of the nodes that it did itself). What a
        run does not say is missing.
    """
    rows = []
    for run in runs:
        seconds = seconds_of_run(run.summary) if isinstance(run.summary.get("seconds"), Mapping) else {}
        row: dict[str, Any] = {"run": run.version, "status": run.status, "problem": run.problem}
        row |= {name: _text(run.summary.get(name)) for name in WORDS}
        if run.summary.get("baseline_failed"):  # a gain over what has learnt nothing is no verdict
            row["verdict"] = FAILED
        row |= {name: _number(run.summary.get(name)) for name in FIGURES}
        row |= {name: _number(run.summary.get(name)) for name in ("n_train", "n_validation", "n_test")}
        times = [_number(value) for value in seconds.values()]
        rows.append(row | {"seconds": float(np.nansum(times)) if times else np.nan})
    columns = ["run", "status", "problem", *WORDS, *FIGURES, "n_train", "n_validation", "n_test", "seconds"]
    types = dict.fromkeys(["run", "status", "problem", *WORDS], "str")
    table = pd.DataFrame(rows, columns=columns)
    return table.astype(types | dict.fromkeys(columns[3 + len(WORDS) :], float))


def differences(runs: Sequence[Run]) -> pd.DataFrame:
    """What differs between the complete runs: parameters, data, programs, machine.

    A run without results is left out: what it was made with would hide what the next one differs in from those shown.

    Returns:
        One row a thing that differs: `key`, dotted (`parameters.finetune_target.fine_tuning.steps`), and a column a
        run, named by its version: the value as JSON, missing where a run has no such thing.
    """
    known = {run.version: _flat(run.provenance) for run in runs if run.summary and run.provenance is not None}
    keys = sorted({key for values in known.values() for key in values}, key=_rank)
    rows = [[key, *(values.get(key) for values in known.values())] for key in keys]
    table = pd.DataFrame([row for row in rows if len(set(row[1:])) > 1], columns=["key", *known])
    return table.astype("str")


def draw_runs(table: pd.DataFrame, changes: pd.DataFrame) -> Figure:
    """Accuracy of each run and its gain over training from scratch, with intervals; beside it what was changed.

    Args:
        table: See `runs_table`. At most the newest 40 that are not skipped are drawn.
        changes: See `differences`.
    """
    shown = table[table["status"] != SKIPPED].tail(MOST_DRAWN)
    figure = new_figure(12, 1.8 + 0.55 * max(1, len(shown)))
    left, right = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(shown))
    left.plot(shown["baseline_accuracy"], places, "x", ms=6, color=BASELINE_COLOUR, label="from scratch")
    left.errorbar(
        shown["target_accuracy"],
        places,
        xerr=_distances(shown, "target_accuracy"),
        fmt="o",
        ms=5,
        capsize=3,
        color=TRANSFER_COLOUR,
        label="transfer",
    )
    left.set_xlabel("accuracy on test images")
    left.set_ylim(-0.6, max(1, len(shown)) - 0.4)
    above: dict[str, Any] = {"fontsize": 8, "loc": "lower center", "bbox_to_anchor": (0.5, 1), "ncols": 4}
    left.legend(**above, frameon=False)
    right.axvline(0, color="#666666", lw=1)
    for place, (_, row) in zip(places, shown.iterrows(), strict=True):
        if pd.notna(row["difference"]):
            colour = VERDICT_COLOURS.get(row["verdict"], "#666666")
            error = _distances(row.to_frame().T, "difference")
            right.errorbar(row["difference"], place, xerr=error, fmt="o", ms=5, capsize=3, color=colour)
    for verdict in ("positive", "neutral", "negative", FAILED):
        if verdict in set(shown["verdict"]):
            colour = VERDICT_COLOURS.get(verdict, "#666666")
            right.plot([], [], "o", ms=5, color=colour, label=verdict)
            right.legend(**above, frameon=False)
    right.set_xlabel("transfer minus from scratch")
    changed, several = changes_by_run(changes), _several_targets(table)
    targets = shown["target"] if several else pd.Series(index=shown.index, dtype="str")
    titles = [run if pd.isna(on) else f"{run}, {on}" for run, on in zip(shown["run"], targets, strict=True)]
    below = [map(_last_parts, _shortened(changed.get(run, []))) for run in shown["run"]]
    names = [drawable("\n".join([title, *parts])) for title, parts in zip(titles, below, strict=True)]
    left.set_yticks(places, names, fontsize=7, parse_math=False)
    left.invert_yaxis()
    for axes in (left, right):
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}")
        axes.grid(axis="x", alpha=0.3)
    drawn = "1 run" if len(shown) == 1 else f"{len(shown)} runs"
    figure.suptitle(f"{drawn}, in percent" if len(shown) else "No run to draw", fontsize=10)
    return figure


def changes_by_run(changes: pd.DataFrame) -> dict[str, list[str]]:
    """What each run changed against the one before it, as `key: before → after`, the parameters and data first.

    Args:
        changes: See `differences`.
    """
    versions = list(changes.columns[1:])
    found: dict[str, list[str]] = {version: [] for version in versions}
    for before, after in itertools.pairwise(versions):
        for key, old, new in changes[["key", before, after]].itertuples(index=False):
            if _differ(old, new):
                found[after].append(f"{key.removeprefix('parameters.')}: {_shown(old)} → {_shown(new)}")
    return found


def describe_runs(table: pd.DataFrame, changes: pd.DataFrame) -> list[str]:
    """The runs in a few lines for the terminal, the newest last, each with what it changed."""
    changed, several = changes_by_run(changes), _several_targets(table)
    lines = []
    for row in table.to_dict("records"):
        if row["status"] == SKIPPED:
            lines.append(f"{row['run']}  skipped: {row['problem']}")
            continue
        interval = (
            f"{row['target_accuracy']:.1%} ({row['target_accuracy_low']:.1%} to {row['target_accuracy_high']:.1%})"
        )
        parts = [f"{interval} on {row['target']}" if several and pd.notna(row["target"]) else interval]
        if pd.notna(row["difference"]):
            ends = [f"{100 * row[name]:+z.1f}" for name in ("difference", "difference_low", "difference_high")]
            parts.append(f"{row['verdict']}, {ends[0]} points over from scratch ({ends[1]} to {ends[2]})")
        else:
            parts.append("no baseline")
        if pd.notna(row["training_cost_ratio"]):
            parts.append(f"at {part_text(row['training_cost_ratio'])} of its cost")
        if pd.notna(row["seconds"]):
            parts.append(f"{row['seconds']:.0f} s" if row["seconds"] >= 0.5 else "taken over from another run")
        lines.append(f"{row['run']}  {'; '.join(parts)}")
        if row["status"] == UNKNOWN:
            lines.append(f"{'':24}  {row['problem']}")
        lines += [f"{'':24}  {change}" for change in _shortened(changed.get(row["run"], []), most=6)]
    return lines or ["No run has written a summary yet: kedro run"]


def _run(version: str, summary: Any, made_with: Any) -> Run:
    problem = ""
    if made_with is None:
        problem = "no provenance was written; parameters and data are unknown"
    elif not isinstance(made_with, Mapping) or not isinstance(made_with.get("parameters"), Mapping):
        problem = f"its provenance cannot be read: {made_with if isinstance(made_with, str) else 'no parameters'}"
    known = None if problem else made_with
    if not isinstance(summary, Mapping):
        reason = summary if isinstance(summary, str) else "it is no mapping"
        return Run(version, {}, known, f"its summary cannot be read: {reason}")
    if missing := [name for name in NEEDED if not np.isfinite(_number(summary.get(name)))]:
        return Run(version, {}, known, f"its summary has no {', '.join(missing)}")
    return Run(version, summary, known, problem)


def _several_targets(table: pd.DataFrame) -> bool:
    """Whether the accuracies are of different images, so that they say nothing of one another."""
    return bool(table.loc[table["status"] != SKIPPED, "target"].nunique() > 1)


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Dotted keys and their values as JSON; lists are values."""
    if isinstance(value, Mapping) and (value or not prefix):
        parts = value.items() if prefix else [(name, value[name]) for name in COMPARED if name in value]
        return {name: text for key, entry in parts for name, text in _flat(entry, f"{prefix}{key}.").items()}
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return {prefix.removesuffix("."): text.encode(errors="backslashreplace").decode()}  # half a character is no text


def _rank(key: str) -> tuple[int, bool, str]:
    """What was asked for of the run as a whole, such as its images, comes before the many parameters of its stages."""
    part, _, name = key.partition(".")
    return COMPARED.index(part), part == "parameters" and "." in name, key


def _differ(old: Any, new: Any) -> bool:
    return not (pd.isna(old) and pd.isna(new)) and old != new


def _shown(value: Any) -> str:
    text = "-" if pd.isna(value) else str(value).strip('"')
    if re.fullmatch(r"[0-9a-f]{16,}", text):  # a fingerprint: what differs is seen from its beginning
        return text[:8]
    return text if len(text) <= 40 else f"{text[:37]}..."


def _shortened(changes: list[str], most: int = 3) -> list[str]:
    return changes if len(changes) <= most else [*changes[: most - 1], f"and {len(changes) - most + 1} more"]


def _last_parts(change: str) -> str:
    """A change whose key is cut to its last two parts, for a picture."""
    key, colon, values = change.partition(": ")
    return ".".join(key.split(".")[-2:]) + colon + values


def _distances(table: pd.DataFrame, name: str) -> np.ndarray:
    """From a figure to the ends of its interval, (2, runs)."""
    ends = [table[name] - table[f"{name}_low"], table[f"{name}_high"] - table[name]]
    return np.asarray(np.maximum(np.stack([end.to_numpy(float) for end in ends]), 0))


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else np.nan


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
