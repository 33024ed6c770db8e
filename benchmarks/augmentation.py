"""Augmentation against the Keras preprocessing layers that do the same: images a second, or accuracy.

    python benchmarks/augmentation.py [--repetitions 7]
    python benchmarks/augmentation.py --accuracy [--seeds 3]

Speed: both map the same batches of 64 random uint8 RGB images in tf.data, two batches at a time, and are measured in
turn. Keras may leave its results in float32; ours are uint8 again. Accuracy: the same network, steps and batches of
2,000 images of Fashion-MNIST, augmented by ours or by Keras's layers; accuracy after the last step on 5,000 others.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from cnn_transfer.images import (
    Augmentation,
    DecodedImages,
    Examples,
    ImageFormat,
    ImageSet,
    list_images,
    open_image_set,
    split_examples,
    training_batches,
    write_image_set,
)
from cnn_transfer.images.augmentation import augment
from cnn_transfer.models import build_network
from cnn_transfer.training import Optimisation, choose_precision, fit

ROOT = Path(__file__).parents[1]
BATCH_SIZE, CLASSES = 64, 10
NOTHING = {name: False if field.annotation is bool else 0.0 for name, field in Augmentation.model_fields.items()}
GEOMETRY = {"rotation_degrees": 15, "shift_fraction": 0.1, "scale_fraction": 0.1, "horizontal_flip": True}
GREYS = {"brightness_fraction": 0.2, "contrast_fraction": 0.2}
COLOURS = GREYS | {"saturation_fraction": 0.2, "hue_degrees": 18}
CUTOUT, MIXUP, CUTMIX = {"cutout_fraction": 0.3}, {"mixup_alpha": 0.2}, {"cutmix_alpha": 1.0}
Map = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
Batches = Callable[[Examples, int, int, Augmentation, int], tf.data.Dataset]


def keras_layers(wanted: Augmentation, seed: int) -> Map:
    """The chain of layers for the same ranges."""
    layers, size = [], wanted.cutout_fraction**2
    if wanted.horizontal_flip:
        layers.append(keras.layers.RandomFlip("horizontal", seed=seed))
    if wanted.rotation_degrees:
        layers.append(keras.layers.RandomRotation(wanted.rotation_degrees / 360, fill_mode="nearest", seed=seed + 1))
    if shift := wanted.shift_fraction:
        layers.append(keras.layers.RandomTranslation(shift, shift, fill_mode="nearest", seed=seed + 2))
    if scale := wanted.scale_fraction:
        layers.append(keras.layers.RandomZoom(scale, scale, fill_mode="nearest", seed=seed + 3))
    if wanted.saturation_fraction:
        brightness, contrast, hue = wanted.brightness_fraction, wanted.contrast_fraction, wanted.hue_degrees / 180
        saturation = (0.5 - wanted.saturation_fraction / 2, 0.5 + wanted.saturation_fraction / 2)
        factors: dict[str, Any] = {"saturation_factor": saturation}
        factors |= {"brightness_factor": brightness, "contrast_factor": contrast, "hue_factor": hue}
        layers.append(keras.layers.RandomColorJitter(**factors, seed=seed + 4))
    elif wanted.brightness_fraction:  # images with one channel
        layers.append(keras.layers.RandomBrightness(wanted.brightness_fraction, seed=seed + 5))
        layers.append(keras.layers.RandomContrast(wanted.contrast_fraction, seed=seed + 6))
    if size:
        layers.append(keras.layers.RandomErasing(1.0, scale=(size, size), fill_value=127, seed=seed + 7))
    if wanted.mixup_alpha:
        layers.append(keras.layers.MixUp(alpha=wanted.mixup_alpha, seed=seed + 8))
    if wanted.cutmix_alpha:
        layers.append(keras.layers.CutMix(factor=wanted.cutmix_alpha, seed=seed + 9))

    def apply(images: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        batch = {"images": tf.cast(images, tf.float32), "labels": targets}
        for layer in layers:
            batch = layer(batch, training=True)
        return batch["images"], batch["labels"]

    return apply


def images_per_second(change: Map, size_px: int, batches: int) -> float:
    """Throughput of one map in tf.data, its start not counted."""
    pixels = tf.constant(np.random.default_rng(0).integers(0, 256, (BATCH_SIZE, size_px, size_px, 3), np.uint8))
    targets = tf.one_hot(tf.range(BATCH_SIZE) % CLASSES, CLASSES)
    dataset = tf.data.Dataset.from_tensors((pixels, targets)).repeat().map(change, num_parallel_calls=2).prefetch(4)
    iterator = iter(dataset)

    @tf.function
    def take(count: tf.Tensor) -> None:
        for _ in tf.range(count):
            next(iterator)

    take(tf.constant(5))
    start = time.perf_counter()
    take(tf.constant(batches))
    return BATCH_SIZE * batches / (time.perf_counter() - start)


def speed(repetitions: int) -> None:
    """Measure each group of changes on its own, then together, ours and Keras's in turn."""
    groups = {
        "geometry": GEOMETRY,
        "colour": COLOURS,
        "cutout": CUTOUT,
        "mixup": MIXUP,
        "cutmix": CUTMIX,
        "geometry, colour": GEOMETRY | COLOURS,
        "geometry, colour, cutout, mixup": GEOMETRY | COLOURS | CUTOUT | MIXUP,
    }
    rows = []
    for size_px in (32, 96):
        for name, ranges in groups.items():
            wanted = Augmentation(**NOTHING | ranges)

            def ours(images: tf.Tensor, targets: tf.Tensor, wanted: Augmentation = wanted) -> tuple[tf.Tensor, ...]:
                seed = tf.random.uniform((2,), maxval=2**31 - 1, dtype=tf.int32)
                return augment(images, targets, seed, wanted)

            theirs = keras_layers(wanted, seed=0)
            measured = [
                (images_per_second(ours, size_px, 100), images_per_second(theirs, size_px, 25))
                for _ in range(repetitions)
            ]
            our_rate, their_rate = (statistics.median(rates) for rates in zip(*measured, strict=True))
            ratio = statistics.median(mine / other for mine, other in measured)
            rows.append([size_px, name, round(our_rate), round(their_rate), round(ratio, 1)])
    print(f"{os.cpu_count()} cores; medians of {repetitions} turns")
    print(pd.DataFrame(rows, columns=["px", "changes", "images/s", "Keras images/s", "ratio"]).to_string(index=False))


def fashion_mnist(folder: Path) -> tuple[ImageSet, pd.DataFrame]:
    """The bundled images, 200 of each class for training and 500 for validation."""
    listing = list_images(ROOT / "data/01_raw/fashion_mnist.parquet")
    image_format = ImageFormat(image_size_px=28, channels=1)
    write_image_set(DecodedImages(listing, image_format, np.arange(len(listing.table))), folder)
    images = open_image_set(folder)
    position = images.table.groupby("label").cumcount()
    split = np.select([position < 200, position < 700], ["training", "validation"], "test")
    return images, images.table[["id", "label"]].assign(split=split)


def accuracy(seeds: int) -> None:
    """Fit with the same seeds, ours and Keras's in turn."""
    groups = {
        "none": {},
        "geometry": GEOMETRY,
        "geometry, greys": GEOMETRY | GREYS,
        "geometry, greys, cutout, mixup": GEOMETRY | GREYS | CUTOUT | MIXUP,
    }
    schedule = Optimisation(
        learning_rate=0.004,
        batch_size=BATCH_SIZE,
        steps=1000,
        warmup_fraction=0.1,
        weight_decay=0.01,
        label_smoothing=0.0,
        validations=1,
        patience=1,
    )
    precision, nothing, rows = choose_precision("auto"), Augmentation(**NOTHING), []

    def keras_batches(
        examples: Examples, batch_size: int, seed: int, augmentation: Augmentation, first_step: int
    ) -> tf.data.Dataset:
        plain = training_batches(examples, batch_size, seed, nothing, first_step)
        layers = keras_layers(augmentation, seed)
        return plain.map(layers, num_parallel_calls=2).map(
            lambda pixels, targets: (tf.cast(tf.round(tf.clip_by_value(pixels, 0.0, 255.0)), tf.uint8), targets)
        )

    with tempfile.TemporaryDirectory() as temporary:
        images, splits = fashion_mnist(Path(temporary) / "fashion_mnist")
        training, validation = (split_examples(images, splits, split) for split in ("training", "validation"))
        for name, ranges in groups.items():
            wanted = Augmentation(**NOTHING | ranges)
            found: dict[Batches, list[float]] = {training_batches: [], keras_batches: []}
            for seed in range(seeds):
                for batches, accuracies in found.items():
                    network = build_network("compact_cnn", images.image_shape, CLASSES, seed)
                    with mock.patch("cnn_transfer.training.fit.training_batches", batches):
                        log = fit(network, training, validation, schedule, wanted, precision, seed, name).log
                    accuracies.append(log["validation_accuracy"].iloc[-1])
            ours, theirs = (np.array(accuracies) for accuracies in found.values())
            spread = (ours - theirs).std(ddof=1) / np.sqrt(seeds)
            rows.append([name, ours.mean(), theirs.mean(), (ours - theirs).mean(), spread])
            print(name, "ours", ours.round(4).tolist(), "Keras", theirs.round(4).tolist(), flush=True)
    print(f"means of {seeds} seeds; the last column is the standard error of the difference")
    columns = ["changes", "accuracy", "with Keras's layers", "difference", "error"]
    print(pd.DataFrame(rows, columns=columns).round(4).to_string(index=False))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--accuracy", action="store_true")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.accuracy:
        accuracy(arguments.seeds)
    else:
        speed(arguments.repetitions)


if __name__ == "__main__":
    main()
