"""Batches for training and prediction, straight from the memory-mapped shards.

The order of training images is a pure function of (seed, step): a stream of full permutations, cut into batches. A fit
that starts again at step k sees exactly the batches that it would have seen. Targets are (n, classes) float32, the
share of each class in each image, so that mixed images have theirs; an image without a label (class -1) has zeros.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from cnn_transfer.images.augmentation import Augmentation, augment
from cnn_transfer.images.image_set import ImageSet

if TYPE_CHECKING:
    import tensorflow as tf

# A call from TensorFlow into NumPy costs about 0.3 ms, as much as reading 64 images of 64 px: one call reads several
# batches, as many as fit into this size.
READ_BYTES, READ_STEPS = 4 * 2**20, 8


def training_batches(
    images: ImageSet, rows: np.ndarray, batch_size: int, seed: int, augmentation: Augmentation, first_step: int = 0
) -> tf.data.Dataset:
    """An endless stream of shuffled, augmented batches.

    Args:
        images: The set to read from.
        rows: Row numbers of the training images.
        batch_size: Images a batch; it may be larger than the number of rows.
        seed: Seed of order and augmentation.
        augmentation: How far images may be changed.
        first_step: The step whose batch comes first.

    Returns:
        A dataset of ((batch_size, h, w, c) uint8 pixels, (batch_size, classes) float32 targets).

    Raises:
        ValueError: When saturation or hue is to change and the images have one channel.
    """
    import tensorflow as tf

    augmentation.check_channels(images.image_shape[2])
    classes = images.classes[rows]
    permutation = lru_cache(maxsize=2)(lambda epoch: np.random.default_rng([seed, epoch]).permutation(len(rows)))
    read_steps = min(READ_STEPS, max(1, READ_BYTES // (batch_size * math.prod(images.image_shape))))

    def read(step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        positions = np.arange(int(step) * batch_size, (int(step) + read_steps) * batch_size)
        epochs, offsets = np.divmod(positions, len(rows))
        chosen = np.concatenate([permutation(epoch)[offsets[epochs == epoch]] for epoch in np.unique(epochs)])
        return images.pixels(rows[chosen]), classes[chosen]

    def load(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        pixels, labels = tf.numpy_function(read, [step], [tf.uint8, tf.int32])
        pixels = tf.reshape(pixels, (read_steps, batch_size, *images.image_shape))
        targets = tf.one_hot(tf.reshape(labels, (read_steps, batch_size)), len(images.class_names))
        return pixels, targets, step + tf.range(read_steps, dtype=tf.int64)

    def change(pixels: tf.Tensor, targets: tf.Tensor, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return augment(pixels, targets, tf.stack([tf.cast(seed, tf.int64), step]), augmentation)

    steps = tf.data.Dataset.range(first_step, np.iinfo(np.int64).max, read_steps)
    return steps.map(load).prefetch(1).unbatch().map(change, num_parallel_calls=2).prefetch(4)


def ordered_batches(images: ImageSet, rows: np.ndarray, batch_size: int = 256) -> tf.data.Dataset:
    """The images at `rows`, once, in order, unchanged, with their targets; the last batch may be smaller."""
    import tensorflow as tf

    classes = images.classes

    def read(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return images.pixels(chosen), classes[chosen]

    def load(chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels, labels = tf.numpy_function(read, [chosen], [tf.uint8, tf.int32])
        pixels, labels = tf.ensure_shape(pixels, (None, *images.image_shape)), tf.ensure_shape(labels, (None,))
        return pixels, tf.one_hot(labels, len(images.class_names))

    return tf.data.Dataset.from_tensor_slices(np.asarray(rows, np.int64)).batch(batch_size).map(load).prefetch(2)
