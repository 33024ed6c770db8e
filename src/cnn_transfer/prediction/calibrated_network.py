"""The network that is delivered to other programs: raw pixels in, calibrated probabilities out.

Its calibration is folded into the last dense layer: softmax((W x + b) / T + c) is the softmax of a dense layer with
W / T and b / T + c. So every runtime computes it, and none can forget it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cnn_transfer.evaluation.embedding import last_dense
from cnn_transfer.models import with_precision

if TYPE_CHECKING:
    import keras

OUTPUTS = ("probabilities", "logits", "features")


def calibrated_network(network: keras.Model, calibration: Mapping[str, Any]) -> keras.Model:
    """The network in float32 with its calibration inside.

    Args:
        network: A flat functional network from uint8 pixels to the probabilities of c classes, which ends in a dense
            layer.
        calibration: See `evaluation.fit_calibration`.

    Returns:
        A model from `pixels` (n, height, width, channels) uint8 to a dict of float32: `probabilities` (n, c) that are
        calibrated, `logits` (n, c), whose softmax they are, and `features` (n, d), what the last dense layer reads.

    Raises:
        ValueError: When the network has no dense layer at its end.
    """
    import keras

    pixels = keras.Input(network.input_shape[1:], dtype="uint8", name="pixels")
    plain = keras.models.clone_model(with_precision(network, "float32"), input_tensors=pixels)
    plain.set_weights(network.get_weights())
    dense = last_dense(plain)
    kernel, *rest = dense.get_weights()
    bias = rest[0] if rest else np.zeros(kernel.shape[1], kernel.dtype)
    temperature, shift = calibration["temperature"], calibration["bias"]
    features = keras.layers.Identity(dtype="float32", name="features")(dense.input)
    head = keras.layers.Dense(kernel.shape[1], dtype="float32", name="logits")
    logits = head(features)
    head.set_weights([kernel / temperature, bias / temperature + (0.0 if shift is None else np.asarray(shift))])
    probabilities = keras.layers.Softmax(dtype="float32", name="probabilities")(logits)
    outputs = dict(zip(OUTPUTS, (probabilities, logits, features), strict=True))
    return keras.Model(plain.input, outputs, name=network.name)
