"""Feeding epochs from an image set against copying its bytes, and against Keras from JPEG files.

    python benchmarks/feeding.py [--images 4096] [--repetitions 7]

The same images, JPEG files of 64 to 256 px, are decoded once into an image set of 64 px RGB; Keras's
image_dataset_from_directory decodes them in each epoch. Batches of 64, shuffled, prefetched, measured in turn. Files
and image set are in the page cache, as they are after the first epoch.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from PIL import Image

from cnn_transfer.images import (
    Augmentation,
    DecodedImages,
    Examples,
    ImageFormat,
    list_images,
    open_image_set,
    ordered_batches,
    training_batches,
    write_image_set,
)

BATCH_SIZE, SIZE_PX, CLASSES = 64, 64, 8
EPOCHS = 4  # measured at once, so that what was fetched in advance hardly counts
NOTHING = {name: False if field.annotation is bool else 0.0 for name, field in Augmentation.model_fields.items()}


def write_photographs(folder: Path, count: int) -> None:
    """JPEG files of random sizes with soft shapes and a little noise, in a folder for each class."""
    rng = np.random.default_rng(0)
    for index in range(count):
        width, height = rng.integers(64, 257, 2)
        soft = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        pixels = np.asarray(soft) + rng.normal(0, 8, (height, width, 1))
        file = folder / f"class{index % CLASSES}" / f"{index:06d}.jpg"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, quality=90)


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def epochs(dataset: tf.data.Dataset, steps: int) -> Callable[[], object]:
    """A function that takes `EPOCHS` of so many batches inside TensorFlow's runtime, as a fit does."""
    iterator = iter(dataset.repeat())

    @tf.function
    def take() -> None:
        for _ in tf.range(EPOCHS * steps):
            next(iterator)

    taken: Callable[[], object] = take
    return taken


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--repetitions", type=int, default=7)
    arguments = parser.parse_args()
    nothing = Augmentation(**NOTHING)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "photographs"
        folder.mkdir()
        write_photographs(folder, arguments.images)
        listing = list_images(folder)
        image_format = ImageFormat(image_size_px=SIZE_PX, channels=3)
        decoded = DecodedImages(listing, image_format, np.arange(len(listing.table)))
        once = seconds(lambda: write_image_set(decoded, Path(temporary) / "set"))
        images = open_image_set(Path(temporary) / "set")
        rows = np.arange(len(images))
        targets = np.eye(CLASSES, dtype=np.float32)[images.classes]
        examples = Examples(images, rows, targets, np.ones(len(rows)))
        pixels = images.pixels(rows)
        copy = np.empty_like(pixels)
        steps = len(rows) // BATCH_SIZE

        def copy_pixels() -> None:
            for _ in range(EPOCHS):
                np.copyto(copy, pixels)

        from_files = keras.utils.image_dataset_from_directory(
            folder, image_size=(SIZE_PX, SIZE_PX), batch_size=BATCH_SIZE, shuffle=True, seed=0, verbose=False
        )
        runs = {
            "copy of the same bytes": copy_pixels,
            "training_batches": epochs(training_batches(examples, BATCH_SIZE, 0, nothing), steps),
            "ordered_batches (of 256)": epochs(ordered_batches(examples, 256), steps * BATCH_SIZE // 256),
            "image_dataset_from_directory": epochs(from_files.prefetch(tf.data.AUTOTUNE), steps),
        }
        for run in runs.values():
            run()
        times = pd.DataFrame([{name: seconds(run) for name, run in runs.items()} for _ in range(arguments.repetitions)])
    print(f"{os.cpu_count()} cores; {len(rows)} images, {pixels.nbytes / 1e6:.0f} MB; medians of {len(times)} turns")
    print(f"decoding into an image set, once: {once:.2f} s")
    table = pd.DataFrame(
        {
            "ms an epoch": times.median() / EPOCHS * 1e3,
            "images/s": EPOCHS * len(rows) / times.median(),
            "times the copy": [statistics.median(times[name] / times[times.columns[0]]) for name in times],
            "times faster than Keras": [statistics.median(times[times.columns[-1]] / times[name]) for name in times],
        }
    )
    print(table.round(1).to_string())


if __name__ == "__main__":
    main()
