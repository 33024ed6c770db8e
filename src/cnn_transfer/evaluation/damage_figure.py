"""What damage looks like, and what becomes of damaged images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from cnn_transfer.evaluation.damage import DAMAGES, damaged, drawn_test_images
from cnn_transfer.evaluation.figures import (
    BASELINE_COLOUR,
    TRANSFER_COLOUR,
    Figure,
    PictureGrid,
    draw_words,
    new_figure,
)
from cnn_transfer.images import ImageSet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PARTS = {
    "right_answers": ("answered rightly", TRANSFER_COLOUR),
    "withheld": ("no answer", "#bbbbbb"),
    "wrong_answers": ("answered wrongly", BASELINE_COLOUR),
}
CELL, BAR = 3.4, 2.2  # widths, in pictures


def draw_damage(images: ImageSet, splits: pd.DataFrame, table: pd.DataFrame, most: int, seed: int) -> Figure:
    """A line a kind of damage: one image under each degree of it, and beside it what becomes of all.

    Args:
        images: The set that holds the test images.
        splits: Which of them are test images.
        table: See `measure_damage`, of `DAMAGES`.
        most: What that was given.
        seed: Likewise.
    """
    if table.empty:
        return draw_words("No test images were damaged")
    example = images.pixels(drawn_test_images(images, splits, most, seed)[:1])
    kinds = list(dict.fromkeys(damage.kind for damage in DAMAGES))
    degrees = max(sum(damage.kind == kind for damage in DAMAGES) for kind in kinds)
    figure = new_figure(3.0 * degrees + 1.4, 1.0 * (len(kinds) + 1) + 0.9)
    grid = PictureGrid(figure, len(kinds) + 1, CELL * degrees, 0.25)
    rows = table.assign(withheld=1 - table["answered"]).to_dict("records")
    shown = {(row["damage"], row["degree"]): row for row in rows}
    grid.name(0, "as they are")
    grid.show(0, 0, example[0])
    _draw_bar(grid.axes, grid.top(0), 0, rows[0])
    for line, kind in enumerate(kinds, start=1):
        grid.name(line, kind)
        for place, damage in enumerate(damage for damage in DAMAGES if damage.kind == kind):
            grid.show(line, place * CELL, damaged(example, damage, seed)[0], damage.degree)
            _draw_bar(grid.axes, grid.top(line), place * CELL, shown[kind, damage.degree])
    for name, colour in PARTS.values():
        grid.axes.barh([0], [0], color=colour, label=name)
    grid.axes.plot([], [], ls="", marker="|", ms=10, color="k", label="right, were all answered")
    figure.legend(fontsize=8, ncols=4, loc="outside lower center", frameon=False)
    number = int(table["images"].iloc[0])
    figure.suptitle(f"{number:,} test image{'' if number == 1 else 's'}, damaged", fontsize=10)
    return figure


def _draw_bar(axes: Axes, top: float, left: float, row: Mapping[Any, Any]) -> None:
    """Shares of the images beside a picture."""
    start, middle = left + 1.05, top + 0.5
    for part, (_, colour) in PARTS.items():
        axes.barh(middle, BAR * row[part], 0.3, left=start, color=colour)
        start += BAR * row[part]
    place = left + 1.05 + BAR * row["right"]
    axes.plot([place, place], [middle - 0.22, middle + 0.22], color="k", lw=1.2)
    text = f"{row['right_answers']:.0%}, {row['withheld']:.0%}, {row['wrong_answers']:.1%}"
    axes.text(left + 1.05, middle + 0.26, text, fontsize=7, va="top")
