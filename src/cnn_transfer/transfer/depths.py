"""Which depths of a network a head reads: decided by exact leave-one-out errors, and few when they do as well as many.

Two questions in turn. How deep must the network be kept: every cut is tried with all taps below it, and the lowest is
taken whose error is not worse than the best one's by more than a share of the standard error of their difference.
Then: which tap does harm; one after the other is left away while that improves the error clearly.

All taps have a linear kernel of their own, so that a candidate costs one inverse of images by images: with
C = (K + λ W⁻¹)⁻¹, projected so that the intercept is free, the error of image i left out is (C y)_i / C_ii, and of
images g that are left out together C_gg⁻¹ (C y)_g.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cnn_transfer.transfer.groups import mean_and_error, rows_left_out
from cnn_transfer.transfer.ridge import RELATIVE_PENALTIES, class_targets
from cnn_transfer.transfer.standardised import Standardised, chunks_of, gram, standardisation

MOST_IMAGES = 500
EQUAL_ERRORS = 0.5  # of a standard error of the paired difference: a lower cut is as good
CLEAR_ERRORS = 1.0  # by how much a removal must improve. Removing while it does no harm costs half a point or more


@dataclass(frozen=True)
class TapChoice:
    """The taps that are read, and why.

    Attributes:
        names: Of the chosen taps, from shallow to deep.
        columns: Bool (features,), which columns are theirs.
        images: How many the choice was made on.
        errors: (images,), mean squared error of each when it is left out, times its weight.
        least: The same of the best set that was tried, which may read more taps.
        groups: (images,) the number of each one's group; None: each by itself.
        evidence: One row a candidate set: `step` ("cut" or "remove"), `taps` (their names, joined by spaces), `n_taps`,
            `loss` (mean squared error of images left out, every class weighing the same), `difference` to the set it is
            compared with, `standard_error` of that difference, `accuracy` (of images left out), `chosen`: one True.
    """

    names: tuple[str, ...]
    columns: np.ndarray
    images: int
    errors: np.ndarray
    least: np.ndarray
    groups: np.ndarray | None
    evidence: pd.DataFrame


def choose_taps(
    features: np.ndarray,
    classes: np.ndarray,
    widths: Sequence[int],
    names: Sequence[str],
    copies: int = 1,
    seed: int = 0,
    groups: np.ndarray | None = None,
) -> TapChoice:
    """Choose the taps whose ridge is best out of sample, with a preference for few and shallow ones.

    Args:
        features: (n · copies, features); each image's copies follow it. Only the images themselves are looked at.
        classes: (n,) class index of each image.
        widths: Features of each tap; they add up to the number of features.
        names: Of the taps, from shallow to deep.
        copies: Rows an image.
        seed: Of the draw of images, when there are more than `MOST_IMAGES`.
        groups: (n,) a number for each group of images, left out together; None: each image by itself.
    """
    judge = _judge(features, classes, widths, copies, seed, groups)
    table = _Table(list(names))

    cuts = [np.arange(len(names)) < depth for depth in range(1, len(names) + 1)]
    tried = [judge.best(used) for used in cuts]
    best = min(tried, key=lambda errors: errors.loss)
    for used, errors in zip(cuts, tried, strict=True):
        table.add("cut", used, errors, best)
    used, errors = next(
        (used, errors) for used, errors in zip(cuts, tried, strict=True) if errors.not_worse(best, EQUAL_ERRORS)
    )
    least = best
    chosen = int(np.flatnonzero([used is cut for cut in cuts])[0])
    while used.sum() > 1:
        removals = [used & (np.arange(len(names)) != tap) for tap in np.flatnonzero(used)[::-1]]  # deep ones first
        fewer = max(removals, key=lambda removal: judge.at(removal, errors.penalty).gain(errors))
        after = judge.best(fewer)
        table.add("remove", fewer, after, errors)
        least = min(least, after, key=lambda errors: errors.loss)
        if after.gain(errors) < CLEAR_ERRORS and not after.same(errors):
            break
        used, errors, chosen = fewer, after, len(table.rows) - 1
    kept = tuple(name for name, is_used in zip(names, used, strict=True) if is_used)
    return TapChoice(
        names=kept,
        columns=np.repeat(used, widths),
        images=len(errors.squares),
        errors=errors.squares,
        least=least.squares,
        groups=errors.groups,
        evidence=table.frame(chosen),
    )


def score_taps(
    features: np.ndarray,
    classes: np.ndarray,
    widths: Sequence[int],
    names: Sequence[str],
    copies: int = 1,
    seed: int = 0,
    groups: np.ndarray | None = None,
) -> pd.DataFrame:
    """How good a head on each tap alone would be, of images left out.

    Args:
        features: As for `choose_taps`.
        classes: (n,) class index of each image.
        widths: Features of each tap.
        names: Of the taps.
        copies: Rows an image.
        seed: Of the draw of images.
        groups: As for `choose_taps`.

    Returns:
        One row a tap: `tap`, `loss` (mean squared error), `accuracy`, every class weighing the same.
    """
    judge = _judge(features, classes, widths, copies, seed, groups)
    alone = [judge.best(np.arange(len(names)) == tap) for tap in range(len(names))]
    return pd.DataFrame(
        {
            "tap": list(names),
            "loss": [errors.loss for errors in alone],
            "accuracy": [errors.accuracy for errors in alone],
        }
    )


def knn_accuracy(
    features: np.ndarray,
    classes: np.ndarray,
    widths: Sequence[int],
    copies: int = 1,
    neighbours: int = 5,
    seed: int = 0,
    groups: np.ndarray | None = None,
) -> float:
    """Accuracy of the nearest neighbours' vote, an image left out with its copies and its group: a second opinion.

    The features are standardised and every tap weighs the same, as in the head. Votes fall with the rank of a
    neighbour, so that ties are rare. Drawn to at most `MOST_IMAGES` images; every class weighs the same.

    Args:
        features: (n · copies, features); each image's copies follow it.
        classes: (n,) class index of each image.
        widths: Features of each tap.
        copies: Rows an image.
        neighbours: That vote; fewer where there are no more.
        seed: Of the draw.
        groups: As for `choose_taps`.
    """
    images = draw_images(classes, seed)
    own = classes[images]
    everything = features[(images[:, None] * copies + np.arange(copies)).ravel()]
    mean, scale = standardisation(everything, widths)
    rows = Standardised(everything, mean, scale)
    products = gram(Standardised(everything[::copies], mean, scale), rows)
    squares = np.concatenate([(rows[chunk] ** 2).sum(axis=1) for chunk in chunks_of(*rows.shape)])
    distances = squares - 2 * products  # the own length is the same for all neighbours
    group = np.arange(len(images)) if groups is None else groups[images]
    distances[group.repeat(copies) == group[:, None]] = np.inf
    voters = min(neighbours, (len(images) - 1) * copies)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :voters]
    votes = np.zeros((len(images), classes.max() + 1))
    for rank, column in enumerate(nearest.T):
        votes[np.arange(len(images)), own.repeat(copies)[column]] += (1 + 1e-3 * (voters - rank)) * np.isfinite(
            distances[np.arange(len(images)), column]
        )
    weights = 1 / np.bincount(own, minlength=votes.shape[1])[own]
    return float(np.average(votes.argmax(axis=1) == own, weights=weights))


def draw_images(classes: np.ndarray, seed: int) -> np.ndarray:
    """At most `MOST_IMAGES`, as many of each class as there are or as it takes; increasing indices."""
    place = pd.Series(np.random.default_rng(seed).permutation(len(classes))).groupby(classes).rank(method="first")
    return np.sort(np.argsort(place.to_numpy(), kind="stable")[:MOST_IMAGES])


@dataclass(frozen=True)
class _Errors:
    """Of images left out with one set of taps."""

    penalty: float
    squares: np.ndarray  # (n,), mean over the classes, times the weight of the image
    accuracy: float
    groups: np.ndarray | None  # (n,)

    @property
    def loss(self) -> float:
        return float(self.squares.mean())

    def difference(self, other: _Errors) -> tuple[float, float]:
        """Of the mean squared errors, and its standard error."""
        return mean_and_error(self.squares - other.squares, self.groups)

    def gain(self, before: _Errors) -> float:
        """Improvement over other errors, in standard errors of the difference."""
        mean, error = self.difference(before)
        return -mean / max(error, 1e-12)

    def same(self, other: _Errors) -> bool:
        return bool(np.isclose(self.loss, other.loss, rtol=1e-9, atol=0))

    def not_worse(self, best: _Errors, tolerance: float) -> bool:
        mean, error = self.difference(best)
        return mean <= tolerance * error or self.same(best)


class _Judge:
    """Leave-one-out errors of sets of taps; every class weighs the same."""

    def __init__(self, kernels: np.ndarray, classes: np.ndarray, groups: np.ndarray | None = None) -> None:
        counts = np.bincount(classes)
        self.together = rows_left_out(len(classes), groups=groups)
        self.kernels, self.classes, self.groups = kernels, classes, groups
        self.weights = len(classes) / ((counts > 0).sum() * counts[classes])
        self.targets = class_targets(classes, len(counts))

    def at(self, used: np.ndarray, penalty: float) -> _Errors:
        """With λ = `penalty`."""
        inverse = np.linalg.inv(self.kernels[used].mean(axis=0) + np.diag(penalty / self.weights))
        blocks = [inverse[rows[:, :, None], rows[:, None, :]] for rows in self.together]
        return self._errors(penalty, inverse.sum(axis=1), inverse @ self.targets, blocks)

    def best(self, used: np.ndarray) -> _Errors:
        """With the best λ; kernels have a mean diagonal of 1, so that λ is relative to the mean eigenvalue.

        One decomposition for all: (K + λ W⁻¹)⁻¹ = √W V diag(1 / (s + λ)) Vᵀ √W, with V diag(s) Vᵀ = √W K √W.
        """
        root = np.sqrt(self.weights)
        values, vectors = np.linalg.eigh(root[:, None] * self.kernels[used].mean(axis=0) * root)
        vectors *= root[:, None]
        ones, targets = vectors.sum(axis=0), vectors.T @ self.targets
        tried = []
        for penalty in RELATIVE_PENALTIES[4:-3:2]:
            scaled = vectors / (values + penalty)
            blocks = [_blocks(scaled, vectors, rows) for rows in self.together]
            tried.append(self._errors(penalty, scaled @ ones, scaled @ targets, blocks))
        return min(tried, key=lambda errors: errors.loss)

    def _errors(self, penalty: float, sums: np.ndarray, solved: np.ndarray, blocks: Sequence[np.ndarray]) -> _Errors:
        """From H 1, H Y and the blocks H_gg of H = (K + λ W⁻¹)⁻¹; the intercept is free."""
        errors = solved - np.outer(sums, sums @ self.targets) / sums.sum()
        for rows, block in zip(self.together, blocks, strict=True):
            own = sums[rows]
            errors[rows] = np.linalg.solve(block - own[:, :, None] * own[:, None, :] / sums.sum(), errors[rows])
        hits = (self.targets - errors).argmax(axis=1) == self.classes
        accuracy = float(np.average(hits, weights=self.weights))
        return _Errors(penalty, self.weights * (errors**2).mean(axis=1), accuracy, self.groups)


def _blocks(left: np.ndarray, right: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Of left @ rightᵀ, what lies between the rows of one unit: (units, size, size)."""
    if rows.shape[1] == 1:
        return np.asarray(np.einsum("ir,ir->i", left[rows[:, 0]], right[rows[:, 0]])[:, None, None])
    return np.asarray(left[rows] @ right[rows].transpose(0, 2, 1))


def _judge(
    features: np.ndarray,
    classes: np.ndarray,
    widths: Sequence[int],
    copies: int,
    seed: int,
    groups: np.ndarray | None,
) -> _Judge:
    """From the images themselves, at most `MOST_IMAGES`."""
    images = draw_images(classes, seed)
    ends = np.cumsum(widths)
    rows = features[images * copies]
    mean, scale = standardisation(rows, widths)
    kernels = [
        gram(Standardised(rows[:, start:end], mean[start:end], scale[start:end]))
        for start, end in zip(ends - widths, ends, strict=True)
    ]
    return _Judge(np.stack(kernels), classes[images], None if groups is None else groups[images])


class _Table:
    def __init__(self, names: list[str]) -> None:
        self.names, self.rows = names, list[dict[str, object]]()

    def add(self, step: str, used: np.ndarray, errors: _Errors, against: _Errors) -> None:
        difference, standard_error = errors.difference(against)
        self.rows.append(
            {
                "step": step,
                "taps": " ".join(name for name, is_used in zip(self.names, used, strict=True) if is_used),
                "n_taps": int(used.sum()),
                "loss": errors.loss,
                "difference": difference,
                "standard_error": standard_error,
                "accuracy": errors.accuracy,
            }
        )

    def frame(self, chosen: int) -> pd.DataFrame:
        return pd.DataFrame(self.rows).assign(chosen=np.arange(len(self.rows)) == chosen)
