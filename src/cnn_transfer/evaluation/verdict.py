"""Was the transfer worth it? Both claims that are made for it, each measured.

Better: the difference of accuracies on the same test images, with an interval for paired proportions (Agresti and Min
2005, "Simple improved confidence intervals for comparing matched proportions"). Cheaper: the images that training had
to process until it reached the baseline's final validation accuracy, as a share of what the baseline needed itself.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from cnn_transfer.evaluation.metrics import Interval


def paired_difference(first_correct: np.ndarray, second_correct: np.ndarray, confidence: float) -> Interval:
    """Accuracy of the first minus accuracy of the second on the same images, with its interval.

    Wald's interval after adding 1/2 to each cell of the 2x2 table (Agresti and Min 2005, section 3).

    Args:
        first_correct: (n,) booleans, whether the first was right on each image.
        second_correct: (n,) booleans of the second, in the same order.
        confidence: Level of the interval, 0-1.
    """
    images = len(first_correct)
    only_first = int(np.sum(first_correct & ~second_correct))
    only_second = int(np.sum(~first_correct & second_correct))
    b, c, n = only_first + 0.5, only_second + 0.5, images + 2
    centre = (b - c) / n
    deviation = math.sqrt((b + c) - (b - c) ** 2 / n) / n
    margin = float(stats.norm.ppf(0.5 + confidence / 2)) * deviation
    return Interval((only_first - only_second) / images, max(-1.0, centre - margin), min(1.0, centre + margin))


def images_to_reach(log: pd.DataFrame, validation_accuracy: float) -> float | None:
    """Fewest images that a trial had processed when its validation accuracy reached a level; None when none did."""
    reached = log.loc[log["validation_accuracy"] >= validation_accuracy - 1e-9, "images_processed"]
    return float(reached.min()) if len(reached) else None


def training_cost_ratio(target_log: pd.DataFrame, baseline_log: pd.DataFrame) -> dict[str, float | None]:
    """The cost to reach the baseline's final validation accuracy, transfer against baseline.

    The baseline's final accuracy is that of its delivered weights. On both sides the cost is that of the trial that
    reached this level with the fewest images; other trials are not counted, and neither is pretraining.

    Args:
        target_log: Logs of all trials of the fine-tuning, both phases.
        baseline_log: Logs of all trials from scratch, with the column `delivered`.

    Returns:
        `baseline_validation_accuracy`, `baseline_images`, `target_images` and their `ratio`; None where the
        level was never reached or there is no baseline.
    """
    delivered = baseline_log[baseline_log["delivered"].astype(bool)]
    if delivered.empty:
        return {"baseline_validation_accuracy": None, "baseline_images": None, "target_images": None, "ratio": None}
    level = float(delivered["validation_accuracy"].to_numpy()[delivered["validation_loss"].to_numpy().argmin()])
    baseline_images, target_images = images_to_reach(baseline_log, level), images_to_reach(target_log, level)
    return {
        "baseline_validation_accuracy": level,
        "baseline_images": baseline_images,
        "target_images": target_images,
        "ratio": target_images / baseline_images if target_images is not None and baseline_images else None,
    }


def compare(
    target: pd.DataFrame,
    baseline: pd.DataFrame,
    random: pd.DataFrame,
    target_log: pd.DataFrame,
    baseline_log: pd.DataFrame,
    confidence: float,
) -> dict[str, Any]:
    """Compare the transferred network with the one trained from scratch, and say what the difference comes from.

    Args:
        target: Predictions of the transferred network on the test images.
        baseline: Predictions of the other on the same images; empty when there is no baseline.
        random: Predictions of a network made by the same method from random weights; empty when there is none.
        target_log: Log of the fine-tuning.
        baseline_log: Logs of the training from scratch.
        confidence: Level of the interval.

    Returns:
        `difference` with `difference_low` and `difference_high` (accuracy, 0-1), `verdict` (`positive`, `neutral`,
        `negative`, or None without a baseline), `training_cost` (see `training_cost_ratio`), `knowledge` (transferred
        minus random weights: what the source's weights bring), `method` (random weights minus from scratch: what the
        method brings by itself), each with its interval or None, and a `sentence`.

    Raises:
        ValueError: When the two tables are about different images.
    """
    cost = training_cost_ratio(target_log, baseline_log)
    difference = _difference(target, baseline, confidence)
    knowledge, method = _difference(target, random, confidence), _difference(random, baseline, confidence)
    parts = {
        "training_cost": cost,
        "knowledge": knowledge._asdict() if knowledge else None,
        "method": method._asdict() if method else None,
    }
    if difference is None:
        nothing = {"difference": None, "difference_low": None, "difference_high": None, "verdict": None}
        sentence = "No baseline was trained: nothing to compare with." + _origin(knowledge, None)
        return nothing | parts | {"sentence": sentence}
    verdict = "positive" if difference.low > 0 else "negative" if difference.high < 0 else "neutral"
    return {
        "difference": difference.estimate,
        "difference_low": difference.low,
        "difference_high": difference.high,
        "verdict": verdict,
        **parts,
        "sentence": f"{_better(verdict, difference)} {_cheaper(cost)}{_origin(knowledge, method)}",
    }


def _difference(first: pd.DataFrame, second: pd.DataFrame, confidence: float) -> Interval | None:
    """Of accuracies; None when one of the two tables is empty."""
    if first.empty or second.empty:
        return None
    if not np.array_equal(first["id"].to_numpy(), second["id"].to_numpy()):
        raise ValueError(
            f"All networks must be judged on the same images. Received: {len(first)} predictions of one, "
            f"{len(second)} of another, with different ids. Run evaluate again for all."
        )
    correct = [(table["predicted"] == table["label"]).to_numpy(bool) for table in (first, second)]
    return paired_difference(correct[0], correct[1], confidence)


def _better(verdict: str, difference: Interval) -> str:
    claim = {
        "positive": "Transfer is better than training from scratch",
        "neutral": "Transfer is neither better nor worse than training from scratch beyond chance",
        "negative": "NEGATIVE TRANSFER: it is worse than training from scratch",
    }[verdict]
    points = [f"{100 * value:+.1f}" for value in difference]
    return f"{claim}: {points[0]} points of accuracy ({points[1]} to {points[2]})."


def _cheaper(cost: dict[str, float | None]) -> str:
    ratio = cost["ratio"]
    if cost["target_images"] is None:
        return "It never reached the final validation accuracy of training from scratch."
    if ratio is None:
        return "Its cost cannot be compared: training from scratch was no better than its random start."
    if ratio < 1:
        return f"It was cheaper: it reached the same validation accuracy after {ratio:.0%} of the images."
    return f"It was not cheaper: it reached the same validation accuracy after {ratio:.0%} of the images."


def _origin(knowledge: Interval | None, method: Interval | None) -> str:
    """What the difference comes from, with a leading space, or nothing."""
    if knowledge is None:
        return ""
    points = [f"{100 * value:+.1f}" for value in knowledge]
    text = f"the source's weights bring {points[0]} points ({points[1]} to {points[2]}) over random ones"
    if method is not None:
        text += f", the method by itself {100 * method.estimate:+.1f}"
    if knowledge.high < 0:
        return f" THE SOURCE HARMS: {text}."
    return f" {'T' if knowledge.low > 0 else 'THE SOURCE ADDS NOTHING CLEAR: t'}{text[1:]}."
