"""Does a network go by the thing in the middle of a picture, or by what is around it?

Pictures of different classes that were taken in different places differ in their backgrounds, and a network that learnt
these is right on test images of the same places, and wrong elsewhere. So the middle of each test image is put on the
background of another image of its class, and on one of another class: seams are in both, so that the difference is what
the network reads of the background. It goes by it where images are taken for the class of the background. These are
"Mixed-Same" and "Mixed-Rand" of Xiao et al. (2020, arXiv 2006.09994), with a rectangle in place of a thing that
somebody cut out, and with the own class left out of the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cnn_transfer.evaluation.calibration import calibrate
from cnn_transfer.evaluation.intervals import Groups, Units
from cnn_transfer.evaluation.predictions import predict_changed
from cnn_transfer.evaluation.probabilities import class_columns
from cnn_transfer.evaluation.verdict import paired_difference
from cnn_transfer.images import ImageSet, middle_of
from cnn_transfer.images.listing import hash_ranks

if TYPE_CHECKING:
    import keras

MOST_DRAWS = 5  # backgrounds of each kind that one image is put on: more say little that is new
CHUNK_IMAGES = 256  # whose pixels are in memory at once
FEWEST_COMPARED = 10  # images, for a figure that is worth a sentence
MOST_UNSEEN = 0.1  # share that may follow the background, where no sign is seen
WORTH_A_WARNING = 0.05  # that surely does
COLUMNS = [
    "id", "label", "predicted", "own_background", "on_own_background", "other_background", "other_label",
    "on_other_background",
]  # fmt: skip


def exchange_backgrounds(things: np.ndarray, backgrounds: np.ndarray, middle: float) -> np.ndarray:
    """The middle of each image on the background of another one.

    Args:
        things: (n, height, width, channels) uint8, of which the middle is kept.
        backgrounds: Likewise, of which the rest is taken.
        middle: Share of the area that the rectangle in the middle has, 0-1.
    """
    mixed = backgrounds.copy()
    inside = (slice(None), *middle_of(things.shape[1], things.shape[2], middle))
    mixed[inside] = things[inside]
    return mixed


def draw_backgrounds(
    labels: np.ndarray, groups: Groups, draws: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each image other ones of its class, and as many of other classes, none of its own group.

    Args:
        labels: (n,) class names, in an order that is a shuffle.
        groups: (n,) what belongs together; None: each image is alone.
        draws: Number of each for an image, with replacement.
        seed: Of the draws.

    Returns:
        Three times (m,) int, m at most n * draws: the images for which there are both, `draws` times each, their
        partners of the same class, and those of another one, which is drawn first: each other class is as probable.
    """
    rng, units = np.random.default_rng(seed), Units(groups, len(labels)).codes
    by_class = {name: np.flatnonzero(labels == name) for name in np.unique(labels)}
    found = []
    for row, (label, unit) in enumerate(zip(labels, units, strict=True)):
        strangers = {name: rows[units[rows] != unit] for name, rows in by_class.items()}
        own = strangers.pop(label)
        others = [rows for rows in strangers.values() if len(rows)]
        if len(own) and others:
            found += [(row, rng.choice(own), rng.choice(others[rng.integers(len(others))])) for _ in range(draws)]
    kept, own_class, other_class = np.array(found, int).reshape(-1, 3).T
    return kept, own_class, other_class


def measure_backgrounds(
    network: keras.Model,
    images: ImageSet,
    predictions: pd.DataFrame,
    calibration: Mapping[str, Any],
    most: int,
    middle: float,
    seed: int,
) -> pd.DataFrame:
    """Predict test images on backgrounds of their own and of another class.

    Args:
        network: From raw pixels to probabilities, not calibrated.
        images: The set that holds them.
        predictions: What it says of the test images, calibrated: `id`, `label`, `predicted`, and perhaps `group`.
        calibration: See `fit_calibration`.
        most: Number of backgrounds of each kind, and so of images, which are drawn whatever their order; where there
            are fewer of these, one is put on up to five.
        middle: Share of the area that is taken for the thing, 0-1.
        seed: Of the draws.

    Returns:
        One row a pair of backgrounds: `id`, `label`, `predicted`, `own_background` (id of the image of the same class
        that it is put on), `on_own_background` (what it is taken for there), `other_background`, `other_label` (class
        of that), `on_other_background`, and `group` where the predictions have it. None where no image has both.
    """
    order = np.argsort(np.asarray(hash_ranks(predictions["id"], seed)))[:most]
    drawn = predictions.iloc[order].reset_index(drop=True)
    labels, groups = drawn["label"].to_numpy(object), drawn.get("group")
    kept, own, other = draw_backgrounds(labels, groups, min(MOST_DRAWS, most // max(1, len(drawn))), seed)
    found = drawn.loc[kept, ["id", "label", "predicted", *([] if groups is None else ["group"])]]
    found = found.reset_index(drop=True).assign(
        own_background=drawn["id"].to_numpy()[own],
        other_background=drawn["id"].to_numpy()[other],
        other_label=labels[other],
    )
    rows, classes = images.rows_of(drawn["id"]), class_columns(predictions)
    for name, backgrounds in (("on_own_background", own), ("on_other_background", other)):
        found[name] = ""
        for start in range(0, len(kept), CHUNK_IMAGES):
            part = slice(start, start + CHUNK_IMAGES)
            shown = rows[kept[part]]
            mixed = exchange_backgrounds(images.pixels(shown), images.pixels(rows[backgrounds[part]]), middle)
            said = predict_changed(network, images, shown, mixed, list(labels[kept[part]]), classes)
            found.loc[found.index[part], name] = calibrate(said, calibration)["predicted"].to_numpy()
    return found.astype("str")[[*COLUMNS, *found.columns.difference(COLUMNS)]]


def judge_backgrounds(table: pd.DataFrame, confidence: float) -> dict[str, Any]:
    """What the background does, in figures.

    Args:
        table: See `measure_backgrounds`.
        confidence: Level of the interval, which respects groups, of the things and of the backgrounds: one that draws
            the network to a class does so with all that is put on it.

    Returns:
        `images`, `backgrounds` (of each kind that they were put on), `right` (share of all, 0-1, as they are),
        `right_on_own_background`, `right_on_other_background`, `taken_for_background` (share that is taken for the
        class of the background, where that is another), `taken_for_it_anyway` (share that is taken for that class on a
        background of its own), and the `difference` of the last two with `_low` and `_high`: above 0, the network goes
        by the background. Shares are None without images.
    """
    names = ["right", "right_on_own_background", "right_on_other_background", "taken_for_background",
             "taken_for_it_anyway", "difference", "difference_low", "difference_high"]  # fmt: skip
    if table.empty:
        return {"images": 0, "backgrounds": 0} | dict.fromkeys(names)
    said = ["predicted", "on_own_background", "on_other_background"]
    right = [(table[name] == table["label"]).mean() for name in said]
    follows, anyway = ((table[name] == table["other_label"]).to_numpy(bool) for name in (said[2], said[1]))
    things = table.get("group", table["id"])
    group_of = dict(zip(table["id"], things, strict=True))
    backgrounds = [
        [group_of.get(image, image) for image in table[name]] for name in ("own_background", "other_background")
    ]
    difference = paired_difference(follows, anyway, confidence, things, *backgrounds)
    counts = {"images": table["id"].nunique(), "backgrounds": len(table)}
    shares = [*right, follows.mean(), anyway.mean(), *difference]
    return counts | dict(zip(names, map(float, shares), strict=True))


def describe_backgrounds(figures: Mapping[str, Any]) -> str:
    """The same in a sentence or two."""
    if not figures["images"]:
        return "No test image was put on another background."
    if figures["images"] < FEWEST_COMPARED:
        return "Too few test images have others of their class to tell what backgrounds do."
    low, difference, high = (100 * figures[f"difference{end}"] for end in ("_low", "", "_high"))
    measured = (
        f"The middles of {figures['images']:,} test images were put on {figures['backgrounds']:,} backgrounds of other "
        f"images of their class, where {figures['right_on_own_background']:.1%} are right, and on as many of other "
        f"classes, where {figures['right_on_other_background']:.1%} are. There {figures['taken_for_background']:.1%} "
        f"are taken for the class of the background, {figures['taken_for_it_anyway']:.1%} for that class anyway "
        f"({difference:+z.1f} points, {low:+z.1f} to {high:+z.1f}): "
    )
    if figures["difference_low"] >= WORTH_A_WARNING:
        return measured + "THE NETWORK GOES BY THE BACKGROUND, TOO."
    if low > 0:
        return measured + "the network goes by the background a little."
    if figures["difference_high"] > MOST_UNSEEN:
        return measured + "these are too few to tell whether the network goes by the background."
    return measured + "no sign that the network goes by the background."


def warn_of_backgrounds(figures: Mapping[str, Any]) -> str:
    """The same with what to do, where the background counts for much; else empty."""
    if figures["images"] < FEWEST_COMPARED or figures["difference_low"] < WORTH_A_WARNING:
        return ""
    return (
        f"{describe_backgrounds(figures)} Where the background is a place and no part of what is shown, it will be "
        "wrong in other places: have images of each class from the same places, crop them to what is shown, or train "
        "on other backgrounds: 0.5 as background_fraction of migrate_model.augmentation and of finetune_target's. "
        "Where what is shown fills the picture, as textures do, there is no background, and this is no fault."
    )
