"""Are new images like those that the network was made with?

Stable for callers: `DriftCounts` (`empty`, `add`, `merge`, `to_json`, `from_json`, `images`), `drift_report`,
`describe_drift`, `drift_table`, and `drift_figure.drift_plot`; of a report its keys `statement`, `drift`, `images`,
`aspects`.

Six aspects are compared. Size, brightness and sharpness with the training images; classes predicted, confidence and
features (the distance to the training images) with the validation images, which the network was not trained on, or
where there are none with training images, each left out. Drift is called where both hold:

- the effect is at least the aspect's threshold in `THRESHOLDS`. For numbers it is the distance of Kolmogorov and
  Smirnov, the largest difference between the shares of images below any value; for classes the total variation, the
  share of images that would have to be of another class. So 0.1 means that one image in ten is not like the others.
  In a shift of a normal distribution it is a Cohen's d of 0.25, where 0.2 is small and 0.5 medium (Cohen 1988,
  Statistical Power Analysis, 2.2), and a population stability index of 0.06, where the usual rule watches from 0.1 on
  (d of 0.32) and acts from 0.25 on (d of 0.5; Siddiqi 2006, Credit Risk Scorecards). Features have 0.05: a few strange
  images among usual ones move that distance by their share at most, and to find them is what the aspect is for.
- chance does not explain it: the p value of a permutation test, corrected for the number of aspects by Holm (1979), is
  at most 1 - confidence. How often each value occurs in both samples together is given; without drift all ways to deal
  these images to the two are equally likely, whatever the distribution, the ties and the numbers of images (Good 2005,
  Permutation, Parametric and Bootstrap Tests, 3). The statistic is the likelihood ratio G: for numbers the largest of
  all divisions into images below a value and above (Berk and Jones 1979), in which a few far images count as they
  should also among many new and few known ones, for classes that of the whole table. Images count as independent:
  a hundred frames of one film are evidence of that film.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy

from cnn_transfer.evaluation.predictions import LEFT_OUT_IMAGES, VALIDATION_IMAGES
from cnn_transfer.evaluation.probabilities import whole_percent
from cnn_transfer.prediction.drift_counts import IMAGE_FIGURES, DriftCounts
from cnn_transfer.prediction.facts import PredictorFacts
from cnn_transfer.prediction.references import References

__all__ = ["THRESHOLDS", "DriftCounts", "describe_drift", "drift_report", "drift_table"]

CLASSES = "classes predicted"
THRESHOLDS = {"size": 0.1, "brightness": 0.1, "sharpness": 0.1, CLASSES: 0.1, "confidence": 0.1, "features": 0.05}
ASPECTS = {"width_px": "size", "height_px": "size", "distance": "features"}  # others are called as their figure
ADVICE = {
    "size": "Look at where they come from: smaller ones lack detail that the network has learnt to read, larger ones "
    "may show more around what it was to look at.",
    "brightness": "Look at the darkest and the brightest: exposure, camera or conversion may have changed.",
    "sharpness": "Look for blur, noise, strong compression or enlarged images.",
    CLASSES: "Labelled images often hold all classes equally by design, and then this may be the usual mix of the new "
    "ones; if it is not, look at the classes that grew and label some.",
    "confidence": "Look at the least sure ones, label some and fine-tune again.",
    "features": "Look at those of the largest distance, label some and fine-tune again.",
}
FEWEST_DEALS, MOST_DEALS = 200, 2_000  # in memory at once
DEALS_BEYOND = 20  # expected at the smallest level that is asked for
FEW_BEYOND = 10
ROUNDING = 1e-5  # of the statistic, of up to 10**8 images
MOST_COUNTED = 10**8  # numpy deals fewer than 10**9 images; more are scaled down
SHOWN_CLASSES = 3


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
        Of plain values, for JSON: `statement`, `drift` (names of the aspects), `images`, `training_images` (left out),
        `confidence`, `aspects` (one dict an aspect: `aspect`, `reference` and `new` (mean or commonest classes, in
        words), `effect` (0-1), `threshold`, `p` (corrected), `drift`, `statement`; what could not be judged is None)
        and `shares`: of each figure `aspect`, `split`, `edges` or `classes`, `reference` and `new` (shares of the
        images in each bin or class; None without images), for the plot.

    Raises:
        ValueError: When the counts are those of another predictor, or the confidence is out of bounds.
    """
    if not 0.5 <= confidence < 1:
        raise ValueError(f"confidence must be at least 0.5 and below 1. Received: {confidence}. Take 0.99.")
    counts.check_same_bins(DriftCounts.empty(facts, references))
    held_out = facts.familiarity.get("held_out", True)
    called = {"training": "training images", "validation": VALIDATION_IMAGES if held_out else LEFT_OUT_IMAGES}
    samples = [
        *(_numbers(name, counts, references, called) for name in IMAGE_FIGURES),
        _classes(counts, references, called),
    ]
    judged: dict[str, list[_Comparison]] = {aspect: [] for aspect in THRESHOLDS}
    for sample in samples:
        judged[sample.aspect].append(_compare(sample, confidence))
    unlike = [min(found, key=_likeness) for found in judged.values()]
    corrected = _holm([len(judged[one.sample.aspect]) * one.p for one in unlike])
    aspects = [_row(one, p, 1 - confidence) for one, p in zip(unlike, corrected, strict=True)]
    return {
        "statement": " ".join(_sentences(counts.images, counts.training_images, aspects)),
        "drift": [row["aspect"] for row in aspects if row["drift"]],
        "images": counts.images,
        "training_images": counts.training_images,
        "confidence": confidence,
        "aspects": aspects,
        "shares": {sample.name: sample.shares for sample in samples},
    }


def describe_drift(report: Mapping[str, Any]) -> list[str]:
    """The statement of a report, a line a sentence or aspect."""
    return _sentences(report["images"], report["training_images"], report["aspects"])


def drift_table(report: Mapping[str, Any]) -> pd.DataFrame:
    """The aspects of a report, one row each.

    Returns:
        `aspect`, `reference`, `new` (text), `effect`, `threshold`, `p` (corrected for the number of aspects), `drift`
        (boolean) and `statement`; what could not be judged is missing.
    """
    text = dict.fromkeys(("aspect", "reference", "new", "statement"), "str")
    numbers = dict.fromkeys(("effect", "threshold", "p"), "float64")
    return pd.DataFrame(report["aspects"]).astype(text | numbers | {"drift": "boolean"})


class _Sample(NamedTuple):
    """One figure of references and new images."""

    name: str
    known: str  # what the references are called
    ordered: bool
    counts: tuple[np.ndarray, np.ndarray]  # (bins,) of the references, of the new images
    words: tuple[str | None, str | None]
    shares: dict[str, Any]

    @property
    def aspect(self) -> str:
        return ASPECTS.get(self.name, self.name)


class _Comparison(NamedTuple):
    sample: _Sample
    effect: float  # NaN: there is nothing to compare
    p: float  # NaN: not judged
    reason: str = ""  # why not


def _numbers(name: str, counts: DriftCounts, references: References, called: Mapping[str, str]) -> _Sample:
    figure = IMAGE_FIGURES[name]
    sides = (counts.binned(name, getattr(references, figure.split)[name]), counts.figures[name])
    known, new = (np.array(side.counts, np.int64) for side in sides)
    words = [
        figure.form.format(side.steps * figure.step / total) if (total := sum(side.counts)) else None for side in sides
    ]
    shares = {"edges": figure.grid.tolist()} | _shares(*(side.between(figure.cuts) for side in sides))
    described = {"aspect": ASPECTS.get(name, name), "split": figure.split}
    return _Sample(name, called[figure.split], True, (known, new), (words[0], words[1]), described | shares)


def _classes(counts: DriftCounts, references: References, called: Mapping[str, str]) -> _Sample:
    sides = (counts.by_class(references.validation["predicted"]), counts.classes)
    known, new = (np.array(list(side.values()), np.int64) for side in sides)
    shares = {"aspect": CLASSES, "split": "validation", "classes": list(counts.classes)} | _shares(known, new)
    words = _commonest(sides[0]), _commonest(sides[1])
    return _Sample(CLASSES, called["validation"], False, (known, new), words, shares)


def _shares(known: np.ndarray, new: np.ndarray) -> dict[str, list[float] | None]:
    sides = {"reference": known, "new": new}
    return {name: (side / side.sum()).tolist() if side.sum() else None for name, side in sides.items()}


def _commonest(classes: Mapping[str, int]) -> str | None:
    images = sum(classes.values())
    common = sorted(filter(classes.get, classes), key=lambda name: -classes[name])[:SHOWN_CLASSES]
    shares = {name: whole_percent(classes[name] / images) if len(common) > 1 else "100%" for name in common}
    return ", ".join(f"{name} ({share})" for name, share in shares.items()) or None


def _compare(sample: _Sample, confidence: float) -> _Comparison:
    """Effect and p value of one figure, before any correction."""
    known, new = (int(side.sum()) for side in sample.counts)
    if not known:
        reason = f"the predictor keeps no {sample.known} to compare with"
        return _Comparison(sample, math.nan, math.nan, reason)
    if not new:
        return _Comparison(sample, math.nan, math.nan, "no new image has this figure")
    apart = sample.counts[1] / new - sample.counts[0] / known
    effect = float(np.abs(np.cumsum(apart)).max() if sample.ordered else np.abs(apart).sum() / 2)
    ways = math.lgamma(known + new + 1) - math.lgamma(known + 1) - math.lgamma(new + 1)
    if math.exp(-ways) > (1 - confidence) / len(THRESHOLDS):  # not even the least likely deal is evidence
        reason = f"{_images(new)} beside {known:,} {sample.known} cannot show a difference"
        return _Comparison(sample, effect, math.nan, reason)
    return _Comparison(sample, effect, _p_value(*sample.counts, sample.ordered, 1 - confidence))


def _p_value(known: np.ndarray, new: np.ndarray, ordered: bool, level: float) -> float:
    """How often chance deals the images of each bin to the two samples at least as unequally.

    Once some deals are, and p is above the level, it is no evidence before any correction, and few deals are enough.
    """
    images = int((known + new).sum())
    if images > MOST_COUNTED:
        known, new = (np.rint(side * (MOST_COUNTED / images)).astype(np.int64) for side in (known, new))
    pooled = known + new
    new, pooled = new[pooled > 0], pooled[pooled > 0]
    if len(pooled) == 1:
        return 1.0
    observed = _inequality(new, pooled, ordered) - ROUNDING
    rng = np.random.default_rng(0)  # the same counts have the same p value
    beyond = dealt = 0
    wanted = math.ceil(DEALS_BEYOND * len(THRESHOLDS) / level)
    while dealt < wanted and not (beyond >= FEW_BEYOND and (1 + beyond) / (1 + dealt) > level):
        draws = min(max(FEWEST_DEALS, dealt), MOST_DEALS, wanted - dealt)
        deals = rng.multivariate_hypergeometric(pooled, int(new.sum()), draws, method="marginals")
        beyond += int((_inequality(deals, pooled, ordered) >= observed).sum())
        dealt += draws
    return (1 + beyond) / (1 + dealt)


def _inequality(new: np.ndarray, pooled: np.ndarray, ordered: bool) -> np.ndarray:
    """How unequal the parts of the bins are that are new, (…, bins): (…,), half a G up to a constant."""
    if not ordered:
        return np.asarray((_entropy(new) + _entropy(pooled - new)).sum(axis=-1))
    new_below, below = np.cumsum(new, axis=-1), np.cumsum(pooled)
    new_above, above = new_below[..., -1:] - new_below, below[-1] - below
    parts = _entropy(new_below) + _entropy(below - new_below) + _entropy(new_above) + _entropy(above - new_above)
    return np.asarray((parts - _entropy(below) - _entropy(above)).max(axis=-1))


def _entropy(counts: np.ndarray) -> np.ndarray:
    return np.asarray(scipy.special.xlogy(counts, counts))


def _likeness(found: _Comparison) -> tuple[bool, float, float]:
    """Of the figures of an aspect the one that is least alike is first, one that was not judged last."""
    return math.isnan(found.p), found.p, -found.effect


def _holm(values: list[float]) -> list[float]:
    """P values, corrected for the number of those that are not NaN."""
    order = sorted((value, place) for place, value in enumerate(values) if not math.isnan(value))
    corrected, largest = list(values), 0.0
    for rank, (value, place) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * value))
        corrected[place] = largest
    return corrected


def _row(found: _Comparison, p: float, level: float) -> dict[str, Any]:
    aspect = found.sample.aspect
    threshold = THRESHOLDS[aspect]
    judged, large = not math.isnan(p), found.effect >= threshold
    return {
        "aspect": aspect,
        "reference": found.sample.words[0],
        "new": found.sample.words[1],
        "effect": None if math.isnan(found.effect) else found.effect,
        "threshold": threshold,
        "p": p if judged else None,
        "drift": p <= level and large if judged else None,
        "statement": _sentence(found, p <= level, large) if judged else f"Not judged: {found.reason}.",
    }


def _sentence(found: _Comparison, evident: bool, large: bool) -> str:
    sample, effect = found.sample, found.effect
    others = "otherwise" if sample.ordered else "of other classes"
    measured = f"{_share(effect, sample.ordered)} of the new images are {others}"
    if evident and large:
        average = " on average" if sample.ordered else ""
        known, new = sample.words
        return f"{new}{average}; among the {sample.known} {known}: {measured}. {ADVICE[sample.aspect]}"
    if evident:
        return f"Unlike the {sample.known}, but too little to matter: {measured}."
    if large:
        known_images, new_images = (int(side.sum()) for side in sample.counts)
        return (
            f"No evidence of drift: the effect of {effect:.2f} may be chance with {_images(new_images)} beside "
            f"{known_images:,} {sample.known}."
        )
    return f"Like the {sample.known} (effect {effect:.2f})."


def _share(effect: float, at_least: bool) -> str:
    if effect >= 0.995:  # more than all there is not
        return "all" if effect >= 1 - 1e-9 else "nearly all"
    return f"about {100 * effect:.{0 if effect >= 0.1 else 1}f}%" + at_least * " or more"


def _sentences(number: int, training_images: int, aspects: list[dict[str, Any]]) -> list[str]:
    drift = [row for row in aspects if row["drift"]]
    left_out = [row["aspect"] for row in aspects if row["drift"] is None]
    images = _images(number)
    if not number:
        sentences = ["There are no new images to compare."]
    elif len(left_out) == len(aspects):
        sentences = [f"{images} cannot show whether what is to come is like the training images."]
    else:
        found = (
            f"Drift in {len(drift)} of {len(aspects)} aspects of {images}." if drift else f"No drift found in {images}."
        )
        sentences = [found, *(f"{row['aspect'].capitalize()}: {row['statement']}" for row in drift)]
        if left_out:
            sentences.append(f"Not judged: {', '.join(left_out)}.")
    if training_images:
        sentences.append(f"Left out: {training_images:,} that the network was trained on.")
    return sentences


def _images(number: int) -> str:
    return f"{number:,} new image{'' if number == 1 else 's'}"
