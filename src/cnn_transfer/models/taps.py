"""Taps: the outputs of a network's blocks, as means and ranges over a few cells, side by side in one vector.

What a network knows lies at several depths; a head on all of them uses more of it than one on the last layer alone
(Head2Toe, arXiv 2201.03529). The range of a channel within a cell, from its lowest to its highest value, says what the
mean does not: whether little is everywhere or much in one place. The standard deviation says it as well, but not with
numbers of 8 bits. Everything is an ordinary layer of one flat functional graph.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cnn_transfer.models.surgery import HEAD_PREFIX, cut_layers

if TYPE_CHECKING:
    import keras

FEWEST_BLOCKS = 4  # found in the graph, before all places where branches meet are taken instead
MOST_RANGE_CELLS = 2  # a side: the finer the cells, the fewer positions there are to differ
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
    """Whether a layer adds nothing to what the one before it says: padding, dropout, other axes.

    After these, as networks that came from PyTorch have them before they flatten, the last axis is not the channels.
    """
    import keras

    return isinstance(operation, (keras.layers.ZeroPadding2D, keras.layers.Dropout, keras.layers.Permute))


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
    widths = []
    for name in taps:
        _, height, width, channels = network.get_layer(name).output.shape
        cells = _Cells(height, width, grid)
        ranges = cells.coarse.number if cells.coarse.have_several_positions else 0
        widths.append(channels * (cells.number + ranges))
    return widths


def tap_network(network: keras.Model, taps: Sequence[str], grid: int) -> keras.Model:
    """The network from its input to the features of its taps; weights are shared, not copied.

    Args:
        network: A network with the named layers, each with an output of (n, h, w, channels).
        taps: Names of layers, from shallow to deep.
        grid: Each output is averaged over grid × grid cells; its range is taken within at most 2 × 2, and left out
            where these hold a single position.

    Returns:
        A model with an output of (n, features) float32: the means of the first tap, cell by cell and row by row, then
        its ranges likewise, then the next tap's.
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
        kernel: (features, classes); features as of `tap_network`.
        bias: (classes,).
    """
    import keras

    dense = keras.layers.Dense(len(bias), activation="softmax", dtype="float32", name=f"{HEAD_PREFIX}probabilities")
    model = keras.Model(network.input, dense(_features(network, taps, grid)), name=network.name)
    dense.set_weights([kernel, bias])
    return model


class _Cells(NamedTuple):
    """Cells of equal size that cover a picture; where it cannot be divided, neighbours share a row or a column."""

    height: int
    width: int
    grid: int

    @property
    def sides(self) -> tuple[int, int]:
        """How many there are down and across."""
        return (min(self.grid, self.height), min(self.grid, self.width))

    @property
    def strides(self) -> tuple[int, int]:
        """From each cell to the next."""
        down, across = self.sides
        return (self.height // down, self.width // across)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of each."""
        (down, across), (high, wide) = self.sides, self.strides
        return (self.height - (down - 1) * high, self.width - (across - 1) * wide)

    @property
    def number(self) -> int:
        """How many there are."""
        return math.prod(self.sides)

    @property
    def coarse(self) -> _Cells:
        """Those within which ranges are taken."""
        return self._replace(grid=min(self.grid, MOST_RANGE_CELLS))

    @property
    def have_several_positions(self) -> bool:
        """Whether there can be a range in one."""
        return self.size != (1, 1)


def _features(network: keras.Model, taps: Sequence[str], grid: int) -> Any:
    import keras

    parts = []
    for tap in taps:
        output = network.get_layer(tap).output
        _, height, width, _ = output.shape
        cells = _Cells(height, width, grid)
        mean = keras.layers.AveragePooling2D(cells.size, cells.strides, name=f"{HEAD_PREFIX}mean{grid}_{tap}")(output)
        statistics = {"means": mean}
        if cells.coarse.have_several_positions:
            statistics["ranges"] = _range(output, cells.coarse, f"{grid}_{tap}")
        for name, values in statistics.items():
            flatten = keras.layers.Flatten(name=f"{HEAD_PREFIX}{name}{grid}_{tap}", dtype="float32")
            parts.append(flatten(values))
    join = keras.layers.Concatenate(name=f"{HEAD_PREFIX}taps{grid}", dtype="float32")
    return join(parts) if len(parts) > 1 else parts[0]


def _range(output: Any, cells: _Cells, name: str) -> Any:
    """Highest less lowest value in each cell."""
    import keras

    negative = keras.layers.Rescaling(-1.0, name=f"{HEAD_PREFIX}negative{name}")(output)
    highest = keras.layers.MaxPooling2D(cells.size, cells.strides, name=f"{HEAD_PREFIX}highest{name}")(output)
    lowest = keras.layers.MaxPooling2D(cells.size, cells.strides, name=f"{HEAD_PREFIX}lowest{name}")(negative)
    return keras.layers.Add(name=f"{HEAD_PREFIX}range{name}")([highest, lowest])
