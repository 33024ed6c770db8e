"""Was the transfer worth it? Both claims that are made for it, each measured.

Better: the difference of accuracies on the same test images, with an interval for paired proportions (Bonett and
Price 2012, "Adjusted Wald confidence interval for a difference of binomial proportions based on paired data"); over
several trainings, an interval with the chance in the test images and the chance in training. Cheaper: the images that
training had to process until it reached the baseline's final validation accuracy, as a share of what the baseline
needed itself; and how much that share owes to chance in the validation images. And what to try when transfer brings
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cnn_transfer.evaluation.figures import is_blind, on_the_same_images
from cnn_transfer.evaluation.intervals import Groups, Interval, Units, proportion_interval
from cnn_transfer.evaluation.predictions import PROBABILITY
from cnn_transfer.evaluation.probabilities import part_text

RANK_SOURCES = "kedro run --pipelines rank_sources, with the --env and --params of this run"
RATIOS = ("ratio", "ratio_low", "ratio_high")
FEWEST_MISTAKES = 6  # with fewer, who makes none is not clearly better: McNemar's exact p is 0.06 for 5


def paired_difference(
    first_correct: np.ndarray, second_correct: np.ndarray, confidence: float, *groups: Groups
) -> Interval:
    """Accuracy of the first minus accuracy of the second on the same images, with its interval.

    Wald's interval after adding 1 to each count of images that only one has right (Bonett and Price 2012); with groups
    the counts are those of the effective number of images. The quantile is Student's. Two equal networks then seem to
    differ in at most 5% of cases, counted exactly from 25 images on; after adding 1/2 (Agresti and Min 2005) in 5.1%.
    Where images are grouped in several ways, what each of these adds to the variance is added up (Cameron, Gelbach and
    Miller 2011, Journal of Business & Economic Statistics 29, 238-249, for images of which no two are alike in two).

    Args:
        first_correct: (n,) booleans, whether the first was right on each image.
        second_correct: (n,) booleans of the second, in the same order.
        confidence: Level of the interval, 0-1.
        groups: (n,) the group of each image, or None: all independent; several: in as many ways.

    Returns:
        The interval; -1 to 1 with one image or one group.
    """
    from scipy import stats

    images = len(first_correct)
    ways = [Units(way, images) for way in groups or (None,)]
    only_first = int(np.sum(first_correct & ~second_correct))
    only_second = int(np.sum(~first_correct & second_correct))
    estimate = (only_first - only_second) / images
    if any(units.number == 1 for units in ways):
        return Interval(estimate, -1.0, 1.0)
    errors = first_correct.astype(float) - second_correct - estimate
    effect = 1 + sum(units.design_effect(errors / images) - 1 for units in ways)
    b, c, n = only_first / effect + 1, only_second / effect + 1, images / effect + 2
    centre = (b - c) / n
    quantile = float(stats.t.ppf(0.5 + confidence / 2, min(units.freedom for units in ways)))
    margin = quantile * math.sqrt((b + c) - (b - c) ** 2 / n) / n
    return Interval(estimate, min(estimate, max(-1.0, centre - margin)), max(estimate, min(1.0, centre + margin)))


def mcnemar(first_correct: np.ndarray, second_correct: np.ndarray, groups: Groups = None) -> float:
    """Probability of so large a difference, or a larger one, between two that are equally good.

    The exact test of McNemar (1947): half of the images that only one has right should be each one's. With groups, the
    chi-squared test on the groups' differences (Durkalski et al. 2003).

    Args:
        first_correct: (n,) booleans, whether the first was right on each image.
        second_correct: (n,) booleans of the second, in the same order.
        groups: (n,) the group of each image; None: all independent.
    """
    from scipy import stats

    units = Units(groups, len(first_correct))
    differences = units.sums(first_correct.astype(float) - second_correct)
    if not differences.any():
        return 1.0
    if units.grouped:
        return float(stats.chi2.sf(differences.sum() ** 2 / np.sum(differences**2), 1))
    return float(stats.binomtest(int(np.sum(differences > 0)), int(np.sum(differences != 0))).pvalue)


def paired_difference_over_seeds(
    first_correct: np.ndarray, second_correct: np.ndarray, confidence: float, groups: Groups = None
) -> Interval:
    """Mean difference of accuracies over trainings, for other test images and other trainings of the same kind.

    Seeds and images are crossed random effects. The variance of the mean is that between the means of seeds, plus that
    between the means of images, less what both hold (Cameron, Gelbach and Miller 2011; Owen 2007). Each part has its
    own Student's quantile (Banerjee 1960), so that few seeds give a wide interval and not a false one.

    Args:
        first_correct: (seeds, n) booleans, two seeds or more: whether the first was right on each image.
        second_correct: (seeds, n) booleans of the second.
        confidence: Level of the interval, 0-1.
        groups: (n,) the group of each image; None: all independent.

    Raises:
        ValueError: With fewer than two seeds.
    """
    from scipy import stats

    estimate, between_seeds, between_images, units = _variances_over_seeds(first_correct, second_correct, groups)
    if units.number == 1:
        return Interval(estimate, -1.0, 1.0)
    level = 0.5 + confidence / 2
    of_seeds, of_images = (float(stats.t.ppf(level, n)) for n in (len(first_correct) - 1, units.freedom))
    margin = math.sqrt(of_seeds**2 * between_seeds + of_images**2 * between_images)
    margin = max(margin, of_images / (units.least_effective + 2))  # where the two never differ
    return Interval(estimate, max(-1.0, estimate - margin), min(1.0, estimate + margin))


def _variances_over_seeds(
    first_correct: np.ndarray, second_correct: np.ndarray, groups: Groups
) -> tuple[float, float, float, Units]:
    """The mean difference; its variance between seeds; what other images add to that; and the units."""
    first, second = np.asarray(first_correct, float), np.asarray(second_correct, float)
    seeds, images = first.shape
    _check_seeds(seeds)
    differences, units = first - second, Units(groups, images)
    mean = float(differences.mean())
    of_seeds, of_images = differences.mean(axis=1), differences.mean(axis=0)
    between_seeds = float(of_seeds.var(ddof=1)) / seeds
    if units.number == 1:
        return mean, between_seeds, 0.0, units
    rest = (differences - of_seeds[:, None] - of_images + mean) / (images * seeds)
    both = sum(units.variance(row) for row in rest) * seeds / (seeds - 1)
    between_images = units.variance((of_images - mean) / images)
    return mean, between_seeds, max(0.0, between_images - both), units


def _check_seeds(seeds: int) -> None:
    if seeds < 2:
        raise ValueError(
            f"Two trainings or more are needed to say how much training varies. Received: {seeds}. Run again with "
            "another seed, or use paired_difference, which speaks of the one training only."
        )


def compare_over_seeds(
    targets: Sequence[pd.DataFrame], baselines: Sequence[pd.DataFrame], confidence: float
) -> dict[str, Any]:
    """Compare several trainings with as many of a baseline, all judged on the same images.

    Args:
        targets: Predictions of each transferred network, two or more.
        baselines: Predictions of each network to compare with, as many.
        confidence: Level of the interval, 0-1.

    Returns:
        `difference` with `difference_low` and `difference_high` (mean accuracy of the targets minus that of the
        baselines), `verdict` (`positive`, `neutral`, `negative`), `seeds`, `training_deviation` (standard deviation of
        the difference from training to training on these images), `test_deviation` (from one set of as many test images
        to another), all accuracies 0-1, and a `sentence`.

    Raises:
        ValueError: With fewer than two seeds, unequal numbers of them, or predictions of different images.
    """
    if len(targets) != len(baselines):
        raise ValueError(
            f"Each training must have a baseline. Received: {len(targets)} trainings, {len(baselines)} baselines. "
            "Leave out the seeds that lack one."
        )
    _check_seeds(len(targets))
    for table in [*targets, *baselines]:
        _check_same_images(targets[0], table)
    correct = [np.array([_correct(table) for table in tables]) for tables in (targets, baselines)]
    groups = targets[0].get("group")
    difference = paired_difference_over_seeds(correct[0], correct[1], confidence, groups)
    _, between_seeds, between_images, _ = _variances_over_seeds(correct[0], correct[1], groups)
    verdict, seeds = _verdict(difference), len(targets)
    training, test = math.sqrt(between_seeds * seeds), math.sqrt(between_images)
    return {
        "difference": difference.estimate,
        "difference_low": difference.low,
        "difference_high": difference.high,
        "verdict": verdict,
        "seeds": seeds,
        "training_deviation": training,
        "test_deviation": test,
        "sentence": f"Over {seeds} trainings: {_better(verdict, difference)} The difference varies by "
        f"{100 * training:.1f} points from training to training, and by {100 * test:.1f} with the test images.",
    }


def images_to_reach(log: pd.DataFrame, validation_accuracy: float) -> float | None:
    """Fewest images that a trial had processed when its validation accuracy reached a level; None when none did."""
    reached = log.loc[log["validation_accuracy"] >= validation_accuracy - 1e-9, "images_processed"]
    return float(reached.min()) if len(reached) else None


def training_cost_ratio(
    target_log: pd.DataFrame, baseline_log: pd.DataFrame, validation_images: float
) -> dict[str, float | None]:
    """The cost to reach the baseline's final validation accuracy, transfer against baseline.

    The baseline's final accuracy is that of its delivered weights. On both sides the cost is that of the trial that
    reached this level with the fewest images, with what it goes on from; other trials are not counted, and neither is
    pretraining.

    On few validation images, one right answer more or less can decide between a head that is there at once and
    training that never is. So the cost is also counted to levels that are one standard error lower and higher (that of
    Agresti and Coull 1998 with z = 1, above 0 where all are right, too). Of the difference between two networks
    that are as good and share half of their mistakes it is the same.

    Args:
        target_log: Logs of all trials of the fine-tuning, both phases.
        baseline_log: Logs of all trials from scratch, with the column `delivered`.
        validation_images: Number of independent images that both are judged on, or that these are worth.

    Returns:
        `baseline_validation_accuracy`, its `standard_error`, `baseline_images`, `target_images` and their `ratio`, and
        `ratio_low` and `ratio_high`, to the lower and the higher level; None where the level was never reached or there
        is no baseline.
    """
    names = ("baseline_validation_accuracy", "standard_error", "baseline_images", "target_images")
    found: dict[str, float | None] = dict.fromkeys((*names, *RATIOS))
    delivered = baseline_log[baseline_log["delivered"].astype(bool)]
    if delivered.empty:
        return found
    level = float(delivered["validation_accuracy"].to_numpy()[delivered["validation_loss"].to_numpy().argmin()])
    share = (validation_images * level + 0.5) / (validation_images + 1)
    error = math.sqrt(share * (1 - share) / (validation_images + 1))
    baseline_images = images_to_reach(baseline_log, level)
    reached = [images_to_reach(target_log, wanted) for wanted in (level, level - error, level + error)]
    found |= dict(zip(names, (level, error, baseline_images, reached[0]), strict=True))
    for name, images in zip(RATIOS, reached, strict=True):
        found[name] = images / baseline_images if images is not None and baseline_images else None
    return found


def compare(
    target: pd.DataFrame,
    baseline: pd.DataFrame,
    random: pd.DataFrame,
    target_log: pd.DataFrame,
    baseline_log: pd.DataFrame,
    validation_images: float,
    confidence: float,
    depths: pd.DataFrame | None = None,
    plan: Mapping[str, Any] | None = None,
    baseline_gain: float | None = None,
) -> dict[str, Any]:
    """Compare the transferred network with the one trained from scratch, and say what the difference comes from.

    Args:
        target: Predictions of the transferred network on the test images.
        baseline: Predictions of the other on the same images; empty when there is no baseline.
        random: Predictions of a network made by the same method from random weights; empty when there is none.
        target_log: Log of the fine-tuning.
        baseline_log: Logs of the training from scratch.
        validation_images: Number of images that both logs judge by, or that these are worth; 0 without a baseline.
        confidence: Level of the intervals, which respect the groups that the tables of predictions name.
        depths: What each depth of the source network knows; see `cnn_transfer.transfer.depth_table`.
        plan: The transfer plan; see `cnn_transfer.transfer.TransferPlan`.
        baseline_gain: What the last doubling of the training from scratch brought; see
            `cnn_transfer.transfer.last_doubling`.

    Returns:
        `difference` with `difference_low` and `difference_high` (accuracy, 0-1), `verdict` (`positive`, `neutral`,
        `negative`, or None without a baseline), `mcnemar_p` (a second opinion; see `mcnemar`), `baseline_failed`
        (whether nothing shows that it learnt; None without one), `baseline_unproven` (whether that is so because too
        few images speak for it; None likewise), `baseline_gain` (as given), `training_cost` (see
        `training_cost_ratio`; no `ratio` to one that is not shown to have learnt anything), `knowledge` (transferred
        minus random weights: what the source's weights bring), `method` (random weights minus from scratch: what the
        method brings by itself), each with its interval or None, a `sentence`, and `advice`: sentences on what to try
        when the transfer or its source brings nothing.

    Raises:
        ValueError: When the two tables are about different images.
    """
    cost = training_cost_ratio(target_log, baseline_log, validation_images)
    difference = _difference(target, baseline, confidence)
    knowledge, method = _difference(target, random, confidence), _difference(random, baseline, confidence)
    parts = {
        "baseline_gain": baseline_gain,
        "training_cost": cost,
        "knowledge": knowledge._asdict() if knowledge else None,
        "method": method._asdict() if method else None,
    }
    failed, failure = _baseline_failure(baseline, baseline_log, confidence)
    if failure:  # to reach what is no achievement costs nothing that could be compared
        cost |= dict.fromkeys(RATIOS)
    result: dict[str, Any]
    if difference is None:
        result = dict.fromkeys(
            (
                "difference",
                "difference_low",
                "difference_high",
                "verdict",
                "mcnemar_p",
                "baseline_failed",
                "baseline_unproven",
            )
        )
        sentence = "No baseline was trained: nothing to compare with." + _origin(knowledge, None)
    else:
        verdict = _verdict(difference)
        result = {
            "difference": difference.estimate,
            "difference_low": difference.low,
            "difference_high": difference.high,
            "verdict": verdict,
            "mcnemar_p": mcnemar(_correct(target), _correct(baseline), target.get("group")),
            "baseline_failed": bool(failure),
            "baseline_unproven": bool(failure) and not failed,
        }
        limit = _unfinished(baseline_gain)
        cheaper = "" if failure else f" {_cheaper(cost)}"
        sentence = f"{failure}{_better(verdict, difference)}{limit}{cheaper}{_origin(knowledge, method)}"
    correct = _correct(target)
    few = bool(failure) and not failed and len(baseline) - _correct(baseline).sum() < FEWEST_MISTAKES
    advice = _advice(result["verdict"], bool(failure), few, baseline_gain, knowledge, method, depths, plan, correct)
    return result | parts | {"sentence": sentence, "advice": advice}


def _difference(first: pd.DataFrame, second: pd.DataFrame, confidence: float) -> Interval | None:
    """Of accuracies; None when one of the two tables is empty."""
    if first.empty or second.empty:
        return None
    _check_same_images(first, second)
    return paired_difference(_correct(first), _correct(second), confidence, first.get("group"))


def _check_same_images(first: pd.DataFrame, second: pd.DataFrame) -> None:
    if not np.array_equal(first["id"].to_numpy(), second["id"].to_numpy()):
        raise ValueError(
            f"All networks must be judged on the same images. Received: {len(first)} predictions of one, "
            f"{len(second)} of another, with different ids. Run evaluate again for all."
        )


def _correct(predictions: pd.DataFrame) -> np.ndarray:
    return (predictions["predicted"] == predictions["label"]).to_numpy(bool)


def _verdict(difference: Interval) -> str:
    return "positive" if difference.low > 0 else "negative" if difference.high < 0 else "neutral"


def _baseline_failure(baseline: pd.DataFrame, log: pd.DataFrame, confidence: float) -> tuple[bool, str]:
    """Whether training from scratch learnt nothing, and why it is no measure, with a space after it.

    Nothing is said where it is one, or there is none.
    """
    if baseline.empty:
        return False, ""
    right = proportion_interval(_correct(baseline), confidence, baseline.get("group"))
    shares = baseline["label"].value_counts(normalize=True)
    classes = int(baseline.columns.str.startswith(PROBABILITY).sum())
    level, trivial = float(shares.iloc[0]), f"always saying {shares.index[0]}"
    if len(shares) == 1:  # whoever always says that class is right: no measure either
        level, trivial = 1 / classes if classes > 1 else -1.0, "guessing"
    reasons, failed = [], right.estimate <= level
    if right.low <= level:
        clearly = "" if failed else "clearly "
        reasons.append(f"{right.estimate:.1%} right is not {clearly}better than {trivial} ({level:.1%})")
    before = log.loc[log["images_processed"] == 0, "validation_accuracy"].max()
    after = log.loc[log["images_processed"] > 0, "validation_accuracy"].max()
    if after <= before:  # false where one is missing
        failed = True
        reasons.append(f"on validation it was never better than before training ({before:.1%})")
    if not reasons:
        return False, ""
    claim = "THE BASELINE FAILED" if failed else "THE BASELINE IS NOT SHOWN TO HAVE LEARNT ANYTHING"
    return failed, f"{claim}: {', and '.join(reasons)}. A comparison with it proves little. "


def _advice(
    verdict: str | None,
    baseline_failed: bool,
    few_images: bool,
    baseline_gain: float | None,
    knowledge: Interval | None,
    method: Interval | None,
    depths: pd.DataFrame | None,
    plan: Mapping[str, Any] | None,
    correct: np.ndarray,
) -> list[str]:
    """What to try, with the evidence for it; nothing where the transfer and its source are clearly worth it."""
    advice = []
    if few_images:  # it is hardly ever wrong: not more training is what it needs
        advice.append(
            "More test images would tell whether training from scratch has learnt anything; on these it is hardly ever "
            "wrong. Until then, compare with the random weights only."
        )
    elif baseline_failed:
        advice.append(
            "Give training from scratch a fair chance: more finetune_target.baseline.learning_rates, steps or "
            "most_doublings, or more labels. Until it learns, compare with the random weights only."
        )
    if baseline_gain is not None:
        advice.append(
            "Train from scratch for longer before you trust the difference: raise "
            "finetune_target.baseline.most_doublings."
        )
    if verdict == "negative":
        advice.append("Use the network trained from scratch: on the same images it is better than the transferred one.")
    helps = knowledge.low > 0 if knowledge else (plan or {}).get("source_helps")
    mistakes = len(correct) - int(correct.sum())
    if helps is False and verdict != "negative" and mistakes < FEWEST_MISTAKES:
        mistaken = f"{mistakes or 'none'} of {len(correct):,} {'are' if mistakes > 1 else 'is'} mistaken"
        return [
            *advice,
            f"On these test images no other source or cut could be clearly better: {mistaken}. More test images would "
            "tell.",
        ]
    if helps is False and is_blind(plan):
        advice.append(
            "Label a second image of each class: then left-out images tell whether another source or another cut would "
            "help."
        )
    elif helps is False:
        harm = "harms" if knowledge and knowledge.high < 0 else "adds nothing that is clear"
        tested = f" ({_points(knowledge)})" if knowledge else ""
        advice.append(
            f"Try another source: this one {harm} over random weights{tested}{_seen_in_training(plan)}. Rank "
            f"candidates by what they add: {RANK_SOURCES}"
        )
    elif verdict == "negative" and helps:
        lost = f" ({_points(method)})" if method else ""
        advice.append(
            f"The source does help over random weights; the method loses to training from scratch{lost}. Try "
            "finetune_target.fine_tuning with more steps or learning_rates, or the strategy full."
        )
    elif verdict == "negative":
        advice.append(f"Try another source; what each adds over random weights: {RANK_SOURCES}")
    return advice + (_another_cut(depths, plan) if verdict == "negative" or helps is False else [])


def _seen_in_training(plan: Mapping[str, Any] | None) -> str:
    """What the plan knew of the source, in a few words."""
    gain = ((plan or {}).get("evidence") or {}).get("knowledge")
    if gain is None or is_blind(plan):
        return ""
    points, error = 100 * gain["gain"], 100 * gain["standard_error"]
    return f"; on left-out training images {points:+z.1f} points, standard error {error:.1f}"


def _another_cut(depths: pd.DataFrame | None, plan: Mapping[str, Any] | None) -> list[str]:
    """The depth that knows most beyond random weights, when it is not the deepest one that is read."""
    if depths is None or depths.empty or not depths["used"].any() or is_blind(plan):
        return []
    table = depths.reset_index(drop=True)
    gain = table["accuracy"] - table["random_accuracy"].fillna(0)
    present, best = int(np.flatnonzero(table["used"])[-1]), int(gain.to_numpy().argmax())

    def known(row: int) -> str:
        tried = pd.notna(table["random_accuracy"][row])
        beyond = f" ({100 * gain[row]:+z.1f} points over random weights)" if tried else ""
        return f"{table['tap'][row]} alone gets {table['accuracy'][row]:.1%} of left-out training images right{beyond}"

    if best == present:
        return [f"No other cut promises more: {known(best)}, the most of all depths."]
    if table["accuracy"][best] <= table["accuracy"][present]:
        return [f"No other cut promises more: {known(present)}, and {known(best)}."]
    chosen = ((plan or {}).get("evidence") or {}).get("transferred")
    if chosen and table["accuracy"][best] <= (together := on_the_same_images(chosen)):
        return [
            f"No other cut promises more: the chosen depths together get {together:.1%} of left-out training images "
            f"right, and {known(best)}."
        ]
    taps = ", ".join(table["tap"][: best + 1])
    return [
        f"Try another cut: {known(best)}; where the network is cut now, {known(present)}. Set migrate_model.taps to "
        f"[{taps}]."
    ]


def _points(difference: Interval) -> str:
    points = [f"{100 * value:+z.1f}" for value in difference]
    return f"{points[0]} points, {points[1]} to {points[2]}"


def _better(verdict: str, difference: Interval) -> str:
    claim = {
        "positive": "Transfer is better than training from scratch",
        "neutral": "Transfer is neither better nor worse than training from scratch beyond chance",
        "negative": "NEGATIVE TRANSFER: it is worse than training from scratch",
    }[verdict]
    points = [f"{100 * value:+z.1f}" for value in difference]
    return f"{claim}: {points[0]} points of accuracy ({points[1]} to {points[2]})."


def _unfinished(gain: float | None) -> str:
    """That the baseline was not at its end, with a leading space."""
    if gain is None:
        return ""
    return (
        f" TRAINING FROM SCRATCH WAS NOT AT ITS END: twice the steps still brought {100 * gain:+z.1f} points on "
        "validation, and more might bring more."
    )


def _cheaper(cost: dict[str, float | None]) -> str:
    level = "the final validation accuracy of training from scratch"
    points = f"{100 * (cost['standard_error'] or 0):.1f} points"
    ratio, low, high = (math.inf if (value := cost[name]) is None else value for name in RATIOS)
    if cost["target_images"] is None:
        nearly = (
            f", and {points}, a standard error, below it after {part_text(low)} of its images" if low < math.inf else ""
        )
        return f"It never reached {level}{nearly}."
    if cost["ratio"] is None:
        return "Its cost cannot be compared: training from scratch was no better than its random start."
    if ratio < 1:
        claim = "It was cheaper" if high < 1 else "It seems cheaper"
    else:
        claim = "It was not cheaper" if low >= 1 else "It seems no cheaper"
    lowest, highest = part_text(low), part_text(high) if high < math.inf else "never"
    ends = "the same" if lowest == highest else f"{lowest} to {highest}"
    sure = f"{ends} for a level {points}, a standard error, lower or higher"
    return f"{claim}: it reached {level} after {part_text(ratio)} of its images ({sure})."


def _origin(knowledge: Interval | None, method: Interval | None) -> str:
    """What the difference comes from, with a leading space."""
    if knowledge is None:
        return " Random weights were not tried: what the source's weights bring by themselves is not known."
    points = [f"{100 * value:+z.1f}" for value in knowledge]
    text = f"the source's weights bring {points[0]} points ({points[1]} to {points[2]}) over random ones"
    if method is not None:
        text += f", the method by itself {100 * method.estimate:+z.1f}"
    if knowledge.high < 0:
        return f" THE SOURCE HARMS: {text}."
    return f" {'T' if knowledge.low > 0 else 'THE SOURCE ADDS NOTHING CLEAR: t'}{text[1:]}."
