"""Sheets of images beside the training images nearest to them, and of those that are least like any."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from cnn_transfer.evaluation.figures import (
    MOST_TITLE_CHARACTERS,
    TITLE_ROOM,
    Figure,
    PictureGrid,
    draw_sheet,
    draw_words,
    from_to,
    new_figure,
    short_name,
)
from cnn_transfer.images import ImageSet


def draw_nearest(
    images: ImageSet, table: pd.DataFrame, ids: Sequence[str], predictions: pd.DataFrame | None = None
) -> Figure:
    """Images, each with the training images nearest to it, so that one sees what a decision was made after.

    Args:
        images: The set that holds all of them.
        table: See `familiarity_table`.
        ids: Which images of the table to show, such as mistakes; may be empty.
        predictions: Predictions of these images; None: titles say nothing of them.

    Raises:
        ValueError: When an id is not in the table, or an image not in the set.
    """
    if not len(ids):
        return draw_words("No images to compare")
    unknown = [name for name in ids if name not in set(table["id"])]
    if unknown:
        raise ValueError(f"{len(unknown)} of {len(ids)} ids are not in the table, such as {unknown[0]}.")
    shown = table.set_index("id", drop=False).loc[list(ids)]
    places = [name for name in table.columns if name.startswith("nearest_") and name != "nearest_labels"]
    predicted = {} if predictions is None else dict(zip(predictions["id"], predictions["predicted"], strict=True))
    halves = min(2, len(shown))
    lines = math.ceil(len(shown) / halves)
    across = 1 + len(places)
    width = (across + 0.25) * halves - 0.25  # with a gap between the halves
    figure = new_figure(1.15 * width + 0.4, 1.15 * (1 + TITLE_ROOM) * lines + 0.7)
    grid = PictureGrid(figure, lines, width, TITLE_ROOM)
    for number, row in enumerate(shown.to_dict("records")):
        line, left = number // halves, (across + 0.25) * (number % halves)
        rows = images.rows_of([row["id"], *(row[place] for place in places)])
        first, *others = images.pixels(rows)
        label = row["label"]
        title = from_to(label, predicted[row["id"]], 13) if row["id"] in predicted else short_name(label, 12)
        grid.show(line, left, first, title, fontweight="bold")
        for place, (image, near) in enumerate(zip(others, images.table["label"].iloc[rows[1:]], strict=True), start=1):
            grid.show(line, left + place, image, short_name(near, 12))
    meaning = "true → predicted class" if predicted else "class"
    figure.suptitle(f"Bold: test image, {meaning}.\nBeside it its nearest training images", fontsize=10)
    return figure


def draw_unfamiliar(images: ImageSet, table: pd.DataFrame, shown: int = 16) -> Figure:
    """The images that are least like the training images, the strangest first.

    Args:
        images: The set that holds them.
        table: See `familiarity_table`; may be empty.
        shown: Number of images.

    Raises:
        ValueError: When an image is not in the set.
    """
    farthest = table.nlargest(shown, "strangeness", keep="first")
    titles = []
    for row in farthest.to_dict("records"):
        mark = "not judged" if pd.isna(row["unfamiliar"]) else row["unlike"] or "familiar"
        titles.append(f"{short_name(row['label'], MOST_TITLE_CHARACTERS)}\n{mark}, {row['strangeness']:.1f}")
    if table.empty:
        return draw_sheet(images, [], [], "No images to judge")
    count = f"{int(table['unfamiliar'].sum()):,} of {len(table):,} are unfamiliar"
    judged = "none can be called unfamiliar" if table["unfamiliar"].isna().any() else count
    heading = f"Least like the training images (class, what is unlike, how strange); {judged}"
    return draw_sheet(images, farthest["id"], titles, heading)
