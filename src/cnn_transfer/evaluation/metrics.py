"""Accuracy, macro F1, per-class figures and confusion, with 95% intervals (or another level).

Proportions get Wilson's interval (Wilson 1927), which keeps its level near 0 and 1. Macro F1 has no closed form: its
interval is the percentile bootstrap over images, drawn as multinomial counts of the confusion matrix, which is the same
distribution as drawing images and far cheaper.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support


class Interval(NamedTuple):
    """An estimate with the ends of its interval."""

    estimate: float
    low: float
    high: float


def wilson_interval(successes: int, trials: int, confidence: float) -> Interval:
    """A proportion and its Wilson score interval.

    Args:
        successes: 0 to `trials`.
        trials: At least 1.
        confidence: Level of the interval, 0-1.
    """
    interval = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return Interval(successes / trials, float(interval.low), float(interval.high))


def confusion_table(predictions: pd.DataFrame, class_names: list[str]) -> pd.DataFrame:
    """Counts of images: one row a true class (column `label`), one column a predicted class."""
    counts = confusion_matrix(predictions["label"], predictions["predicted"], labels=class_names)
    return pd.DataFrame(counts, columns=class_names).assign(label=class_names)[["label", *class_names]]


def per_class_table(predictions: pd.DataFrame, class_names: list[str], confidence: float) -> pd.DataFrame:
    """One row a class: `images`, `recall` with its Wilson interval, `precision`, `f1`.

    A class that is never predicted has no precision: missing, not 0.
    """
    precision, recall, f1, images = precision_recall_fscore_support(
        predictions["label"], predictions["predicted"], labels=class_names, zero_division=np.nan
    )
    correct = predictions["label"][predictions["label"] == predictions["predicted"]].value_counts()
    intervals = [
        wilson_interval(int(correct.get(name, 0)), int(count), confidence)
        if count
        else Interval(np.nan, np.nan, np.nan)
        for name, count in zip(class_names, images, strict=True)
    ]
    return pd.DataFrame(
        {
            "label": class_names,
            "images": images,
            "recall": recall,
            "recall_low": [interval.low for interval in intervals],
            "recall_high": [interval.high for interval in intervals],
            "precision": precision,
            "f1": f1,
        }
    )


def measure(
    predictions: pd.DataFrame, class_names: list[str], confidence: float, bootstrap_samples: int, seed: int
) -> dict[str, float | int]:
    """Accuracy and macro F1 with their intervals, and the number of images.

    Macro F1 is the mean over the classes that occur in the true labels.
    """
    table = confusion_table(predictions, class_names)
    counts = table[class_names].to_numpy()
    images = int(counts.sum())
    accuracy = wilson_interval(int(np.trace(counts)), images, confidence)
    samples = np.random.default_rng(seed).multinomial(images, counts.ravel() / images, bootstrap_samples)
    scores = _macro_f1(samples.reshape(-1, *counts.shape))
    tail = (1 - confidence) / 2
    low, high = np.quantile(scores, [tail, 1 - tail])
    return {
        "accuracy": accuracy.estimate,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "macro_f1": float(_macro_f1(counts[None])[0]),
        "macro_f1_low": float(low),
        "macro_f1_high": float(high),
        "images": images,
    }


def _macro_f1(counts: np.ndarray) -> np.ndarray:
    """Macro F1 of a stack of confusion matrices (samples, true, predicted)."""
    correct = np.diagonal(counts, axis1=1, axis2=2)
    true, predicted = counts.sum(axis=2), counts.sum(axis=1)
    present = true > 0
    f1 = 2 * correct / np.maximum(true + predicted, 1)
    return np.asarray((f1 * present).sum(axis=1) / present.sum(axis=1))
