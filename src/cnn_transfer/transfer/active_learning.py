"""Which images to label next (active learning): those whose labels would tell most about all the others.

A ridge on features is the mean of a Gaussian process, whose variance at an image with features x depends on which
images have a label, not on which label they have:

    v(x) = λ xᵀ Σ x,      Σ = (Xᵀ X + λ I)⁻¹,      X the features of the labelled images

A label for x lowers the variance of another image z by λ (zᵀ Σ x)² / (1 + xᵀ Σ x). Taken is, one after the other, the
image that lowers Σ_z doubt(z) v(z) most, times the chance that it can be given a label: transductive experimental
design (Yu, Bi and Tresp 2006), in which what the network is sure of counts for little. An image that is unlike
everything tells nothing about others, one that is like a labelled one tells nothing new, and of images alike one is
enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from cnn_transfer.transfer.probe import principal_components
from cnn_transfer.transfer.ridge import class_targets, class_weights, fit_ridge
from cnn_transfer.transfer.standardised import Rows, Standardised, multiply, standardisation

MOST_BINS = 50  # of percentiles


@dataclass(frozen=True)
class Coordinates:
    """Where images lie along the directions in which labelled and unlabelled ones differ most.

    Attributes:
        mean: (features,) of the labelled images.
        scale: (features,), see `standardisation`.
        directions: (features, d), orthonormal.
    """

    mean: np.ndarray
    scale: np.ndarray
    directions: np.ndarray

    @classmethod
    def of_images(cls, labelled: Rows, unlabelled: Rows, widths: Sequence[int]) -> Coordinates:
        """Find them.

        Args:
            labelled: (n, features).
            unlabelled: (m, features), some of them at least.
            widths: Features of each depth; they add up to the number of features.
        """
        mean, scale = standardisation(labelled, widths)
        directions = principal_components(*(Standardised(rows, mean, scale) for rows in (labelled, unlabelled)))
        return cls(mean, scale, directions)

    def of(self, features: Rows) -> np.ndarray:
        """Of (n, features), (n, d)."""
        return multiply(Standardised(features, self.mean, self.scale), self.directions)


def penalty_of(labelled: np.ndarray, classes: np.ndarray) -> float:
    """λ of the ridge that classifies labelled images best when each is left out.

    Args:
        labelled: (n, d) coordinates.
        classes: (n,) class index of each, every class present.
    """
    return fit_ridge(labelled, class_targets(classes, classes.max() + 1), class_weights(classes)).penalty


def most_informative(
    labelled: np.ndarray,
    unlabelled: np.ndarray,
    doubt: np.ndarray,
    penalty: float,
    number: int,
    chance: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Choose images to be labelled, the most informative first, at most one of each group.

    Args:
        labelled: (n, d) coordinates; n may be 0.
        unlabelled: (m, d) likewise.
        doubt: (m,) how much the variance of each counts, at least 0.
        penalty: λ, above 0.
        number: How many; all groups where there are fewer.
        chance: (m,) that it can be given a label, 0-1; None: 1.
        groups: (m,) of each unlabelled image; None: each stands alone.

    Returns:
        Their positions among the unlabelled images.
    """
    unlabelled, labelled = np.asarray(unlabelled, np.float64), np.asarray(labelled, np.float64)
    size = unlabelled.shape[1]
    groups = np.arange(len(unlabelled)) if groups is None else groups
    chance = np.ones(len(unlabelled)) if chance is None else np.asarray(chance)
    number = min(number, len(np.unique(groups)))
    spread = unlabelled.T @ (np.asarray(doubt)[:, None] * unlabelled)
    inverse = np.linalg.inv(labelled.T @ labelled + penalty * np.eye(size))
    towards = unlabelled @ inverse  # (m, d): Σ x of each
    variance = np.einsum("md,md->m", towards, unlabelled)
    reach = np.einsum("md,md->m", towards @ spread, towards)
    free = np.ones(len(unlabelled), bool)
    chosen = np.empty(number, int)
    for place in range(number):
        chosen[place] = taken = int(np.where(free, chance * reach / (1 + variance), -np.inf).argmax())
        free &= groups != groups[taken]
        # Σ becomes Σ - s sᵀ, and what is made of it follows in one pass over the images.
        step = towards[taken] / np.sqrt(1 + variance[taken])
        along, moved = unlabelled @ step, spread @ step
        reach += along**2 * (step @ moved) - 2 * along * (towards @ moved)
        towards -= along[:, None] * step
        variance -= along**2
    return chosen


def chance_to_belong(percentiles: np.ndarray, compared: int) -> np.ndarray:
    """How likely each image is like those of the training, by how strange all are: a local false discovery rate.

    Percentiles of such images are spread evenly over 0-1; others crowd at the upper end. The density of all is
    estimated as one that never falls (Grenander 1956), its part of images that belong by the lower half (Storey 2002),
    and the chance is their quotient (Efron et al. 2001).

    Args:
        percentiles: (m,) share of held-out images that are less strange, 0-1.
        compared: Number of these.

    Returns:
        (m,) 0-1; 1 where no more are strange than expected.
    """
    bins = min(MOST_BINS, compared + 1)
    if bins < 2 or not len(percentiles):
        return np.ones(len(percentiles))
    own = np.minimum((np.asarray(percentiles) * bins).astype(int), bins - 1)
    density = scipy.optimize.isotonic_regression(np.bincount(own, minlength=bins) * bins / len(own)).x
    belongs = min(1.0, 2 * float((own < bins / 2).mean()))
    return np.asarray(np.minimum(1.0, belongs / np.maximum(density[own], 1e-12)))
