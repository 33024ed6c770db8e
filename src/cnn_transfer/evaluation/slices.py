"""Does the network fail on some kinds of images? Accuracy by what is known of them, corrected for all that was tried.

An attribute is a column of numbers (size, brightness, sharpness, age of a patient) or of text (camera, hospital). Its
slices are fourths of the images, or its values. Each slice is compared with all other images.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from cnn_transfer.evaluation.intervals import Units, proportion_interval
from cnn_transfer.images import ImageSet

MOST_VALUES = 20
SLICES_OF_NUMBERS = 4
FEWEST_IMAGES = 5  # of a slice, and of the rest: fewer show nothing
OTHER = "(other)"
MISSING = "(missing)"
GREY = np.array([0.299, 0.587, 0.114])  # luma of red, green, blue: ITU-R BT.601
CHUNK = 64  # images in memory at once
COLUMNS = [
    "attribute",
    "slice",
    "images",
    "groups",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "rest_accuracy",
    "difference",
    "p_value",
    "conspicuous",
]


def image_attributes(images: ImageSet, splits: pd.DataFrame, split: str) -> pd.DataFrame:
    """What is known of each image of a split without looking at its label.

    Args:
        images: The set.
        splits: Which image is in which split: `id`, `split`.
        split: Which to describe.

    Returns:
        One row an image: `id`, `size_px` (root of width times height before resizing), `brightness` (mean grey value,
        0-1) and `sharpness` (variance of the Laplacian of grey values in 0-1: Pech-Pacheco et al. 2000) of the stored
        pixels, and the columns of `ImageSet.attributes`. One of them with the name of another column is
        `<name> (manifest)`.
    """
    rows = images.rows(splits, split)
    listed = images.table.iloc[rows]
    parts = [grey_figures(images.pixels(rows[start : start + CHUNK])) for start in range(0, len(rows), CHUNK)]
    brightness, sharpness = np.concatenate(parts, axis=1) if parts else np.empty((2, 0))
    table = pd.DataFrame(
        {
            "id": listed["id"].to_numpy(),
            "size_px": np.sqrt(listed["width_px"].to_numpy(float) * listed["height_px"].to_numpy(float)),
            "brightness": brightness,
            "sharpness": sharpness,
        }
    )
    others = images.attributes.rename(
        columns={name: f"{name} (manifest)" for name in table.columns.intersection(images.attributes.columns[1:])}
    )
    return table.merge(others, on="id", how="left")


def grey_figures(pixels: np.ndarray) -> np.ndarray:
    """Brightness and sharpness of images, (2, n) float64, see `image_attributes`.

    Args:
        pixels: (n, height, width, channels) uint8.
    """
    values = pixels.astype(np.float32) / 255
    grey = values @ GREY.astype(np.float32) if pixels.shape[-1] == 3 else values[..., 0]
    around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    laplacian = around - 4 * grey[:, 1:-1, 1:-1]
    return np.stack([grey.mean(axis=(1, 2)), laplacian.var(axis=(1, 2))]).astype(float)


def slice_table(predictions: pd.DataFrame, attributes: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Accuracy on each slice of the images against that on all others.

    Numbers are cut at their quartiles, or where there are at most four of them, into these; of text the 20 most common
    values have a slice each and the others share one. An attribute that is the same for all images is left out.

    Args:
        predictions: With a column `group`, images of one group count as dependent.
        attributes: `id` and columns of numbers or text; see `image_attributes`.
        confidence: Level of the intervals; what it lacks to 1 is the chance of any conspicuous slice without an effect.

    Returns:
        One row a slice: `attribute`, `slice` (its range or value), `images`, `groups`, `accuracy` with `_low` and
        `_high`, `rest_accuracy`, `difference` of the two (below 0: worse than the rest), `p_value` (Fisher's exact
        test; with groups a t test of the groups' sums; missing where one side has fewer than 5 images or 2 groups),
        `conspicuous` (the p value, corrected for all slices together by Holm 1979, is below 1 - `confidence`).

    Raises:
        ValueError: When an image has no row of attributes.
    """
    rows = pd.Index(attributes["id"]).get_indexer(pd.Index(predictions["id"]))
    if (lacking := rows < 0).any():
        raise ValueError(
            f"Each predicted image must have a row of attributes. Missing: {lacking.sum()} of {len(predictions)}, such "
            f"as {predictions['id'][lacking].iloc[0]}. Make both from the same image set and split."
        )
    correct = (predictions["label"] == predictions["predicted"]).to_numpy(bool)
    units = Units(predictions.get("group"), len(predictions))
    found = []
    for name in attributes.columns.drop("id"):
        for value, inside in _slices(attributes[name].iloc[rows].reset_index(drop=True)):
            share = proportion_interval(correct[inside], confidence, units.of(inside).codes)
            rest = float(correct[~inside].mean())
            sizes = (int(inside.sum()), units.of(inside).number)
            p_value = _p_value(correct, inside, units)
            found.append((name, value, *sizes, *share, rest, share.estimate - rest, p_value, False))
    table = pd.DataFrame(found, columns=COLUMNS)
    table["conspicuous"] = _holm(table["p_value"].to_numpy(float)) < 1 - confidence
    return table


def _slices(values: pd.Series) -> list[tuple[str, np.ndarray]]:
    """Name and members ((n,) booleans) of each slice; none when there would be one only."""
    is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    found = _ranges(values.to_numpy(float, na_value=np.nan)) if is_number else _values(values)
    missing = values.isna().to_numpy(bool)
    if missing.any():
        found.append((MISSING, missing))
    return found if len(found) > 1 else []


def _ranges(numbers: np.ndarray) -> list[tuple[str, np.ndarray]]:
    known = numbers[~np.isnan(numbers)]
    distinct = np.unique(known)
    few = len(distinct) <= SLICES_OF_NUMBERS
    shares = np.arange(1, SLICES_OF_NUMBERS) / SLICES_OF_NUMBERS
    cuts = distinct[:-1] if few else np.unique(np.quantile(known, shares, method="inverted_cdf"))
    places = np.where(np.isnan(numbers), -1, np.searchsorted(cuts, numbers))  # up to a cut, the cut included
    found = []
    for place in np.unique(places[places >= 0]):
        inside = places == place
        lowest, highest = numbers[inside].min(), numbers[inside].max()
        found.append((f"{lowest:.3g}" if lowest == highest else f"{lowest:.3g} to {highest:.3g}", inside))
    return found


def _values(values: pd.Series) -> list[tuple[str, np.ndarray]]:
    texts = values.astype("str")
    counts = texts.value_counts().sort_index().sort_values(ascending=False, kind="stable")
    found = [(str(text), (texts == text).fillna(False).to_numpy(bool)) for text in counts.index[:MOST_VALUES]]
    if len(counts) > MOST_VALUES:
        found.append((OTHER, texts.isin(counts.index[MOST_VALUES:]).to_numpy(bool)))
    return found


def _p_value(correct: np.ndarray, inside: np.ndarray, units: Units) -> float:
    """Of a difference as large when there is none; NaN where that cannot be said."""
    from scipy import stats

    if min(inside.sum(), (~inside).sum()) < FEWEST_IMAGES:
        return math.nan
    if not units.grouped:
        table = [[np.sum(correct[side]), np.sum(~correct[side])] for side in (inside, ~inside)]
        return float(stats.fisher_exact(table).pvalue)
    fewest = min(units.of(inside).number, units.of(~inside).number)
    if fewest < 2:
        return math.nan
    surplus = correct - correct.mean()  # as if there were no difference
    influences = np.where(inside, surplus / inside.sum(), -surplus / (~inside).sum())
    variance = units.variance(influences)
    return float(2 * stats.t.sf(abs(influences.sum()) / math.sqrt(variance), fewest - 1)) if variance else 1.0


def _holm(p_values: np.ndarray) -> np.ndarray:
    """Adjusted for as many tests as there are numbers (Holm 1979); NaN stays, and is not counted."""
    adjusted = np.full(len(p_values), np.nan)
    order = [place for place in np.argsort(p_values, kind="stable") if not np.isnan(p_values[place])]
    steps = p_values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps))
    return adjusted
