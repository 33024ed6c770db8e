"""How near training comes to what the processor can multiply, and what keeps it from more.

    python benchmarks/training_throughput.py [--architecture article_cnn] [--batch-size 64] [--repetitions 5]

The peak is that of large matrix multiplications through TensorFlow in the precision that training chooses, measured in
the same run. Training is `Model.fit` as `training.fit` runs it. A training image costs three times the multiplications
of its way forth: the way back needs the gradients of inputs and of weights. Below the ratio: the same step without
input, without the optimiser, forth only; and each convolution by itself against its share of the peak.

Then `training.fit` itself, two epochs of the stage `pretrain_source` of the default run in turn with each of its
choices undone: batch normalisation composed of single operations, as Keras 3 has it, and input tuned by tf.data. The
seconds of every repetition are shown, since tuning holds up some fits and not others; each has a seed of its own, and
the mean validation accuracy says whether they learn the same.
"""

import argparse
import importlib
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from kedro.config import OmegaConfigLoader

from cnn_transfer.images import (
    Augmentation,
    DecodedImages,
    assign_splits,
    feeding,
    list_images,
    open_image_set,
    split_examples,
    write_image_set,
)
from cnn_transfer.models import build_network, for_training, tracing, with_precision
from cnn_transfer.pipelines.preprocess.parameters import ImageSetParameters
from cnn_transfer.settings import CONFIG_LOADER_ARGS
from cnn_transfer.training import Optimisation, choose_precision, fit

ROOT = Path(__file__).parents[1]
SHAPE, CLASSES, STEPS, EPOCHS = (28, 28, 1), 10, 20, 2
NORMALISATION = (importlib.import_module("cnn_transfer.training.fit"), "for_training", with_precision)
TUNING = (feeding, "_untuned", lambda batches: batches)
UNDONE: dict[str, list[tuple[Any, str, Any]]] = {
    "as it is": [],
    "Keras's batch normalisation": [NORMALISATION],
    "input tuned by tf.data": [TUNING],
    "both": [NORMALISATION, TUNING],
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--architecture", default="article_cnn")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    precision, batch = choose_precision("auto"), arguments.batch_size
    dtype = tf.bfloat16 if precision == "mixed_bfloat16" else tf.float32
    peak = max(matmul_rate(size, dtype) for size in (512, 1024, 2048))
    model = for_training(build_network(arguments.architecture, SHAPE, CLASSES, 0), precision)
    per_image = 3 * 2 * sum(multiplications(layer) for layer in model.layers)
    print(f"{precision}: matrix multiplication {peak / 1e9:.0f} GFLOP/s; {per_image / 1e6:.1f} MFLOP a training image")
    for name, seconds in training_parts(model, batch).items():
        rate = batch * STEPS / seconds
        factor = 1 / 3 if name == "forth only" else 1
        share = rate * per_image * factor / peak
        print(f"  {name:32s} {rate:8.0f} images/s, {share:.0%} of the peak")
    print("one convolution, forth and back, by itself:")
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            seconds = convolution_seconds(layer, batch, dtype)
            share = batch * 6 * multiplications(layer) / seconds / peak
            print(f"  {layer.name:32s} {1e6 * seconds / batch:8.1f} us/image, {share:.0%} of the peak")
    print(f"{EPOCHS} epochs of pretraining:")
    for name, found in pretraining(precision, arguments.repetitions).items():
        times, accuracies = zip(*found, strict=True)
        each = ", ".join(f"{seconds:.1f}" for seconds in sorted(times))
        print(f"  {name:32s} {median(times):8.1f} s, of {each}; validation accuracy {np.mean(accuracies):.3f}")


def matmul_rate(size: int, dtype: tf.DType) -> float:
    """FLOP/s of square matrix multiplications."""
    left = tf.cast(tf.random.normal((size, size)), dtype)
    product = tf.function(lambda a: a @ left)
    return 2 * size**3 / best_seconds(lambda: product(left).numpy(), 8)


def multiplications(layer: keras.Layer) -> int:
    """Multiply-adds of one image on its way forth."""
    if isinstance(layer, keras.layers.Conv2D):
        return int(np.prod(layer.output.shape[1:3]) * layer.kernel.shape.num_elements())
    if isinstance(layer, keras.layers.Dense):
        return int(layer.kernel.shape.num_elements())
    return 0


def training_parts(model: keras.Model, batch: int) -> dict[str, float]:
    """Seconds of STEPS steps: the whole, and less and less of it."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (batch * STEPS, *SHAPE), np.uint8)
    targets = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, len(pixels))]
    data = tf.data.Dataset.from_tensor_slices((pixels, targets)).batch(batch).repeat().prefetch(4)
    model.compile(keras.optimizers.AdamW(1e-3), "categorical_crossentropy", steps_per_execution=STEPS)

    def train() -> None:
        model.fit(data, steps_per_epoch=STEPS, epochs=1, shuffle=False, verbose=0)

    loss = keras.losses.CategoricalCrossentropy()
    images, wanted = tf.constant(pixels[:batch]), tf.constant(targets[:batch])

    @tf.function
    def gradients() -> tf.Tensor:
        total = tf.constant(0.0)
        for _ in tf.range(STEPS):
            with tf.GradientTape() as tape:
                value = loss(wanted, model(images, training=True))
            parts = tape.gradient(value, model.trainable_variables)
            total += tf.add_n([tf.reduce_sum(part) for part in parts])
        return total

    @tf.function
    def forth() -> tf.Tensor:
        total = tf.constant(0.0)
        for _ in tf.range(STEPS):
            total += tf.reduce_sum(model(images, training=True))
        return total

    return {
        "training": best_seconds(train, 5),
        "without input and optimiser": best_seconds(lambda: gradients().numpy(), 5),
        "forth only": best_seconds(lambda: forth().numpy(), 5),
    }


def convolution_seconds(layer: keras.layers.Conv2D, batch: int, dtype: tf.DType) -> float:
    """Seconds of one convolution of a batch, its gradients included."""
    inputs = tf.cast(tf.random.normal((batch, *layer.input.shape[1:])), dtype)
    kernel = tf.cast(tf.random.normal(layer.kernel.shape), dtype)
    padding = layer.padding.upper()

    @tf.function
    def run() -> tf.Tensor:
        total = tf.constant(0.0)
        for _ in tf.range(STEPS):
            with tf.GradientTape() as tape:
                tape.watch([inputs, kernel])
                output = tf.nn.conv2d(inputs, kernel, layer.strides, padding)
            parts = tape.gradient(output, [inputs, kernel])
            total += tf.add_n([tf.cast(tf.reduce_max(part), tf.float32) for part in parts])
        return total

    return best_seconds(lambda: run().numpy(), 5) / STEPS


def pretraining(precision: str, repetitions: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds and validation accuracy of each repetition of a short pretraining, by what is undone in it."""
    parameters = OmegaConfigLoader(str(ROOT / "conf"), **CONFIG_LOADER_ARGS)["parameters"]
    course = parameters["pretrain_source"]
    block = ImageSetParameters.parse(parameters["preprocess"]["source"], "preprocess")
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in UNDONE}
    augmentation = Augmentation(**course["augmentation"])
    optimisation = Optimisation(**course["optimisation"] | {"epochs": EPOCHS, "validations": EPOCHS})
    with tempfile.TemporaryDirectory() as folder:
        listing = list_images(ROOT / "data/01_raw/fashion_mnist.parquet")
        write_image_set(
            DecodedImages(listing, block.image_format, np.arange(len(listing.table))), Path(folder, "images")
        )
        images = open_image_set(Path(folder, "images"))
        splits = assign_splits(images.table, block.split, 0)
        training, validation = (split_examples(images, splits, split) for split in ("training", "validation"))
        for seed in range(-1, repetitions):  # the first to warm up
            network = build_network(course["architecture"], images.image_shape, len(images.class_names), max(seed, 0))
            for name, undone in UNDONE.items():
                tracing._spare.clear()  # each traces its own, as a run does
                with ExitStack() as stack:
                    for place, attribute, other in undone:
                        stack.enter_context(patch.object(place, attribute, other))
                    start = time.perf_counter()
                    fitted = fit(
                        network, training, validation, optimisation, augmentation, precision, max(seed, 0), name
                    )
                if seed >= 0:
                    found[name].append((time.perf_counter() - start, fitted.best["validation_accuracy"]))
    return found


def best_seconds(action: Callable[[], object], repetitions: int) -> float:
    """The fastest of several runs after one to warm up."""
    action()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()
