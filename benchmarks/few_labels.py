"""Few labels with ImageNet weights: the closed-form head against logistic regression and fastai, on the same splits.

    python benchmarks/few_labels.py [--seeds 10] [--unlabelled 1000] [--logistic-seeds 10] [--fastai-seeds 3]

EfficientNet-Lite0 at 96 px on the bundled digits and Fashion-MNIST; 5, 10 and 20 labels a class, nested; 2,000 fixed
test images a set; 1,000 further training images without their labels, or up to 2,800. Design choices were made on other
images (those beyond the first 5,000 of the permutation below), so that nothing here was tuned on the test images.

Rows: the head on the outputs of all blocks, averaged over 2×2 or 3×3 cells, as labelled images that are left out
decide, with its ranges within 2×2, and with seven slightly moved copies of each image, as in conf/imagenet; the same
on the depths that `choose_taps` picks, with its weights; both with the unlabelled images; scikit-learn's logistic
regression on the globally averaged last layer, C by cross-validation; fastai's `fine_tune(10)` of the same weights, in
an environment of its own, which is made where it is missing (--fastai-env). Both with the first draws only. Some 45
minutes on 2 cores, 30 without fastai, 10 without logistic regression, either.

Seconds are wall time, the peers in turn: of ours, moving the copies, the features of labelled images and copies, and
the fit; the features of unlabelled images are a column of their own, and in the ratios below the table; of fastai only
its fit. Networks are built and traced before, weights loaded, pixels decoded.

Where other processes want the same cores, set OMP_NUM_THREADS=1 and OPENBLAS_NUM_THREADS=1: threads that wait for one
another made fastai and the decompositions five to ten times slower there.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import tensorflow as tf
from sklearn.linear_model import LogisticRegressionCV

from cnn_transfer.images import Augmentation, ImageFormat
from cnn_transfer.images.augmentation import augment
from cnn_transfer.images.decoding import decode_image
from cnn_transfer.models import frozen
from cnn_transfer.models.efficientnet_lite import build_efficientnet_lite, imagenet_weights_path, load_imagenet_weights
from cnn_transfer.models.taps import tap_layers, tap_network, tap_widths
from cnn_transfer.transfer import choose_grid, choose_taps, fit_probe

ROOT = Path(__file__).parents[1]
LITE0 = "efficientnet_lite0"
SETS = {"MNIST": "mnist_digits.parquet", "Fashion": "fashion_mnist.parquet"}
LABELS, CLASSES, COPIES, GRIDS = (5, 10, 20), 10, 8, (2, 3)  # rows an image; cells a side
TEST, TRAIN, UNLABELLED = 2000, 3000, 1000
FORMAT = ImageFormat(image_size_px=96, channels=3)
NOTHING = {name: False if field.annotation is bool else 0.0 for name, field in Augmentation.model_fields.items()}
MOVES = {"rotation_degrees": 10, "shift_fraction": 0.06, "scale_fraction": 0.1, "shear_fraction": 0.3}
SLIGHTLY = Augmentation(**NOTHING | MOVES)
PACKAGES = ["fastai", "torch", "torchvision"]
Deep = dict[int, np.ndarray]  # features of all depths by grid
Extract = Callable[[np.ndarray], tuple[Deep, np.ndarray]]


def feature_network(
    shape: tuple[int, ...] = FORMAT.shape, name: str = LITE0
) -> tuple[Extract, list[str], dict[int, list[int]]]:
    """Pixels → (features of all blocks by grid, global average of the last); names of the taps; widths by grid."""
    height, width, channels = shape
    network = build_efficientnet_lite(name, (height, width, channels))
    load_imagenet_weights(network)
    taps = tap_layers(network)
    average = keras.layers.GlobalAveragePooling2D()(network.get_layer(taps[-1]).output)
    pooled = [tap_network(network, taps, grid).output for grid in GRIDS]
    tapped = keras.Model(network.input, [*pooled, average])
    forward = frozen(tapped)

    def extract(pixels: np.ndarray) -> tuple[Deep, np.ndarray]:
        *deep, last = (np.empty((len(pixels), output.shape[1]), np.float32) for output in tapped.outputs)
        for start in range(0, len(pixels), 128):
            for features, output in zip((*deep, last), forward(pixels[start : start + 128]), strict=True):
                features[start : start + 128] = output
        return dict(zip(GRIDS, deep, strict=True)), last

    extract(np.zeros((128, *shape), np.uint8))
    extract(np.zeros((7, *shape), np.uint8))
    return extract, taps, {grid: tap_widths(network, taps, grid) for grid in GRIDS}


def load(file: str, part: slice = slice(TEST + TRAIN)) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of a part of a fixed permutation, here its first 5,000 images, and their labels."""
    table = pq.read_table(ROOT / "data/01_raw" / file)
    taken = np.random.default_rng(2026).permutation(len(table))[part]
    images = [table["image"][int(row)].as_py() for row in taken]
    encoded = [image["bytes"] if isinstance(image, dict) else image for image in images]
    labels = np.unique(table["label"].to_pylist(), return_inverse=True)[1]
    return np.stack([decode_image(image, FORMAT).pixels for image in encoded]), labels[taken]


def with_copies(pixels: np.ndarray, seed: int, moves: Augmentation = SLIGHTLY) -> np.ndarray:
    """Each image followed by its moved copies."""
    nothing = tf.zeros((len(pixels), 1))
    moved = [augment(tf.constant(pixels), nothing, tf.constant([seed, c]), moves)[0] for c in range(COPIES - 1)]
    return np.stack([pixels, *(copy.numpy() for copy in moved)], axis=1).reshape(-1, *pixels.shape[1:])


def fastai_environment(folder: Path) -> Path:
    """Python of an environment with fastai and the module of the original network; made where it is missing."""
    python = folder / "bin/python"
    if not python.exists():
        uv = str(Path(sys.prefix) / "bin/uv")
        install = [uv, "pip", "install", "--quiet", "--python", str(python)]
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
        subprocess.run([*install, *PACKAGES], check=True)
        subprocess.run([*install, "--no-deps", "efficientnet_lite_pytorch==0.1.0"], check=True)
    return python


def fastai(python: Path, seed: int, data: dict[str, np.ndarray], mirrored: bool) -> dict[str, float]:
    """Accuracy and seconds of `fine_tune(10)`, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "split.npz"
        np.savez(file, allow_pickle=False, **data)
        script = ROOT / "benchmarks/few_labels_fastai.py"
        command = [str(python), str(script), str(file), str(imagenet_weights_path(LITE0)), str(seed), str(mirrored)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(out.splitlines()[-1]))


@dataclass(frozen=True)
class Split:
    """Pixels (n, 96, 96, 3) uint8 of labelled images, their classes, and features of the rest."""

    labelled: np.ndarray
    classes: np.ndarray
    unlabelled: Deep
    test_deep: Deep
    test_last: np.ndarray
    truth: np.ndarray


def compare(
    split: Split, extract: Extract, taps: list[str], widths: dict[int, list[int]], seed: int, logistic: bool
) -> list[dict[str, Any]]:
    """One row a peer but fastai: accuracy, seconds of features and fit, note."""
    rows: list[dict[str, Any]] = []

    def add(peer: str, predicted: np.ndarray, seconds: float, note: str = "") -> None:
        accuracy = float((predicted == split.truth).mean())
        rows.append({"peer": peer, "accuracy": accuracy, "seconds": seconds, "note": note})

    start = time.perf_counter()
    deep, last = extract(with_copies(split.labelled, seed))
    features = time.perf_counter() - start

    start = time.perf_counter()
    choices = {grid: choose_taps(deep[grid], split.classes, widths[grid], taps, COPIES) for grid in GRIDS}
    grid, _ = choose_grid(choices)
    before = features + time.perf_counter() - start

    def fit(peer: str, used: Sequence[str], weights: np.ndarray, unlabelled: np.ndarray | None, note: str) -> None:
        ends = np.cumsum([0, *widths[grid]])
        columns = [slice(ends[place], ends[place + 1]) for place, tap in enumerate(taps) if tap in used]

        def read(features: np.ndarray) -> np.ndarray:
            return np.concatenate([features[:, part] for part in columns], axis=1)

        start = time.perf_counter()
        kept = [part.stop - part.start for part in columns]
        pool = None if unlabelled is None else read(unlabelled)
        probe = fit_probe(read(deep[grid]), split.classes, kept, pool, copies=COPIES, tap_weights=weights)
        seconds = before + time.perf_counter() - start
        note += "" if probe.evidence.get("accepted", True) else ", not accepted"
        add(peer, probe.probabilities(read(split.test_deep[grid])).argmax(axis=1), seconds, note)

    choice = choices[grid]
    equal, share = np.ones(len(taps)), choice.weights[-1] / choice.weights.sum()
    cells, some = f"{grid} x {grid} cells", f"{len(choice.names)} taps to {choice.names[-1]}, which weighs {share:.0%}"
    fit("ours", taps, equal, None, cells)
    fit("ours, chosen depths", choice.names, choice.weights, None, some)
    pool = split.unlabelled[grid]
    fit(f"ours, {len(pool):,} unlabelled", taps, equal, pool, cells)
    fit(f"ours, chosen depths, {len(pool):,} unlabelled", choice.names, choice.weights, pool, some)

    if logistic:
        start = time.perf_counter()
        # As they are: scaled features cost it 1 to 9 points.
        model = LogisticRegressionCV(Cs=np.logspace(-4, 3, 8), cv=5, scoring="neg_log_loss", max_iter=300)
        model.fit(last[::COPIES], split.classes)
        add("logistic regression", model.predict(split.test_last), time.perf_counter() - start)
    return rows


def measure(name: str, options: argparse.Namespace, python: Path | None) -> list[dict[str, Any]]:
    """One row a peer, labels and seed."""
    extract, taps, widths = feature_network()
    pixels, labels = load(SETS[name])
    with_copies(pixels[:50], 0)  # compiles
    test, truth = pixels[:TEST], labels[:TEST]
    test_deep, test_last = extract(test)
    rows: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        drawn = TEST + np.random.default_rng(seed).permutation(TRAIN)
        first = np.stack([drawn[labels[drawn] == c][: max(LABELS)] for c in range(CLASSES)], axis=1)
        pool = np.random.default_rng(seed).permutation(np.setdiff1d(drawn, first))[: options.unlabelled]
        start = time.perf_counter()
        unlabelled, _ = extract(pixels[pool])
        pool_seconds = time.perf_counter() - start
        for count in LABELS:
            images = first[:count].ravel()
            split = Split(pixels[images], labels[images], unlabelled, test_deep, test_last, truth)
            found = compare(split, extract, taps, widths, seed, seed < options.logistic_seeds)
            if python is not None and seed < options.fastai_seeds:
                data = {"x": split.labelled, "y": split.classes, "test": test, "truth": truth}
                found.append(
                    {"peer": "fastai fine_tune(10)", "note": "", **fastai(python, seed, data, name == "Fashion")}
                )
            for row in found:
                extra = pool_seconds if "unlabelled" in row["peer"] else 0.0
                rows.append({"set": name, "labels": count, "seed": seed, "unlabelled_seconds": extra, **row})
                print(
                    name,
                    count,
                    seed,
                    f"{row['peer']} {row['accuracy']:.4f} {row['seconds']:.2f} s",
                    row["note"],
                    flush=True,
                )
    return rows


def table(rows: pd.DataFrame) -> str:
    """Markdown: mean ± standard deviation over seeds of the accuracy, and mean seconds."""
    lines = ["| set | peer | 5 | 10 | 20 | seconds | + unlabelled |", "|---|---|---|---|---|---|---|"]
    for (name, peer), group in rows.groupby(["set", "peer"], sort=False):
        sizes = [group[group["labels"] == count] for count in LABELS]
        cells = [f"{size['accuracy'].mean():.3f} ± {size['accuracy'].std(ddof=1):.3f}" for size in sizes]
        seconds = " / ".join(f"{size['seconds'].mean():.1f}" for size in sizes)
        extra = group["unlabelled_seconds"].mean()
        lines.append(f"| {name} | {peer} | {' | '.join(cells)} | {seconds} | {f'{extra:.1f}' if extra else ''} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--unlabelled", type=int, default=UNLABELLED)
    parser.add_argument("--logistic-seeds", type=int, default=10)
    parser.add_argument("--fastai-seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--fastai-env", type=Path, default=ROOT / "build/fastai-env")
    options = parser.parse_args()
    python = fastai_environment(options.fastai_env) if options.fastai_seeds else None
    rows = pd.DataFrame([row for name in options.sets for row in measure(name, options, python)])
    print(table(rows))
    if python is not None:
        total = rows.assign(seconds=rows["seconds"] + rows["unlabelled_seconds"])
        seconds = total.pivot_table(index=["set", "labels"], columns="peer", values="seconds")
        print(seconds.div(seconds["fastai fine_tune(10)"], axis=0).round(3).to_string())


if __name__ == "__main__":
    main()
