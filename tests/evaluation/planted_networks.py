"""Networks whose reasons are known, and pixels for them."""

import keras
import numpy as np

from cnn_transfer.models import add_head, add_linear_head

CORNER = 4  # px a side
THRESHOLD = 0.93  # mean brightness of the corner at which both classes are as likely; a blurred corner is darker


def random_pixels(n, shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape)).astype(np.uint8)


def linear_network(shape=(6, 5, 3), n_classes=3, seed=0):
    """No convolution: the logits are a linear function of the pixels."""
    inputs = keras.Input(shape, dtype="uint8", name="pixels")
    x = keras.layers.Rescaling(1 / 255, dtype="float32")(inputs)
    return add_head(keras.Model(inputs, x), n_classes, seed)


def corner_network(side=16, channels=1):
    """Class 1 is a bright upper left corner, class 0 a dark one; nothing else counts."""
    inputs = keras.Input((side, side, channels), dtype="uint8", name="pixels")
    x = keras.layers.Rescaling(1 / 255, dtype="float32", name="rescaling")(inputs)
    convolution = keras.layers.Conv2D(2, 1, activation="relu", name="block1")
    network = keras.Model(inputs, convolution(x))
    convolution.set_weights([np.ones((1, 1, channels, 2)) / channels, np.zeros(2)])
    kernel = np.zeros((side, side, 2, 2))
    kernel[:CORNER, :CORNER, 0, 1] = 1.0
    kernel[:CORNER, :CORNER, 1, 0] = -1.0
    unread = np.zeros((2 * 2 * 2, 2))  # ranges within 2 x 2 cells
    return add_linear_head(
        network,
        ["block1"],
        side,
        np.concatenate([kernel.reshape(-1, 2), unread]),
        np.array([0.0, -2 * THRESHOLD * CORNER * CORNER]),
    )
