"""Are some classes others in a mirror, as road signs are? Then mirrored copies teach a network the wrong thing.

Told in closed form, before anything is trained: a head that learns from training images, and one that learns from the
same images left for right, too, are compared on left-out images as they are.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from cnn_transfer.images import Augmentation, ImageSet, class_names
from cnn_transfer.transfer.depths import draw_images
from cnn_transfer.transfer.features import FeatureSet
from cnn_transfer.transfer.groups import clear_errors, mean_and_error
from cnn_transfer.transfer.head import Head, labelled
from cnn_transfer.transfer.ridge import class_targets, class_weights, fit_ridge
from cnn_transfer.transfer.standardised import Standardised, standardisation

QUESTIONS = 20  # as if so many were asked: nobody did ask, so chance must not answer. Of many images 3 standard errors
FEWEST_TO_NAME = 2  # images of a class that are taken for another
REMEDY = "--params migrate_model.augmentation.horizontal_flip=false,finetune_target.augmentation.horizontal_flip=false"
BLIND = "Whether mirroring harms cannot be told: every class has one training image, or one group of them."
LOGGER = logging.getLogger(__name__)


def rows_to_mirror(images: ImageSet, splits: pd.DataFrame, augmentation: Augmentation, seed: int) -> np.ndarray:
    """Row numbers of the training images to try it on, at most `depths.MOST_IMAGES`; none where no copy is mirrored.

    Args:
        images: The target's images.
        splits: Table of splits; `training` is read, nothing else.
        augmentation: Of the copies.
        seed: Of the draw among many images.
    """
    if not augmentation.horizontal_flip:
        return np.empty(0, int)
    ids, classes, _ = labelled(splits)
    return images.rows_of(ids.iloc[draw_images(classes, seed)])


def judge_mirroring(features: FeatureSet, splits: pd.DataFrame, head: Head) -> dict[str, Any] | None:
    """Does a head that reads what was chosen lose by learning from mirrored images, too?

    It is called harm where the squared errors of left-out images are larger by far more than chance, and fewer of them
    are right. A warning is logged then.

    Args:
        features: Of the training images, with some of them mirrored; see `rows_to_mirror`.
        splits: Table of splits; `training` is read, nothing else.
        head: What was chosen.

    Returns:
        `images`, `accuracy` and `accuracy_mirrored` (on left-out images, 0-1), `difference` with its `standard_error`,
        `harms`, and `sentence`; None where no image is mirrored.
    """
    ids, classes, groups = labelled(splits)
    tried = ids.isin(features.mirrored).to_numpy()
    if not tried.any():
        return None
    ids, classes, groups = ids[tried], classes[tried], groups[tried]
    rows = features.of(ids, head.taps, head.grid, mirrored=True)[:]
    widths, weights = features.widths_of(head.taps, head.grid), class_weights(classes)
    targets = class_targets(classes, int(classes.max()) + 1)
    with threadpool_limits(1, user_api="blas"):
        alone, both = (
            fit_ridge(
                Standardised(seen, *standardisation(seen, widths, head.tap_weights)),
                targets.repeat(copies, axis=0),
                weights.repeat(copies),
                copies,
                groups=groups,
            ).left_out
            for seen, copies in ((rows[::2], 1), (rows, 2))
        )
    right, right_with = (left_out.argmax(axis=1) == classes for left_out in (alone, both))
    gain, error = mean_and_error(right_with.astype(float) - right, groups)
    errors, errors_with = (weights * ((left_out - targets) ** 2).mean(axis=1) for left_out in (alone, both))
    loss, loss_error = mean_and_error(errors_with - errors, groups)
    harms = not head.blind and gain < 0 and loss > clear_errors(len(ids), groups, QUESTIONS) * loss_error
    lost = right & ~right_with
    larger = loss / float(errors.mean()) if harms else 0.0
    sentence = (
        BLIND
        if head.blind
        else _sentence(right, right_with, classes[lost], both.argmax(axis=1)[lost], class_names(splits), larger)
    )
    if harms:
        LOGGER.warning(sentence)
    return {
        "images": len(ids),
        "accuracy": float(right.mean()),
        "accuracy_mirrored": float(right_with.mean()),
        "difference": gain,
        "standard_error": error,
        "harms": harms,
        "sentence": sentence,
    }


def _sentence(
    right: np.ndarray,
    right_with: np.ndarray,
    lost: np.ndarray,
    taken_for: np.ndarray,
    names: Sequence[str],
    larger: float,
) -> str:
    figures = (
        f"a head that does not learn from images left for right gets {right.mean():.1%} of {len(right):,} left-out "
        f"training images right, one that does {right_with.mean():.1%}"
    )
    if not larger:
        return f"Mirroring does no clear harm: {figures}."
    (label, other), images = Counter(zip(lost.tolist(), taken_for.tolist(), strict=True)).most_common(1)[0]
    example = f", most of all {names[label]}, taken for {names[other]}" if images >= FEWEST_TO_NAME else ""
    squares = f"with a squared error {larger:.0%} larger, which is far more than chance"
    advice = f"Unless images left for right will come, too, as of the other hand, switch it off: {REMEDY}"
    return f"Mirroring harms{example}: {figures}, {squares}. {advice}"
