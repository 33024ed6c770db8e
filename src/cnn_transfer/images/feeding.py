"""What a network learns from or is judged by, as a value, and its batches, straight from the memory-mapped shards.

The order of training images is a pure function of (seed, step): a stream of epochs, cut into batches. A fit that starts
again at step k sees exactly the batches that it would have seen. Targets are (n, classes) float32, the share of each
class in each image, so that mixed images and soft labels have theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cnn_transfer.images.augmentation import Augmentation, augment
from cnn_transfer.images.image_set import ImageSet
from cnn_transfer.images.reasons import UnusableSetError

if TYPE_CHECKING:
    import tensorflow as tf

# A call from TensorFlow into NumPy costs about 0.3 ms, as much as reading 64 images of 64 px: one call reads several
# batches, as many as fit into this size.
READ_BYTES, READ_STEPS = 4 * 2**20, 8
# What a network computes without learning: more at once is not faster, and EfficientNet-Lite0 needs 5 MB for each image
# of 160 px.
MOST_IMAGES_A_BATCH, PIXELS_A_BATCH = 256, 2**19
MOST_CACHED_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Examples:
    """Images to learn from or to judge by: rows of a set, their targets, and how often each is drawn.

    Attributes:
        images: The set; its class names are those of the targets.
        rows: (n,) row numbers in the set, at least one.
        targets: (n, classes) float32, the share of each class; soft labels are allowed.
        weights: (n,) above 0: how often each is drawn for training relative to the others. Judging draws each once.

    Raises:
        ValueError: When there is no row, or the parts do not fit together.
    """

    images: ImageSet
    rows: np.ndarray
    targets: np.ndarray
    weights: np.ndarray

    def __post_init__(self) -> None:
        n = len(self.rows)
        if n == 0:
            raise ValueError("Examples must have at least one image. Received: none.")
        if self.targets.shape != (n, len(self.images.class_names)) or self.weights.shape != (n,):
            raise ValueError(
                f"Examples of {n} images and {len(self.images.class_names)} classes must have targets of shape "
                f"({n}, {len(self.images.class_names)}) and weights of shape ({n},). Received: {self.targets.shape} "
                f"and {self.weights.shape}."
            )
        if not (np.isfinite(self.weights) & (self.weights > 0)).all():
            raise ValueError(f"weights must be finite and above 0. Received: {self.weights.min()} as the lowest.")

    def __len__(self) -> int:
        return len(self.rows)

    def joined(self, other: Examples, share: float) -> Examples:
        """These and others of the same set, such as images with labels and images with pseudo-labels.

        Args:
            other: The others.
            share: Their share of the draws, above 0 and below 1.

        Raises:
            ValueError: When the share is out of bounds, or the sets or their classes differ.
        """
        if not 0 < share < 1:
            raise ValueError(f"share must be above 0 and below 1. Received: {share}.")
        mine, theirs = ((part.images.fingerprint, part.images.class_names) for part in (self, other))
        if mine != theirs:
            raise ValueError(f"Joined examples must be of one set with the same classes. Received: {mine}, {theirs}.")
        weights = (1 - share) * self.weights / self.weights.sum(), share * other.weights / other.weights.sum()
        return Examples(
            self.images,
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.targets, other.targets]),
            np.concatenate(weights),
        )

    def draws(self, seed: int, epoch: int) -> np.ndarray:
        """Which examples an epoch of n draws takes, in order: (n,) positions among the examples.

        With equal weights that is a permutation. Otherwise each is drawn n · weight / Σ weights times, rounded up or
        down at random (systematic resampling, Kitagawa 1996), class after class, so that each class has its share too.
        """
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(len(self))
        if np.allclose(self.weights, self.weights[0], rtol=1e-9, atol=0):
            return order
        by_class = np.lexsort((rng.permutation(len(self)), self.targets.argmax(axis=1)))
        ends = self.weights[by_class].cumsum()
        points = (rng.random() + np.arange(len(self))) / len(self) * ends[-1]
        return np.asarray(by_class[np.searchsorted(ends[:-1], points, side="right")][order])


def split_examples(images: ImageSet, splits: pd.DataFrame, split: str, class_balance: float = 0.0) -> Examples:
    """The images of one split with their labels.

    Args:
        images: The set.
        splits: Table of splits; it also says which classes there are.
        split: Name of the split.
        class_balance: How evenly classes are drawn, 0-1: one of n images in proportion to n ** (1 - class_balance). 0
            draws every image equally often, 1 every class, 0.5 is the square root of Mahajan et al. (2018, arXiv
            1805.00932).

    Raises:
        ValueError: When the split has no image, or images without a label.
    """
    images = images.used_in(splits)
    rows = images.rows(splits, split)
    if not len(rows):
        raise UnusableSetError(f"The split {split} has no images. Change the rule of the splits so that some are left.")
    classes = images.classes[rows]
    if (classes < 0).any():
        raise ValueError(
            f"Examples must have labels. Received: {(classes < 0).sum()} of {len(rows)} images of the split {split} "
            "without one."
        )
    weights = np.bincount(classes)[classes] ** -float(class_balance)
    return Examples(images, rows, np.eye(len(images.class_names), dtype=np.float32)[classes], weights)


def training_batches(
    examples: Examples, batch_size: int, seed: int, augmentation: Augmentation, first_step: int = 0
) -> tf.data.Dataset:
    """An endless stream of shuffled, augmented batches.

    Args:
        examples: What to learn from.
        batch_size: Images a batch; it may be larger than the number of examples.
        seed: Seed of order and augmentation.
        augmentation: How far images may be changed.
        first_step: The step whose batch comes first.

    Returns:
        A dataset of ((batch_size, h, w, c) uint8 pixels, (batch_size, classes) float32 targets).

    Raises:
        ValueError: When saturation or hue is to change and the images have one channel.
    """
    import tensorflow as tf

    images = examples.images
    augmentation.check_channels(images.image_shape[2])
    draws = lru_cache(maxsize=2)(lambda epoch: examples.draws(seed, epoch))
    read_steps = min(READ_STEPS, max(1, READ_BYTES // (batch_size * math.prod(images.image_shape))))

    def read(step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        positions = np.arange(int(step) * batch_size, (int(step) + read_steps) * batch_size)
        epochs, offsets = np.divmod(positions, len(examples))
        chosen = np.concatenate([draws(epoch)[offsets[epochs == epoch]] for epoch in np.unique(epochs)])
        return images.pixels(examples.rows[chosen]), examples.targets[chosen]

    def load(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        pixels, targets = tf.numpy_function(read, [step], [tf.uint8, tf.float32])
        pixels = tf.reshape(pixels, (read_steps, batch_size, *images.image_shape))
        targets = tf.reshape(targets, (read_steps, batch_size, len(images.class_names)))
        return pixels, targets, step + tf.range(read_steps, dtype=tf.int64)

    def change(pixels: tf.Tensor, targets: tf.Tensor, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return augment(pixels, targets, tf.stack([tf.cast(seed, tf.int64), step]), augmentation)

    steps = tf.data.Dataset.range(first_step, np.iinfo(np.int64).max, read_steps)
    loaded = steps.map(_as_it_is(load)).prefetch(1).unbatch()
    return _untuned(loaded.map(_as_it_is(change), num_parallel_calls=2).prefetch(4))


def images_a_batch(image_shape: tuple[int, ...]) -> int:
    """How many images (height, width, channels) a network computes at once, from 1 to `MOST_IMAGES_A_BATCH`."""
    return max(1, min(MOST_IMAGES_A_BATCH, PIXELS_A_BATCH // math.prod(image_shape[:2])))


def ordered_batches(examples: Examples, batch_size: int | None = None) -> tf.data.Dataset:
    """Each example once, in order, unchanged, with its targets; the last batch may be smaller.

    A fit is judged by them dozens of times: up to `MOST_CACHED_BYTES` of them are read once.
    """
    import tensorflow as tf

    batch_size = batch_size or images_a_batch(examples.images.image_shape)
    targets = tf.data.Dataset.from_tensor_slices(examples.targets).batch(batch_size)
    batches = tf.data.Dataset.zip((image_batches(examples.images, examples.rows, batch_size), targets))
    small = len(examples) * math.prod(examples.images.image_shape) <= MOST_CACHED_BYTES
    return _untuned(batches.cache() if small else batches)


def image_batches(images: ImageSet, rows: np.ndarray, batch_size: int | None = None) -> tf.data.Dataset:
    """The pixels of the images at `rows`, once, in order, unchanged; the last batch may be smaller."""
    import tensorflow as tf

    batch_size = batch_size or images_a_batch(images.image_shape)

    def load(chosen: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.numpy_function(images.pixels, [chosen], tf.uint8), (None, *images.image_shape))

    chosen = tf.data.Dataset.from_tensor_slices(np.asarray(rows, np.int64)).batch(batch_size)
    return _untuned(chosen.map(_as_it_is(load)).prefetch(2))


def _untuned(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Without tf.data's autotuning: nothing here is left to it, and at times it holds a fit up for a second."""
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)


def _as_it_is(function: Callable[..., Any]) -> Any:
    """The function without AutoGraph, which reads and rewrites all that it calls: more than a second of the first fit.

    None of it has loops or conditions on tensors.
    """
    import tensorflow as tf

    return tf.autograph.experimental.do_not_convert(function)
