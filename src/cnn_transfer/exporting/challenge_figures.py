"""The release before and the new one at a glance: accuracy by class, and the images that are wrong now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cnn_transfer.evaluation.figures import (
    BASELINE_COLOUR,
    SOURCE_COLOUR,
    TRANSFER_COLOUR,
    Figure,
    draw_sheet,
    draw_words,
    from_to,
    new_figure,
    short_name,
)
from cnn_transfer.evaluation.probabilities import whole_percent
from cnn_transfer.exporting.challenge import BETTER, NO_DIFFERENCE, WORSE
from cnn_transfer.images import ImageSet

MOST_CLASSES = 30  # drawn: those with the largest changes
MOST_PICTURES = 24
COLOURS = {BETTER: TRANSFER_COLOUR, WORSE: BASELINE_COLOUR, NO_DIFFERENCE: SOURCE_COLOUR}


def draw_champion(comparison: Mapping[str, Any], classes: pd.DataFrame) -> Figure:
    """Change of accuracy of all images and of each class, with intervals; both accuracies beside them.

    Args:
        comparison: See `compare_with_champion`.
        classes: Its table.
    """
    if not comparison["images"]:
        none = "No release before this one"
        return draw_words("Not compared: champion_comparison says why" if comparison["champion"] else none)
    shown = classes.loc[classes["difference"].abs().nlargest(MOST_CLASSES).index].sort_values("difference")
    rows: list[Mapping[Any, Any]] = [{"class": "all images", **comparison}, *shown.to_dict("records")]
    figure = new_figure(8, 1.7 + 0.3 * len(rows))
    axes = figure.subplots()
    for place, row in enumerate(rows):
        change, low, high = (100 * row[f"difference{end}"] for end in ("", "_low", "_high"))
        colour = COLOURS[row["verdict"]]
        axes.errorbar(change, place, xerr=[[change - low], [high - change]], fmt="o", ms=5, capsize=3, color=colour)
        text = f"{row['champion_accuracy']:.1%} → {row['accuracy']:.1%} of {row['images']:,}"
        axes.annotate(text, (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=8)
    axes.axvline(0, color="k", lw=0.8)
    if allowed := comparison["rule"]["most_loss"]:
        axes.axvline(-100 * allowed, color=BASELINE_COLOUR, lw=0.8, ls="--", label="allowed")
    for verdict, colour in COLOURS.items():
        if verdict in {row["verdict"] for row in rows}:
            axes.plot([], [], "o", ms=5, color=colour, label=verdict)
    axes.set_yticks(range(len(rows)), [short_name(row["class"]) for row in rows], parse_math=False)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.axhline(0.5, color="0.8", lw=0.8)
    axes.set_xlabel("change of accuracy (points); the intervals of the classes hold for all of them together")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(fontsize=8, ncols=4, loc="outside lower center", frameon=False)
    cut = f"; the {MOST_CLASSES} of {len(classes)} classes that changed most" if len(classes) > len(shown) else ""
    verdict = {True: "released", False: "REFUSED"}[comparison["passed"]]
    figure.suptitle(f"Against the release before ({verdict}){cut}", fontsize=10)
    return figure


def draw_lost(images: ImageSet, changes: pd.DataFrame) -> Figure:
    """Images that were right before and are wrong now, the surest mistakes first.

    Args:
        images: The set that holds them.
        changes: See `changed_images`.

    Raises:
        ValueError: When an image is not in the set.
    """
    lost = changes[changes["change"] == "lost"]
    gained = len(changes) - len(lost)
    titles = [
        f"{from_to(row['label'], row['predicted'])}\n{whole_percent(row['confidence'])} sure"
        + (", withheld" if row["withheld"] else "")
        for row in lost.head(MOST_PICTURES).to_dict("records")
    ]
    if not titles:
        return draw_words(f"No image is wrong now that was right before; {gained:,} are right that were wrong")
    first = f"; the surest {MOST_PICTURES}" if len(lost) > MOST_PICTURES else ""
    heading = (
        f"{len(lost):,} {'images are' if len(lost) > 1 else 'image is'} wrong now, right before (true → predicted now)"
        f"{first}. {gained:,} the other way"
    )
    return draw_sheet(images, lost["id"].head(MOST_PICTURES), titles, heading)
