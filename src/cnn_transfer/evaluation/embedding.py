"""Images as a network sees them: what its last dense layer reads, what that makes of it, and how they were taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from cnn_transfer.evaluation.appearance import ASPECTS, appearance
from cnn_transfer.images import ImageSet, image_batches
from cnn_transfer.images.listing import hash_ranks
from cnn_transfer.models import predict_batches

if TYPE_CHECKING:
    import keras

MOST_IMAGES = 10_000  # training images that others are compared with: the nearest of them stands for that of all
MOST_NUMBERS = 2**25  # of their features, 134 MB: a head on many depths reads some 20,000 an image
CHUNK_IMAGES = 256  # whose pixels are in memory at once


class EmbeddedImages(NamedTuple):
    """Images as a network sees them.

    Attributes:
        ids: (n,) of text.
        labels: (n,) of text, the true classes.
        features: (n, d) float32, what the last dense layer reads.
        logits: (n, c) float32, what it makes of them, without the bias; their mean over the classes is 0.
        appearance: (n, 7) float32, see `appearance`.
        parts: Numbers of features that are compared by themselves, in their order; d in all. See `feature_parts`.
        groups: (n,) of text: images of one group are not each other's neighbours; None: every image is one of its own.
    """

    ids: np.ndarray
    labels: np.ndarray
    features: np.ndarray
    logits: np.ndarray
    appearance: np.ndarray
    parts: tuple[int, ...]
    groups: np.ndarray | None = None


def penultimate_features(network: keras.Model, images: ImageSet, rows: np.ndarray) -> np.ndarray:
    """What the last dense layer of the network reads: (len(rows), d) float32.

    Args:
        network: A flat functional model.
        images: Images of the network's size.
        rows: Row numbers in the set.

    Raises:
        ValueError: When the network has no dense layer at its end, or a feature is not finite.
    """
    import keras

    dense = last_dense(network)
    if not len(rows):
        return np.empty((0, dense.input.shape[-1]), np.float32)
    features = predict_batches(keras.Model(network.input, dense.input), image_batches(images, rows))
    if (bad := ~np.isfinite(features).all(axis=1)).any():
        raise ValueError(
            f"Features must be finite. {network.name} gives NaN or infinity for {bad.sum():,} of {len(rows):,} images, "
            f"such as {images.table['id'].iloc[rows[bad.argmax()]]}. Its weights have diverged: train it again at a "
            "lower learning rate, with gradient_clip: 1 or in float32."
        )
    return np.asarray(features, np.float32)


def reference_rows(network: keras.Model, images: ImageSet, splits: pd.DataFrame, seed: int) -> np.ndarray:
    """Row numbers of the training images that others are compared with: all, or as many as there is room for.

    Which of them is the same whatever their order, and changes little when images are added.

    Args:
        network: Whose features are compared.
        images: The set.
        splits: Which image is in which split.
        seed: Of the draw.
    """
    rows = images.rows(splits, "training")
    most = min(MOST_IMAGES, MOST_NUMBERS // last_dense(network).input.shape[1])
    if len(rows) <= most:
        return rows
    ranks = np.asarray(hash_ranks(images.table["id"].iloc[rows], seed))
    return np.sort(rows[np.argsort(ranks)[:most]])


def embed_images(
    network: keras.Model, images: ImageSet, rows: np.ndarray, splits: pd.DataFrame | None = None
) -> EmbeddedImages:
    """Features, logits and appearance of images.

    Args:
        network: A flat functional model.
        images: Images of the network's size.
        rows: Row numbers in the set.
        splits: Says which images are of one group; None: each by itself.

    Raises:
        ValueError: When the network has no dense layer at its end.
    """
    features = penultimate_features(network, images, rows)
    kernel = np.asarray(last_dense(network).get_weights()[0], np.float32)
    table = images.table.iloc[rows]
    logits = features @ (kernel - kernel.mean(axis=1, keepdims=True))  # a softmax ignores what all classes share
    names, labels = (table[column].to_numpy(object) for column in ("id", "label"))
    groups = None
    if splits is not None and "group" in splits:
        groups = splits.set_index("id")["group"].reindex(names).to_numpy(object)
    chunks = (images.pixels(rows[start : start + CHUNK_IMAGES]) for start in range(0, len(rows), CHUNK_IMAGES))
    taken = [np.empty((0, len(ASPECTS)), np.float32), *map(appearance, chunks)]
    return EmbeddedImages(names, labels, features, logits, np.concatenate(taken), feature_parts(network), groups)


def feature_parts(network: keras.Model) -> tuple[int, ...]:
    """How many of the features come of each depth, and of each kind of them; of all where they have one source.

    Raises:
        ValueError: When the network has no dense layer at its end.
    """
    import keras

    features = last_dense(network).input
    for layer in network.layers:
        if isinstance(layer, keras.layers.Concatenate) and layer.output is features:
            return tuple(int(part.shape[-1]) for part in layer.input)
    return (int(features.shape[-1]),)


def last_dense(network: keras.Model) -> keras.layers.Dense:
    """The dense layer at the end of a network, whose inputs are its features.

    Raises:
        ValueError: When it has none.
    """
    import keras

    dense = [layer for layer in network.layers if isinstance(layer, keras.layers.Dense)]
    if not dense or len(dense[-1].input.shape) != 2:
        raise ValueError(
            "The network must end in a dense layer that reads (n, features). Received: "
            f"{network.name}, which ends in {network.layers[-1].name}."
        )
    return dense[-1]
