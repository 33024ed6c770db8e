"""Taps: the outputs of a network's blocks, pooled to a small grid, side by side as one vector an image.

What a network knows lies at several depths; a head on all of them uses more of it than one on the last layer alone
(Head2Toe, arXiv 2201.03529). Everything is an ordinary layer of one flat functional graph.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cnn_transfer.models.surgery import HEAD_PREFIX, cut_layers

if TYPE_CHECKING:
    import keras

FEWEST_BLOCKS = 4  # found in the graph, before all places where branches meet are taken instead
MOST_TAPS = 20  # enough for one a residual block of the usual networks; features and solve grow with each

_BLOCK_NAME = r"((?:.*block_?\d+[a-z]?(?:_\d+)?)|(?:expanded_conv(?:_\d+)?))(?:_|$)"


def tap_layers(network: keras.Model) -> list[str]:
    """Names of the layers that are tapped, from shallow to deep: the ends of the network's blocks, at most 20.

    Layers named `block1`, `block2`, … up to the deepest are these ends. Elsewhere they are found in the graph: a layer
    that everything passes through, around which no skip connection leads, and the last such layer of its block. A block
    is what its layers' names call one (`conv2_block1_out`, `block_3_add`, `expanded_conv_2_add`), else what begins with
    a convolution or where branches meet. Of more than 20, 20 are taken at even distances, the first and the last too.

    Args:
        network: A flat functional model; layers that it can be cut after count.
    """
    allowed = cut_layers(network)
    named = [name for name in allowed if re.fullmatch(r"block\d+", name)]
    if named and named[-1] == allowed[-1]:
        return named
    joints = _joints(network)
    passages = [joint for joint in joints if joint.is_passage]
    taps = [block[-1] for block in _blocks(passages)]
    if len(taps) < FEWEST_BLOCKS:  # skip connections over everything (NASNet), or a small network
        taps = max(taps, [joint for joint in joints if joint.inputs > 1 or joint is joints[-1]], key=len)
    chosen = np.linspace(0, len(taps) - 1, min(len(taps), MOST_TAPS)).round().astype(int)
    return [taps[index].name for index in chosen]


class _Joint(NamedTuple):
    """A layer with a picture as output, and its place in the graph.

    Attributes:
        name: Its name.
        block: The block that its name belongs to, or nothing.
        inputs: Number of different layers that it reads.
        has_kernel: Whether it is a convolution.
        is_depthwise: Whether it is one of each channel by itself, half of a block that ends in the next convolution.
        is_passage: Whether everything passes through it.
    """

    name: str
    block: str
    inputs: int
    has_kernel: bool
    is_depthwise: bool
    is_passage: bool


def _blocks(passages: Sequence[_Joint]) -> list[list[_Joint]]:
    """Group the layers that everything passes through by block."""
    blocks: list[list[_Joint]] = []
    for passage in passages:
        last = blocks[-1][-1] if blocks else None
        last_block = last.block if last else ""
        # The activation after a nameless addition ends the block that the addition ends (Inception-ResNet).
        ends_sum = last is not None and not last_block and last.inputs > 1
        named_anew = passage.block not in {"", last_block} and not ends_sum
        begins = passage.has_kernel or passage.inputs > 1 or named_anew
        if begins and not (passage.block and passage.block == last_block):
            blocks.append([])
        if blocks:  # what comes before the first block prepares the pixels
            blocks[-1].append(passage)
    return [block for block in blocks if block[0].block or not block[0].is_depthwise]


def _joints(network: keras.Model) -> list[_Joint]:
    """All layers with a picture as output, in topological order.

    Everything passes through a layer when nothing before it is read by anything after it: one sweep finds these.
    """
    import keras

    operations = [operation for operation in network.operations if not operation.name.startswith(HEAD_PREFIX)]
    position = {
        id(tensor): index
        for index, operation in enumerate(operations)
        for tensor in keras.tree.flatten(operation.output)
    }
    pictures = set(cut_layers(network))
    reads: list[set[int]] = []
    reach = list(range(len(operations)))  # the last operation that reads the output of each
    for index, operation in enumerate(operations):
        tensors = [] if isinstance(operation, keras.layers.InputLayer) else keras.tree.flatten(operation.input)
        reads.append({position[id(tensor)] for tensor in tensors if id(tensor) in position})
        for source in reads[-1]:
            reach[source] = index
    joints, furthest = [], 0
    for index, operation in enumerate(operations):
        if operation.name in pictures and not _only_moves(operation):
            block = re.match(_BLOCK_NAME, operation.name)
            joints.append(
                _Joint(
                    name=operation.name,
                    block=block[1] if block else "",
                    inputs=len(reads[index]),
                    has_kernel=any(len(variable.shape) == 4 for variable in getattr(operation, "weights", [])),
                    is_depthwise=isinstance(operation, keras.layers.DepthwiseConv2D),
                    is_passage=furthest <= index,
                )
            )
        furthest = max(furthest, reach[index])
    return joints


def _only_moves(operation: keras.Operation) -> bool:
    """Whether a layer adds nothing to what the one before it says: padding, dropout."""
    import keras

    return isinstance(operation, (keras.layers.ZeroPadding2D, keras.layers.Dropout))


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
