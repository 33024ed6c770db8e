"""What the fine-tuning changed: what the network makes of images at each depth, and where it looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cnn_transfer.evaluation.attribution import AttributionUnavailableError, grad_cam
from cnn_transfer.evaluation.probabilities import class_columns
from cnn_transfer.evaluation.similarity import FEWEST_IMAGES, map_similarity, similarity_by_depth
from cnn_transfer.images import ImageSet
from cnn_transfer.models import tap_layers

if TYPE_CHECKING:
    import keras

MOST_COMPARED, MOST_MAPPED = 256, 64  # images
NO_DEPTHS = pd.DataFrame(columns=["layer", "depth", "cka", "cka_low", "cka_high"])
UNCHANGED = "Nothing: the transferred network keeps the head in closed form as it is, on the weights of the source."
NOTHING = {"correlation": None, "correlation_low": None, "correlation_high": None, "images": 0, "undefined": 0}


def fine_tuning_change(
    before: keras.Model, after: keras.Model, images: ImageSet, predictions: pd.DataFrame, confidence: float, seed: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Compare a network before and after its fine-tuning, on the same images drawn by the seed.

    Args:
        before: The migrated network.
        after: The fine-tuned one.
        images: The set that the predictions are about.
        predictions: Of the fine-tuned network; their classes are those that the maps (Grad-CAM) are about.
        confidence: Level of the intervals, 0-1.
        seed: Of the draw.

    Returns:
        The table of `similarity_by_depth`, without rows for a network that is as it was, too few images, or networks
        without convolution, and the figures of `map_similarity` with a `statement` that says why where there are none.
    """
    drawn = predictions.sample(min(len(predictions), MOST_COMPARED), random_state=seed)
    if len(drawn) < FEWEST_IMAGES:
        return _unknown(f"it takes at least {FEWEST_IMAGES} test images, not {len(drawn)}")
    if not set(tap_layers(before)) & set(tap_layers(after)):
        return _unknown("the networks have no convolution in common whose pictures could be compared")
    weights = zip(before.get_weights(), after.get_weights(), strict=True)
    if all(np.array_equal(first, second) for first, second in weights):
        return NO_DEPTHS, NOTHING | {"statement": UNCHANGED}
    pixels = images.pixels(images.rows_of(drawn["id"]))
    depths = similarity_by_depth(before, after, pixels, confidence=confidence)
    classes = np.asarray(pd.Index(class_columns(drawn)).get_indexer(pd.Index(drawn["predicted"])))[:MOST_MAPPED]
    try:
        first, second = (grad_cam(network, pixels[:MOST_MAPPED], classes) for network in (before, after))
    except AttributionUnavailableError as error:
        return depths, NOTHING | {"statement": str(error)}
    return depths, map_similarity(first, second, confidence)


def _unknown(reason: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """What cannot be compared, and why."""
    return NO_DEPTHS, NOTHING | {"statement": f"What the fine-tuning changed cannot be said: {reason}."}
