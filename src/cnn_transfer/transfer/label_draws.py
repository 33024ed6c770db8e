"""Fewer or more labels of the same images: the draws behind a learning curve, and the transfer at one of them.

A draw is a table of splits. Its test images are those of the table that it was made from; all other images whose label
is known are dealt anew: so many a class to training, their share to validation, and the rest loses its label. Draws of
one seed are nested: the images of fewer labels are among those of more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cnn_transfer.images import Augmentation, ImageSet, SplitRule, UnusableSetError, assign_splits, split_examples
from cnn_transfer.images.listing import hash_ranks
from cnn_transfer.models import add_linear_head, copy_network, tap_layers
from cnn_transfer.transfer.features import FeatureExtraction, FeatureSet
from cnn_transfer.transfer.fine_tuning import FineTuning, fine_tune
from cnn_transfer.transfer.head import Head, HeadRule, choose_head
from cnn_transfer.transfer.pseudo_labels import PseudoLabels, build_pool
from cnn_transfer.transfer.search import SearchFit

if TYPE_CHECKING:
    import keras


def most_labels(splits: pd.DataFrame, validation_ratio: float) -> int:
    """Labels a class that a draw can have, as many as the smallest class allows beside its validation images.

    Args:
        splits: Table of splits; `unlabelled` images whose label is known count.
        validation_ratio: Validation images per training image, above 0.

    Raises:
        UnusableSetError: When a class has not even one for training and one for validation.
    """
    pool = _pool(splits)
    counts = pool["label"].dropna().value_counts()
    least = int(counts.min()) if len(counts) else 0
    labels = int(least / (1 + validation_ratio)) + 1
    while labels and labels + _validation_images(labels, validation_ratio) > least:
        labels -= 1
    if not labels:
        raise UnusableSetError(
            "A learning curve needs at least one image for training and one for validation in each class. Received: "
            f"{least} of {counts.idxmin() if len(counts) else 'no class'}. Add images with labels."
        )
    return labels


def labels_that_exist(wanted: Sequence[int], most: int) -> tuple[int, ...]:
    """The wanted numbers of labels a class, those above `most` replaced by it: the curve ends where the labels end."""
    return tuple(sorted({min(labels, most) for labels in wanted}))


def draw_labels(
    splits: pd.DataFrame, labels: int, validation_ratio: float, seed: int, most_unlabelled: int | None = None
) -> pd.DataFrame:
    """Deal the labels of all images but the test's anew.

    Args:
        splits: Table of splits: `id`, `label`, `split`, `group`.
        labels: Training images a class.
        validation_ratio: Validation images per training image, above 0, at most 1.
        seed: Seed of the draw.
        most_unlabelled: At most so many unlabelled images, drawn by the seed, the others `unused`; None: all.

    Returns:
        A table of splits with the same test images. Images that share a group with them are left out.
    """
    test = splits[splits["split"] == "test"].assign(split="test")
    table = pd.concat([test, _pool(splits).assign(split=None)], ignore_index=True)
    rule = SplitRule(test_fraction=0.0, labels_per_class=labels, validation_ratio=validation_ratio)
    drawn = assign_splits(table[["id", "label", "split", "group"]], rule, seed)
    unlabelled = drawn["id"][drawn["split"] == "unlabelled"]
    if most_unlabelled is not None and most_unlabelled < len(unlabelled):
        # By a rank that does not depend on the other images, so that the draws of a seed share most of them.
        ranks = pd.Series(hash_ranks(unlabelled, seed), index=unlabelled.index)
        drawn.loc[ranks.sort_values().index[most_unlabelled:], "split"] = "unused"
    return drawn


def plan_curve_extraction(
    network: keras.Model, images: ImageSet, draws: Iterable[pd.DataFrame], rule: HeadRule
) -> FeatureExtraction:
    """Features for the heads of several draws, and for their predictions of the test images, all computed once.

    Args:
        network: The source network.
        images: The target's images.
        draws: Tables of splits; see `draw_labels`.
        rule: What the heads may read and learn from.
    """
    wanted: set[int] = set()
    copied: set[int] = set()
    copies = 0
    for draw in draws:
        training = images.rows(draw, "training")
        copied.update(training.tolist())
        copies = max(copies, rule.copies_of(len(training)))
        wanted.update(*(images.rows(draw, side).tolist() for side in ("training", "unlabelled", "test")))
    rows, moved = np.array(sorted(wanted), int), np.array(sorted(copied), int)
    taps = tuple(tap_layers(network))
    return FeatureExtraction(network, images, rows, moved, taps, rule.grids, copies, rule.augmentation)


def head_of_draw(features: FeatureSet, draw: pd.DataFrame, rule: HeadRule, seed: int) -> Head:
    """The head that `choose_head` makes of one draw, with as many moved copies of each image as it gets by the rule."""
    copies = rule.copies_of(int((draw["split"] == "training").sum()))
    return choose_head(replace(features, copies=min(copies, features.copies)), draw, rule, seed)


def fine_tune_draw(
    network: keras.Model,
    head: Head,
    features: FeatureSet,
    images: ImageSet,
    draw: pd.DataFrame,
    fine_tuning: FineTuning,
    pseudo_labels: PseudoLabels,
    augmentation: Augmentation,
    class_balance: float,
    precision: str,
    seed: int,
) -> SearchFit:
    """Fine-tune the source network from the head of one draw, with pseudo-labels where the head gained by them.

    Args:
        network: The source network, which is left as it is.
        head: See `head_of_draw`.
        features: What it was chosen on.
        images: The target's images.
        draw: The draw.
        fine_tuning: Strategies and schedule.
        pseudo_labels: How many, and how often they are drawn.
        augmentation: How training images are moved.
        class_balance: How evenly classes are drawn; see `images.split_examples`.
        precision: Keras dtype policy.
        seed: Of order and augmentation.
    """
    kernel, bias = (values.astype(np.float32) for values in (head.probe.kernel, head.probe.bias))
    migrated = add_linear_head(copy_network(network), head.taps, head.grid, kernel, bias)
    training = split_examples(images, draw, "training", class_balance)
    gained = head.probe.evidence.get("accepted", False) and pseudo_labels.share
    pool = build_pool(migrated, head.taps, head.grid, features, images, draw, pseudo_labels) if gained else None
    validation = split_examples(images, draw, "validation")
    phase = "learning curve, transfer"
    return fine_tune(migrated, training, validation, fine_tuning, augmentation, precision, seed, pool, phase=phase)


def digest_of_draw(draw: pd.DataFrame) -> str:
    """Digest of which image serves for what under which label and in which group, whatever the order of the rows."""
    table = draw[["id", "label", "split", "group"]].fillna("").sort_values("id").to_numpy(str)
    return hashlib.blake2b("\0".join(table.ravel()).encode(), digest_size=16).hexdigest()


def digest_of(**parts: Any) -> str:
    """Digest of what a result is made from: JSON-able values by name; 16 hexadecimal digits."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=8).hexdigest()


def _validation_images(labels: int, ratio: float) -> int:
    return max(1, round(labels * ratio))


def _pool(splits: pd.DataFrame) -> pd.DataFrame:
    """All images but the test's and those that share a group with them."""
    test = splits["split"] == "test"
    return splits[~test & ~splits["group"].isin(splits["group"][test])]
