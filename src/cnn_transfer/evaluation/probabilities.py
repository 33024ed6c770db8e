"""A table of predictions as arrays, checked once for all that reads probabilities.

Classes keep the order of the table's columns; an index of a class is a position in it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from cnn_transfer.evaluation.predictions import PROBABILITY


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


def read_probabilities(predictions: pd.DataFrame) -> Probabilities:
    """The probabilities of a table of predictions, which may be empty.

    Raises:
        ValueError: When a probability is not a number from 0 to 1, a row does not add up to 1, or a label is no class.
    """
    classes = class_columns(predictions)
    values = predictions[[PROBABILITY + name for name in classes]].to_numpy(np.float64)
    ids = predictions["id"].to_numpy(object)
    usable = np.isfinite(values).all(axis=1) & (values >= 0).all(axis=1) & (np.abs(values.sum(axis=1) - 1) < 1e-3)
    if not usable.all():
        raise ValueError(
            "Probabilities must be finite, at least 0, and add up to 1 for each image. "
            f"{(~usable).sum()} of {len(values)} images have others, such as {ids[~usable][0]}: "
            f"{values[~usable][0].tolist()}. Train again, at a lower learning rate or with gradient_clip: 1."
        )
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
