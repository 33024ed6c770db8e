"""Are new images like those that the network was made with? Counts of them, and what the counts say.

Stable for callers: `DriftCounts` (`empty`, `add`, `merge`, `to_json`, `from_json`, `images`), `drift_report`,
`drift_table`, and `drift_figure.drift_plot`; of a report its keys `statement`, `drift`, `aspects`, `images`.

Six aspects are compared. Size, brightness and sharpness with the training images; classes predicted, confidence and
features (the distance to the training images) with the validation images, which the network was not trained on. Drift
is called where both hold:

- the effect is at least the aspect's threshold in `THRESHOLDS`. For numbers it is the distance of Kolmogorov and
  Smirnov, the largest difference between the shares of images below any value; for classes the total variation, the
  share of images that would have to be of another class. So 0.1 means that one image in ten is not like the others.
  In a shift of a normal distribution it is a Cohen's d of 0.25, between "small" and "medium" (Cohen 1988, Statistical
  Power Analysis, 2.2), and a population stability index of 0.06, where the usual rule looks from 0.1 on and acts from
  0.25 (Siddiqi 2006, Credit Risk Scorecards; d of 0.32 and 0.5). Features have 0.05, for a few strange images among
  usual ones are what that aspect is for, and one part in twenty of them is never more than 0.05.
- chance does not explain it: the p value of an exact permutation test, corrected for the number of aspects by Holm
  (1979), is at most 1 - confidence. Given how often each value occurs in both samples together, all ways to deal it to
  the two are equally likely without drift (Good 2005, Permutation, Parametric and Bootstrap Tests, 3), whatever the
  distribution, the ties and the numbers of images. The statistic is, for numbers, the largest difference in standard
  deviations (Anderson and Darling 1952, with which a few outliers count), for classes Pearson's chi-square.

Counts take the same memory for any number of images: each figure has bins, cut at quantiles of the references (and
around values that many of them have) and on a fixed grid. They hold whole numbers only, so that counts of parts can be
merged in any order with the same result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from cnn_transfer.prediction.facts import PredictorFacts
from cnn_transfer.prediction.references import References

SIZE, BRIGHTNESS, SHARPNESS = "size", "brightness", "sharpness"
CLASSES, CONFIDENCE, FEATURES = "classes predicted", "confidence", "features"
THRESHOLDS = {SIZE: 0.1, BRIGHTNESS: 0.1, SHARPNESS: 0.1, CLASSES: 0.1, CONFIDENCE: 0.1, FEATURES: 0.05}
QUANTILES = np.concatenate([[0, 0.01, 0.02], np.arange(0.05, 0.96, 0.05), [0.98, 0.99, 1]])
FEW_DRAWS = 499  # that tell a clearly large p value
DRAWS_A_REJECTION = 20  # expected draws beyond the smallest level that is asked for
MOST_COUNTED = 10**8  # numpy draws from fewer than 10**9; more images are scaled down
ROWS = 1_000  # draws in memory at once
SHOWN_CLASSES = 3
DECIMALS = 8  # of edges


class _Figure(NamedTuple):
    """A number of each image: what it belongs to, and where it is cut, whatever the references."""

    aspect: str
    split: str
    step: float  # what is the same number, rounded otherwise by another runtime
    grid: np.ndarray
    form: str


_PIXELS = np.geomspace(1, 2**16, 65) - 0.5
_FIGURES = {
    "width_px": _Figure(SIZE, "training", 1, _PIXELS, "{:,.0f} px wide"),
    "height_px": _Figure(SIZE, "training", 1, _PIXELS, "{:,.0f} px high"),
    "brightness": _Figure(BRIGHTNESS, "training", 1e-6, np.linspace(0, 1, 41), "{:.3f}"),
    "sharpness": _Figure(SHARPNESS, "training", 1e-6, np.geomspace(1e-5, 10, 49), "{:.2g}"),
    "confidence": _Figure(CONFIDENCE, "validation", 1e-6, np.linspace(0, 1, 41), "{:.3f}"),
    "distance": _Figure(FEATURES, "validation", 1e-4, np.linspace(0, 2, 81), "distance {:.3f}"),
}
_ADVICE = {
    SIZE: "Look at where they come from: what is small lacks detail that the network has learnt to read.",
    BRIGHTNESS: "Look at the darkest and brightest: exposure, camera or conversion may have changed.",
    SHARPNESS: "Look for blur, noise, strong compression or enlarged images.",
    CLASSES: "Validation images often hold all classes equally by design, so this may be the usual mix of the new "
    "ones; if it is not, look at the classes that grew, and label some.",
    CONFIDENCE: "Look at the least sure ones, label some and fine-tune again.",
    FEATURES: "Look at the images of the largest distance, label some and fine-tune again.",
}


class DriftCounts(BaseModel):
    """Counts of labelled new images, of one size for any number of them; equal if they count the same images.

    Attributes:
        images: Counted.
        edges: Ascending, of each figure; a bin holds what is at least its left and below its right edge.
        bins: Images in each bin, one more than edges; images whose figure is not finite are in none.
        sums: Of each figure, in whole steps.
        classes: Images by predicted class, in the order of the probabilities.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int
    edges: dict[str, tuple[float, ...]]
    bins: dict[str, tuple[int, ...]]
    sums: dict[str, int]
    classes: dict[str, int]

    @classmethod
    def empty(cls, facts: PredictorFacts, references: References) -> Self:
        """No images yet, with the bins that a predictor's references ask for."""
        edges = {name: _edges(figure, _known(references, name)) for name, figure in _FIGURES.items()}
        return cls(
            images=0,
            edges=edges,
            bins={name: (0,) * (len(cuts) + 1) for name, cuts in edges.items()},
            sums=dict.fromkeys(edges, 0),
            classes=dict.fromkeys(facts.class_names, 0),
        )

    def add(self, predictions: pd.DataFrame) -> Self:
        """Counts with further images.

        Args:
            predictions: See `Labelled.predictions`; may be empty.

        Raises:
            ValueError: When a class is not one of the predictor's.
        """
        found = predictions["predicted"].value_counts()
        if len(unknown := found.index.difference(list(self.classes))):
            raise ValueError(
                f"Predicted classes must be the predictor's. Received: {unknown[0]}. Count its own predictions."
            )
        values = {name: _finite(predictions[name]) for name in self.edges}
        return self.merge(
            self.model_copy(
                update={
                    "images": len(predictions),
                    "bins": {name: _binned(values[name], cuts) for name, cuts in self.edges.items()},
                    "sums": {name: _sum_of(values[name], _FIGURES[name].step) for name in self.edges},
                    "classes": {name: int(found.get(name, 0)) for name in self.classes},
                }
            )
        )

    def merge(self, other: Self) -> Self:
        """Counts of the images of both.

        Raises:
            ValueError: When the other ones were counted for another predictor.
        """
        if self.edges != other.edges or self.classes.keys() != other.classes.keys():
            raise ValueError(
                "Only counts for the same predictor can be merged. Received: other bins or classes. Count the images "
                "again with one predictor."
            )
        return self.model_copy(
            update={
                "images": self.images + other.images,
                "bins": {
                    name: tuple(map(sum, zip(mine, other.bins[name], strict=True))) for name, mine in self.bins.items()
                },
                "sums": {name: mine + other.sums[name] for name, mine in self.sums.items()},
                "classes": {name: mine + other.classes[name] for name, mine in self.classes.items()},
            }
        )

    def to_json(self) -> dict[str, Any]:
        """A dict of numbers, lists and dicts."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """What `to_json` gave, also after a JSON file."""
        return cls.model_validate(content)


def drift_report(
    counts: DriftCounts, references: References, facts: PredictorFacts, confidence: float = 0.99
) -> dict[str, Any]:
    """Compare new images with those that the network was made with.

    Args:
        counts: Of the new images; may be none.
        references: Of the predictor that labelled them.
        facts: The same predictor's.
        confidence: What it lacks to 1 is the chance that any aspect is called drift where there is none.

    Returns:
        Of plain values, for JSON: `statement`, `drift` (names of the aspects), `images`, `confidence`, `aspects` (one
        dict an aspect: `aspect`, `reference` and `new` (their means or commonest classes, in words), `effect` (0-1),
        `threshold`, `p` (corrected), `drift`, `statement`; what could not be judged is None) and `shares`: of each
        figure `aspect`, `compared_with`, `edges` or `classes`, `reference` and `new` (shares of the images in each bin
        or class; None without images), for the plot.

    Raises:
        ValueError: When the counts are those of another predictor, or the confidence is out of bounds.
    """
    if not 0.5 <= confidence < 1:
        raise ValueError(f"confidence must be at least 0.5 and below 1. Received: {confidence}. Take 0.99.")
    empty = DriftCounts.empty(facts, references)
    if counts.edges != empty.edges or counts.classes.keys() != empty.classes.keys():
        raise ValueError(
            "Counts and references must be of the same predictor. Received: other bins or classes. Count the images "
            "again with this one."
        )
    pairs = [_pair_of(name, counts, references) for name in (*_FIGURES, CLASSES)]
    judged: dict[str, list[_Comparison]] = {aspect: [] for aspect in THRESHOLDS}
    for pair in pairs:
        judged[pair.aspect].append(_compare(pair, confidence))
    best = {aspect: min(found, key=_likeness) for aspect, found in judged.items()}
    corrected = _holm({aspect: len(judged[aspect]) * one.p for aspect, one in best.items()})
    aspects = [_row(one, corrected[aspect], confidence) for aspect, one in best.items()]
    drift = [row["aspect"] for row in aspects if row["drift"]]
    return {
        "statement": _summary(counts.images, aspects, drift),
        "drift": drift,
        "images": counts.images,
        "confidence": confidence,
        "aspects": aspects,
        "shares": {pair.name: pair.shares() for pair in pairs},
    }


def drift_table(report: Mapping[str, Any]) -> pd.DataFrame:
    """The aspects of a report, one row each.

    Returns:
        `aspect`, `reference`, `new` (text), `effect`, `threshold`, `p` (corrected for the number of aspects), `drift`
        (boolean) and `statement`; what could not be judged is missing.
    """
    types = dict.fromkeys(("aspect", "reference", "new", "statement"), "str")
    numbers = dict.fromkeys(("effect", "threshold", "p"), "float64")
    return pd.DataFrame(report["aspects"]).astype(types | numbers | {"drift": "boolean"})


class _Pair(NamedTuple):
    """A figure of references and new images."""

    name: str
    aspect: str
    split: str
    edges: tuple[float, ...] | None
    reference: np.ndarray
    new: np.ndarray
    words: tuple[str | None, str | None]
    classes: tuple[str, ...] = ()

    def shares(self) -> dict[str, Any]:
        """For the plot, on the grid."""
        sides = {"reference": self.reference, "new": self.new}
        described = {"aspect": self.aspect, "compared_with": self.split}
        if self.edges is None:
            return described | {"classes": list(self.classes)} | {name: _shares(side) for name, side in sides.items()}
        grid = _FIGURES[self.name].grid.round(DECIMALS)
        places = np.searchsorted(self.edges, grid[1:-1]) + 1  # the outer bins are part of the first and last
        parts = {
            name: _shares(np.array([part.sum() for part in np.split(side, places)])) for name, side in sides.items()
        }
        return described | {"edges": grid.tolist()} | parts


def _shares(counts: np.ndarray) -> list[float] | None:
    return (counts / counts.sum()).tolist() if counts.sum() else None


class _Comparison(NamedTuple):
    pair: _Pair
    effect: float
    p: float  # NaN: not judged
    reason: str = ""  # why not


def _likeness(found: _Comparison) -> tuple[bool, float, float]:
    """Of figures of one aspect the one that is least alike comes first, and what was not judged last."""
    return math.isnan(found.p), found.p, -found.effect


def _known(references: References, name: str) -> np.ndarray:
    """The figure of the references, without what is not finite."""
    return _finite((references.training if _FIGURES[name].split == "training" else references.validation)[name])


def _finite(values: pd.Series) -> np.ndarray:
    numbers = values.to_numpy(np.float64, na_value=np.nan)
    return np.asarray(numbers[np.isfinite(numbers)])


def _edges(figure: _Figure, known: np.ndarray) -> tuple[float, ...]:
    """On both sides of quantiles of the references, and on the grid."""
    cuts = np.unique(np.quantile(known, QUANTILES, method="inverted_cdf")) if len(known) else np.empty(0)
    sides = np.concatenate([cuts - figure.step / 2, cuts + figure.step / 2])
    return tuple(np.unique(np.concatenate([figure.grid, sides]).round(DECIMALS)).tolist())


def _binned(values: np.ndarray, edges: tuple[float, ...]) -> tuple[int, ...]:
    places = np.searchsorted(np.asarray(edges), values, side="right")
    return tuple(np.bincount(places, minlength=len(edges) + 1).tolist())


def _sum_of(values: np.ndarray, step: float) -> int:
    return int(np.rint(values / step).astype(np.int64).sum())


def _pair_of(name: str, counts: DriftCounts, references: References) -> _Pair:
    if name == CLASSES:
        names = tuple(counts.classes)
        known = references.validation["predicted"].value_counts().reindex(names, fill_value=0).to_numpy(np.int64)
        new = np.array(list(counts.classes.values()), np.int64)
        words = (_commonest(names, known), _commonest(names, new))
        return _Pair(name, CLASSES, "validation", None, known, new, words, names)
    figure, values, edges = _FIGURES[name], _known(references, name), counts.edges[name]
    sides = [
        (np.array(bins, np.int64), total)
        for bins, total in (
            (_binned(values, edges), _sum_of(values, figure.step)),
            (counts.bins[name], counts.sums[name]),
        )
    ]
    means = [figure.form.format(total * figure.step / bins.sum()) if bins.sum() else None for bins, total in sides]
    return _Pair(name, figure.aspect, figure.split, edges, sides[0][0], sides[1][0], (means[0], means[1]))


def _commonest(names: tuple[str, ...], counts: np.ndarray) -> str | None:
    if not counts.sum():
        return None
    places = np.argsort(-counts, kind="stable")[:SHOWN_CLASSES]
    shown = ", ".join(f"{names[place]} {counts[place] / counts.sum():.0%}" for place in places)
    return shown + (" …" if len(names) > SHOWN_CLASSES else "")


def _compare(pair: _Pair, confidence: float) -> _Comparison:
    """Effect and p value of one figure, before any correction."""
    known, new = int(pair.reference.sum()), int(pair.new.sum())
    if not known:
        return _Comparison(pair, math.nan, math.nan, f"the predictor keeps no {pair.split} images to compare with")
    if not new:
        return _Comparison(pair, math.nan, math.nan, "no new image has this figure")
    difference = pair.new / new - pair.reference / known
    numeric = pair.edges is not None
    effect = float(np.abs(np.cumsum(difference)).max() if numeric else np.abs(difference).sum() / 2)
    ways = math.lgamma(known + new + 1) - math.lgamma(known + 1) - math.lgamma(new + 1)
    if math.exp(-ways) > (1 - confidence) / len(THRESHOLDS):
        return _Comparison(pair, effect, math.nan, f"{new:,} new beside {known:,} {pair.split} images are too few")
    return _Comparison(pair, effect, _p_value(pair.reference, pair.new, numeric, confidence))


def _p_value(reference: np.ndarray, new: np.ndarray, numeric: bool, confidence: float) -> float:
    """How often chance deals the values of both samples at least as unequally.

    Few draws are enough where p is clearly above 1 - `confidence`, before as well as after any correction.
    """
    total = int((reference + new).sum())
    if total > MOST_COUNTED:
        reference, new = (np.rint(part * (MOST_COUNTED / total)).astype(np.int64) for part in (reference, new))
    pooled = reference + new
    new, pooled = new[pooled > 0], pooled[pooled > 0]
    if len(pooled) == 1:
        return 1.0
    least = _statistic(new, pooled, numeric) * (1 - 1e-9)
    rng = np.random.default_rng(0)  # the same counts have the same p value
    beyond, drawn = 0, 0
    wanted = max(FEW_DRAWS, math.ceil(DRAWS_A_REJECTION * len(THRESHOLDS) / (1 - confidence)))
    for goal in (FEW_DRAWS, wanted):
        while drawn < goal:
            size = min(ROWS, goal - drawn)
            dealt = rng.multivariate_hypergeometric(pooled, int(new.sum()), size, method="marginals")
            beyond += int((_statistic(dealt, pooled, numeric) >= least).sum())
            drawn += size
        if (1 + beyond) / (1 + drawn) > max(0.1, 1 - confidence):
            break
    return (1 + beyond) / (1 + drawn)


def _statistic(new: np.ndarray, pooled: np.ndarray, numeric: bool) -> np.ndarray:
    """How unequal the part is that the new images (…, bins) have of all values: (…,), larger for more."""
    images, total = new.sum(axis=-1, keepdims=True), pooled.sum()
    if not numeric:
        return np.asarray(((new - images * (pooled / total)) ** 2 / pooled).sum(axis=-1))
    below = (np.cumsum(pooled) / total)[:-1]
    apart = np.abs((np.cumsum(new, axis=-1) / images)[..., :-1] - below)
    return np.asarray((apart / np.sqrt(below * (1 - below))).max(axis=-1))


def _holm(values: Mapping[str, float]) -> dict[str, float]:
    """P values corrected for their number (Holm 1979); NaN stays."""
    judged = sorted((value, name) for name, value in values.items() if not math.isnan(value))
    corrected, largest = dict(values), 0.0
    for place, (value, name) in enumerate(judged):
        largest = max(largest, min(1.0, (len(judged) - place) * value))
        corrected[name] = largest
    return corrected


def _row(found: _Comparison, p: float, confidence: float) -> dict[str, Any]:
    pair, threshold = found.pair, THRESHOLDS[found.pair.aspect]
    judged = not math.isnan(p)
    drift = bool(p <= 1 - confidence and found.effect >= threshold) if judged else None
    return {
        "aspect": pair.aspect,
        "reference": pair.words[0],
        "new": pair.words[1],
        "effect": None if math.isnan(found.effect) else found.effect,
        "threshold": threshold,
        "p": p if judged else None,
        "drift": drift,
        "statement": f"Not judged: {found.reason}." if not judged else _sentence(found, drift, p <= 1 - confidence),
    }


def _sentence(found: _Comparison, drift: bool | None, evident: bool) -> str:
    pair = found.pair
    measured = (
        f"{found.effect:.0%} of the images would have to be of another class"
        if pair.edges is None
        else f"the shares of images below a value differ by up to {100 * found.effect:.0f} points"
    )
    if drift:
        words = f"new {pair.words[1]}, {pair.split} images {pair.words[0]}"
        if pair.edges is not None:
            words = f"on average {words}"
        return f"Unlike the {pair.split} images: {words}; {measured}. {_ADVICE[pair.aspect]}"
    if evident:
        return f"Unlike the {pair.split} images by too little to matter: {measured}."
    if found.effect >= THRESHOLDS[pair.aspect]:
        return f"No evidence of drift: {measured}, which may be chance with {pair.new.sum():,} new images."
    return f"Like the {pair.split} images: {measured}."


def _summary(images: int, aspects: list[dict[str, Any]], drift: list[str]) -> str:
    judged = sum(row["drift"] is not None for row in aspects)
    if not images:
        return "There are no new images to compare."
    if not judged:
        return f"{images:,} new images are too few to say whether they are like those of the training."
    if not drift:
        return f"No drift in {judged} of {len(aspects)} aspects that could be judged, from {images:,} new images."
    details = " ".join(f"{row['aspect'].capitalize()}: {row['statement']}" for row in aspects if row["drift"])
    return f"Drift in {len(drift)} of {judged} aspects, from {images:,} new images. {details}"
