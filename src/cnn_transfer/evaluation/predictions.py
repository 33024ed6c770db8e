"""What a network says of each image of one split.

A table of predictions has one row an image: `id`, `label` (the true class), `group` (images of one group are not
independent; may be absent), `predicted`, and one column `probability_<class>` for each class, float32 in 0-1, each row
adding up to 1. A column `left_out` may say which are training images, each judged by a head that had not seen it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cnn_transfer.evaluation.intervals import Units
from cnn_transfer.images import ImageSet, image_batches
from cnn_transfer.models import predict_batches

if TYPE_CHECKING:
    import keras

PROBABILITY, PREDICTED = "probability_", "predicted_"  # before names of classes: one may be called like a column
VALIDATION_IMAGES, LEFT_OUT_IMAGES = "validation images", "left-out training images"  # what they are called


def predict(network: keras.Model, images: ImageSet, splits: pd.DataFrame, split: str, called: str = "") -> pd.DataFrame:
    """Predict the images of one split.

    Args:
        network: Takes raw pixels, gives probabilities.
        images: The set that the images are of.
        splits: Which image is in which split: `id`, `label`, `split`, and perhaps `group`.
        split: Which to predict.
        called: What an error calls the network; empty: its name.

    Raises:
        ValueError: When the split is empty, the network has another number of classes than the images, or a probability
            is not finite.
    """
    images = images.used_in(splits)
    rows = images.rows(splits, split)
    if not len(rows):
        raise ValueError(f"The split {split} has no images to predict. Raise test_fraction of the target.")
    if network.output_shape[-1] != len(images.class_names):
        raise ValueError(
            f"The network has {network.output_shape[-1]} classes, the images have {len(images.class_names)}. "
            "Run migrate_model and finetune_target again, so that both have one version."
        )
    probabilities = predict_batches(network, image_batches(images, rows))
    if (bad := ~np.isfinite(probabilities).all(axis=1)).any():
        raise ValueError(
            f"Probabilities must be finite. {called or network.name} gives NaN or infinity for {bad.sum():,} of "
            f"{len(rows):,} {split} images, such as {images.table['id'].iloc[rows[bad.argmax()]]}. Its weights have "
            "diverged: train it again at a lower learning rate, with gradient_clip: 1 or in float32."
        )
    return as_predictions(splits, split, probabilities, images.class_names)


def as_predictions(
    splits: pd.DataFrame, split: str, probabilities: np.ndarray, class_names: Sequence[str]
) -> pd.DataFrame:
    """The table of predictions of the images of one split, whose probabilities are known.

    Args:
        splits: Which image is in which split: `id`, `label`, `split`, and perhaps `group`.
        split: The split.
        probabilities: (images, classes), in 0-1, in the order of the splits.
        class_names: In the order of the probabilities.
    """
    kept = [name for name in ("id", "label", "group") if name in splits]
    return _table(splits.loc[splits["split"] == split, kept].reset_index(drop=True), probabilities, class_names)


def predictions_without_labels(
    ids: Sequence[str], probabilities: np.ndarray, class_names: Sequence[str]
) -> pd.DataFrame:
    """The same of images whose true classes nobody knows: `id`, `predicted` and the probabilities.

    Args:
        ids: (n,) names of the images.
        probabilities: (n, classes), in 0-1.
        class_names: In the order of the probabilities.
    """
    return _table(pd.DataFrame({"id": pd.Series(list(ids), dtype="str")}), probabilities, class_names)


def _table(images: pd.DataFrame, probabilities: np.ndarray, class_names: Sequence[str]) -> pd.DataFrame:
    table = images.copy()
    table["predicted"] = np.asarray(class_names)[probabilities.argmax(axis=1)]
    columns = [PROBABILITY + name for name in class_names]
    return pd.concat([table, pd.DataFrame(probabilities.astype(np.float32), columns=columns)], axis=1)


def predict_changed(
    network: keras.Model,
    images: ImageSet,
    rows: np.ndarray,
    pixels: np.ndarray,
    labels: Sequence[str],
    class_names: Sequence[str],
) -> pd.DataFrame:
    """Predict images of which something was changed.

    Args:
        network: Takes raw pixels, gives probabilities.
        images: The set that they are of.
        rows: (n,) int, which of them; one may come several times.
        pixels: (n, height, width, channels) uint8, what became of them.
        labels: (n,) their true classes.
        class_names: In the order of the network's outputs.
    """
    changed = replace(images, table=images.table.iloc[rows], shards=(pixels,))
    probabilities = predict_batches(network, image_batches(changed, np.arange(len(rows))))
    told = pd.DataFrame({"id": changed.table["id"].to_numpy(), "label": labels, "split": ""})
    return as_predictions(told, "", probabilities, class_names)


def confident_mistakes(predictions: pd.DataFrame, most: int) -> pd.DataFrame:
    """Rows of the images that are classified wrongly, the most confident first, with the column `confidence` (0-1)."""
    wrong = predictions[predictions["label"] != predictions["predicted"]]
    columns = [name for name in wrong if str(name).startswith(PROBABILITY)]
    return wrong.assign(confidence=wrong[columns].max(axis=1)).nlargest(most, "confidence")


def judged_on(predictions: pd.DataFrame) -> str:
    """What the images that a network is judged on before the test are called in sentences."""
    left_out = left_out_rows(predictions)
    if left_out.any():
        return LEFT_OUT_IMAGES if left_out.all() else f"validation and {LEFT_OUT_IMAGES}"
    return VALIDATION_IMAGES


def left_out_rows(predictions: pd.DataFrame) -> np.ndarray:
    """Which rows of a table of predictions are of training images that were left out, (n,) booleans."""
    return predictions["left_out"].to_numpy(bool) if "left_out" in predictions else np.zeros(len(predictions), bool)


def units_of(predictions: pd.DataFrame) -> Units:
    """What is independent of the others: the groups of a table of predictions, or its images where it names none."""
    return Units(predictions.get("group"), len(predictions))


def no_predictions(images: ImageSet) -> pd.DataFrame:
    """A table of predictions without rows, for a network that was not trained."""
    columns = ["id", "label", "group", "predicted"]
    empty = pd.DataFrame({name: pd.Series(dtype=str) for name in columns})
    probabilities = pd.DataFrame(columns=[PROBABILITY + name for name in images.class_names], dtype=np.float32)
    return pd.concat([empty, probabilities], axis=1)
