"""The closed-form head: time against a Keras head on the same cached features, and memory on features that are large.

    python benchmarks/probe_speed.py [--repetitions 3]

Speed: 1,000 digits, means and ranges over 2×2 cells of all blocks of EfficientNet-Lite0 (24,704 features). Ours
tries all penalties and gives exact leave-one-out errors. Keras's is one dense layer, Adam at three learning rates,
batches of 32, on features that were standardised tap by tap, as ours are, before the clock started; its clock stops at
the epoch that reaches our accuracy on 2,000 test images, or after 100 epochs, and evaluation is not counted.

Memory: 100,000 × 1,280 float32 features in a file, fitted in a process of its own; its peak is VmHWM, the file's pages
included. About 3 minutes on 2 cores.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from cnn_transfer.transfer import fit_probe
from cnn_transfer.transfer.standardised import Standardised, standardisation

GRID, TRAIN, TEST, EPOCHS, RATES = 2, 1000, 2000, 100, (1e-4, 1e-3, 1e-2)
ROWS, WIDTH, CLASSES = 100_000, 1280, 10


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
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    left_out = (probe.left_out.argmax(axis=1) == labels).mean()
    print(
        f"{ROWS:,} x {WIDTH:,}: {seconds:.1f} s, peak {int(peak.split()[1]) / 2**20:.2f} GiB, left out {left_out:.4f}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--fit", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fit:
        fit_large(options.fit)
        return
    memory()
    compare(options.repetitions)


if __name__ == "__main__":
    main()
