"""Which depths of a network a head reads: decided by exact leave-one-out errors, and few when they do as well as many.

Three questions in turn. How much more do deep taps weigh than shallow ones: digits are told apart by strokes, which
all depths see, photographs of things by what only the deepest know. Taps weigh exp(s · depth), depth from 0 to 1, and
the s nearest to what is expected is taken whose error is within a standard error of the best one's (the
one-standard-error rule: Breiman et al. 1984, section 3.4.3): twenty photographs cannot tell. Do the deepest taps do
harm: every cut is tried with all taps below it. Then: which tap does; one after the other is left away. Both only where
that improves the error clearly, or changes nothing at all: of a few dozen images, what looks a little better with fewer
taps is chance.

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
from cnn_transfer.transfer.ridge import RELATIVE_PENALTIES, class_targets, class_weights
from cnn_transfer.transfer.standardised import Rows, Standardised, chunks_of, gram, multiply, standardisation

MOST_IMAGES = 500
ENOUGH_A_CLASS = 20  # images: with few of each of many classes, depths are chosen for another task than the head's
STEEPNESSES = (0.0, 3.0, 6.0, 12.0, 24.0)  # how much more deep taps may weigh; at 24 hardly any but the deepest
LEAST_WEIGHT = 0.05  # of the deepest tap's: those that weigh less are not read
EQUAL_WEIGHTS = 1.0  # of a standard error of the paired difference: weights that are more alike are as good
CLEAR_CUT = 2.0  # likewise: by how much a cut must improve; the best of a dozen often does by one error, by chance
EQUAL_CUTS = 0.5  # likewise: where a cut helps, a lower one is as good
CLEAR_REMOVAL = 1.0  # likewise: by how much a removal must improve


@dataclass(frozen=True)
class TapChoice:
    """The taps that are read, and why.

    Attributes:
        names: Of the chosen taps, from shallow to deep.
        weights: (names,) of each in the head, mean 1; see `standardisation`.
        columns: Bool (features,), which columns are theirs.
        images: How many the choice was made on.
        errors: (images,), mean squared error of each when it is left out, times its weight.
        least: The same of the best set that was tried, which may read more taps.
        groups: (images,) the number of each one's group; None: each by itself.
        evidence: One row a candidate set: `step` ("weigh", "cut" or "remove"), `taps` (their names, joined by spaces),
            `n_taps`, `deepest` (share of the weight that its deepest tap has), `loss` (mean squared error of images
            left out, times their weights; see `class_weights`), `difference` to the set it is compared with,
            `standard_error` of that difference, `accuracy` (of images left out), `chosen`: one True.
    """

    names: tuple[str, ...]
    weights: np.ndarray
    columns: np.ndarray
    images: int
    errors: np.ndarray
    least: np.ndarray
    groups: np.ndarray | None
    evidence: pd.DataFrame


def choose_taps(
    features: Rows,
    classes: np.ndarray,
    widths: Sequence[int],
    names: Sequence[str],
    copies: int = 1,
    seed: int = 0,
    groups: np.ndarray | None = None,
    steepness: float = 0.0,
) -> TapChoice:
    """Choose the taps whose ridge is best out of sample: weighing as expected unless others are clearly better.

    Args:
        features: (n · copies, features); each image's copies follow it. Only the images themselves are looked at.
        classes: (n,) class index of each image.
        widths: Features of each tap; they add up to the number of features.
        names: Of the taps, from shallow to deep.
        copies: Rows an image.
        seed: Of the draw of images, when there are more than `MOST_IMAGES`.
        groups: (n,) a number for each group of images, left out together; None: each image by itself.
        steepness: How much more deep taps are expected to weigh, 0 or more: 0 is all alike.
    """
    judge = _judge(features, classes, widths, copies, seed, groups)
    table, depths = _Table(list(names)), np.arange(len(names))

    steepnesses = sorted({steepness, *STEEPNESSES}, key=lambda tried: (abs(tried - steepness), tried))
    weighings = [_weights(tried, len(names)) for tried in (steepnesses if len(names) > 1 else (0.0,))]
    tried = table.try_all("weigh", judge, weighings)
    least = min(tried, key=lambda errors: errors.loss)
    weights = weighings[_first_as_good(tried, least, EQUAL_WEIGHTS)]

    cuts = [np.where(depths <= depth, weights, 0.0) for depth in np.flatnonzero(weights)]
    tried = table.try_all("cut", judge, cuts)
    best, whole = min(tried, key=lambda errors: errors.loss), tried[-1]
    least = min(least, best, key=lambda errors: errors.loss)
    helps = best.gain(whole) >= CLEAR_CUT
    cut = _first_as_good(tried, best if helps else whole, EQUAL_CUTS if helps else None)
    used, errors, chosen = cuts[cut], tried[cut], len(weighings) + cut

    while np.count_nonzero(used) > 1:
        removals = [np.where(depths == tap, 0.0, used) for tap in np.flatnonzero(used)[::-1]]  # deep ones first
        fewer = max(removals, key=lambda removal: judge.at(removal, errors.penalty).gain(errors))
        after = judge.best(fewer)
        table.add("remove", fewer, after, errors)
        least = min(least, after, key=lambda errors: errors.loss)
        if after.gain(errors) < CLEAR_REMOVAL and not after.same(errors):
            break
        used, errors, chosen = fewer, after, len(table.rows) - 1
    kept = used > 0
    return TapChoice(
        names=tuple(name for name, is_kept in zip(names, kept, strict=True) if is_kept),
        weights=used[kept] / used[kept].mean(),
        columns=np.repeat(kept, widths),
        images=len(errors.squares),
        errors=errors.squares,
        least=least.squares,
        groups=errors.groups,
        evidence=table.frame(chosen),
    )


def _weights(steepness: float, taps: int) -> np.ndarray:
    """Of taps from shallow to deep, (taps,); 0 for those that would hardly count."""
    weights = np.exp(steepness * (np.linspace(0, 1, taps) - 1))
    return np.where(weights >= LEAST_WEIGHT, weights, 0.0)


def _first_as_good(tried: Sequence[_Errors], best: _Errors, tolerance: float | None) -> int:
    """Index of the first that is not worse than the best by more than so many standard errors; None: that is the same.

    Standard errors are of the paired difference.
    """
    as_good = (errors.same(best) or (tolerance is not None and errors.gain(best) >= -tolerance) for errors in tried)
    return list(as_good).index(True)


def score_taps(
    features: Rows,
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
        One row a tap: `tap`, `loss` (mean squared error times the weights; see `class_weights`), `accuracy`.
    """
    judge = _judge(features, classes, widths, copies, seed, groups)
    alone = [judge.best(weights) for weights in np.eye(len(names))]
    return pd.DataFrame(
        {
            "tap": list(names),
            "loss": [errors.loss for errors in alone],
            "accuracy": [errors.accuracy for errors in alone],
        }
    )


def knn_accuracy(
    features: Rows,
    classes: np.ndarray,
    widths: Sequence[int],
    copies: int = 1,
    neighbours: int = 5,
    groups: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    judged: np.ndarray | None = None,
) -> float:
    """Accuracy of the nearest neighbours' vote, an image left out with its copies and its group: a second opinion.

    The features are standardised and the taps weighted, as in the head. Votes fall with the rank of a neighbour, so
    that ties are rare.

    Args:
        features: (n · copies, features); each image's copies follow it.
        classes: (n,) class index of each image.
        widths: Features of each tap.
        copies: Rows an image.
        neighbours: That vote; fewer where there are no more.
        groups: As for `choose_taps`.
        weights: Of the taps; None: all the same.
        judged: Indices of the images that are classified; all images vote. None: all of them.
    """
    judged = np.arange(len(classes)) if judged is None else judged
    rows = Standardised(features, *standardisation(features, widths, weights))
    products = multiply(rows, rows[judged * copies].T).T
    squares = np.concatenate([(rows[chunk] ** 2).sum(axis=1) for chunk in chunks_of(*rows.shape)])
    distances = squares - 2 * products  # the own length is the same for all neighbours
    group = np.arange(len(classes)) if groups is None else groups
    distances[group.repeat(copies) == group[judged, None]] = np.inf
    voters = min(neighbours, (len(classes) - 1) * copies)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :voters]
    places, votes = np.arange(len(judged)), np.zeros((len(judged), classes.max() + 1))
    for rank, column in enumerate(nearest.T):
        votes[places, classes.repeat(copies)[column]] += (1 + 1e-3 * (voters - rank)) * np.isfinite(
            distances[places, column]
        )
    return float((votes.argmax(axis=1) == classes[judged]).mean())


def draw_images(classes: np.ndarray, seed: int) -> np.ndarray:
    """At most `MOST_IMAGES`, as many of each class as there are or as it takes; increasing indices.

    Where classes are so many that they would have less than `ENOUGH_A_CLASS` images each, a draw of classes: on 242
    characters with 5 or 12 images each (Omniglot: Lake et al. 2015), two images of each are a worse guide.
    """
    rng = np.random.default_rng(seed)
    place = pd.Series(rng.permutation(len(classes))).groupby(classes).rank(method="first")
    counts = np.bincount(classes)
    order = rng.permutation(np.flatnonzero(counts))
    enough = np.searchsorted(np.cumsum(np.minimum(counts[order], ENOUGH_A_CLASS)), MOST_IMAGES)
    others = np.isin(classes, order[max(2, enough + 1) :])
    drawn = np.argsort(place.mask(others, np.inf).to_numpy(), kind="stable")
    return np.sort(drawn[: min(MOST_IMAGES, np.count_nonzero(~others))])


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


class _Judge:
    """Leave-one-out errors of weights of the taps, 0 for one that is not read."""

    def __init__(self, kernels: np.ndarray, classes: np.ndarray, groups: np.ndarray | None = None) -> None:
        self.together = rows_left_out(len(classes), groups=groups)
        self.kernels, self.classes, self.groups = kernels, classes, groups
        self.weights = class_weights(classes)
        self.targets = class_targets(classes, classes.max() + 1)

    def at(self, weights: np.ndarray, penalty: float) -> _Errors:
        """With λ = `penalty`."""
        inverse = np.linalg.inv(self._kernel(weights) + np.diag(penalty / self.weights))
        blocks = [inverse[rows[:, :, None], rows[:, None, :]] for rows in self.together]
        return self._errors(penalty, inverse.sum(axis=1), inverse @ self.targets, blocks)

    def best(self, weights: np.ndarray) -> _Errors:
        """With the best λ; kernels have a mean diagonal of 1, so that λ is relative to the mean eigenvalue.

        One decomposition for all: (K + λ W⁻¹)⁻¹ = √W V diag(1 / (s + λ)) Vᵀ √W, with V diag(s) Vᵀ = √W K √W.
        """
        root = np.sqrt(self.weights)
        values, vectors = np.linalg.eigh(root[:, None] * self._kernel(weights) * root)
        vectors *= root[:, None]
        ones, targets = vectors.sum(axis=0), vectors.T @ self.targets
        tried = []
        for penalty in RELATIVE_PENALTIES[4:-3:2]:
            scaled = vectors / (values + penalty)
            blocks = [_blocks(scaled, vectors, rows) for rows in self.together]
            tried.append(self._errors(penalty, scaled @ ones, scaled @ targets, blocks))
        return min(tried, key=lambda errors: errors.loss)

    def _kernel(self, weights: np.ndarray) -> np.ndarray:
        used = weights > 0
        return np.average(self.kernels[used], axis=0, weights=weights[used])

    def _errors(self, penalty: float, sums: np.ndarray, solved: np.ndarray, blocks: Sequence[np.ndarray]) -> _Errors:
        """From H 1, H Y and the blocks H_gg of H = (K + λ W⁻¹)⁻¹; the intercept is free."""
        errors = solved - np.outer(sums, sums @ self.targets) / sums.sum()
        for rows, block in zip(self.together, blocks, strict=True):
            own = sums[rows]
            errors[rows] = np.linalg.solve(block - own[:, :, None] * own[:, None, :] / sums.sum(), errors[rows])
        accuracy = float(((self.targets - errors).argmax(axis=1) == self.classes).mean())
        return _Errors(penalty, self.weights * (errors**2).mean(axis=1), accuracy, self.groups)


def _blocks(left: np.ndarray, right: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Of left @ rightᵀ, what lies between the rows of one unit: (units, size, size)."""
    if rows.shape[1] == 1:
        return np.asarray(np.einsum("ir,ir->i", left[rows[:, 0]], right[rows[:, 0]])[:, None, None])
    return np.asarray(left[rows] @ right[rows].transpose(0, 2, 1))


def _judge(
    features: Rows,
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

    def try_all(self, step: str, judge: _Judge, candidates: Sequence[np.ndarray]) -> list[_Errors]:
        """Errors of each, compared with the best of them."""
        tried = [judge.best(weights) for weights in candidates]
        best = min(tried, key=lambda errors: errors.loss)
        for weights, errors in zip(candidates, tried, strict=True):
            self.add(step, weights, errors, best)
        return tried

    def add(self, step: str, weights: np.ndarray, errors: _Errors, against: _Errors) -> None:
        difference, standard_error = errors.difference(against)
        used = weights > 0
        self.rows.append(
            {
                "step": step,
                "taps": " ".join(name for name, is_used in zip(self.names, used, strict=True) if is_used),
                "n_taps": int(used.sum()),
                "deepest": float(weights[used][-1] / weights.sum()),
                "loss": errors.loss,
                "difference": difference,
                "standard_error": standard_error,
                "accuracy": errors.accuracy,
            }
        )

    def frame(self, chosen: int) -> pd.DataFrame:
        return pd.DataFrame(self.rows).assign(chosen=np.arange(len(self.rows)) == chosen)
