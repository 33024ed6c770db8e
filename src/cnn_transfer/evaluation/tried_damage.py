"""Damage that was tried: what was taken in another way may be answered where the network was seen to bear that.

Copies of the validation images are damaged at random, in up to three ways at once, and labelled. Those that are sure
enough to be answered are kept: how they look (`appearance`), and whether the answer is wrong. Of a new image that only
its appearance makes unfamiliar, the copies that look most like it tell: when they are as near as copies are to each
other, and of them no more are wrong than the promise allows, it is not. What was not tried stays unfamiliar: harsher
damage, other combinations, and whatever is strange in content.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from cnn_transfer.evaluation.appearance import ASPECTS, appearance, standardised
from cnn_transfer.evaluation.calibration import calibrate
from cnn_transfer.evaluation.damage import damage_at_random
from cnn_transfer.evaluation.predictions import predict_changed
from cnn_transfer.evaluation.probabilities import read_probabilities
from cnn_transfer.images import ImageSet
from cnn_transfer.images.listing import hash_ranks

if TYPE_CHECKING:
    import keras

MOST_COPIES = 20  # of one image: more say hardly anything new
NEIGHBOURS = 50  # copies that are asked: enough to see that 2% are wrong
USUAL = 0.9  # of the copies are as near to their neighbours as is asked of a new image
CHUNK_IMAGES = 256  # whose pixels are in memory at once
NAMES = [aspect.name for aspect in ASPECTS]


class TriedDamage(NamedTuple):
    """Damaged copies that would be answered.

    Attributes:
        appearance: (n, 7) float32, see `appearance`.
        wrong: (n,) booleans, whether the answer is wrong.
    """

    appearance: np.ndarray
    wrong: np.ndarray

    @classmethod
    def of(cls, table: pd.DataFrame) -> TriedDamage:
        """What `try_damage` returned, as arrays."""
        return cls(table[NAMES].to_numpy(np.float32), table["wrong"].to_numpy(bool))


NOTHING_TRIED = TriedDamage(np.empty((0, len(ASPECTS)), np.float32), np.empty(0, bool))


def try_damage(
    network: keras.Model,
    images: ImageSet,
    splits: pd.DataFrame,
    calibration: Mapping[str, Any],
    threshold: float | None,
    most: int,
    seed: int,
) -> pd.DataFrame:
    """Label damaged copies of the validation images.

    Args:
        network: From raw pixels to probabilities, not calibrated.
        images: The set that it was trained on.
        splits: Which image is in which split.
        calibration: See `fit_calibration`.
        threshold: Confidence from which an image is answered; None: nothing is.
        most: Number of copies, at most 20 of one image; 0: none are tried.
        seed: Of the damage, and of the draw where there are more images than copies.

    Returns:
        One row a copy that would be answered: the figures of its appearance, by their names, float32, and `wrong`.
    """
    images = images.used_in(splits)
    rows = np.sort(images.rows(splits, "validation"))
    if threshold is None or not len(rows):
        rows = rows[:0]
    elif len(rows) > most:
        rows = np.sort(rows[np.argsort(np.asarray(hash_ranks(images.table["id"].iloc[rows], seed)))[:most]])
    copies = np.tile(rows, min(MOST_COPIES, most // max(1, len(rows))))
    labels = splits.set_index("id")["label"]
    rng, found = np.random.default_rng(seed), [pd.DataFrame(columns=[*NAMES, "wrong"])]
    for start in range(0, len(copies), CHUNK_IMAGES):
        part = copies[start : start + CHUNK_IMAGES]
        pixels = damage_at_random(images.pixels(part), rng)
        true = labels.loc[images.table["id"].iloc[part]].to_list()
        predictions = predict_changed(network, images, part, pixels, true, images.class_names)
        said = read_probabilities(calibrate(predictions, calibration))
        answered = said.confidence >= threshold
        table = pd.DataFrame(appearance(pixels[answered]), columns=NAMES)
        found.append(table.assign(wrong=~said.correct[answered]))
    types: dict[str, Any] = dict.fromkeys(NAMES, np.float32) | {"wrong": bool}
    return pd.concat(found[1:] or found, ignore_index=True).astype(types)


def fit_tried(tried: TriedDamage, spread: Mapping[str, Any], promised: float) -> dict[str, Any]:
    """What is asked of the copies that look most like a new image.

    Args:
        tried: All copies.
        spread: `centre` and `spread` of the training images' appearance.
        promised: Accuracy of the answers, 0-1.

    Returns:
        `copies` (their number), `wrong` (of them), `farthest` (distance to the last of the neighbours that is usual
        among them), `most_wrong` (share of the neighbours, 0-1). Empty where there are too few copies.
    """
    if len(tried.wrong) <= NEIGHBOURS:
        return {}
    own, _ = _neighbours(standardised(tried.appearance, spread), tried, spread, NEIGHBOURS + 1)  # each is its first
    return {
        "copies": len(tried.wrong),
        "wrong": int(tried.wrong.sum()),
        "farthest": float(np.quantile(own, USUAL)),
        "most_wrong": 1 - promised,
    }


def bears(taken: np.ndarray, tried: TriedDamage, familiarity: Mapping[str, Any]) -> np.ndarray:
    """Of which images the copies that look most like them kept the promise: (n,) booleans.

    Args:
        taken: (n, 7) appearances.
        tried: All copies.
        familiarity: See `fit_familiarity`.
    """
    asked = familiarity["tried"]
    if not asked or not len(taken) or len(tried.wrong) <= NEIGHBOURS:
        return np.zeros(len(taken), bool)
    distance, wrong = _neighbours(standardised(taken, familiarity), tried, familiarity, NEIGHBOURS)
    return np.asarray((distance <= asked["farthest"]) & (wrong <= asked["most_wrong"] * NEIGHBOURS + 1e-9))


def _neighbours(
    asked: np.ndarray, tried: TriedDamage, spread: Mapping[str, Any], neighbours: int
) -> tuple[np.ndarray, np.ndarray]:
    """Distance to the last of the nearest copies, and how many of these are wrong: each (n,)."""
    known = standardised(tried.appearance, spread)
    distance, wrong = np.empty(len(asked)), np.empty(len(asked), int)
    for start in range(0, len(asked), CHUNK_IMAGES):
        part = asked[start : start + CHUNK_IMAGES]
        squares = (part**2).sum(axis=1)[:, None] + (known**2).sum(axis=1) - 2 * part @ known.T
        nearest = np.argpartition(squares, neighbours - 1, axis=1)[:, :neighbours]
        farthest = np.take_along_axis(squares, nearest, axis=1).max(axis=1)
        distance[start : start + len(part)] = np.sqrt(np.maximum(farthest, 0))
        wrong[start : start + len(part)] = tried.wrong[nearest].sum(axis=1)
    return distance, wrong
