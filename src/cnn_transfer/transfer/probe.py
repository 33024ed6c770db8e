"""The closed-form head: a ridge on the features of several depths, and self-training on images without a label.

Features are standardised on the labelled images, and the taps scaled to the total variance that their weights say, so
that none outweighs the others by its width. The result is a linear map from raw features to logits: an ordinary dense
layer. Nothing is trained by steps, and the accuracy out of sample comes with the fit.

The head on labelled images is exact up to `MOST_EXACT` images or features; with more of both, it is the same ridge in
the principal components of `MANY_COMPONENTS` of the images (the Nyström method: Williams and Seeger 2001). On 12,000
Fashion images and 24,704 features that takes a quarter of the time, and .932 instead of .933 of 3,000 others are right
(`benchmarks/probe_speed.py`). Self-training solves a ridge some 100 times and works in fewer components of labelled and
unlabelled images, which on 50 to 200 labelled and 1,000 unlabelled images lost nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy
from threadpoolctl import threadpool_limits

from cnn_transfer.transfer.groups import mean_and_error
from cnn_transfer.transfer.ridge import Ridge, class_targets, class_weights, fit_ridge, fit_ridge_at
from cnn_transfer.transfer.standardised import (
    Features,
    Rows,
    Standardised,
    chunks_of,
    gram,
    multiply,
    rounding,
    standardisation,
)

MOST_EXACT = 6000  # equations: time grows with the cube of their number, memory with the square
MANY_COMPONENTS = 4096
ROUNDS = 5  # ten and twenty give the same
UNLABELLED_WEIGHT = 0.2  # of a sure image, beside 1 of a labelled one; .05 to 2 are within a point
REPEATS = 3  # of the folds that self-training is judged by
MOST_JUDGED = 2000  # unlabelled images in the folds; all of them in the head
COMPONENTS = 512
JUDGED_COMPONENTS = 256  # of them, the largest, in the folds, which have fewer images: there all of them see less gain
BASIS_ROWS = 512  # of the labelled and as many of the unlabelled images; the components are theirs

ClassShares = Literal["labelled", "estimated", "free"]


@dataclass(frozen=True)
class Probe:
    """A linear classifier on raw features.

    Attributes:
        kernel: (features, classes); with `bias` it gives logits, whose softmax is calibrated on left-out images, their
            mix of classes included.
        bias: (classes,).
        left_out: Probabilities of each labelled image when it is left out, (images, classes), without the unlabelled
            images.
        out_of_sample: The same of this very head: where self-training was accepted, of folds that are left out, which
            learn from the unlabelled images, too.
        unlabelled: Probabilities of each unlabelled image that the head has learnt from, (m, classes), when it is left
            out with its group: its own soft label is not among what says what it is. (0, classes) where it has learnt
            from none.
        penalty: Of the ridge.
        path: One row a penalty: `penalty`, `error`, `accuracy`, out of sample.
        evidence: Self-training: `unlabelled`, `folds`, `accuracy`, `accuracy_before`, `loss`, `loss_before`, `gain` (of
            the loss), `gain_error`, `factor` (of the temperature), `accepted`; empty without unlabelled images.
    """

    kernel: np.ndarray
    bias: np.ndarray
    left_out: np.ndarray
    out_of_sample: np.ndarray
    unlabelled: np.ndarray
    penalty: float
    path: pd.DataFrame
    evidence: dict[str, Any]

    def probabilities(self, features: Rows) -> np.ndarray:
        """Of (n, features), (n, classes)."""
        return np.asarray(scipy.special.softmax(features @ self.kernel + self.bias, axis=1))


def fit_probe(
    features: Rows,
    classes: np.ndarray,
    widths: Sequence[int],
    unlabelled: Rows | None = None,
    copies: int = 1,
    class_shares: ClassShares = "estimated",
    folds: int = 5,
    seed: int = 0,
    groups: np.ndarray | None = None,
    tap_weights: np.ndarray | None = None,
    unlabelled_groups: np.ndarray | None = None,
) -> Probe:
    """Fit a head in closed form; use unlabelled images if labelled ones that are left out gain by it.

    Args:
        features: (n · copies, features) of labelled images; each image's copies follow it.
        classes: (n,) class index of each image, every class present.
        widths: Features of each tap; they add up to the number of features.
        unlabelled: (m, features) of images without a label.
        copies: Rows an image.
        class_shares: Of the unlabelled images: as among the labelled ones, estimated, or free to become anything.
        folds: Of the labelled images, to judge self-training by.
        seed: Of the folds.
        groups: (n,) a number for each group of labelled images, left out together; None: each image by itself.
        tap_weights: (taps,) mean 1; None: all the same.
        unlabelled_groups: (m,) the same numbers of the unlabelled images, some of which may be of a group of labelled
            ones; None: each image by itself.

    Raises:
        ValueError: When fewer than two classes, or a class without an image, are given.
    """
    counts = np.bincount(classes)
    if len(counts) < 2 or not counts.all():
        raise ValueError(
            f"classes must have at least two indices from 0 on, each with an image. Received: counts {counts.tolist()}."
        )
    mean, scale = standardisation(features, widths, tap_weights)
    rows = Standardised(features, mean, scale)
    weights = class_weights(classes)
    targets = class_targets(classes, len(counts)).repeat(copies, axis=0)
    if min(rows.shape) > MOST_EXACT:
        directions = _directions(rows[_evenly(len(rows), MANY_COMPONENTS)], MANY_COMPONENTS)
        fit = fit_ridge(multiply(rows, directions), targets, weights.repeat(copies), copies, groups=groups)
        fit = replace(fit, kernel=directions @ fit.kernel)
    else:
        fit = fit_ridge(rows, targets, weights.repeat(copies), copies, groups=groups)
    temperature, shift = calibrate_to_mix(fit.left_out, classes)
    left_out = out_of_sample = np.asarray(scipy.special.softmax(temperature * fit.left_out + shift, axis=1))
    without_own = np.empty((0, len(counts)))
    evidence: dict[str, Any] = {}
    kernel, intercept = fit.kernel, fit.intercept
    if unlabelled is not None and len(unlabelled):
        pool = Standardised(unlabelled, mean, scale)
        components = principal_components(rows, pool)
        course = _Course(multiply(pool, components), fit.penalty, temperature, shift, counts, copies, class_shares)
        course = replace(course, doubt=_doubt(fit.left_out, classes, course))
        near = multiply(rows, components)
        few = replace(course, pool=course.pool[_evenly(len(pool), MOST_JUDGED), -JUDGED_COMPONENTS:])
        with threadpool_limits(1, user_api="blas"):  # some hundred small systems, see `choose_head`
            evidence, judged, judged_shift = _weigh(
                near[:, -JUDGED_COMPONENTS:], classes, weights, few, folds, seed, groups
            )
        evidence["unlabelled"] = len(pool)
        if evidence["accepted"]:
            chosen, labels, trusted = self_train(near, classes, weights, course)
            factor = spread(multiply(pool, kernel)) / max(spread(chosen.scores(course.pool)), 1e-12)
            temperature *= factor * evidence["factor"]  # soft labels shrink the scores, and are surer of them
            kernel, intercept = components @ chosen.kernel, chosen.intercept
            out_of_sample, shift = judged, judged_shift
            everything = np.concatenate([near, course.pool])
            units = _groups_of_rows(len(classes), copies, groups, len(pool), unlabelled_groups)
            again = fit_ridge(everything, labels, trusted, penalties=np.array([chosen.penalty]), groups=units)
            without_own = scipy.special.softmax(temperature * again.left_out[len(near) :] + shift, axis=1)
    kernel = kernel * scale[:, None]
    return Probe(
        kernel=temperature * kernel,
        bias=temperature * (intercept - mean @ kernel) + shift,
        left_out=left_out,
        out_of_sample=out_of_sample,
        unlabelled=without_own,
        penalty=fit.penalty,
        path=fit.path,
        evidence=evidence,
    )


def principal_components(rows: Features, pool: Features) -> np.ndarray:
    """Directions in which the images, labelled and unlabelled, differ most: (features, components), orthonormal.

    They are those of images evenly taken from both, about the origin, which is the mean of the labelled ones; the
    largest come last.
    """
    return _directions(np.concatenate([part[_evenly(len(part), BASIS_ROWS)] for part in (rows, pool)]), COMPONENTS)


def _directions(basis: np.ndarray, most: int) -> np.ndarray:
    """Principal components of rows about the origin, (features, at most so many), orthonormal, the largest last."""
    if basis.shape[1] <= most:
        return np.asarray(np.linalg.eigh(basis.T @ basis)[1], basis.dtype)
    values, vectors = np.linalg.eigh(gram(basis))
    kept = np.flatnonzero(values > rounding(values, basis.dtype))[-most:]
    dual = (vectors[:, kept] / np.sqrt(values[kept])).astype(basis.dtype)
    return np.concatenate([basis[:, columns].T @ dual for columns in chunks_of(basis.shape[1], len(basis))])


def _evenly(length: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, length - 1, min(length, most)).round().astype(int))


def calibrate(scores: np.ndarray, classes: np.ndarray, repeats: int = 1) -> float:
    """The factor on the scores at which their softmax is most likely (temperature scaling, arXiv 1706.04599).

    Where all of a few images are right, no factor would be too large. So the images count as one more than they are, of
    any class (Platt 1999 counts one more of each class): n images that are all right make a head sure of about
    n / (n + 1).

    Args:
        scores: (n · repeats, classes).
        classes: (n · repeats,) class index of each.
        repeats: How often each image is among them.
    """

    def loss(log_factor: float) -> float:
        return calibrated_loss(np.exp(log_factor) * scores, classes, repeats)

    return float(np.exp(scipy.optimize.minimize_scalar(loss, bounds=(-3, 5), method="bounded").x))


def calibrated_loss(logits: np.ndarray, classes: np.ndarray, repeats: int = 1) -> float:
    """Mean log loss of the softmax of logits that `calibrate` makes least: of the images and of one of any class."""
    likely = scipy.special.log_softmax(logits, axis=1)
    smoothing = _smoothing(classes, repeats)
    return -float((1 - smoothing) * likely[np.arange(len(classes)), classes].mean() + smoothing * likely.mean())


def _smoothing(classes: np.ndarray, repeats: int) -> float:
    """The share of each target that is spread over all classes: that of one image."""
    return repeats / (len(classes) + repeats)


def calibrate_to_mix(scores: np.ndarray, classes: np.ndarray, repeats: int = 1) -> tuple[float, np.ndarray]:
    """A factor on the scores, and a shift of each class, at which their softmax is most likely.

    The shift is a · log(c / mean of c) for a class of c images: how much more probable a class is for being frequent.
    A ridge knows a part of that, how much depends on its penalty and weights, and a is between -1 and 1. Classes of
    equal size have none. (Adjusted logits: Menon et al. 2021, arXiv 2007.07314, where a is 1.)

    Args:
        scores: (n · repeats, classes) of images that are left out.
        classes: (n · repeats,) class index of each, every class present.
        repeats: As for `calibrate`.

    Returns:
        The factor and the shifts, (classes,).
    """
    counts, rows, smoothing = np.bincount(classes), np.arange(len(classes)), _smoothing(classes, repeats)
    frequent = np.log(counts / counts.mean())
    factor = calibrate(scores, classes, repeats)
    if not frequent.any():
        return factor, frequent

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        logits = np.exp(values[0]) * scores + values[1] * frequent
        wrong = scipy.special.softmax(logits, axis=1) - smoothing / len(counts)
        wrong[rows, classes] -= 1 - smoothing
        slopes = np.exp(values[0]) * (wrong * scores).sum(), (wrong @ frequent).sum()
        return calibrated_loss(logits, classes, repeats), np.array(slopes) / len(classes)

    found = scipy.optimize.minimize(
        loss, [np.log(factor), 0.0], jac=True, bounds=[(-3, 5), (-1, 1)], method="L-BFGS-B"
    ).x
    return float(np.exp(found[0])), found[1] * frequent


def spread(scores: np.ndarray) -> float:
    """Root mean square of the scores about their mean of each image."""
    return float(np.sqrt(((scores - scores.mean(axis=1, keepdims=True)) ** 2).mean()))


@dataclass(frozen=True)
class _Course:
    """What self-training is given besides the labelled images; `pool` is in principal components."""

    pool: np.ndarray
    penalty: float
    temperature: float
    shift: np.ndarray  # (classes,) of the scores, to the mix of the labelled images
    counts: np.ndarray  # (classes,) labelled images
    copies: int
    class_shares: ClassShares
    doubt: float = 0.0  # how uneven the estimated shares of labelled images are when all their classes weigh the same

    def even(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities as if all classes were as frequent."""
        shift = self.shift - np.log(self.counts / self.counts.mean())
        return np.asarray(scipy.special.softmax(self.temperature * scores + shift, axis=1))


def self_train(
    rows: np.ndarray, classes: np.ndarray, weights: np.ndarray, course: _Course
) -> tuple[Ridge, np.ndarray, np.ndarray]:
    """Fit, label the unlabelled images softly, fit on both; a few times.

    Soft labels: softmax of the scores at the calibrated temperature, moved to the class shares (distribution alignment,
    arXiv 1911.09785). An image weighs its squared confidence, so that one of no known class weighs little.

    Returns:
        The fit, and what it was fitted to: targets of the rows and of the pool, (rows + m, classes), and their weights.
    """
    n_classes = classes.max() + 1
    targets = class_targets(classes, n_classes).repeat(course.copies, axis=0)
    own = weights.repeat(course.copies) / course.copies  # an image weighs the same with and without copies
    penalty = course.penalty / course.copies
    fit = fit_ridge_at(rows, targets, own, penalty)
    scores = fit.scores(course.pool)
    wanted = spread(scores)
    shares = _shares(course.even(scores), course)
    both = np.concatenate([rows, course.pool])
    for _ in range(ROUNDS):
        factor = course.temperature * wanted / max(spread(scores), 1e-12)
        soft = scipy.special.softmax(factor * scores, axis=1)
        sure = soft.max(axis=1) ** 2
        if shares is not None:
            soft = soft * (shares / np.maximum(sure @ soft / sure.sum(), 1e-9))
            soft /= soft.sum(axis=1, keepdims=True)
        labels = np.concatenate([targets, 2 * soft - 1])
        trusted = np.concatenate([own, UNLABELLED_WEIGHT * sure])
        fit = fit_ridge_at(both, labels, trusted, penalty)
        scores = fit.scores(course.pool)
    return fit, labels, trusted


def _groups_of_rows(
    images: int, copies: int, groups: np.ndarray | None, pool: int, unlabelled_groups: np.ndarray | None
) -> np.ndarray:
    """(images · copies + pool,) a number for each group of rows of labelled images, their copies, and the pool."""
    own = np.arange(images) if groups is None else groups
    others = own.max() + 1 + np.arange(pool) if unlabelled_groups is None else unlabelled_groups
    return np.concatenate([own.repeat(copies), others])


def _shares(probabilities: np.ndarray, course: _Course) -> np.ndarray | None:
    """Class shares of the unlabelled images, whose probabilities are as if all classes were as frequent.

    Estimated ones are trusted as far as they are more uneven than the estimate for labelled images when all classes
    weigh the same: positive-part shrinkage, as of James and Stein (1961). On even pools of digits and Fashion that is
    nearly as good as knowing it; where one class has 59% of the pool, the estimate stays as it is.
    """
    equal = np.full(probabilities.shape[1], 1 / probabilities.shape[1])
    if course.class_shares == "free":
        return None
    if course.class_shares == "labelled":
        return np.asarray(course.counts / course.counts.sum())
    shares = _likeliest_shares(probabilities, np.ones(len(probabilities)))
    trusted = max(0.0, 1 - course.doubt / max(_unevenness(shares), 1e-12))
    return np.asarray(equal + trusted * (shares - equal))


def _doubt(left_out: np.ndarray, classes: np.ndarray, course: _Course) -> float:
    """How uneven the estimated shares of labelled images are, all of whose classes weigh the same in truth."""
    weights = len(classes) / (len(course.counts) * course.counts[classes])
    return _unevenness(_likeliest_shares(course.even(left_out), weights))


def _likeliest_shares(probabilities: np.ndarray, weights: np.ndarray, steps: int = 50) -> np.ndarray:
    """Class shares by expectation-maximisation (Saerens, Latinne and Decaestecker 2002)."""
    shares = np.full(probabilities.shape[1], 1 / probabilities.shape[1])
    for _ in range(steps):
        posterior = probabilities * shares
        shares = weights @ (posterior / posterior.sum(axis=1, keepdims=True)) / weights.sum()
    return shares


def _unevenness(shares: np.ndarray) -> float:
    """Squared distance from equal shares."""
    return float(((shares - 1 / len(shares)) ** 2).sum())


def _weigh(
    rows: np.ndarray,
    classes: np.ndarray,
    weights: np.ndarray,
    course: _Course,
    folds: int,
    seed: int,
    groups: np.ndarray | None,
) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Compare labelled images that are left out, without and with the unlabelled ones.

    Accepted when more are right or their log loss is lower, and neither is worse by a standard error. Folds are drawn
    several times, since on a few dozen images the draw decides. On 18 draws of 50 to 200 labelled digits and Fashion
    images, where self-training always brought 1 to 6 points, accuracy alone saw it in 17 and the log loss in 16.
    Scores are calibrated anew on both sides: soft labels change their scale, and their loss would be held against them.

    Returns:
        The evidence, and with the unlabelled ones the probabilities of the images of each fold of the first draw, and
        the shift of each class.
    """
    groups = np.arange(len(classes)) if groups is None else groups
    others = pd.Index(groups).duplicated()  # of a group, all but its first image
    folds = min(folds, int(np.bincount(classes[~others], minlength=classes.max() + 1).min()))
    if folds < 2:
        nothing = np.empty((0, classes.max() + 1))
        return {"unlabelled": len(course.pool), "folds": 0, "accepted": False}, nothing, course.shift
    rng = np.random.default_rng(seed)
    draws = np.stack([_folds(classes, groups, folds, rng) for _ in range(REPEATS)])
    scores = _left_out(rows, classes, weights, course, draws)
    found = [calibrate_to_mix(side.reshape(-1, side.shape[-1]), np.tile(classes, REPEATS), REPEATS) for side in scores]
    likely = np.stack(
        [
            scipy.special.log_softmax(factor * side + shift, axis=-1)
            for (factor, shift), side in zip(found, scores, strict=True)
        ]
    )
    losses = -likely[:, :, np.arange(len(classes)), classes].mean(axis=1)
    hits = (likely.argmax(axis=3) == classes).mean(axis=1)
    (more_right, right_error), (gain, gain_error) = (
        mean_and_error(pairs, groups) for pairs in (hits[1] - hits[0], losses[0] - losses[1])
    )
    evidence = {
        "unlabelled": len(course.pool),
        "folds": folds,
        "accuracy_before": float(hits[0].mean()),
        "accuracy": float(hits[1].mean()),
        "accuracy_error": right_error,
        "loss_before": float(losses[0].mean()),
        "loss": float(losses[1].mean()),
        "gain": gain,
        "gain_error": gain_error,
        "factor": found[1][0] / found[0][0],
        "accepted": bool(
            more_right > -max(right_error, 1e-9) and gain > -gain_error and (more_right > 1e-9 or gain > 0)
        ),
    }
    return evidence, np.asarray(np.exp(likely[1, 0])), found[1][1]


def _folds(classes: np.ndarray, groups: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """(n,) the fold of each image: a group has one, and of each class as many groups are in each as goes evenly."""
    own = pd.factorize(groups)[0]
    firsts = np.unique(own, return_index=True)[1]
    place = pd.Series(rng.permutation(len(firsts))).groupby(classes[firsts]).rank(method="first").to_numpy(int) - 1
    return np.asarray(place[own] % folds)


def _left_out(
    rows: np.ndarray, classes: np.ndarray, weights: np.ndarray, course: _Course, draws: np.ndarray
) -> np.ndarray:
    """Scores of images when their fold is left out, without and with the unlabelled ones: (2, draws, n, classes).

    The folds are fitted side by side, each in one thread: their systems are too small to be divided.
    """
    scores = np.empty((2, *draws.shape, classes.max() + 1))

    def leave_out(draw: int, fold: int) -> None:
        held = draws[draw] == fold
        kept_rows, held_rows = rows[(~held).repeat(course.copies)], rows[:: course.copies][held]
        targets = class_targets(classes[~held], classes.max() + 1).repeat(course.copies, axis=0)
        before = fit_ridge_at(kept_rows, targets, weights[~held].repeat(course.copies), course.penalty)
        after, _, _ = self_train(kept_rows, classes[~held], weights[~held], course)
        for index, fit in enumerate((before, after)):  # one scale for the scores of all folds
            scores[index, draw, held] = fit.scores(held_rows) / max(spread(fit.scores(course.pool)), 1e-12)

    left_out = [(draw, fold) for draw, folds in enumerate(draws) for fold in np.unique(folds)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(leave_out, *zip(*left_out, strict=True)))
    return scores
