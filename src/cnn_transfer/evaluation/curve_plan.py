"""Which points a learning curve has, and how each is measured.

The images that a point learns from and is tuned on are drawn anew from all whose label is known, but for the test
images, which are the run's own. They are read to measure a point, never to choose anything: depths, penalties, rates,
stops and the networks themselves are chosen on training and validation images of the point.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from cnn_transfer.evaluation.curve_points import SCRATCH, TRANSFER, PlannedPoint
from cnn_transfer.evaluation.predictions import as_predictions, predict
from cnn_transfer.images import Augmentation, ImageSet, UnusableSetError, class_names, split_examples
from cnn_transfer.models import UnusableNetworkError
from cnn_transfer.transfer import Baseline, FeatureSet, FineTuning, HeadRule, PseudoLabels, train_baseline
from cnn_transfer.transfer.label_draws import (
    digest_of,
    digest_of_draw,
    draw_labels,
    fine_tune_draw,
    head_of_draw,
    labels_that_exist,
    most_labels,
)

if TYPE_CHECKING:
    import keras

Place = tuple[int, int]  # labels a class, seed
Draws = dict[Place, pd.DataFrame]


@dataclass(frozen=True)
class Training:
    """How the networks behind the points are trained.

    Attributes:
        head: What the transferred head may read and learn from.
        fine_tuning: How the transfer goes on from the head; None: it does not, and the head is the transfer.
        pseudo_labels: How fine-tuning uses images without a label.
        baseline: The training from scratch.
        augmentation: Of every training by steps.
        class_balance: How evenly classes are drawn; see `images.split_examples`.
        precision: Keras dtype policy.
    """

    head: HeadRule
    fine_tuning: FineTuning | None
    pseudo_labels: PseudoLabels
    baseline: Baseline
    augmentation: Augmentation
    class_balance: float
    precision: str

    def describe(self, side: str) -> dict[str, Any]:
        """What the points of one side depend on, JSON-able."""
        steps = {
            "augmentation": self.augmentation.model_dump(mode="json"),
            "class_balance": self.class_balance,
            "precision": self.precision,
        }
        if side == SCRATCH:
            return {"baseline": self.baseline.model_dump(mode="json")} | steps
        head = {"head": self.head.model_dump(mode="json")}
        if self.fine_tuning is None:
            return head
        parts = {"fine_tuning": self.fine_tuning, "pseudo_labels": self.pseudo_labels}
        return head | steps | {name: part.model_dump(mode="json") for name, part in parts.items()}


def check_scratch_labels(splits: pd.DataFrame, labels: Sequence[int], validation_ratio: float) -> None:
    """Say before anything is measured that the labels are too few for a curve of training from scratch.

    Args:
        splits: The run's table of splits.
        labels: Wanted numbers of labels a class from scratch.
        validation_ratio: Validation images per training image.

    Raises:
        UnusableSetError: When fewer than two of these numbers are left where the labels end.
    """
    most = most_labels(splits, validation_ratio)
    if len(labels_that_exist(labels, most)) < 2:
        fewer = f"Begin below that, such as with {[most // 2, most]}. Or lower" if most > 1 else "Lower"
        raise UnusableSetError(
            "The worth of a transfer is read from the curve of training from scratch, which needs at least two numbers "
            f"of labels. Received: scratch_labels_per_class {list(labels)}, of which the labels allow {most} a class "
            f"beside the validation images. {fewer} validation_ratio, or add images with labels."
        )


def draws_of_curve(
    splits: pd.DataFrame,
    labels: Sequence[int],
    seeds: Sequence[int],
    validation_ratio: float,
    most_unlabelled: int | None = None,
) -> Draws:
    """The draws of labels of one side, by labels a class and seed; they end where the labels end.

    Args:
        splits: The run's table of splits.
        labels: Wanted numbers of labels a class.
        seeds: Of the draws.
        validation_ratio: Validation images per training image.
        most_unlabelled: At most so many images without a label in each.
    """
    numbers = labels_that_exist(labels, most_labels(splits, validation_ratio))
    return {
        (number, seed): draw_labels(splits, number, validation_ratio, seed, most_unlabelled)
        for seed in seeds
        for number in numbers
    }


def plan_points(
    source: keras.Model,
    migrated: keras.Model,
    images: ImageSet,
    features: FeatureSet,
    transfer_draws: Draws,
    scratch_draws: Draws,
    training: Training,
) -> list[PlannedPoint]:
    """The points, the cheap ones first, each with a digest of all that it is made from.

    Args:
        source: The network that is transferred.
        migrated: The target's network; only its architecture is used, by training from scratch.
        images: The target's images.
        features: Of the source network; see `transfer.label_draws.plan_curve_extraction`.
        transfer_draws: Draws of the transfer.
        scratch_draws: Draws of training from scratch.
        training: How the networks are trained.

    Raises:
        UnusableNetworkError: When training from scratch is to take the architecture of a network with another number of
            classes than the draws have.
    """
    outputs, classes = migrated.output_shape[-1], len(class_names(next(iter(scratch_draws.values()))))
    if training.baseline.architecture is None and outputs != classes:
        raise UnusableNetworkError(
            f"The target's network, whose architecture is trained from scratch, has {outputs} classes, the images have "
            f"{classes}: it was made with others. Make it anew, with the stages from preprocess to migrate_model."
        )
    points = []
    for side, draws in ((TRANSFER, transfer_draws), (SCRATCH, scratch_draws)):
        if side == TRANSFER:
            made_from = {"network": features.network_digest}
            measure = partial(_measure_transfer, source, images, features, training)
        else:
            made_from = {} if training.baseline.architecture else {"network": _architecture(migrated)}
            measure = partial(_measure_scratch, migrated, images, training)
        fixed = made_from | training.describe(side) | {"images": images.fingerprint}
        for (labels, seed), draw in draws.items():
            digest = digest_of(side=side, seed=seed, draw=digest_of_draw(draw), **fixed)
            points.append(PlannedPoint(side, labels, seed, digest, partial(measure, draw, seed)))
    return points


def _measure_transfer(
    source: keras.Model, images: ImageSet, features: FeatureSet, training: Training, draw: pd.DataFrame, seed: int
) -> pd.DataFrame:
    head = head_of_draw(features, draw, training.head, seed)
    used = images.used_in(draw)
    if training.fine_tuning is None:
        rows = used.rows(draw, "test")
        tested = features.of(used.table["id"].iloc[rows], head.taps, head.grid)
        return as_predictions(draw, "test", head.probe.probabilities(tested), used.class_names)
    result = fine_tune_draw(
        source,
        head,
        features,
        used,
        draw,
        training.fine_tuning,
        training.pseudo_labels,
        training.augmentation,
        training.class_balance,
        training.precision,
        seed,
    )
    return predict(result.fit.network, used, draw, "test")


def _measure_scratch(
    migrated: keras.Model, images: ImageSet, training: Training, draw: pd.DataFrame, seed: int
) -> pd.DataFrame:
    result = train_baseline(
        migrated,
        split_examples(images, draw, "training", training.class_balance),
        split_examples(images, draw, "validation"),
        training.baseline,
        training.augmentation,
        training.precision,
        seed,
    )
    return predict(result.fit.network, images, draw, "test")


def _architecture(network: keras.Model) -> str:
    """Digest of the layers, whatever their weights and seeds."""
    return digest_of(layers=re.sub(r'"seed": \d+', "", network.to_json()))
