"""Labelling many small images: rate and memory beside Keras's own `predict` on arrays, measured in turn.

python benchmarks/predict_rate.py [--predictor FOLDER] [--images 100000] [--repetitions 3]

FOLDER: data/06_models/predictor/<run>/predictor, by default that of the newest run. The images are the bundled 10,000
digits, written so often that there are enough, as a Parquet file with the images in it and as PNG files. Keras is given
the decoded pixels, all in memory, and returns probabilities; labelling reads, decodes and checks the images, computes
the same probabilities, sets, distances and nearest training images, and writes the parts, as `kedro run --pipelines
predict` does. Each measurement is a process of its own and its clock starts after a first batch; the repetitions
alternate, so that what else the machine does meets all alike. About 6 minutes on 2 cores.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
FEW = 10_000
SPAWN = multiprocessing.get_context("spawn")


class Cost(NamedTuple):
    """Of one measurement: wall time and processor time in seconds, largest resident memory in MB."""

    wall: float
    processor: float
    memory: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--predictor", type=Path)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    there = sorted((ROOT / "data/06_models/predictor").glob("*/predictor"))
    predictor = arguments.predictor or (there[-1] if there else None)
    if predictor is None:
        raise SystemExit("There is no predictor in data/06_models/predictor. Run first: kedro run")
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    costs: dict[str, list[Cost]] = {}

    def measure(name: str, function: Callable[..., Cost], *values: Any) -> None:
        with ProcessPoolExecutor(1, SPAWN) as own_process:
            cost = own_process.submit(function, predictor, *values).result()
        costs.setdefault(name, []).append(cost)
        print(f"{name:32} {cost.wall:6.1f} s, {cost.processor:6.1f} s of processor, {cost.memory:6.0f} MB", flush=True)

    with tempfile.TemporaryDirectory() as temporary:
        few, many = Path(temporary, "few.parquet"), Path(temporary, "many.parquet")
        write_table(few, FEW)
        write_table(many, arguments.images)
        files = write_files(Path(temporary, "files"), arguments.images)
        for repetition in range(arguments.repetitions):
            measure("keras, batches of 32", keras_predict, many, 32)
            measure("labels, Parquet", label, many, Path(temporary, f"labels-{repetition}"))
            measure("labels, Parquet, not written", label, many, None)
            measure("keras, batches of 512", keras_predict, many, 512)
            measure("labels, PNG files", label, files, Path(temporary, f"labels-of-files-{repetition}"))
            measure(f"labels, Parquet, {FEW:,} images", label, few, Path(temporary, f"few-labels-{repetition}"))
    middle = {name: Cost(*map(median, zip(*values, strict=True))) for name, values in costs.items()}
    print(f"\n{arguments.images:,} images, {os.cpu_count()} cores, medians of {arguments.repetitions}")
    for name, cost in middle.items():
        images = FEW if f"{FEW:,}" in name else arguments.images
        print(
            f"{name:32} {images / cost.wall:7,.0f} images/s, {images / cost.processor:7,.0f} a second of processor, "
            f"{cost.memory:5,.0f} MB"
        )
    for form in ("Parquet", "Parquet, not written", "PNG files"):
        for size in (32, 512):
            ratio = middle[f"keras, batches of {size}"].wall / middle[f"labels, {form}"].wall
            print(f"rate of labels from {form} / rate of Keras in batches of {size}: {ratio:.2f}")
    grown = middle["labels, Parquet"].memory - middle[f"labels, Parquet, {FEW:,} images"].memory
    print(f"memory for {arguments.images:,} images less that for {FEW:,}: {grown:+.0f} MB")


def write_table(path: Path, count: int) -> None:
    """The digits, again and again, as a Parquet file with groups of 1,000 images."""
    digits = pq.read_table(ROOT / "data/01_raw/mnist_digits.parquet", columns=["image"])
    with pq.ParquetWriter(path, digits.schema) as writer:
        while count > 0:
            writer.write_table(digits.slice(0, count), row_group_size=1_000)
            count -= len(digits)


def write_files(folder: Path, count: int) -> Path:
    """The same as PNG files in folders of 10,000."""
    images = pq.read_table(ROOT / "data/01_raw/mnist_digits.parquet", columns=["image"]).column("image")
    encoded = pa.compute.struct_field(images, "bytes") if pa.types.is_struct(images.type) else images
    contents = encoded.to_pylist()
    for number in range(count):
        place = folder / f"{number // len(contents):02d}" / f"{number % len(contents):05d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(contents[number % len(contents)])
    return folder


def keras_predict(predictor: Path, images: Path, batch_size: int) -> Cost:
    """Probabilities of decoded pixels in memory, by the network's own `predict`."""
    import keras
    import numpy as np

    from cnn_transfer.images import DecodedImages, list_unlabelled
    from cnn_transfer.prediction import Predictor

    opened = Predictor.load(predictor)
    network = opened.runtime.network  # type: ignore[attr-defined]
    network = keras.Model(network.input, network.output["probabilities"])
    listing = list_unlabelled(images)
    rows = np.arange(len(listing.table))
    pixels = np.concatenate(
        [chunk.pixels for chunk in DecodedImages(listing, opened.facts.image_format, rows).chunks()]
    )
    network.predict(pixels[:batch_size], batch_size=batch_size, verbose=0)
    return clocked(lambda: network.predict(pixels, batch_size=batch_size, verbose=0))


def label(predictor: Path, images: Path, folder: Path | None) -> Cost:
    """List, read, decode, label and, into a folder, write."""
    from dataclasses import replace

    import numpy as np

    from cnn_transfer.images import list_unlabelled
    from cnn_transfer.prediction import Predictor
    from cnn_transfer.prediction.labelling import ImagesToLabel, write_labels

    opened = Predictor.load(predictor)
    opened([np.zeros(opened.facts.card.image_shape, np.uint8)])  # traces the network
    if folder:
        folder.mkdir()

    def work() -> None:
        listing = replace(list_unlabelled(images), fingerprint="")
        if folder is None:
            for _ in opened.stream(listing):
                pass
            return
        write_labels(ImagesToLabel(opened, listing), 0, lambda name, content: (folder / name).write_bytes(content))

    return clocked(work)


def clocked(work: Callable[[], Any]) -> Cost:
    """What it costs."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    seconds = time.perf_counter() - wall, time.process_time() - processor
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return Cost(*seconds, int(peak.split()[1]) * 1024 / 1e6)


if __name__ == "__main__":
    main()
