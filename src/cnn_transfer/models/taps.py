"""Taps: the outputs of a network's blocks, pooled to a small grid, side by side as one vector an image.

What a network knows lies at several depths; a head on all of them uses more of it than one on the last layer alone
(Head2Toe, arXiv 2201.03529). Everything is an ordinary layer of one flat functional graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cnn_transfer.models.surgery import HEAD_PREFIX, cut_layers

if TYPE_CHECKING:
    import keras


def tap_layers(network: keras.Model) -> list[str]:
    """Names of the layers that are tapped, from shallow to deep: the blocks, or all that can be cut after."""
    names = cut_layers(network)
    return [name for name in names if name.startswith("block")] or names


def blocks_above(network: keras.Model) -> dict[str, int]:
    """How deep each layer lies, counted in blocks from the head: 0 for the head, 1 for the deepest block, and so on.

    A block is what lies above the tap before it, up to and including its own tap (see `tap_layers`); what lies between
    the deepest tap and the head counts as the head.
    """
    taps, depths = set(tap_layers(network)), {}
    depth = 0
    for layer in reversed(network.layers):
        depth += layer.name in taps
        depths[layer.name] = 0 if layer.name.startswith(HEAD_PREFIX) else depth
    return depths


def tap_widths(network: keras.Model, taps: Sequence[str], grid: int) -> list[int]:
    """Number of features that each tap gives."""
    shapes = [network.get_layer(name).output.shape for name in taps]
    return [min(grid, height) * min(grid, width) * channels for _, height, width, channels in shapes]


def tap_network(network: keras.Model, taps: Sequence[str], grid: int) -> keras.Model:
    """The network from its input to the features of its taps; weights are shared, not copied.

    Args:
        network: A network with the named layers, each with an output of (n, h, w, channels).
        taps: Names of layers, from shallow to deep.
        grid: Each output is averaged over grid × grid cells.

    Returns:
        A model with an output of (n, features) float32: the cells of the first tap, row by row, then the next tap's.
    """
    import keras

    return keras.Model(network.input, _features(network, taps, grid), name=network.name)


def add_linear_head(
    network: keras.Model, taps: Sequence[str], grid: int, kernel: np.ndarray, bias: np.ndarray
) -> keras.Model:
    """Put a linear classifier with given weights on the taps; what lies above the deepest one is left behind.

    Args:
        network: The network; weights are shared, not copied.
        taps: Names of layers, from shallow to deep.
        grid: Cells a side.
        kernel: (features, classes).
        bias: (classes,).
    """
    import keras

    dense = keras.layers.Dense(len(bias), activation="softmax", dtype="float32", name=f"{HEAD_PREFIX}probabilities")
    model = keras.Model(network.input, dense(_features(network, taps, grid)), name=network.name)
    dense.set_weights([kernel, bias])
    return model


def _features(network: keras.Model, taps: Sequence[str], grid: int) -> Any:
    import keras

    cells = []
    for name in taps:
        output = network.get_layer(name).output
        _, height, width, _ = output.shape
        strides = (max(1, height // grid), max(1, width // grid))
        # Cells of equal size that cover the output; where it cannot be divided, neighbours share a row.
        size = tuple(side - (min(grid, side) - 1) * step for side, step in zip((height, width), strides, strict=True))
        pooled = keras.layers.AveragePooling2D(size, strides, name=f"{HEAD_PREFIX}pool{grid}_{name}")(output)
        cells.append(keras.layers.Flatten(name=f"{HEAD_PREFIX}flatten{grid}_{name}", dtype="float32")(pooled))
    if len(cells) == 1:
        return cells[0]
    return keras.layers.Concatenate(name=f"{HEAD_PREFIX}taps{grid}", dtype="float32")(cells)
