"""The closed-form head: time against a Keras head on the same cached features, and memory on features that are large.

    python benchmarks/probe_speed.py [--repetitions 3] [--many 12000]

Speed: 1,000 digits, means and ranges over 2×2 cells of all blocks of EfficientNet-Lite0 (24,704 features). Ours
tries all penalties and gives exact leave-one-out errors. Keras's is one dense layer, Adam at three learning rates,
batches of 32, on features that were standardised tap by tap, as ours are, before the clock started; its clock stops at
the epoch that reaches our accuracy on 2,000 test images, or after 100 epochs, and evaluation is not counted.

Memory: 100,000 × 1,280 float32 features in a file, fitted in a process of its own; its peak is VmHWM, the file's pages
included. About 3 minutes on 2 cores.

Many images (with `--many`): so many Fashion images, none of them among the test images of few_labels.py, on the 24,704
features; fitted in principal components, as heads are from `MOST_EXACT` on, from where they lie on disk and from
memory, and exactly; each in a process of its own, and tried on 3,000 others. With 12,000 images about 8 minutes, 9 GB.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np

from cnn_transfer.transfer import fit_probe
from cnn_transfer.transfer import probe as probe_module
from cnn_transfer.transfer.standardised import Rows, Standardised, StoredRows, standardisation

GRID, TRAIN, TEST, EPOCHS, RATES = 2, 1000, 2000, 100, (1e-4, 1e-3, 1e-2)
ROWS, WIDTH, CLASSES = 100_000, 1280, 10
MANY_TEST = 3000


def keras_head(
    features: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray, wanted: float, rate: float
) -> tuple[float, float, int]:
    """Seconds until the wanted test accuracy or the last epoch, the accuracy, and the epochs."""
    import keras

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input(features.shape[1:]), keras.layers.Dense(CLASSES, activation="softmax")])
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.train_on_batch(features[:32], labels[:32])  # traced before the clock starts
    seconds, best, epochs = 0.0, 0.0, 0
    while best < wanted and epochs < EPOCHS:
        start = time.perf_counter()
        model.fit(features, labels, batch_size=32, verbose=0)
        seconds += time.perf_counter() - start
        epochs += 1
        best = max(best, float((model.predict(test, batch_size=512, verbose=0).argmax(axis=1) == truth).mean()))
    return seconds, best, epochs


def compare(repetitions: int) -> None:
    """Print seconds and accuracy of both."""
    from few_labels import SETS, feature_network, load

    extract, _, widths_of = feature_network()
    pixels, labels = load(SETS["MNIST"])
    deep, _ = extract(pixels[: TRAIN + TEST])
    features, widths = deep[GRID], widths_of[GRID]
    own, truth = labels[:TRAIN], labels[TRAIN : TRAIN + TEST]
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        probe = fit_probe(features[:TRAIN], own, widths)
        times.append(time.perf_counter() - start)
    accuracy = float((probe.probabilities(features[TRAIN:]).argmax(axis=1) == truth).mean())
    ours = statistics.median(times)
    print(f"ours: {ours:.2f} s, {len(probe.path)} penalties, accuracy {accuracy:.4f}", flush=True)
    mean, scale = standardisation(features[:TRAIN], widths)
    scale *= np.sqrt(features.shape[1] / len(widths))  # numbers of mean square 1, as Adam's rates expect
    standardised = Standardised(features, mean, scale)[:].astype(np.float32)
    for rate in RATES:
        seconds, best, epochs = keras_head(standardised[:TRAIN], own, standardised[TRAIN:], truth, accuracy, rate)
        reached = "reached" if best >= accuracy else "not reached"
        print(
            f"Keras, Adam {rate:g}: {seconds:.2f} s, {epochs} epochs, best accuracy {best:.4f} ({reached}), "
            f"{seconds / ours:.1f} times ours",
            flush=True,
        )


def memory() -> None:
    """Print the peak of a process that fits the large features."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "features.npy"
        rng = np.random.default_rng(0)
        labels = rng.integers(0, CLASSES, ROWS)
        centres = rng.normal(size=(CLASSES, WIDTH))
        stored = np.lib.format.open_memmap(file, "w+", np.float32, (ROWS, WIDTH))
        for start in range(0, ROWS, 5000):
            rows = slice(start, start + 5000)
            stored[rows] = 0.1 * centres[labels[rows]] + rng.normal(size=(5000, WIDTH))
        stored.flush()
        del stored
        np.save(file.with_name("labels.npy"), labels)
        subprocess.run([sys.executable, __file__, "--fit", str(file)], check=True)


def fit_large(file: Path) -> None:
    """What the process of its own does."""
    features, labels = np.load(file, mmap_mode="r"), np.load(file.with_name("labels.npy"))
    start = time.perf_counter()
    probe = fit_probe(features, labels, [WIDTH])
    seconds = time.perf_counter() - start
    left_out = (probe.left_out.argmax(axis=1) == labels).mean()
    print(f"{ROWS:,} x {WIDTH:,}: {seconds:.1f} s, peak {of_memory('VmHWM'):.2f} GiB, left out {left_out:.4f}")


def compare_many(images: int) -> None:
    """Print seconds, peak memory and accuracy of the head in principal components and of the exact one."""
    import few_labels

    extract, _, widths_of = few_labels.feature_network()
    pixels, labels = few_labels.load(few_labels.SETS["Fashion"], slice(few_labels.TEST + few_labels.TRAIN, None))
    taken = slice(0, images + MANY_TEST)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "features.npy"
        np.save(file, extract(pixels[taken])[0][GRID])
        np.savez(file.with_name("labels.npz"), labels=labels[taken], widths=widths_of[GRID])
        for kind in ("stored", "components", "exact"):
            subprocess.run([sys.executable, __file__, "--fit", str(file), "--kind", kind], check=True)


def fit_many(file: Path, kind: str) -> None:
    """What each process of its own does."""
    features = np.load(file, mmap_mode="r" if kind == "stored" else None)
    known = np.load(file.with_name("labels.npz"))
    rows: Rows = features[:-MANY_TEST]
    own = known["labels"][:-MANY_TEST]
    if kind == "stored":
        rows = StoredRows(features, np.arange(len(own)), [slice(0, features.shape[1])])
    start = time.perf_counter()
    with patch.object(probe_module, "MOST_EXACT", len(rows) if kind == "exact" else 0):
        probe = fit_probe(rows, own, known["widths"])
    seconds = time.perf_counter() - start
    right = (probe.probabilities(features[-MANY_TEST:]).argmax(axis=1) == known["labels"][-MANY_TEST:]).mean()
    left_out = (probe.left_out.argmax(axis=1) == own).mean()
    print(
        f"{len(rows):,} x {features.shape[1]:,}, {kind}: {seconds:.1f} s, peak {of_memory('VmHWM'):.2f} GiB "
        f"({of_memory('RssFile'):.2f} GiB of files), "
        f"left out {left_out:.4f}, {MANY_TEST:,} others {right:.4f}"
    )


def of_memory(what: str) -> float:
    """GiB of this process: VmHWM, the peak; RssFile, pages of files, which the system takes back when it needs them."""
    found = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(found.split()[1]) / 2**20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--many", type=int, default=0)
    parser.add_argument("--fit", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.kind:
        fit_many(options.fit, options.kind)
        return
    if options.fit:
        fit_large(options.fit)
        return
    if options.many:
        compare_many(options.many)
        return
    memory()
    compare(options.repetitions)


if __name__ == "__main__":
    main()
