"""Images without a label, labelled by a network that has learnt from the others (Lee 2013; noisy student, 1911.04252).

Of each predicted class the most confident share is kept, so that classes which are easy do not crowd out the others
(arXiv 2110.08263 and 2001.06001 choose by class and by rank for that reason), and images of no known class stay out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from cnn_transfer.images import Examples, image_batches
from cnn_transfer.models import predict_batches
from cnn_transfer.parameters import Parameters

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
        rows: Row numbers in the set of the labelled images, at least one.
        rule: How they are used.
    """

    rows: np.ndarray
    rule: PseudoLabels

    def added_to(self, labelled: Examples, network: keras.Model) -> Examples:
        """The labelled images, and these as the network labels them."""
        return labelled.joined(pseudo_label(network, labelled, self.rows, self.rule.kept), self.rule.share)


def pseudo_label(network: keras.Model, labelled: Examples, rows: np.ndarray, kept: float) -> Examples:
    """Label images by what a network predicts.

    Args:
        network: The network.
        labelled: Images with labels, of the same set.
        rows: Row numbers of the images without, at least one.
        kept: Share of each predicted class that is kept, 0-1.

    Returns:
        The kept images with a hard label each.
    """
    probabilities = predict_batches(network, image_batches(labelled.images, rows))
    chosen = most_confident(probabilities, kept)
    targets = np.eye(probabilities.shape[1], dtype=np.float32)[probabilities.argmax(axis=1)]
    return Examples(labelled.images, rows[chosen], targets[chosen], np.ones(int(chosen.sum())))


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
