"""Preparing a folder of images: time against one epoch of Keras's own reader, unchanged again, threads, processes.

python benchmarks/intake.py [--images 20000] [--repetitions 3]

The images are JPEG files of 64 to 256 px a side, drawn here: smooth fields of colour under noise, quality 75 to 95.
Each measurement is a process of its own and starts after its imports; the repetitions of all measurements alternate, so
that what else the machine does meets all alike. Ratios are of medians. The stage as a user runs it, `kedro run --env
folders --pipelines preprocess` with these images as target, is timed as a whole process, once more unchanged, and
unchanged with a few images only: that is what Kedro takes to start. About 6 minutes on 2 cores.
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image
from project_copy import copy_project

from cnn_transfer.images import (
    CheckRule,
    DecodedImages,
    ImageFormat,
    NearDuplicates,
    SplitRule,
    Workers,
    assign_splits,
    check_image_set,
    list_images,
    open_image_set,
    write_image_set,
)
from cnn_transfer.images.preparation import prepare_chunk

ROOT = Path(__file__).parents[1]
KEDRO = Path(sys.executable).with_name("kedro")
CLASSES = 10
SIZES_PX = (64, 96)
BATCH = 64
SPLITS = SplitRule(test_fraction=0.2, labels_per_class=None, validation_ratio=0.25)
CHECKS = CheckRule(
    group_pattern="auto",
    near_duplicates=NearDuplicates(most_bits=4, least_correlation=0.98, compared_px=None, mirrored=False),
    small_classes="error",
    most_set_aside=0.2,
)
SPAWN = multiprocessing.get_context("spawn")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # for the processes that import TensorFlow
    seconds: dict[str, list[float]] = {}

    def measure(name: str, function: Callable[..., float], *values: Any) -> None:
        with ProcessPoolExecutor(1, SPAWN) as own_process:
            seconds.setdefault(name, []).append(own_process.submit(function, *values).result())
        print(f"{name}: {seconds[name][-1]:.2f} s", flush=True)

    with tempfile.TemporaryDirectory() as temporary:
        photos = Path(temporary, "photos")
        draw_photos(photos, arguments.images)
        few = Path(temporary, "few")
        draw_photos(few, 20 * CLASSES)
        for repetition in range(arguments.repetitions):
            for size in SIZES_PX:
                first, second = (Path(temporary, f"{size}-{repetition}-{run}") for run in ("first", "second"))
                measure(f"keras, an epoch, {size} px", keras_epoch, photos, size)
                measure(f"prepare, {size} px", prepare, photos, first, size, None)
                measure(f"prepare again, {size} px", prepare, photos, second, size, first)
            project = copy_project(Path(temporary, f"project-{repetition}"))
            run_stage(project, few)  # the bundled source, too, which is taken over afterwards
            measure("stage, few images, again", run_stage, project, few)
            measure("stage", run_stage, project, photos)
            measure("stage again", run_stage, project, photos)
            for threads in (1, 2):
                measure(f"small images, {threads} threads", decode_small, threads)
            measure("threads", decode_in_threads, photos)
            measure("processes", decode_in_processes, photos)
    middle = {name: median(values) for name, values in seconds.items()}
    print(f"\n{arguments.images} images, {os.cpu_count()} cores, medians of {arguments.repetitions}")
    for name, values in seconds.items():
        print(f"{name:26} {middle[name]:7.2f} s  ({min(values):.2f} to {max(values):.2f})")
    for size in SIZES_PX:
        once = middle[f"prepare, {size} px"]
        print(f"{size} px: preparing / an epoch of Keras {once / middle[f'keras, an epoch, {size} px']:.2f}", end="; ")
        print(f"unchanged again / first {middle[f'prepare again, {size} px'] / once:.3f}")
    start, stage, again = (middle[name] for name in ("stage, few images, again", "stage", "stage again"))
    without_start = (again - start) / (stage - start)
    print(f"stage again / first {again / stage:.3f}; without what a few images take {without_start:.3f}")
    rates = (f"{name} {arguments.images / middle[name]:.0f} images/s" for name in ("threads", "processes"))
    print(f"reading and decoding to {SIZES_PX[0]} px:", ", ".join(rates))
    one, two = (middle[f"small images, {threads} threads"] for threads in (1, 2))
    print(f"time of small images: two threads / one {two / one:.2f}")


def draw_photos(folder: Path, count: int) -> None:
    """Write JPEG files into class folders."""
    rng = np.random.default_rng(0)
    for label in range(CLASSES):
        (folder / f"class {label}").mkdir(parents=True)
    for index in range(count):
        size = tuple(rng.integers(64, 257, 2))
        field = Image.fromarray(rng.integers(0, 256, (*rng.integers(2, 9, 2), 3), np.uint8))
        smooth = np.asarray(field.resize(size, Image.Resampling.BICUBIC), np.float32)
        noisy = smooth + rng.uniform(0, 12) * rng.standard_normal(smooth.shape, np.float32)
        path = folder / f"class {index % CLASSES}" / f"{index:06d}.jpg"
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=int(rng.integers(75, 96)))


def image_format(size: int) -> ImageFormat:
    """Colour, stretched as Keras does by default."""
    return ImageFormat(image_size_px=size, channels=3)


def prepare(photos: Path, folder: Path, size: int, earlier: Path | None) -> float:
    """List, decode, write, check and split; return seconds."""
    start = time.perf_counter()
    listing = list_images(photos)
    images = DecodedImages(listing, image_format(size), np.arange(len(listing.table)))
    write_image_set(images, folder, earlier)
    checked = check_image_set(open_image_set(folder), CHECKS, SPLITS)
    assign_splits(checked.table, SPLITS, seed=0)
    return time.perf_counter() - start


def run_stage(project: Path, images: Path) -> float:
    """The stage of a user's own images as a process; return seconds."""
    start = time.perf_counter()
    command = ["run", "--env", "folders", "--pipelines", "preprocess", "--params", f"target_images={images}"]
    environment = os.environ | {"DO_NOT_TRACK": "1"}
    subprocess.run([str(KEDRO), *command], cwd=project, env=environment, check=True, capture_output=True)
    return time.perf_counter() - start


def keras_epoch(photos: Path, size: int) -> float:
    """List, read, decode and resize everything once, as Keras does in every epoch; return seconds."""
    import keras

    start = time.perf_counter()
    batches = keras.utils.image_dataset_from_directory(photos, image_size=(size, size), batch_size=BATCH, verbose=False)
    for _ in batches:
        pass
    return time.perf_counter() - start


def decode_in_threads(photos: Path) -> float:
    """Read and decode everything in threads; return seconds."""
    listing = list_images(photos)
    rows, cores = np.arange(len(listing.table)), Workers(engine="threads", workers=os.cpu_count())
    start = time.perf_counter()
    for _ in DecodedImages(listing, image_format(SIZES_PX[0]), rows, cores).chunks():
        pass
    return time.perf_counter() - start


def decode_small(threads: int) -> float:
    """Decode the bundled digits in so many threads; return seconds."""
    listing = list_images(ROOT / "data/01_raw/mnist_digits.parquet")
    rows, workers = np.arange(len(listing.table)), Workers(engine="threads", workers=threads)
    start = time.perf_counter()
    for _ in DecodedImages(listing, ImageFormat(image_size_px=28, channels=1), rows, workers).chunks():
        pass
    return time.perf_counter() - start


def decode_in_processes(photos: Path) -> float:
    """Read and decode everything in processes that run already; return seconds."""
    listing = list_images(photos)
    encoded, size = list(listing.read(np.arange(len(listing.table)))), 512
    parts = [slice(start, start + size) for start in range(0, len(encoded), size)]
    with ProcessPoolExecutor(os.cpu_count(), SPAWN) as pool:
        list(pool.map(time.sleep, [1] * (os.cpu_count() or 1)))  # until all have started
        start = time.perf_counter()
        waiting = [
            pool.submit(prepare_chunk, encoded[part], listing.table[part], image_format(SIZES_PX[0]), None)
            for part in parts
        ]
        for future in waiting:
            future.result()
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
