"""Knowing when not to answer: accuracy of the images that a network is sure enough of, and the threshold for a wish.

An image is answered when its confidence, the highest of its probabilities, is at least the threshold. (One that is
unlike the training images gets no answer either: that is the business of `familiarity`.) The threshold for a wished
accuracy is chosen on validation images by fixed-sequence testing (Angelopoulos et al. 2021, "Learn then test", arXiv
2110.01052, section 4): thresholds of a list that was fixed before are tried from the strictest down, each by an exact
binomial test at the full level, until one fails. Among all looks the chance of a threshold that misses the wish stays
below one minus the confidence. It rests on test images being drawn like the validation images, on validation images
having no part in the training, and on accuracy not rising as the threshold falls.

Few validation images cannot show a high accuracy: 0.98 takes 149 of them without a mistake. Where they are fewer, the
search is for the highest of a list of levels that so many could show, which their number alone decides. Where the first
look fails, its own lower bound is what can be promised. Neither is a further look at the labels: a bound that holds
with the confidence is promised instead of a level that it failed to reach.

Images of one group are right and wrong together, to an extent that few images cannot show. They count as if wholly so:
n images of groups of sizes m are as good as n² / Σ m² (Kish 1965, Survey Sampling, section 5.4, for a correlation of 1
within groups), and the bound is that of so many images (Korn and Graubard 1998, Survey Methodology 24, 193-201).

Training images that were left out may stand for validation images, or join them. They are judged by heads that have
seen all others, so that they are not independent, and a few choices were made by them. How often a promise is broken
then measures `benchmarks/left_out_promises.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from cnn_transfer.evaluation.figures import Figure, new_figure
from cnn_transfer.evaluation.intervals import Units, proportion_interval
from cnn_transfer.evaluation.predictions import judged_on, left_out_rows, units_of
from cnn_transfer.evaluation.probabilities import (
    Probabilities,
    confidence_text,
    counted,
    percent_text,
    read_probabilities,
)

MOST_ROWS = 200
# Fixed, so that the labels of validation images have no part in it; dense where calibrated confidences lie.
THRESHOLDS = (
    0.9999, 0.9995, 0.999, 0.998, 0.997, 0.996, 0.995, 0.9925, 0.99, 0.985, 0.98, 0.97, 0.96, 0.95, 0.94, 0.92, 0.9,
    0.85, 0.8, 0.75, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0,
)  # fmt: skip
UNFAMILIAR = "unfamiliar"  # why an image has no answer: it is unlike the training images
# Looked for instead of a wish that so few images cannot show.
LEVELS = (0.99, 0.98, 0.97, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5)
# The first look waits for so many images that up to two mistakes would pass, if these are at most two thirds of all:
# on the default run (200 images, wish 0.95) it answers 96% of the images instead of 88% without waiting.
MOST_TOLERATED, WAITING_SHARE = 2, 2 / 3
MOST_IMAGES_NEEDED = 10_000_000
LINE_COLOUR, MARK_COLOUR = "#0072b2", "#d55e00"


def risk_coverage_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of the images that are answered, for each threshold.

    Args:
        predictions: A table of predictions, best calibrated; may be empty.

    Returns:
        One row a distinct confidence, from the strictest threshold down, at most 200 at even distances: `coverage`
        (share of images that are answered), `threshold`, `accuracy` and `risk` (1 - accuracy) of those, `images`.
    """
    table = _steps(predictions)
    if len(table) <= MOST_ROWS:
        return table
    kept = np.linspace(0, len(table) - 1, MOST_ROWS).round().astype(int)
    return table.iloc[kept].reset_index(drop=True)


def risk_coverage_area(predictions: pd.DataFrame) -> float | None:
    """Area under risk against coverage (Geifman and El-Yaniv 2017): 0 is perfect; None without images.

    The mean share of mistakes among the images that are at least as sure, over all images.
    """
    if predictions.empty:
        return None
    table = _steps(predictions)
    return float((table["coverage"].diff().fillna(table["coverage"]) * table["risk"]).sum())


def choose_threshold(
    validation: pd.DataFrame, wished_accuracy: float, confidence: float, least_accuracy: float = 1.0
) -> dict[str, Any]:
    """The lowest threshold whose answered images reach the wished accuracy, with the stated confidence over all looks.

    Where the wish cannot be shown, the best that can: a lower accuracy is promised, but never less than the least.

    Args:
        validation: Calibrated predictions of images that were not trained on, see `judged_on`; may be empty.
        wished_accuracy: Above 0, below 1.
        confidence: Probability that the promise is kept, above 0.5, below 1.
        least_accuracy: To be promised, above 0; 1, as any above the wish: nothing less than the wish.

    Returns:
        `judged_on` (what the images are called), `threshold` (None: nothing can be promised), `wished_accuracy`,
        `promised_accuracy` (None likewise), `confidence`, `images`, `groups`, and of the images answered at the
        threshold (or at the first look, where that failed) `answered`, `answered_share`, `accuracy`, `accuracy_low`
        (one-sided bound of Clopper and Pearson; None without images); `images_needed` for the wish (None: reached, or
        more images alone would not help; with groups as large as these), `statement`.

    Raises:
        ValueError: When a number is out of bounds or the table has probabilities that are none.
    """
    if not 0 < wished_accuracy < 1:
        raise ValueError(f"wished_accuracy must be above 0 and below 1. Received: {wished_accuracy}.")
    if not 0.5 < confidence < 1:
        raise ValueError(f"confidence must be above 0.5 and below 1. Received: {confidence}.")
    if not 0 < least_accuracy <= 1:
        raise ValueError(f"least_accuracy must be above 0 and at most 1. Received: {least_accuracy}.")
    data = read_probabilities(validation)
    units = units_of(validation)
    n, groups, independent = len(validation), units.number, independent_images(units)
    aim = _aim(independent, wished_accuracy, least_accuracy, confidence)
    chosen, first = _search(data, units, aim, confidence)
    promised = aim if chosen else None
    if first and not chosen and (shown := math.floor(100 * first["accuracy_low"]) / 100) >= least_accuracy:
        chosen, promised = first, shown
    what = judged_on(validation) + units.words
    result = {"judged_on": what, "threshold": None, "wished_accuracy": wished_accuracy, "promised_accuracy": promised}
    result |= {"confidence": confidence, "images": n, "groups": groups}
    nothing = {"answered": 0, "answered_share": 0.0, "accuracy": None, "accuracy_low": None}
    needed, statement, surely = None, "", f"with {percent_text(confidence)} confidence"
    if promised != wished_accuracy:
        look = first if aim == wished_accuracy else None
        needed, reason = _what_is_missing(look, n, independent, wished_accuracy, confidence, what)
        statement = f"No threshold reaches an accuracy of {wished_accuracy:.4g} {surely}: {reason}."
    if chosen:
        those = (
            f"those that are at least {confidence_text(chosen['threshold'])} sure"
            if chosen["threshold"]
            else "all images"
        )
        kept = (
            f"Answering {those} keeps an accuracy of at least {promised:.4g} {surely}: "
            f"of {n:,} {what} {chosen['answered']:,} are answered, {chosen['accuracy']:.1%} of them right "
            f"(lower bound {chosen['accuracy_low']:.1%})."
        )
        if left_out_rows(validation).any():
            kept += " Each was judged by a head that has not seen it, which makes the confidence approximate."
        return result | chosen | {"images_needed": needed, "statement": f"{statement} {kept}".strip()}
    return result | nothing | (first or {}) | {"threshold": None, "images_needed": needed, "statement": statement}


def independent_images(units: Units) -> float:
    """How many independent images those of some groups are worth at least, at most as many as there are groups."""
    sizes = np.bincount(units.codes)
    return float(len(units.codes) ** 2 / (sizes**2).sum()) if len(units.codes) else 0.0


def _aim(n: float, wish: float, least: float, confidence: float) -> float:
    """The wish, or the highest level below it that so many images could show; decided before any label is seen."""

    def can_be_shown(level: float) -> bool:
        return (fewest_images(level, confidence, 0) or MOST_IMAGES_NEEDED) <= n

    levels = [wish, *(level for level in LEVELS if least <= level < wish)]
    return next(filter(can_be_shown, levels), wish)


def _search(
    data: Probabilities, units: Units, aim: float, confidence: float
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The last look that reaches the aim, before one that does not, and the first look of all."""
    n = len(data.correct)
    least = _least_answered(independent_images(units), aim, confidence)
    chosen: dict[str, Any] | None = None
    first: dict[str, Any] | None = None
    for threshold in THRESHOLDS:
        answered = data.confidence >= threshold
        count, right = int(answered.sum()), int(data.correct[answered].sum())
        independent = independent_images(units.of(answered))
        if independent < least:
            continue
        look = {
            "threshold": threshold,
            "answered": count,
            "answered_share": count / n,
            "accuracy": right / count,
            "accuracy_low": _lower_bound(right / count * independent, independent, confidence),
        }
        first = first or look
        if look["accuracy_low"] < aim:
            break
        chosen = look
    return chosen, first


def measure_threshold(test: pd.DataFrame, threshold: float | None, confidence: float) -> dict[str, Any]:
    """What a threshold that was chosen on validation images does on test images.

    Args:
        test: Calibrated predictions of test images; may be empty.
        threshold: Lowest confidence that is answered, 0-1; None answers nothing.
        confidence: Level of Wilson's intervals, 0-1, which respect groups.

    Returns:
        `threshold`, `images`, `answered` (sure enough, be they familiar or not: the promise is about these),
        `answered_share` and `accuracy` (of the answered) with `…_low` and `…_high`
        (None where there is nothing to measure), `statement`.
    """
    data = read_probabilities(test)
    answered = data.confidence >= (np.inf if threshold is None else threshold)
    n, count = len(answered), int(answered.sum())
    groups = units_of(test).codes
    share, accuracy = (
        proportion_interval(values, confidence, of) if len(values) else (None, None, None)
        for values, of in ((answered, groups), (data.correct[answered], groups[answered]))
    )
    if not n:
        statement = "There are no test images to measure the threshold on."
    elif threshold is None:
        statement = f"Without a threshold none of {counted(n, 'test image')} is answered."
    elif not count:
        statement = (
            f"None of {counted(n, 'test image')} is at least {confidence_text(threshold)} sure, none is answered."
        )
    else:
        statement = (
            f"The network is sure enough of {share[0]:.1%} of {counted(n, 'test image')}, {accuracy[0]:.1%} of "
            f"these right ({accuracy[1]:.1%}–{accuracy[2]:.1%})."
        )
    return {
        "threshold": threshold,
        "images": n,
        "answered": count,
        **dict(zip(("answered_share", "answered_share_low", "answered_share_high"), share, strict=True)),
        **dict(zip(("accuracy", "accuracy_low", "accuracy_high"), accuracy, strict=True)),
        "statement": statement,
    }


def draw_risk_coverage(table: pd.DataFrame, measured: Mapping[str, Any]) -> Figure:
    """Share of mistakes among the answered images against the share that is answered.

    Args:
        table: See `risk_coverage_table`; may be empty.
        measured: What a threshold does to the same images, see `measure_threshold`; marked where it answers some.
    """
    figure = new_figure(5.5, 3.8)
    if table.empty:
        figure.suptitle("No predictions, no risk", fontsize=10)
        return figure
    axes = figure.subplots()
    percent = 100 * table[["coverage", "risk"]]
    axes.plot(percent["coverage"], percent["risk"], color=LINE_COLOUR, lw=1.8)
    every = f"all answered: {percent['risk'].iloc[-1]:.1f}% wrong"
    axes.plot(percent["coverage"].iloc[-1], percent["risk"].iloc[-1], "o", ms=5, color=LINE_COLOUR, label=every)
    if measured["accuracy"] is not None:
        coverage, risk = 100 * measured["answered_share"], 100 * (1 - measured["accuracy"])
        sure = confidence_text(measured["threshold"])
        label = f"at least {sure} sure: {coverage:.1f}% answered, {risk:.1f}% of them wrong"
        axes.plot([coverage, coverage], [0, risk], color=MARK_COLOUR, ls="--", lw=1)
        axes.plot(coverage, risk, "D", ms=6, color=MARK_COLOUR, label=label, clip_on=False)
    figure.legend(fontsize=8, loc="outside lower center", frameon=False)
    axes.set_xlim(0, 102)
    axes.set_ylim(0, max(1.0, 1.25 * percent["risk"].max()))
    axes.set_xlabel("answered: % of the images, the surest first")
    axes.set_ylabel("wrong: % of the answered")
    axes.set_title("What not answering is worth", fontsize=10)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    return figure


def _steps(predictions: pd.DataFrame) -> pd.DataFrame:
    """One row a distinct confidence, from the highest down."""
    data = read_probabilities(predictions)
    frame = pd.DataFrame({"threshold": data.confidence, "correct": data.correct})
    grouped = frame.groupby("threshold")["correct"].agg(["sum", "count"]).sort_index(ascending=False).cumsum()
    accuracy = (grouped["sum"] / grouped["count"]).to_numpy(float)
    return pd.DataFrame(
        {
            "coverage": grouped["count"].to_numpy() / max(1, len(frame)),
            "threshold": grouped.index.to_numpy(float),
            "accuracy": accuracy,
            "risk": 1 - accuracy,
            "images": grouped["count"].to_numpy(int),
        }
    )


def _lower_bound(right: float, count: float, confidence: float) -> float:
    """One-sided lower bound of a proportion (Clopper and Pearson 1934), also of numbers that are no whole ones."""
    from scipy.stats import beta

    return float(beta.ppf(1 - confidence, right, count - right + 1)) if right else 0.0


def fewest_images(
    wish: float,
    confidence: float,
    mistakes: float,
    lower_bound: Callable[[int, int, float], float] = _lower_bound,
) -> int | None:
    """Fewest images whose lower bound reaches the wish; `mistakes` is a number of them, or a share below 1.

    None where more than ten million would be needed. The bound is that of one look if none is named.
    """

    def reaches(count: int) -> bool:
        wrong = math.ceil(mistakes * count) if mistakes < 1 else int(mistakes)
        return lower_bound(max(0, count - wrong), count, confidence) >= wish

    high = 1
    while not reaches(high):
        high *= 2
        if high > MOST_IMAGES_NEEDED:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def _least_answered(n: float, wish: float, confidence: float) -> int:
    """Answered images that the first look waits for; decided before any label is seen."""
    error_free = fewest_images(wish, confidence, 0) or MOST_IMAGES_NEEDED
    tolerant = [fewest_images(wish, confidence, mistakes) for mistakes in range(1, MOST_TOLERATED + 1)]
    return max([error_free, *(count for count in tolerant if count and count <= WAITING_SHARE * n)])


def _what_is_missing(
    first: dict[str, Any] | None, n: int, independent: float, wish: float, confidence: float, what: str
) -> tuple[int | None, str]:
    """How many images would do, in groups as large as these, and why these do not."""
    size = n / independent if n else 1.0
    if first is None:
        fewest = fewest_images(wish, confidence, 0)
        needed = None if fewest is None else math.ceil(round(fewest * size, 9))
        few = f"at least {needed:,} are needed even when all are right" if needed else "no number of images would do"
        return needed, f"there are {n:,} {what}, {few}"
    seen = f"of the {first['answered']:,} surest {what} {first['accuracy']:.1%} are right"
    if first["accuracy"] <= wish:
        return None, f"{seen}, and more of them would not help: wish for less, or label more images to train on"
    answered = fewest_images(wish, confidence, 1 - first["accuracy"])
    if answered is None:
        return None, f"{seen}, which is too close to the wish to be shown"
    needed = math.ceil(round(answered * size / first["answered_share"], 9))
    return needed, f"{seen}; about {needed:,} {what} with that share would be needed"
