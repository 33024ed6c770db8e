"""A drift report as one picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cnn_transfer.evaluation.figures import Axes, Figure, new_figure, short_name

REFERENCE_COLOUR, NEW_COLOUR, DRIFT_COLOUR = "#b0b0b0", "#0072b2", "#d55e00"  # readable with colour blindness
MOST_CLASSES = 16
LOGARITHMIC = ("width_px", "height_px", "sharpness")
NAMES = {"width_px": "width, px", "height_px": "height, px", "distance": "distance to training"}


def drift_plot(report: Mapping[str, Any]) -> Figure:
    """How far each aspect is from its threshold, and each figure of the new images beside that of the references.

    Args:
        report: See `drift.drift_report`.
    """
    figure = new_figure(13, 6)
    first, *others = figure.subplots(2, 4).ravel()
    _draw_effects(first, report["aspects"])
    drift = set(report["drift"])
    for axes, (name, shares) in zip(others, report["shares"].items(), strict=True):
        marked = shares["aspect"] in drift
        axes.set_title(
            _title(name, shares) + (": drift" if marked else ""),
            fontsize=10,
            color=DRIFT_COLOUR if marked else "black",
            fontweight="bold" if marked else "normal",
        )
        if "classes" in shares:
            _draw_classes(axes, shares)
        else:
            _draw_histogram(axes, name in LOGARITHMIC, shares)
    words = f"drift in {', '.join(report['drift'])}" if drift else "no drift found"
    figure.suptitle(f"{report['images']:,} new images beside those the network was made with: {words}", fontsize=11)
    handles = [
        figure.axes[1].plot([], [], lw=6, color=REFERENCE_COLOUR)[0],
        figure.axes[1].plot([], [], color=NEW_COLOUR)[0],
    ]
    figure.legend(
        handles,
        ["images that it was made with (size, brightness, sharpness) or judged on", "new images"],
        fontsize=8,
        loc="outside lower center",
        ncols=2,
        frameon=False,
    )
    return figure


def _title(name: str, shares: Mapping[str, Any]) -> str:
    many = len(shares.get("classes", ()))
    return f"{name}: {MOST_CLASSES} of {many}" if many > MOST_CLASSES else NAMES.get(name, name)


def _draw_effects(axes: Axes, aspects: list[dict[str, Any]]) -> None:
    """Effects as bars, thresholds as strokes."""
    for place, row in enumerate(aspects):
        colour = DRIFT_COLOUR if row["drift"] else NEW_COLOUR if row["drift"] is not None else REFERENCE_COLOUR
        axes.barh(place, row["effect"] or 0.0, 0.6, color=colour)
        axes.plot([row["threshold"]] * 2, [place - 0.4, place + 0.4], color="black", lw=1.5)
        words = "not judged" if row["drift"] is None else "drift" if row["drift"] else f"p {row['p']:.2g}"
        axes.annotate(
            words,
            (max(row["effect"] or 0.0, row["threshold"]), place),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(range(len(aspects)), [row["aspect"] for row in aspects], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.3)
    axes.set_xticks([0, 0.5, 1])
    axes.tick_params(labelsize=8)
    axes.set_title("effect (stroke: threshold)", fontsize=10)


def _draw_histogram(axes: Axes, logarithmic: bool, shares: Mapping[str, Any]) -> None:
    edges = np.array(shares["edges"])
    reference, new = (np.array(shares[side] or [0.0] * (len(edges) - 1)) for side in ("reference", "new"))
    axes.stairs(reference, edges, fill=True, color=REFERENCE_COLOUR)
    axes.stairs(new, edges, color=NEW_COLOUR, lw=1.5)
    filled = np.flatnonzero(reference + new)
    if len(filled):
        first, last = max(filled[0] - 1, 0), min(filled[-1] + 2, len(edges) - 1)
        axes.set_xlim(edges[first], edges[last])
        if logarithmic:
            _scale_logarithmically(axes)
    _finish(axes, shares, "y")


def _scale_logarithmically(axes: Axes) -> None:
    """With a few round numbers, however narrow the range is."""
    from matplotlib import ticker

    low, high = axes.get_xlim()
    decades = np.log10(high / low)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(
        ticker.MaxNLocator(5) if decades < 1 else ticker.LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,))
    )
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_locator(ticker.NullLocator())


def _draw_classes(axes: Axes, shares: Mapping[str, Any]) -> None:
    """Shares of the classes, or of those that differ most."""
    names = shares["classes"]
    reference, new = (np.array(shares[side] or [0.0] * len(names)) for side in ("reference", "new"))
    kept = np.sort(np.argsort(-np.abs(new - reference), kind="stable")[:MOST_CLASSES])
    places = np.arange(len(kept))
    axes.barh(places, reference[kept], 0.8, color=REFERENCE_COLOUR)
    axes.barh(places, new[kept], 0.35, color=NEW_COLOUR)
    axes.set_yticks(places, [short_name(names[row], 14) for row in kept], fontsize=7, parse_math=False)
    axes.invert_yaxis()
    _finish(axes, shares, "x")


def _finish(axes: Axes, shares: Mapping[str, Any], along: str) -> None:
    """Percent along an axis, and words where one side is empty."""
    (axes.yaxis if along == "y" else axes.xaxis).set_major_formatter(lambda value, _: f"{100 * value:g}%")
    axes.tick_params(labelsize=8)
    missing = [
        words
        for side, words in (("reference", "no images to compare with"), ("new", "no new images"))
        if shares[side] is None
    ]
    if missing:
        axes.text(0.5, 0.5, "\n".join(missing), ha="center", va="center", fontsize=9, transform=axes.transAxes)
