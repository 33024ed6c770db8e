"""Sets of classes that hold the true one as often as was wished, whatever the network: split conformal prediction.

The score of a class is one minus its probability (least ambiguous set-valued classifier; Sadinle, Lei and Wasserman
2019, arXiv 1609.00451). A set holds the classes whose score is at most the k-th smallest score of the true classes of n
validation images, k = ⌈(n + 1) · coverage⌉ (Vovk, Gammerman and Shafer 2005; Angelopoulos and Bates 2021, arXiv
2107.07511, section 1). Then a new image's set holds its true class with at least the wished probability, on average
over draws of the validation images, as long as the new image is drawn like them. Where the wish is below the accuracy
of the network, sets without any class are part of the answer: such images are like none of the classes.

Images of one group are not exchangeable with a new one, which is of another group: groups are. With G groups, an image
of a group of m weighs 1 / ((G + 1) m), and the score is taken up to which the weights reach the coverage (hierarchical
conformal prediction; Lee, Barber and Willett 2023, arXiv 2306.06342). With one image a group it is the k-th.

What this rests on: validation and new images, or their groups, must be exchangeable. The validation images of a run
have also chosen when training stopped and the temperature; they may look slightly easier than new ones, and have as
many images of a rare class as of a frequent one where labels are given by class: the guarantee is approximate. The
coverage measured on test images, which chose nothing, shows by how much.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cnn_transfer.evaluation.intervals import Units, proportion_interval
from cnn_transfer.evaluation.predictions import judged_on, left_out_rows, units_of
from cnn_transfer.evaluation.probabilities import counted, read_probabilities

SEPARATOR = " · "
SPREAD_LEVEL = 0.95  # of the range in which the true coverage lies, over draws of validation images


def fit_sets(validation: pd.DataFrame, coverage: float) -> dict[str, Any]:
    """Find how improbable a class may be to be in the set.

    Args:
        validation: Predictions of images that were not trained on, see `judged_on`, calibrated or not; may be empty.
        coverage: Wished share of images whose set holds the true class, above 0.5, below 1.

    Returns:
        `method` (`LAC`), `coverage`, `classes`, `images`, `groups`, `rank` (k), `least_probability` (a class is in the
        set from this probability; 0: every set holds all classes, for want of images), `images_needed` (fewest for
        smaller sets, each of another group), `coverage_low` and `coverage_high` (95% range of the true coverage over
        draws of so many groups, from a beta distribution; None without a rank), `statement`.

    Raises:
        ValueError: When the coverage is out of bounds or the table has probabilities that are none.
    """
    if not 0.5 < coverage < 1:
        raise ValueError(f"coverage must be above 0.5 and below 1. Received: {coverage}. Usual are 0.9 and 0.95.")
    data = read_probabilities(validation)
    units = units_of(validation)
    n, groups = len(validation), units.number
    needed = math.ceil(coverage / (1 - coverage) - 1e-9)
    common = {"method": "LAC", "coverage": coverage, "classes": data.classes, "images": n, "groups": groups}
    common |= {"images_needed": needed}
    of_label = data.values[np.arange(n), data.labels]
    rank, place = conformal_rank(-of_label, units, coverage)
    if rank is None:
        fewest = f"{needed:,} {judged_on(validation)}" + (" of as many groups" if units.grouped else "")
        statement = (
            f"Every set holds all {len(data.classes)} classes: a coverage of {100 * coverage:.4g}% needs at least "
            f"{fewest}, there are {n:,}{units.words}."
        )
        nothing = {"rank": None, "least_probability": 0.0, "coverage_low": None, "coverage_high": None}
        return common | nothing | {"statement": statement}
    low, high = coverage_range(groups, coverage)
    use = (
        "Each was judged by a head that has not seen it"
        if left_out_rows(validation).any()
        else "These also chose when training stopped"
    )
    statement = (
        f"A set holds the true class of a new image with a probability of at least {100 * coverage:.4g}%, if the image "
        f"is drawn like the {n:,} {judged_on(validation)}{units.words} that the sets rest on. {use}, which makes the "
        f"guarantee approximate; with so many {'groups' if units.grouped else 'images'} the true coverage lies between "
        f"{low:.1%} and {high:.1%} in {SPREAD_LEVEL:.0%} of cases."
    )
    return common | {
        "rank": rank,
        "least_probability": float(of_label[place]),
        "coverage_low": low,
        "coverage_high": high,
        "statement": statement,
    }


def prediction_sets(predictions: pd.DataFrame, sets: Mapping[str, Any]) -> pd.DataFrame:
    """The set of each image.

    Args:
        predictions: Predictions of the same network, calibrated in the same way; may be empty.
        sets: What `fit_sets` returned.

    Returns:
        One row an image: `id`, `label`, `size`, `set` (names of classes, the most probable first, joined by ` · `; an
        empty text for a set without classes), `covered` (whether the label is in it), `group` if predictions have it.

    Raises:
        ValueError: When the predictions are of other classes.
    """
    data = read_probabilities(predictions)
    if data.classes != list(sets["classes"]):
        raise ValueError(
            f"The sets were fitted for the classes {', '.join(sets['classes'])}. The predictions are of "
            f"{', '.join(data.classes)}. Fit them on validation images of the same network."
        )
    held, texts = sets_of(data.values, sets)
    return pd.DataFrame(
        {
            "id": predictions["id"].to_numpy(),
            "label": predictions["label"].to_numpy(),
            "size": held.sum(axis=1).astype(int),
            "set": texts,
            "covered": held[np.arange(len(held)), data.labels],
            **({"group": predictions["group"].to_numpy()} if "group" in predictions else {}),
        }
    ).astype({"set": "str"})


def sets_of(probabilities: np.ndarray, sets: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The set of each image, from its probabilities alone.

    Args:
        probabilities: (n, c), in the order of the classes.
        sets: What `fit_sets` returned.

    Returns:
        Which classes each set holds, (n, c) booleans, and its text, (n,), see `prediction_sets`.
    """
    held = probabilities >= sets["least_probability"]
    names = np.asarray(sets["classes"], object)
    texts = names[probabilities.argmax(axis=1)]  # of sets of one
    others = np.flatnonzero(held.sum(axis=1) != 1)
    for row, order in zip(others, np.argsort(-probabilities[others], axis=1, kind="stable"), strict=True):
        texts[row] = SEPARATOR.join(names[order[held[row, order]]])
    return held, texts


def measure_sets(table: pd.DataFrame, sets: Mapping[str, Any], confidence: float) -> dict[str, Any]:
    """How often the sets hold the true class, and how large they are.

    Args:
        table: See `prediction_sets`; may be empty.
        sets: What `fit_sets` returned.
        confidence: Level of Wilson's interval, 0-1, which respects groups.

    Returns:
        `images`, `coverage` with `coverage_low` and `coverage_high`, `mean_size`, `single_share` (sets of one class),
        `empty_share`, `least_covered_class` and its `least_class_coverage` (the guarantee is for all classes together),
        `statement`; None where there are no images.
    """
    n = len(table)
    if not n:
        keys = ["coverage", "coverage_low", "coverage_high", "mean_size", "single_share", "empty_share"]
        nothing = dict.fromkeys([*keys, "least_covered_class", "least_class_coverage"])
        return {"images": 0, **nothing, "statement": "There are no images to measure the sets on."}
    coverage = proportion_interval(table["covered"].to_numpy(bool), confidence, table.get("group"))
    single, empty = float((table["size"] == 1).mean()), float((table["size"] == 0).mean())
    by_class = table.groupby("label")["covered"].mean()
    worst = str(by_class.idxmin())
    least = f" Least covered is {worst}, {by_class[worst]:.1%}." if by_class[worst] < 1 else ""
    statement = (
        f"The sets of {counted(n, 'image')} hold the true class in {coverage.estimate:.1%} of them ({coverage.low:.1%}–"
        f"{coverage.high:.1%}); {single:.1%} hold one class, {empty:.1%} none, {table['size'].mean():.2f} on average."
        f"{least}"
    )
    if sets["least_probability"] == 0:
        statement = f"The sets of {counted(n, 'image')} hold all classes, the true one among them: they say nothing."
    return {
        "images": n,
        "coverage": coverage.estimate,
        "coverage_low": coverage.low,
        "coverage_high": coverage.high,
        "mean_size": float(table["size"].mean()),
        "single_share": single,
        "empty_share": empty,
        "least_covered_class": worst,
        "least_class_coverage": float(by_class[worst]),
        "statement": statement,
    }


def conformal_rank(scores: np.ndarray, units: Units, coverage: float) -> tuple[int | None, int]:
    """Which score is such that a new one is at most as high with at least the wished probability.

    Args:
        scores: (n,) finite.
        units: The groups that they are of; the new one is of another.
        coverage: The probability, 0-1.

    Returns:
        Its rank among the scores, from 1 (None: there are too few groups), and its position.
    """
    if _rank(units.number, coverage) > units.number:
        return None, 0
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(1 / ((units.number + 1) * np.bincount(units.codes)[units.codes[order]]))
    rank = int(np.searchsorted(reached, coverage - 1e-9)) + 1
    return rank, int(order[rank - 1])


def coverage_range(groups: int, coverage: float) -> tuple[float, float]:
    """Ends of the range of the true coverage, which is Beta(k, n + 1 - k) over draws of n validation images.

    Vovk 2012, arXiv 1209.2673: exact where every image is a group of its own and no two scores are equal.

    Args:
        groups: How many, enough for a rank.
        coverage: As wished.
    """
    from scipy.stats import beta

    rank, tail = _rank(groups, coverage), (1 - SPREAD_LEVEL) / 2
    low, high = beta.ppf([tail, 1 - tail], rank, groups + 1 - rank)
    return float(low), float(high)


def _rank(n: int, coverage: float) -> int:
    """⌈(n + 1) · coverage⌉, without what the product of a float adds: 0.95 · 20 is 19, not 19.000000000000004."""
    return math.ceil(round((n + 1) * coverage, 9))
