"""Probabilities that mean what they say: of the images that a network is 80% sure of, 80% should be right.

A calibration is fitted on validation images, on training images that were left out, or on both, and is a plain dict,
see `fit_calibration`. Two methods beside leaving the probabilities alone: temperature scaling (Guo et al. 2017, arXiv
1706.04599, section 4.2), which divides the log-probabilities by one number and cannot change which class is predicted,
and temperature with one bias a class (Platt scaling with a shared slope), which can. Both are pulled towards doing
nothing, and one is taken only where it is better in cross-validation by more than one standard error: few images do no
harm.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cnn_transfer.evaluation.figures import Axes, Figure, new_figure
from cnn_transfer.evaluation.intervals import proportion_interval
from cnn_transfer.evaluation.predictions import PROBABILITY, judged_on, units_of
from cnn_transfer.evaluation.probabilities import Probabilities, class_columns, probabilities_of, read_probabilities
from cnn_transfer.transfer.groups import mean_and_error

NONE, TEMPERATURE, TEMPERATURE_AND_BIAS = "none", "temperature", "temperature_and_bias"
FEWEST_IMAGES = 20  # below it, one mistake more or less decides the temperature
FEWEST_IMAGES_A_CLASS = 10  # on average, for one bias a class
FOLDS = 10
# Standard deviations of the normal priors. Temperatures of the networks in Guo et al. lie between 0.6 and 3; with 0.5
# the digits of the default run are as well calibrated by 200 images as without a prior, and better by 20.
PRIOR_LOG_TEMPERATURE, PRIOR_BIAS = 0.5, 0.5
FEWEST_IMAGES_A_BIN = 10
BEFORE_COLOUR, AFTER_COLOUR, NEUTRAL_COLOUR = "#d55e00", "#0072b2", "#808080"
COLUMNS = ["bin", "low", "high", "images", "confidence", "accuracy", "accuracy_low", "accuracy_high"]


def fit_calibration(validation: pd.DataFrame) -> dict[str, Any]:
    """Choose and fit a calibration on the predictions of images that were not trained on, see `judged_on`.

    Args:
        validation: A table of predictions that the network was not trained on. Images with the same `group`, where
            there is such a column, are left out together.

    Returns:
        `method` (`none`, `temperature` or `temperature_and_bias`), `temperature` (above 1 makes less sure), `bias` (one
        number a class, or None), `classes`, `images`, `log_loss_before` and `log_loss_after` (nats, both on left-out
        images; None without images), `statement`.

    Raises:
        ValueError: When the table has probabilities that are none, or labels that are no class.
    """
    data = read_probabilities(validation)
    n, classes, what = len(data.labels), len(data.classes), judged_on(validation)
    nothing = _calibration(data, NONE, 1.0, None, None)
    if (reason := _why_not(data, units := units_of(validation).codes, what)) is not None:
        return nothing | {"statement": f"The probabilities are left as they are: {reason}."}
    logs = _logs(data.values)
    methods = [NONE, TEMPERATURE]
    if n >= FEWEST_IMAGES_A_CLASS * classes:
        methods.append(TEMPERATURE_AND_BIAS)
    losses = {method: _left_out_losses(logs, data.labels, units, method) for method in methods}
    chosen = NONE
    for method in methods[1:]:
        gain, error = mean_and_error(losses[chosen] - losses[method], units)
        if gain > error:  # the rule of one standard error: the simpler method unless there is evidence
            chosen = method
    if chosen == NONE:
        return nothing | {
            "statement": f"The probabilities are left as they are: on {n:,} {what} nothing else was better by more "
            "than chance."
        }
    temperature, bias = _fit(logs, data.labels, chosen)
    before, after = losses[NONE].mean(), losses[chosen].mean()
    direction = "less sure" if temperature > 1 else "surer"
    extra = " and one bias a class, which can change the predicted class" if chosen == TEMPERATURE_AND_BIAS else ""
    statement = (
        f"The probabilities are made {direction} with temperature {temperature:.2f}{extra}: on {n:,} {what} the "
        f"cross-validated log loss falls from {before:.3f} to {after:.3f}."
    )
    return _calibration(data, chosen, temperature, bias, float(after)) | {"statement": statement}


def calibrate(predictions: pd.DataFrame, calibration: Mapping[str, Any]) -> pd.DataFrame:
    """The same table with calibrated probabilities, float32 adding up to 1.

    Args:
        predictions: A table of predictions, which may be empty, or lack the true labels.
        calibration: What `fit_calibration` returned. Only `temperature_and_bias` can change `predicted`, which is the
            class with the highest probability then; the other methods leave it alone.

    Raises:
        ValueError: When the table has other classes than the calibration.
    """
    classes = class_columns(predictions)
    if classes != list(calibration["classes"]):
        raise ValueError(
            f"The calibration was fitted for the classes {', '.join(calibration['classes'])}. The predictions are of "
            f"{', '.join(classes)}. Fit it on validation images of the same network."
        )
    if calibration["method"] == NONE or predictions.empty:
        return predictions.copy()
    values = probabilities_of(predictions, classes)
    values = values / values.sum(axis=1, keepdims=True)
    values = _calibrated(_logs(values), calibration["temperature"], calibration["bias"]).astype(np.float32)
    columns = {PROBABILITY + name: values[:, index] for index, name in enumerate(classes)}
    if calibration["method"] == TEMPERATURE_AND_BIAS:
        columns["predicted"] = np.asarray(classes, object)[values.argmax(axis=1)].astype(str)
    return predictions.assign(**columns)


def reliability_table(predictions: pd.DataFrame, bins: int = 15, confidence_level: float = 0.95) -> pd.DataFrame:
    """Confidence and accuracy of images that are about equally sure.

    Args:
        predictions: A table of predictions, which may be empty.
        bins: Number of bins with equally many images; fewer where that would be below 10 images each, or where many
            images have the same confidence.
        confidence_level: Level of Wilson's intervals, 0-1, which respect groups.

    Returns:
        One row a bin, from unsure to sure: `bin`, `low` and `high` (lowest and highest confidence), `images`,
        `confidence` (mean), `accuracy`, `accuracy_low`, `accuracy_high`.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1. Received: {bins}.")
    data = read_probabilities(predictions)
    order = np.argsort(data.confidence, kind="stable")
    confidence, correct, units = data.confidence[order], data.correct[order], units_of(predictions).codes[order]
    count = max(1, min(bins, len(order) // FEWEST_IMAGES_A_BIN))
    # The same confidence is in the same bin: a bin begins at the first image of its confidence.
    firsts = confidence[np.arange(count if len(order) else 0) * len(order) // count]
    ends = [*np.unique(np.searchsorted(confidence, firsts)).tolist(), len(order)]
    rows = []
    for number, (start, end) in enumerate(itertools.pairwise(ends)):
        part = slice(start, end)
        accuracy = proportion_interval(correct[part], confidence_level, units[part])
        edges = (confidence[start], confidence[end - 1])
        rows.append((number, *edges, end - start, confidence[part].mean(), *accuracy))
    return pd.DataFrame(rows, columns=COLUMNS).astype(
        {name: int if name in {"bin", "images"} else float for name in COLUMNS}
    )


def calibration_error(reliability: pd.DataFrame) -> float | None:
    """Expected calibration error: mean distance of confidence and accuracy, each bin counting as many as it has images.

    Guo et al. 2017, equation 3, on bins of equal mass. None without images.

    Args:
        reliability: See `reliability_table`.
    """
    if reliability.empty:
        return None
    distance = (reliability["confidence"] - reliability["accuracy"]).abs()
    return float(np.average(distance, weights=reliability["images"]))


def draw_reliability(before: pd.DataFrame, after: pd.DataFrame) -> Figure:
    """Accuracy against confidence before and after calibration, and below it how many images are how sure.

    Args:
        before: See `reliability_table`; may be empty.
        after: The same of the calibrated predictions; may be empty.
    """
    figure = new_figure(5.5, 5.5)
    if before.empty and after.empty:
        figure.suptitle("No predictions, no reliability", fontsize=10)
        return figure
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    least = min(table["confidence"].min() for table in (before, after) if len(table))
    left = min(0.9, np.floor(10 * least) / 10)  # those that are less sure are counted in the first bar
    upper.plot([left, 1], [left, 1], color=NEUTRAL_COLOUR, ls="--", lw=1, label="as it should be")
    edges = np.linspace(left, 1, 21)
    for offset, (table, colour, name, marker) in enumerate(
        [(before, BEFORE_COLOUR, "before", "s"), (after, AFTER_COLOUR, "after", "o")]
    ):
        if table.empty:
            continue
        bars = [table["accuracy"] - table["accuracy_low"], table["accuracy_high"] - table["accuracy"]]
        label = f"{name} calibration"
        upper.errorbar(
            table["confidence"], table["accuracy"], yerr=np.abs(bars), color=colour, marker=marker, ms=4, lw=1.2,
            elinewidth=0.8, capsize=2, label=label,
        )  # fmt: skip
        width = edges[1] - edges[0]
        lower.bar(edges[:-1] + (0.29 + 0.42 * offset) * width, _shares(table, edges), 0.42 * width, color=colour)
    upper.set_xlim(left - 0.01, 1.01)
    upper.set_ylim(top=1.02)
    upper.set_ylabel("share that is right")
    upper.set_title("Does the confidence say how often it is right?", fontsize=10)
    figure.legend(fontsize=8, loc="outside lower center", frameon=False)
    below = any((table["low"] < left).any() for table in (before, after))
    lower.set_xlabel(f"confidence: probability of the predicted class{'; first bar: with all below' if below else ''}")
    lower.set_ylabel("share of images")
    for axes in (upper, lower):
        _tidy(axes)
    return figure


def _tidy(axes: Axes) -> None:
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _shares(table: pd.DataFrame, edges: np.ndarray) -> np.ndarray:
    """Share of images between edges, as if the images of a bin lay evenly between its ends."""
    ends = np.stack([table["low"] - 1e-9, table["high"]], axis=1)
    steps = table["images"].cumsum().to_numpy()
    heights = np.stack([steps - table["images"].to_numpy(), steps], axis=1)
    cumulated = np.interp(edges, ends.ravel(), heights.ravel(), left=0, right=steps[-1]) / steps[-1]
    return np.diff(np.r_[0.0, cumulated[1:]])


def _calibration(
    data: Probabilities, method: str, temperature: float, bias: list[float] | None, after: float | None
) -> dict[str, Any]:
    n = len(data.labels)
    before = float(_losses(_logs(data.values), data.labels).mean()) if n else None
    return {
        "method": method,
        "temperature": temperature,
        "bias": bias,
        "classes": data.classes,
        "images": n,
        "log_loss_before": before,
        "log_loss_after": before if method == NONE else after,
    }


def _why_not(data: Probabilities, units: np.ndarray, what: str) -> str | None:
    """Why nothing can be fitted, or None."""
    n = len(data.labels)
    if len(data.classes) < 2:
        return "there is one class only"
    if n < FEWEST_IMAGES:
        return f"there are {n} {what}, at least {FEWEST_IMAGES} are needed" if n else f"no {what}"
    if len(np.unique(data.labels)) < 2:
        return f"all {n:,} {what} are of the class {data.classes[data.labels[0]]}"
    if len(np.unique(units)) < 2:
        return f"all {n:,} {what} are of one group"
    return None


def _left_out_losses(logs: np.ndarray, labels: np.ndarray, units: np.ndarray, method: str) -> np.ndarray:
    """(n,) log loss of each image under the fit on the folds that it is not in."""
    if method == NONE:
        return _losses(logs, labels)
    losses = np.empty(len(labels))
    fold = _folds(labels, units)
    for number in np.unique(fold):
        out = fold == number
        temperature, bias = _fit(logs[~out], labels[~out], method)
        losses[out] = _losses(np.log(_calibrated(logs[out], temperature, bias)), labels[out])
    return losses


def _folds(labels: np.ndarray, units: np.ndarray) -> np.ndarray:
    """(n,) number of the fold: units in the order of their classes are dealt out, so that folds are alike."""
    count = units.max() + 1
    first_label = np.zeros(count, int)
    first_label[units[::-1]] = labels[::-1]
    fold_of_unit = np.empty(count, int)
    fold_of_unit[np.argsort(first_label, kind="stable")] = np.arange(count) % min(FOLDS, count)
    return np.asarray(fold_of_unit[units])


def _fit(logs: np.ndarray, labels: np.ndarray, method: str) -> tuple[float, list[float] | None]:
    """Temperature and biases with the highest posterior density, by L-BFGS with the exact gradient."""
    from scipy.optimize import minimize

    n, classes = logs.shape
    targets = np.eye(classes)[labels]
    fits_bias = method == TEMPERATURE_AND_BIAS

    def objective(point: np.ndarray) -> tuple[float, np.ndarray]:
        scale, bias = np.exp(-point[0]), point[1:]
        values = _softmax(scale * logs + (bias if fits_bias else 0.0))
        excess = values - targets
        penalty = (point[0] / PRIOR_LOG_TEMPERATURE) ** 2 / 2 + ((bias / PRIOR_BIAS) ** 2).sum() / 2
        slope = -scale * (excess * logs).sum() + point[0] / PRIOR_LOG_TEMPERATURE**2
        slopes = excess.sum(axis=0) + bias / PRIOR_BIAS**2 if fits_bias else []
        loss = -np.log(np.maximum(values[np.arange(n), labels], np.finfo(float).tiny)).sum()
        return float(loss + penalty), np.r_[slope, slopes]

    start = np.zeros(1 + classes * fits_bias)
    bounds = [(-3.0, 3.0)] + [(None, None)] * (len(start) - 1)
    point = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return float(np.exp(point[0])), point[1:].tolist() if fits_bias else None


def _calibrated(logs: np.ndarray, temperature: float, bias: list[float] | None) -> np.ndarray:
    values = _softmax(logs / temperature + (0.0 if bias is None else np.asarray(bias)))
    return np.asarray(np.maximum(values, np.finfo(np.float32).tiny))


def _softmax(logits: np.ndarray) -> np.ndarray:
    from scipy.special import softmax

    return np.asarray(softmax(logits, axis=1))


def _logs(values: np.ndarray) -> np.ndarray:
    """Log-probabilities; what a float32 softmax has rounded to 0 is its smallest number."""
    return np.asarray(np.log(np.maximum(values, np.finfo(np.float32).tiny)))


def _losses(logs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.asarray(-logs[np.arange(len(labels)), labels])
