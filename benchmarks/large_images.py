"""From scratch on large images: compact_cnn, which takes them in at a quarter of their size, against full resolution.

    python benchmarks/large_images.py [PATH] [--environment imagenet] [--seeds 3] [--training 200] [--validation 200]

PATH has labelled images in any form that a run takes; by default the digits of this repository. The environment says at
which size they are seen, how they are moved, and how the baseline is searched for: 96 px for `imagenet`, 160 for
`photos`. Each seed draws training and validation images; up to 2,000 others are the test.

Rows: compact_cnn as a run builds it for such images; the three blocks that it has for images up to 64 px. Seconds of
the whole search in turn, ratio of their medians, and accuracy on the test images.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from unittest.mock import patch

import numpy as np
import pandas as pd
from kedro.config import OmegaConfigLoader

from cnn_transfer.images import (
    Augmentation,
    DecodedImages,
    ImageFormat,
    image_batches,
    list_images,
    open_image_set,
    split_examples,
    write_image_set,
)
from cnn_transfer.models import architectures, build_network, predict_batches
from cnn_transfer.settings import CONFIG_LOADER_ARGS
from cnn_transfer.training import choose_precision
from cnn_transfer.transfer import Baseline, train_baseline

ROOT = Path(__file__).parents[1]
MOST_TEST = 2000
FINE_UP_TO_PX = {"compact_cnn": architectures.MOST_FINE_PX, "at full resolution": 10_000}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path, nargs="?", default=ROOT / "data/01_raw/mnist_digits.parquet")
    parser.add_argument("--environment", default="imagenet", choices=("imagenet", "photos"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--training", type=int, default=200)
    parser.add_argument("--validation", type=int, default=200)
    options = parser.parse_args()
    parameters = OmegaConfigLoader(str(ROOT / "conf"), env=options.environment, **CONFIG_LOADER_ARGS)["parameters"]
    image_format = ImageFormat.parse(parameters["preprocess"]["target"]["image_format"], "image_format")
    baseline = Baseline.parse(parameters["finetune_target"]["baseline"], "baseline")
    augmentation = Augmentation.parse(parameters["finetune_target"]["augmentation"], "augmentation")
    precision = choose_precision(parameters["precision"])
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        listing = list_images(options.path)
        everything = np.arange(len(listing.table))
        write_image_set(DecodedImages(listing, image_format, everything), Path(folder, "images"))
        images = open_image_set(Path(folder, "images"))
        for seed in range(options.seeds):
            order = np.random.default_rng(seed).permutation(np.flatnonzero(images.table["label"].notna()))
            bounds = np.cumsum([options.training, options.validation, MOST_TEST])
            parts = zip(("training", "validation", "test"), np.split(order[: bounds[-1]], bounds[:2]), strict=True)
            splits = pd.concat([images.table.iloc[own][["id", "label"]].assign(split=name) for name, own in parts])
            training, validation, test = (split_examples(images, splits, name) for name in splits["split"].unique())
            for peer, most in FINE_UP_TO_PX.items():
                with patch.object(architectures, "MOST_FINE_PX", most):
                    network = build_network("compact_cnn", images.image_shape, len(images.class_names), seed)
                    start = time.perf_counter()
                    found = train_baseline(network, training, validation, baseline, augmentation, precision, seed)
                seconds = time.perf_counter() - start
                predicted = predict_batches(found.fit.network, image_batches(images, test.rows)).argmax(axis=1)
                accuracy = float((predicted == test.targets.argmax(axis=1)).mean())
                rows.append({"peer": peer, "seed": seed, "seconds": seconds, "accuracy": accuracy})
                print(peer, seed, f"{seconds:.0f} s", f"{accuracy:.4f}", flush=True)
    table = pd.DataFrame(rows).groupby("peer", sort=False)
    print(table[["seconds", "accuracy"]].agg(["median", "mean"]).round(3).to_string())
    quartered, full = (median(own["seconds"]) for _, own in table)
    print(f"seconds, {' / '.join(FINE_UP_TO_PX)}: {quartered / full:.2f}")


if __name__ == "__main__":
    main()
