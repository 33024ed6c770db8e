"""Batches for training and prediction, straight from the memory-mapped shards.

The order of training images is a pure function of (seed, step): a stream of full permutations, cut into batches. A fit
that starts again at step k sees exactly the batches that it would have seen.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from cnn_transfer.images.augmentation import Augmentation, augment
from cnn_transfer.images.image_set import ImageSet

if TYPE_CHECKING:
    import tensorflow as tf


def training_batches(
    images: ImageSet, rows: np.ndarray, batch_size: int, seed: int, augmentation: Augmentation, first_step: int = 0
) -> tf.data.Dataset:
    """An endless stream of shuffled, augmented batches.

    Args:
        images: The set to read from.
        rows: Row numbers of the training images.
        batch_size: Images a batch; it may be larger than the number of rows.
        seed: Seed of order and augmentation.
        augmentation: How far images may be moved.
        first_step: The step whose batch comes first.

    Returns:
        A dataset of ((batch_size, h, w, c) uint8 pixels, (batch_size,) int32 classes).
    """
    import tensorflow as tf

    classes = images.classes[rows]
    permutation = lru_cache(maxsize=2)(lambda epoch: np.random.default_rng([seed, epoch]).permutation(len(rows)))

    def read(step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        positions = np.arange(int(step) * batch_size, (int(step) + 1) * batch_size)
        epochs, offsets = np.divmod(positions, len(rows))
        chosen = np.concatenate([permutation(epoch)[offsets[epochs == epoch]] for epoch in np.unique(epochs)])
        return images.pixels(rows[chosen]), classes[chosen]

    def load(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels, labels = tf.numpy_function(read, [step], [tf.uint8, tf.int32])
        pixels = tf.ensure_shape(pixels, (batch_size, *images.image_shape))
        step_seed = tf.stack([tf.cast(seed, tf.int64), step])
        return augment(pixels, step_seed, augmentation), tf.ensure_shape(labels, (batch_size,))

    steps = tf.data.Dataset.range(first_step, np.iinfo(np.int64).max)
    return steps.map(load, num_parallel_calls=2).prefetch(4)


def ordered_batches(images: ImageSet, rows: np.ndarray, batch_size: int = 256) -> tf.data.Dataset:
    """The images at `rows`, once, in order, unchanged: (pixels uint8, classes int32), the last batch maybe smaller."""
    import tensorflow as tf

    classes = images.classes

    def read(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return images.pixels(chosen), classes[chosen]

    def load(chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels, labels = tf.numpy_function(read, [chosen], [tf.uint8, tf.int32])
        return tf.ensure_shape(pixels, (None, *images.image_shape)), tf.ensure_shape(labels, (None,))

    return tf.data.Dataset.from_tensor_slices(np.asarray(rows, np.int64)).batch(batch_size).map(load).prefetch(2)
