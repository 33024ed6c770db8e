"""Images without a label, labelled by a network that has learnt from the others (Lee 2013; noisy student, 1911.04252).

Of each predicted class the most confident share is kept, so that classes which are easy do not crowd out the others
(arXiv 2110.08263 and 2001.06001 choose by class and by rank for that reason), and images of no known class stay out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy
from pydantic import Field

from cnn_transfer.images import Examples, ImageSet, image_batches
from cnn_transfer.models import head_layers, predict_batches
from cnn_transfer.parameters import Parameters
from cnn_transfer.transfer.features import FeatureSet
from cnn_transfer.transfer.head import pool_of

if TYPE_CHECKING:
    import keras


class PseudoLabels(Parameters):
    """How fine-tuning uses images without a label."""

    share: float = Field(ge=0, lt=1)  # of the images drawn; 0: none
    kept: float = Field(gt=0, le=1)  # of the images predicted as each class: the most confident


@dataclass(frozen=True)
class Pool:
    """Images without a label that fine-tuning learns from.

    Attributes:
        rows: (n,) row numbers in the set of the labelled images, at least one.
        predicted: (n, classes) probabilities by the head in closed form.
        rule: How they are used.
    """

    rows: np.ndarray
    predicted: np.ndarray
    rule: PseudoLabels

    def added_to(self, labelled: Examples, network: keras.Model | None = None) -> Examples:
        """The labelled images, and these as a network labels them; None: as the head does."""
        predicted = self.predicted
        if network is not None:
            predicted = predict_batches(network, image_batches(labelled.images, self.rows))
        chosen = most_confident(predicted, self.rule.kept)
        targets = np.eye(predicted.shape[1], dtype=np.float32)[predicted.argmax(axis=1)]
        unlabelled = Examples(labelled.images, self.rows[chosen], targets[chosen], np.ones(int(chosen.sum())))
        return labelled.joined(unlabelled, self.rule.share)


def build_pool(
    network: keras.Model,
    taps: Sequence[str],
    grid: int,
    features: FeatureSet,
    images: ImageSet,
    splits: pd.DataFrame,
    rule: PseudoLabels,
) -> Pool:
    """The unlabelled images that a head has learnt from, with what it says of them, from the same features.

    Args:
        network: A network with a head in closed form.
        taps: What the head reads.
        grid: Cells a side.
        features: What the head was fitted on.
        images: The target's images.
        splits: Table of splits.
        rule: How they are used.
    """
    ids = pool_of(features, splits)
    kernel, bias = head_layers(network)[-1].get_weights()
    predicted = scipy.special.softmax(features.of(ids, taps, grid) @ kernel + bias, axis=1)
    return Pool(images.rows_of(ids), np.asarray(predicted), rule)


def most_confident(probabilities: np.ndarray, kept: float) -> np.ndarray:
    """Bool (n,): the most confident share of each predicted class, at least one image of it.

    Args:
        probabilities: (n, classes).
        kept: The share, 0-1.
    """
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    chosen = np.zeros(len(probabilities), bool)
    for index in np.unique(predicted):
        own = np.flatnonzero(predicted == index)
        chosen[own[np.argsort(-confidence[own], kind="stable")[: max(1, round(kept * len(own)))]]] = True
    return chosen
