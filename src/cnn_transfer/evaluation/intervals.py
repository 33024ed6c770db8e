"""Intervals for figures of images, which may come in groups: several pictures of one patient, object or film.

Without groups every image is one observation. With groups the observations are the groups: variances add up what the
images of a group have in common (the infinitesimal jackknife over groups, "cluster-robust"), a proportion counts as
many images as its variance is worth (Kish 1965; Korn and Graubard 1998), and quantiles are Student's with one degree
of freedom less than there are groups. `benchmarks/intervals.py` shows how often each interval holds what it promises.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

Groups = npt.ArrayLike | pd.Series | None
CHUNK = 100  # bootstrap samples that are in memory at once


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

    def of(self, rows: np.ndarray) -> Units:
        """The units of some of the images ((n,) booleans)."""
        return Units(self.codes[rows], int(rows.sum()))

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum of the values (n,) of each unit: (number,)."""
        return np.bincount(self.codes, values, self.number) if self.grouped else np.asarray(values, float)

    def variance(self, influences: np.ndarray) -> float:
        """Variance of an estimate to which each image contributes `influences` (n,), of sum 0; needs two units."""
        return float(np.sum(self.sums(influences) ** 2) * self.number / (self.number - 1))

    def quantile(self, confidence: float) -> float:
        """Half the width of an interval in standard errors: Student's for groups, else the normal one."""
        level = 0.5 + confidence / 2
        return float(stats.t.ppf(level, self.number - 1) if self.grouped else stats.norm.ppf(level))

    @property
    def least_effective(self) -> float:
        """Images that these are worth if those of a group are all alike (Kish)."""
        return float(len(self.codes) ** 2 / np.sum(np.bincount(self.codes) ** 2))

    def design_effect(self, influences: np.ndarray) -> float:
        """How many times larger the groups make a variance, at least 1; as large as can be where nothing varies."""
        if not self.grouped:
            return 1.0
        independent = float(np.sum(influences**2))
        if independent == 0:
            return len(self.codes) / self.least_effective
        return max(1.0, self.variance(influences) / independent)


def wilson_interval(successes: int, trials: int, confidence: float) -> Interval:
    """A proportion and its Wilson score interval.

    Wilson's and not the exact one: that is too wide, most of all for few images (Agresti and Coull 1998).

    Args:
        successes: 0 to `trials`.
        trials: At least 1.
        confidence: Level of the interval, 0-1.
    """
    interval = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return Interval(successes / trials, float(interval.low), float(interval.high))


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
    trials = len(successes) / units.design_effect((successes - share) / len(successes))
    return score_interval(share, trials, units.quantile(confidence))


def mean_interval(
    values: np.ndarray, confidence: float, groups: Groups = None, least: float = -math.inf, most: float = math.inf
) -> Interval:
    """The mean of a skewed figure of images, such as their loss: t interval after Hall's transformation.

    It corrects for skewness (Hall 1992, "On the removal of skewness by transformation", J. R. Statist. Soc. B 54).

    Args:
        values: (n,).
        confidence: Level of the interval, 0-1.
        groups: (n,) the group of each image; None: all independent.
        least: The mean cannot be below.
        most: Or above.

    Returns:
        The interval; `least` to `most` when there is one observation only, which says nothing of its variance.
    """
    units = Units(groups, len(values))
    mean = float(np.mean(values))
    if units.number == 1:
        return Interval(mean, least, most)
    parts = units.sums((values - mean) / len(values))
    error = math.sqrt(units.variance((values - mean) / len(values)))
    if error == 0:
        return Interval(mean, mean, mean)
    skewness = float(np.mean(parts**3) / np.mean(parts**2) ** 1.5) / math.sqrt(units.number)
    quantile = float(stats.t.ppf(0.5 + confidence / 2, units.number - 1))
    ends = [mean - error * _without_skewness(end, skewness) for end in (quantile, -quantile)]
    return Interval(mean, min(mean, max(least, ends[0])), max(mean, min(most, ends[1])))


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
