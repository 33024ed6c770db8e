"""What test images look like on other backgrounds, and what they are taken for there."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from cnn_transfer.evaluation.backgrounds import exchange_backgrounds
from cnn_transfer.evaluation.figures import (
    BASELINE_COLOUR,
    TITLE_ROOM,
    Figure,
    PictureGrid,
    draw_words,
    new_figure,
    short_name,
)
from cnn_transfer.images import ImageSet

HALVES, GAP = 2, 0.35  # lines stand side by side
MOST_NAME = 14  # characters of a class above a picture


def draw_backgrounds_exchanged(images: ImageSet, table: pd.DataFrame, middle: float, shown: int = 12) -> Figure:
    """Images as they are, on a background of their class and on one of another; those that follow it come first.

    Args:
        images: The set that holds them.
        table: See `measure_backgrounds`.
        middle: What that was given.
        shown: Number of images.
    """
    if table.empty:
        return draw_words("No test image was put on another background")
    said = ["predicted", "on_own_background", "on_other_background"]
    right = table[said].eq(table["label"], axis=0)
    follows = right["on_own_background"] & table["on_other_background"].eq(table["other_label"])
    telling = np.select([follows, right["on_own_background"] & ~right["on_other_background"]], [0, 1], 2)
    telling_first = table.iloc[np.argsort(telling, kind="stable")]
    rows = telling_first.drop_duplicates("id")[:shown].to_dict("records")
    lines = math.ceil(len(rows) / HALVES)
    width = (3 + GAP) * HALVES - GAP
    figure = new_figure(1.25 * width + 0.4, 1.25 * (1 + TITLE_ROOM) * lines + 0.8)
    grid = PictureGrid(figure, lines, width, TITLE_ROOM)
    for number, row in enumerate(rows):
        line, left = number // HALVES, (3 + GAP) * (number % HALVES)
        own, *around = images.pixels(
            images.rows_of([row[name] for name in ("id", "own_background", "other_background")])
        )
        mixed = exchange_backgrounds(np.stack([own, own]), np.stack(around), middle)
        for place, (image, name) in enumerate(zip([own, *mixed], said, strict=True)):
            wrong = {"color": BASELINE_COLOUR, "fontweight": "bold"} if row[name] != row["label"] else {}
            grid.show(line, left + place, image, short_name(row[name], MOST_NAME), **wrong)
    figure.suptitle(
        "Each test image as it is, on the background of another image of its class, and on one of another class.\n"
        "Above: what it is taken for; bold where that is wrong",
        fontsize=10,
    )
    return figure
