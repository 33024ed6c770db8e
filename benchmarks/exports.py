"""Exports of a run's predictor: how near they are to Keras, how large and how fast, side by side in one process.

python benchmarks/exports.py [--store data] [--run RUN] [--calls 300] [--threads 2]

Needs a finished run (kedro run). Beside what `kedro run --pipelines export` measures, accuracy is compared on images
that the run kept unlabelled, by labels that it did not look at: thousands, where there are few validation images.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pandas as pd

from cnn_transfer.datasets import EnvironmentDataset
from cnn_transfer.exporting import (
    FORMATS,
    Compared,
    calibration_pixels,
    compare,
    describe_exports,
    export,
    export_table,
    images_to_compare,
    time_exports,
)
from cnn_transfer.images import ImageSet, open_image_set
from cnn_transfer.prediction import Predictor

TOLERANCES = {"saved_model": 1e-4, "onnx": 1e-4, "litert": 1e-3}
ACCURACY_LOSS = 0.01
REPETITIONS = 3  # of the timing, each with all runtimes in turns


def with_hidden_labels(predictor: Predictor, images: ImageSet, splits: pd.DataFrame) -> Compared:
    """Validation images and those that were kept unlabelled, with the labels that the data has of both."""
    known = splits[splits["split"].isin(["validation", "unlabelled"]) & splits["label"].notna()]
    classes = pd.Index(predictor.facts.class_names).get_indexer(pd.Index(known["label"]))
    return Compared(images.pixels(images.rows_of(known["id"])), classes, known["group"].to_numpy(object))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", type=Path, default=Path("data"))
    parser.add_argument("--run")
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    store = arguments.store
    run = arguments.run or max(path.name for path in (store / "06_models/predictor").iterdir())
    predictor = Predictor.load(store / "06_models/predictor" / run / "predictor")
    images = open_image_set(store / "02_intermediate/target_images" / run / "target_images")
    splits = pd.read_parquet(store / "03_primary/target_splits.parquet" / run / "target_splits.parquet")
    machine = EnvironmentDataset().load()["hardware"]
    threads = arguments.threads or machine["cores"]
    load = os.getloadavg()[0]
    print(f"{machine['cpu']}, {threads} of {machine['cores']} cores; load of the last minute before: {load:.1f}")
    started = time.perf_counter()
    calibration = calibration_pixels(images, splits, 500, 0)
    files = export(predictor, list(FORMATS), calibration)
    print(f"written in {time.perf_counter() - started:.1f} s, {len(calibration)} training images for the 8 bits")
    parity = compare(
        predictor, files, images_to_compare(predictor, images, splits, 5000, 0), TOLERANCES, ACCURACY_LOSS, 0.95
    )
    timed = [time_exports(predictor, files, calibration, arguments.calls, 8, threads) for _ in range(REPETITIONS)]
    table = export_table(parity, timed[0])
    print(*describe_exports(table), sep="\n")
    print("\nmedian of each figure over", REPETITIONS, "repetitions; in brackets the least and the most")
    columns = ["latency_ms", "latency_p95_ms", "images_per_second_32", "images_per_second_256", "times_predict"]
    for place, name in enumerate(table["name"]):
        cells = []
        for column in [*columns, "times_call"]:
            found = [entries[place][column] for entries in timed]
            cells.append(f"{column} {statistics.median(found):,.2f} ({min(found):,.2f}-{max(found):,.2f})")
        print(f"{name:<14} {'; '.join(cells)}")
    print("\nby the labels that the run did not look at, validation images included")
    for entry in compare(
        predictor, files, with_hidden_labels(predictor, images, splits), TOLERANCES, ACCURACY_LOSS, 0.95
    ):
        change, low, high = (100 * entry[f"accuracy_change{end}"] for end in ("", "_low", "_high"))
        print(
            f"{entry['name']:<14} {entry['images']:,} images: accuracy {entry['accuracy']:.2%}, Keras "
            f"{entry['keras_accuracy']:.2%}, change {change:+.2f} points ({low:+.2f} to {high:+.2f}); "
            f"{entry['changed']} other classes; largest differences: logits {entry['logits_difference']:.1e}, "
            f"probabilities {entry['probabilities_difference']:.1e}"
        )
    rounded = np.round([entry["megabytes"] for entry in timed[0]], 3)
    print("\nMB:", dict(zip(table["name"], rounded.tolist(), strict=True)))


if __name__ == "__main__":
    main()
