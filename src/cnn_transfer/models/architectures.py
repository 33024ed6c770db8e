"""The registered architectures for training from the beginning.

Each block's output layer is named `block1`, `block2`, …: these are the places where a network can be cut. All
convolutions in a network with batch normalisation go without bias, since the normalisation has its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cnn_transfer.models.surgery import add_head
from cnn_transfer.parameters import did_you_mean

if TYPE_CHECKING:
    import keras


def article_cnn(image_shape: tuple[int, int, int], seed: int) -> tuple[keras.Model, list[int]]:
    """The network of the article: Conv32-Pool-Conv64-Pool-Conv64, 3x3, ReLU, no padding, no normalisation.

    Its head, which the article leaves out, is the one of TensorFlow's CIFAR-10 tutorial: a dense layer of 64.
    """
    import keras

    inputs, x = _normalised_input(image_shape)
    for block, filters in enumerate((32, 64, 64), start=1):
        if block > 1:
            x = keras.layers.MaxPooling2D(name=f"pool{block - 1}")(x)
        x = keras.layers.Conv2D(filters, 3, kernel_initializer=_he(seed, block), name=f"conv{block}")(x)
        x = keras.layers.Activation("relu", name=f"block{block}")(x)
    return keras.Model(inputs, x, name="article_cnn"), [64]


def compact_cnn(image_shape: tuple[int, int, int], seed: int) -> tuple[keras.Model, list[int]]:
    """Convolutions (32, 64, 128) that halve the image each, with batch normalisation.

    Strides instead of pooling compute only what is kept, about a third of the multiplications. Images above
    `MOST_FINE_PX` are quartered by the first convolution, as ImageNet's networks do in two steps, and a fourth one
    (256) widens what a place of the last map sees from 29 to 61 px. Batch statistics move with momentum 0.9, since
    few-label fits have a few hundred steps only.
    """
    import keras

    inputs, x = _normalised_input(image_shape)
    blocks = [(32, 5, 2), (64, 3, 2), (128, 3, 2)]
    if max(image_shape[:2]) > MOST_FINE_PX:
        blocks = [(32, 5, 4), *blocks[1:], (256, 3, 2)]
    for block, (filters, size, strides) in enumerate(blocks, start=1):
        initializer = _he(seed, block)
        x = keras.layers.Conv2D(
            filters,
            size,
            strides=strides,
            padding="same",
            use_bias=False,
            kernel_initializer=initializer,
            name=f"conv{block}",
        )(x)
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"normalisation{block}")(x)
        x = keras.layers.Activation("relu", name=f"block{block}")(x)
    return keras.Model(inputs, x, name="compact_cnn"), []


Builder = Callable[[tuple[int, int, int], int], "tuple[keras.Model, list[int]]"]
ARCHITECTURES: dict[str, Builder] = {"article_cnn": article_cnn, "compact_cnn": compact_cnn}
MOST_FINE_PX = 64  # a side: larger images go through compact_cnn at a quarter of their size
SMALLEST_IMAGE_PX = {"article_cnn": 18, "compact_cnn": 8}


def build_network(architecture: str, image_shape: tuple[int, int, int], n_classes: int, seed: int) -> keras.Model:
    """Build a registered architecture with its head, randomly initialised.

    Args:
        architecture: A key of `ARCHITECTURES`.
        image_shape: (height, width, channels).
        n_classes: Number of output probabilities.
        seed: Seed of the initial weights.

    Raises:
        ValueError: When the architecture is not registered, or the images are too small for it.
    """
    if architecture not in ARCHITECTURES:
        known = list(ARCHITECTURES)
        raise ValueError(
            f"architecture must be one of {', '.join(known)}. Received: {architecture}. "
            + did_you_mean(architecture, known).strip()
        )
    smallest = SMALLEST_IMAGE_PX[architecture]
    if min(image_shape[:2]) < smallest:
        raise ValueError(f"{architecture} needs images of at least {smallest} px. Received: {image_shape[:2]}.")
    features, hidden_units = ARCHITECTURES[architecture](image_shape, seed)
    return add_head(features, n_classes, seed, hidden_units)


def _normalised_input(image_shape: tuple[int, int, int]) -> tuple[Any, Any]:
    import keras

    inputs = keras.Input(image_shape, dtype="uint8", name="pixels")
    return inputs, keras.layers.Rescaling(1 / 127.5, offset=-1.0, dtype="float32", name="rescaling")(inputs)


def _he(seed: int, block: int) -> Any:
    """He initialisation (arXiv 1502.01852) with a seed of its own in each block."""
    import keras

    return keras.initializers.HeNormal(seed=1000 * seed + block)
