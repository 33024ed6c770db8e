"""A table of predictions as arrays, checked once for all that reads probabilities.

Classes keep the order of the table's columns; an index of a class is a position in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from cnn_transfer.evaluation.predictions import PROBABILITY


def confidence_text(confidence: float) -> str:
    """In three digits, or in as many as it takes not to call certain what is not."""
    for digits in range(3, 17):
        text = f"{confidence:.{digits}g}"
        if text != "1" or confidence == 1:
            break
    return text


def percent_text(share: float) -> str:
    """A share of 0-1 in per cent, in four digits, or in as many as it takes not to call everything what is less."""
    for digits in range(4, 17):
        text = f"{100 * share:.{digits}g}"
        if text != "100" or share == 1:
            break
    return f"{text}%"


def share_text(share: float) -> str:
    """In per cent with one decimal, which does not call everything what is less."""
    text = f"{share:.1%}"
    return "> 99.9%" if text == "100.0%" and share < 1 - 1e-9 else text


def whole_percent(probability: float) -> str:
    """In whole percent, none of which is all or nothing."""
    return "< 1%" if probability < 0.005 else "> 99%" if probability >= 0.995 else f"{probability:.0%}"


def part_text(ratio: float) -> str:
    """How large one thing is against another, in whole per cent; below one in as many digits as it takes."""
    return f"{ratio:.0%}" if ratio >= 0.01 else f"{100 * ratio:.1g}%"


def counted(number: int, noun: str) -> str:
    """A number of things in words: 1 image, 2 images."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


class Probabilities(NamedTuple):
    """What a table of n predictions among c classes says.

    Attributes:
        classes: Names of the c classes.
        values: (n, c) float64, each row adding up to 1.
        labels: (n,) indices of the true classes.
        confidence: (n,) the highest probability of each image.
        correct: (n,) bool, whether the predicted class is the true one.
    """

    classes: list[str]
    values: np.ndarray
    labels: np.ndarray
    confidence: np.ndarray
    correct: np.ndarray


def class_columns(predictions: pd.DataFrame) -> list[str]:
    """Names of the classes that a table of predictions has probabilities of, in their order.

    Raises:
        ValueError: When there is none.
    """
    classes = [str(name).removeprefix(PROBABILITY) for name in predictions.columns if str(name).startswith(PROBABILITY)]
    if not classes:
        raise ValueError(
            f"A table of predictions must have a column {PROBABILITY}<class> for each class. "
            f"Received: {', '.join(map(str, predictions.columns)) or 'no columns'}."
        )
    return classes


def probabilities_of(predictions: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """The probabilities of a table, (n, classes) float64, in the order of the classes.

    Raises:
        ValueError: When a class has none, or one is not a number from 0 to 1, or those of an image do not add up to 1.
    """
    columns = [PROBABILITY + name for name in classes]
    if missing := [column for column in columns if column not in predictions]:
        raise ValueError(
            f"The predictions must hold a probability for each class. Missing: {', '.join(missing[:5])}. "
            "Run evaluate again, with the network and the images of one version."
        )
    values = predictions[columns].to_numpy(np.float64)
    wrong = ~((values >= 0) & (values <= 1 + 1e-6)).all(axis=1)
    sums = ~wrong & (np.abs(values.sum(axis=1) - 1) > 1e-3)
    for bad, what in ((wrong, "between 0 and 1"), (sums, "adding up to 1")):
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            name = predictions["id"].iloc[first] if "id" in predictions else f"row {first}"
            shown = ", ".join(f"{value:.4g}" for value in values[first][:5])
            raise ValueError(
                f"Probabilities must be numbers {what}. Received: others for {bad.sum():,} of {len(predictions):,} "
                f"images, first {name} ({shown}{', …' if values.shape[1] > 5 else ''}). The network's last layer must "
                "be a softmax in float32; where it is, its weights have diverged: lower the learning rate and train "
                "again."
            )
    return values


def read_probabilities(predictions: pd.DataFrame) -> Probabilities:
    """The probabilities of a table of predictions, which may be empty.

    Raises:
        ValueError: When a probability is not a number from 0 to 1, a row does not add up to 1, or a label is no class.
    """
    classes = class_columns(predictions)
    values, ids = probabilities_of(predictions, classes), predictions["id"].to_numpy(object)
    labels = pd.Index(classes, dtype="str").get_indexer(pd.Index(predictions["label"]))
    if (unknown := labels < 0).any():
        raise ValueError(
            f"Labels must be among the classes {', '.join(classes)}. {unknown.sum()} of {len(labels)} images have "
            f"others, such as {ids[unknown][0]}: {predictions['label'].to_numpy(object)[unknown][0]}. "
            "Leave out images without a label or of other classes."
        )
    values = values / values.sum(axis=1, keepdims=True)
    correct = (predictions["label"].astype(object) == predictions["predicted"].astype(object)).to_numpy(bool)
    return Probabilities(classes, values, labels, values.max(axis=1), correct)
