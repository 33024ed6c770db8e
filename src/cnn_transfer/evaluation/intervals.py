"""Intervals for figures of images, which may come in groups: several pictures of one patient, object or film.

Without groups every image is one observation. With groups the observations are the groups: variances add up what the
images of a group have in common (the infinitesimal jackknife over groups, "cluster-robust"), a proportion counts as
many images as its variance is worth (Kish 1965; Korn and Graubard 1998), and quantiles are Student's with one degree
of freedom less than there are groups, or than groups of one size that unequal ones are worth (Kish again).
`benchmarks/intervals.py` shows how often each interval holds what it promises.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

Groups = npt.ArrayLike | pd.Series | None
CHUNK = 100  # bootstrap samples that are in memory at once
JEFFREYS = 0.5  # both parameters of the Beta distribution that is his prior of a share


class Interval(NamedTuple):
    """An estimate with the ends of its interval."""

    estimate: float
    low: float
    high: float


class Units:
    """What is observed independently: the groups of the images, or the images themselves.

    Attributes:
        codes: (n,) int, the number of each image's group, 0 to `number` - 1.
        number: How many there are.
        grouped: Whether some group has several images.
    """

    def __init__(self, groups: Groups, images: int) -> None:
        if groups is None:
            self.codes, self.number = np.arange(images), images
        else:
            codes = pd.factorize(np.asarray(groups, object))[0].astype(np.int64)
            alone = codes < 0  # no group: a unit of its own
            codes[alone] = codes.max(initial=-1) + 1 + np.arange(alone.sum())
            self.codes, self.number = codes, int(codes.max(initial=-1)) + 1
        self.grouped = self.number < images

    @property
    def words(self) -> str:
        """How many groups there are, to be said after the images; empty where every image is one of its own."""
        return f" of {self.number:,} groups" if self.grouped else ""

    def of(self, rows: np.ndarray) -> Units:
        """The units of some of the images ((n,) booleans)."""
        return Units(self.codes[rows], int(rows.sum()))

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum of the values (n,) of each unit: (number,)."""
        return np.bincount(self.codes, values, self.number) if self.grouped else np.asarray(values, float)

    def variance(self, influences: np.ndarray) -> float:
        """Variance of an estimate to which each image contributes `influences` (n,), of sum 0; needs two units.

        The jackknife that leaves one unit out, which is to be preferred for few groups of unequal sizes (MacKinnon,
        Nielsen and Webb 2023); with groups at least that of independent images, since what few groups say of it varies.
        """
        left_out = self.sums(influences) / (1 - self.shares)
        variance = float(np.sum(left_out**2)) * (self.number - 1) / self.number
        return max(variance, float(np.sum(influences**2))) if self.grouped else variance

    def quantile(self, confidence: float) -> float:
        """Half the width of an interval in standard errors: Student's for groups, else the normal one."""
        from scipy import stats

        level = 0.5 + confidence / 2
        return float(stats.t.ppf(level, self.freedom) if self.grouped else stats.norm.ppf(level))

    @cached_property
    def shares(self) -> np.ndarray:
        """Of the images, each unit's: (number,)."""
        return np.bincount(self.codes, minlength=self.number) / len(self.codes)

    @property
    def least_effective(self) -> float:
        """Images that these are worth if those of a group are all alike (Kish)."""
        return float(1 / np.sum(self.shares**2))

    @property
    def freedom(self) -> float:
        """Degrees of freedom of a variance, at least 1: one less than there are units, or than these are worth (Kish).

        Where few groups are large and the others single images, it is the few that a variance rests on.
        """
        return max(1.0, self.least_effective - 1)

    def design_effect(self, influences: np.ndarray) -> float:
        """How many times larger the groups make a variance, at least 1; as large as can be where nothing varies."""
        if not self.grouped:
            return 1.0
        independent = float(np.sum(influences**2))
        if independent == 0:
            return len(self.codes) / self.least_effective
        return self.variance(influences) / independent


def wilson_interval(successes: int, trials: int, confidence: float) -> Interval:
    """A proportion and its Wilson score interval.

    Wilson's and not the exact one, which is too wide (Agresti and Coull 1998): with 100 images the coverage is within
    93-97% for 97% of all shares in 0.5-0.99, that of Clopper and Pearson for 85%.

    Args:
        successes: 0 to `trials`.
        trials: At least 1.
        confidence: Level of the interval, 0-1.
    """
    from scipy import stats

    interval = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return Interval(successes / trials, float(interval.low), float(interval.high))


def anytime_interval(successes: int, trials: int, confidence: float) -> Interval:
    """A proportion and an interval that holds the truth at every look, however often one looks as trials are added.

    An interval for one number of trials errs anew with each look, and who looks until it says something is told
    something. This one is a confidence sequence: a share p leaves it when larger shares, averaged by Jeffreys' prior,
    or smaller ones, explain the trials 2 / (1 - confidence) times as well as p (Robbins 1970, Annals of Mathematical
    Statistics 41, 1397-1409). Under p that ratio is a martingale, which ever gets so large with a probability of at
    most (1 - confidence) / 2 (Ville 1939). It is wider than the interval of Clopper and Pearson (1934) for one look: to
    show .98 takes 227 trials without a failure instead of 183.

    Args:
        successes: 0 to `trials`.
        trials: At least 1.
        confidence: That the interval holds at all looks, 0-1.
    """
    one_sided = (1 + confidence) / 2
    low, high = anytime_bound(successes, trials, one_sided), 1 - anytime_bound(trials - successes, trials, one_sided)
    return Interval(successes / trials, low, high)


def anytime_bound(successes: int, trials: int, confidence: float) -> float:
    """The lower end of such an interval by itself, above which the truth is at every look with this confidence."""
    from scipy.optimize import brentq
    from scipy.special import betaincc, betaln, xlog1py

    if not successes:
        return 0.0
    failures = trials - successes
    after = successes + JEFFREYS, failures + JEFFREYS

    def excess(share: float) -> float:
        """Logarithm of how much better larger shares explain the trials than this one, above what is enough."""
        others = betaln(*after) + math.log(betaincc(*after, share))
        prior = betaln(JEFFREYS, JEFFREYS) + math.log(betaincc(JEFFREYS, JEFFREYS, share))
        return float(others - prior - successes * math.log(share) - xlog1py(failures, -share) + math.log1p(-confidence))

    return float(brentq(excess, sys.float_info.min, min(successes / trials, 1 - sys.float_info.epsilon)))


def score_interval(estimate: float, trials: float, quantile: float) -> Interval:
    """Wilson's interval for an estimate that is worth any number of trials, as in surveys (Franco et al. 2019).

    Args:
        estimate: 0-1.
        trials: Effective number of images, above 0.
        quantile: Half the width in standard errors; see `Units.quantile`.
    """
    square = quantile**2 / trials
    centre = (estimate + square / 2) / (1 + square)
    margin = math.sqrt(square * (estimate * (1 - estimate) + square / 4)) / (1 + square)
    return Interval(estimate, min(estimate, max(0.0, centre - margin)), max(estimate, min(1.0, centre + margin)))


def score_interval_of_variance(estimate: float, variance: float, least_trials: float, quantile: float) -> Interval:
    """Wilson's interval for an estimate in 0-1 of known variance; `least_trials` count where nothing varied."""
    varies = variance > 0 and 0 < estimate < 1
    return score_interval(estimate, estimate * (1 - estimate) / variance if varies else least_trials, quantile)


def proportion_interval(successes: np.ndarray, confidence: float, groups: Groups = None) -> Interval:
    """A proportion of images: Wilson's interval, with the effective number of images where they come in groups.

    Args:
        successes: (n,) booleans, n at least 1.
        confidence: Level of the interval, 0-1.
        groups: (n,) the group of each image; None: all independent.

    Returns:
        The interval; 0 to 1 when all images are of one group.
    """
    return _proportion(np.asarray(successes, bool), confidence, Units(groups, len(successes)))


def _proportion(successes: np.ndarray, confidence: float, units: Units) -> Interval:
    if not units.grouped:
        return wilson_interval(int(successes.sum()), len(successes), confidence)
    share = float(successes.mean())
    if units.number == 1:
        return Interval(share, 0.0, 1.0)
    return score_interval(share, _effective_number(successes, units), units.quantile(confidence))


def effective_number(successes: np.ndarray, groups: Groups) -> float:
    """How many independent images these are worth: fewer than there are where those of a group succeed together.

    Args:
        successes: (n,) booleans, n at least 1.
        groups: (n,) the group of each image; None: all independent.

    Returns:
        1 to n; 1 when all images are of one group.
    """
    return _effective_number(np.asarray(successes, bool), Units(groups, len(successes)))


def _effective_number(successes: np.ndarray, units: Units) -> float:
    if units.number == 1:
        return 1.0
    return len(successes) / units.design_effect((successes - successes.mean()) / len(successes))


def student_interval(values: np.ndarray, confidence: float = 0.95) -> Interval | None:
    """The mean of independent values and Student's interval of it; None for fewer than two values."""
    from scipy import stats

    if len(values) < 2:
        return None
    mean, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
    margin = float(stats.t.ppf(0.5 + confidence / 2, len(values) - 1)) * error
    return Interval(mean, mean - margin, mean + margin)


def mean_interval(
    values: np.ndarray, confidence: float, groups: Groups = None, least: float = -math.inf, most: float = math.inf
) -> Interval:
    """The mean of a skewed figure of images, such as their loss; see `skewed_interval`.

    Args:
        values: (n,).
        confidence: Level of the interval, 0-1.
        groups: (n,) the group of each image; None: all independent.
        least: The mean cannot be below; -inf or 0.
        most: Or above.

    Returns:
        The interval; `least` to `most` when there is one observation only, which says nothing of its variance.
    """
    from scipy import stats

    units = Units(groups, len(values))
    mean = float(np.mean(values))
    if units.number == 1:
        return Interval(mean, least, most)
    quantile = float(stats.t.ppf(0.5 + confidence / 2, units.freedom))
    return skewed_interval(mean, (values - mean) / len(values), units, quantile, least, most)


def skewed_interval(
    estimate: float, influences: np.ndarray, units: Units, quantile: float, least: float, most: float
) -> Interval:
    """Interval for an estimate that is nearly a sum over images of something skewed.

    For images of no group Hall's transformation takes the skewness away (Hall 1992, "On the removal of skewness by
    transformation", J. R. Statist. Soc. B 54). Groups are too few to tell their skewness: there the interval is
    symmetric in the logit of an estimate in 0-1, and in the logarithm of one above 0.

    Args:
        estimate: The estimate.
        influences: (n,) what each image contributes to its error; their sum is 0.
        units: What is independent; at least two.
        quantile: Half the width in standard errors, before the correction for skewness.
        least: The estimate cannot be below; -inf or 0.
        most: Or above; 1: it is a share.
    """
    error = math.sqrt(units.variance(influences))
    if error == 0:
        return Interval(estimate, estimate, estimate)
    if units.grouped and least < estimate < most:
        margin = quantile * error
        if most == 1:
            centre, margin = math.log(estimate / (1 - estimate)), margin / (estimate * (1 - estimate))
            low, high = (0.5 + 0.5 * math.tanh(end / 2) for end in (centre - margin, centre + margin))
        elif least == 0:
            low, high = (min(most, estimate * math.exp(end / estimate)) for end in (-margin, margin))
        else:
            low, high = estimate - margin, estimate + margin
        return Interval(estimate, low, high)
    parts = units.sums(influences)
    skewness = float(np.sum(parts**3) / np.sum(parts**2) ** 1.5)
    low, high = (estimate - error * _without_skewness(end, skewness) for end in (quantile, -quantile))
    return Interval(estimate, min(estimate, max(least, low)), max(estimate, min(most, high)))


def _without_skewness(quantile: float, skewness: float) -> float:
    """Hall's monotone cubic, inverted."""
    if abs(skewness) < 1e-6:  # its limit; the formula loses all digits there
        return quantile
    return float(3 / skewness * (np.cbrt(1 + skewness * (quantile - skewness / 6)) - 1))


def resampling_weights(units: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each unit is drawn when as many are drawn as there are: (units, samples) float32."""
    draws = rng.integers(0, units, (samples, units)) + units * np.arange(samples)[:, None]
    counts = np.bincount(draws.ravel(), minlength=units * samples)
    return np.ascontiguousarray(counts.reshape(samples, units).T, np.float32)


def resampled_sums(values: npt.ArrayLike, units: Units, samples: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Sums over images that are drawn again with their whole groups (cluster bootstrap, Davison and Hinkley 1997, 3.8).

    Args:
        values: (n, columns), a sparse or a dense matrix.
        units: What is drawn.
        samples: How often.
        rng: Source of the draws.

    Yields:
        (samples of this chunk, columns) float32.
    """
    from scipy import sparse

    columns = sparse.csr_matrix(values, dtype=np.float32)
    members = sparse.csr_matrix(
        (np.ones(len(units.codes), np.float32), (units.codes, np.arange(len(units.codes)))),
        shape=(units.number, len(units.codes)),
    )
    transposed = (members @ columns).T.tocsr()
    for start in range(0, samples, CHUNK):
        yield (transposed @ resampling_weights(units.number, min(CHUNK, samples - start), rng)).T
