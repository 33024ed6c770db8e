"""The exports at a glance: what they cost in accuracy, how large they are, how long one image takes."""

from __future__ import annotations

from typing import Any

import pandas as pd

from cnn_transfer.evaluation.figures import Figure, new_figure

PASSED, FAILED, REFERENCE = "tab:blue", "tab:red", "0.6"


def draw_exports(table: pd.DataFrame, accuracy_loss: float) -> Figure:
    """Three panels that share their rows: change of accuracy with its interval, size, latency.

    Args:
        table: See `export_table`.
        accuracy_loss: That an export of 8 bits may have, 0-1.
    """
    figure = new_figure(10.5, 1.6 + 0.42 * len(table))
    left, middle, right = figure.subplots(1, 3, sharey=True)
    places = range(len(table))
    colours = [REFERENCE if pd.isna(passed) else PASSED if passed else FAILED for passed in table["passed"]]
    _draw_changes(left, table, colours, accuracy_loss)
    bars = middle.barh(places, table["megabytes"], 0.6, color=colours)
    middle.bar_label(bars, [f"{size:.2f}" for size in table["megabytes"]], padding=3, fontsize=8)
    middle.set_xlim(right=1.25 * table["megabytes"].max())
    middle.set_xlabel("size (MB)")
    medians, highest = table["latency_ms"], table["latency_p95_ms"]
    right.hlines(places, medians, highest, colors=colours)
    right.scatter(medians, places, color=colours)
    for place, median, high in zip(places, medians, highest, strict=True):
        right.annotate(f"{median:.2f}", (high, place), (6, 0), textcoords="offset points", va="center", fontsize=8)
    right.set_xscale("log")
    right.set_xlim(0.5 * medians.min(), 6 * highest.max())
    right.xaxis.set_major_formatter("{x:g}")
    right.set_xlabel("one image (ms), median to 95th percentile")
    left.set_yticks(places, table["name"])
    left.invert_yaxis()
    for axes in (left, middle, right):
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
    failed = table["name"][~table["passed"].fillna(True).astype(bool)]
    unshown = table["name"][table["passed"].fillna(False).astype(bool) & ~table["shown"].fillna(True).astype(bool)]
    said = f"Outside tolerance (red): {', '.join(failed)}" if len(failed) else "No export is outside its tolerance"
    if len(unshown):
        said += f"; too few validation images show that {', '.join(unshown)} is within it"
    figure.suptitle(said, fontsize=10)
    return figure


def _draw_changes(axes: Any, table: pd.DataFrame, colours: list[str], accuracy_loss: float) -> None:
    for place, (row, colour) in enumerate(zip(table.to_dict("records"), colours, strict=True)):
        if pd.isna(row["accuracy_change"]):
            continue
        change, low, high = (100 * row[f"accuracy_change{end}"] for end in ("", "_low", "_high"))
        axes.plot(-100 * row["most_lost"], place, marker=">", color=colour, mfc="white", ms=6)
        axes.errorbar(change, place, xerr=[[change - low], [high - change]], fmt="o", color=colour, capsize=3)
    axes.axvline(0, color="k", lw=0.8)
    for place in [place for place, name in enumerate(table["name"]) if name == "litert_int8"]:
        ends = place - 0.45, place + 0.45
        axes.vlines(-100 * accuracy_loss, *ends, color=FAILED, lw=1.2, ls="--", label="allowed for 8 bits")
    axes.plot([], [], ">", color=REFERENCE, mfc="white", label="most that is lost (changed classes)")
    axes.set_xlabel("change of accuracy (points)\non validation images, with interval")
    axes.legend(fontsize=7, loc="upper right")
