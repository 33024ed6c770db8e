"""Where a network fails: the classes that it confuses, with pictures, and images whose label looks wrong.

A confident mistake is the network's or the annotator's. Confident learning (Northcutt, Jiang and Chuang 2021, arXiv
1911.00068) tells which: an image is suspected when its probability of another class is as high as is usual among images
of that class. It needs probabilities of a network that was not trained on the images: test or validation images, or
cross-validated ones.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from cnn_transfer.evaluation.figures import (
    MOST_TITLE_CHARACTERS,
    Figure,
    PictureGrid,
    draw_sheet,
    draw_words,
    from_to,
    new_figure,
    short_name,
)
from cnn_transfer.evaluation.probabilities import read_probabilities
from cnn_transfer.images import ImageSet

PAIR_COLUMNS = ["label", "predicted", "images", "share_of_label", "examples"]
MOST_EXAMPLES = 8


def confused_pairs(predictions: pd.DataFrame, most: int = 10) -> pd.DataFrame:
    """The pairs of classes that are confused most often.

    Args:
        predictions: A table of predictions; may be empty.
        most: Number of pairs, at least 1.

    Returns:
        One row a pair of true and predicted class, the most images first: `label`, `predicted`, `images`,
        `share_of_label` (of the images of the true class, 0-1), `examples` (a list of up to 8 ids, the most confident
        mistakes first).
    """
    if most < 1:
        raise ValueError(f"most must be at least 1. Received: {most}.")
    of_label = predictions["label"].value_counts()
    wrong = predictions[predictions["label"] != predictions["predicted"]]
    if wrong.empty:
        empty = pd.DataFrame({name: pd.Series(dtype="str") for name in PAIR_COLUMNS})
        return empty.astype({"images": int, "share_of_label": float, "examples": object})
    confidence = read_probabilities(wrong).confidence
    wrong = wrong.assign(confidence=confidence).sort_values("confidence", ascending=False, kind="stable")
    pairs = wrong.groupby(["label", "predicted"], sort=True)["id"].agg(["size", list]).reset_index()
    pairs = pairs.sort_values("size", ascending=False, kind="stable").head(most).reset_index(drop=True)
    return pd.DataFrame(
        {
            "label": pairs["label"],
            "predicted": pairs["predicted"],
            "images": pairs["size"].astype(int),
            "share_of_label": (pairs["size"] / pairs["label"].map(of_label)).astype(float),
            "examples": [ids[:MOST_EXAMPLES] for ids in pairs["list"]],
        }
    )


def draw_confused_pairs(images: ImageSet, pairs: pd.DataFrame, most: int = 8) -> Figure:
    """One row a pair of confused classes, with examples, the most confident mistakes first.

    Args:
        images: The set that holds the examples.
        pairs: See `confused_pairs`; may be empty.
        most: Number of pairs.

    Raises:
        ValueError: When an example is not in the set.
    """
    pairs = pairs.head(most)
    if pairs.empty:
        return draw_words("No mistakes")
    columns = max(len(ids) for ids in pairs["examples"])
    figure = new_figure(max(5.0, 1.05 * columns + 2.4), 1.1 * len(pairs) + 0.5)
    grid = PictureGrid(figure, len(pairs), columns)
    for line, pair in enumerate(pairs.to_dict("records")):
        for column, image in enumerate(images.pixels(images.rows_of(pair["examples"]))):
            grid.show(line, column, image)
        count = f"{pair['images']:,} images" if pair["images"] > 1 else "1 image"
        grid.name(line, f"{from_to(pair['label'], pair['predicted'])}\n{count}, {pair['share_of_label']:.1%}")
    figure.suptitle("Most confused classes (true → predicted; share of the true class)", fontsize=10)
    return figure


def suspected_labels(predictions: pd.DataFrame) -> pd.DataFrame:
    """Images whose label looks wrong, to be looked at by annotators.

    An image counts for a class when its probability of it is at least the class's threshold, the mean probability of
    the class among images with that label; for the most probable one if these are several. Suspected are images that
    count for another class than their label (off the diagonal of the confident joint) and have it more probable than
    all others together: the thresholds of a network that is often wrong are low, and its mistakes are no wrong labels.

    Args:
        predictions: Predictions of images that the network was not trained on, best calibrated; may be empty. With a
            column `origin`, the file of the image, the result has it as well.

    Returns:
        One row a suspected image, the clearest first: `id`, `origin` if given, `label`, `suggested`,
        `probability_of_label`, `probability_of_suggested`, `margin` (the second less the first).
    """
    data = read_probabilities(predictions)
    n, classes = data.values.shape
    own = data.values[np.arange(n), data.labels]
    counts = np.bincount(data.labels, minlength=classes)
    sums = np.bincount(data.labels, own, minlength=classes)
    # A class without images has no threshold and can't be suggested.
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    candidates = np.where(data.values >= thresholds, data.values, -1.0)
    suggested = candidates.argmax(axis=1) if n else np.empty(0, int)
    most = candidates[np.arange(n), suggested]
    suspected = np.flatnonzero((suggested != data.labels) & (most > 0.5))
    names = np.asarray(data.classes, object)
    table = pd.DataFrame(
        {
            "id": predictions["id"].to_numpy(object)[suspected],
            "label": names[data.labels[suspected]],
            "suggested": names[suggested[suspected]],
            "probability_of_label": own[suspected],
            "probability_of_suggested": most[suspected],
            "margin": most[suspected] - own[suspected],
        }
    ).astype({"id": "str", "label": "str", "suggested": "str"})
    if "origin" in predictions:
        table.insert(1, "origin", predictions["origin"].to_numpy(object)[suspected])
    return table.sort_values("margin", ascending=False, kind="stable").reset_index(drop=True)


def draw_suspected_labels(images: ImageSet, suspected: pd.DataFrame, shown: int = 16) -> Figure:
    """The images whose labels look most wrong, each with its label and the suggested one.

    Args:
        images: The set that holds them.
        suspected: See `suspected_labels`; may be empty.
        shown: Number of images.

    Raises:
        ValueError: When an image is not in the set.
    """
    part = suspected.head(shown)
    if part.empty:
        return draw_words("No label looks wrong")
    titles = []
    for row in part.to_dict("records"):
        label, other = (short_name(row[key], MOST_TITLE_CHARACTERS - 2) for key in ("label", "suggested"))
        rather = f"rather {other}" if len(other) <= 8 else f"→ {other}"
        gap = ", " if len(other) <= 4 else "\n"
        titles.append(f"{label}?\n{rather}{gap}{row['probability_of_suggested']:.1%}")
    heading = f"Labels to look at again: {len(suspected):,}, the clearest first"
    return draw_sheet(images, part["id"], titles, heading)
