"""How large exports are, and how fast on this machine: side by side, one after the other in turns.

In turns, since other work on the machine comes and goes: it then slows all of them, not the one whose turn it was.
Two references are Keras's: `predict`, what most people call, which builds a data pipeline each time; and a compiled
call (`tf.function`), the fastest that Keras does.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnn_transfer.exporting.conversion import FORMATS, Files
from cnn_transfer.exporting.parity import opened
from cnn_transfer.models import write_keras_file
from cnn_transfer.prediction import Predictor

PREDICT, CALL = "keras predict", "keras call"
BATCHES = (32, 256)
# Of pixels in a batch, 256 images of 96 px or 32 of 224: every runtime keeps the memory of its largest batch, with 256
# photographs 10 GB in all (EfficientNet-Lite2).
MOST_BATCH_BYTES = 7 * 2**20
MOST_SECONDS = 30.0  # of one size: a batch of photographs takes a minute
Compute = Callable[[np.ndarray], Any]


def time_exports(
    predictor: Predictor, files: Files, pixels: np.ndarray, calls: int, batches: int, threads: int
) -> list[dict[str, Any]]:
    """Measure Keras and the exports.

    Args:
        predictor: One that Keras computes.
        files: Its exports.
        pixels: (n, height, width, channels) uint8 of real images, repeated where they do not fill a batch.
        calls: With one image each, at least 1; fewer where they take more than `MOST_SECONDS`.
        batches: Of each size, likewise; none of a size of more than `MOST_BATCH_BYTES`.
        threads: That each runtime may use; TensorFlow has its own number.

    Returns:
        One entry each, in words of JSON: `name`, `megabytes`, `latency_ms` and `latency_p95_ms` of one image (median
        and 95th percentile), `images_per_second_32` and `_256` (median of the batches; None where there
        are none), `times_predict` and `times_call` (how many times faster than Keras at one image).
    """
    network = predictor.runtime.network  # type: ignore[attr-defined]
    with opened(files, threads) as runtimes:
        computing: dict[str, Compute] = {
            PREDICT: lambda part: network.predict(part, batch_size=len(part), verbose=0),
            CALL: predictor.runtime,
            **runtimes,
        }
        alone = _seconds(computing, _parts(pixels, 1, calls))
        sizes = [size for size in BATCHES if size * pixels[0].nbytes <= MOST_BATCH_BYTES]
        together = {size: _seconds(computing, _parts(pixels, size, batches)) for size in sizes}
    medians = {name: float(np.median(seconds)) for name, seconds in alone.items()}
    weights = {PREDICT: _keras_bytes(network), CALL: _keras_bytes(network), **_bytes(files)}
    return [
        {
            "name": name,
            "megabytes": weights[name] / 1e6,
            "latency_ms": 1e3 * medians[name],
            "latency_p95_ms": 1e3 * float(np.quantile(alone[name], 0.95)),
            **{
                f"images_per_second_{size}": size / float(np.median(together[size][name])) if size in together else None
                for size in BATCHES
            },
            "times_predict": medians[PREDICT] / medians[name],
            "times_call": medians[CALL] / medians[name],
        }
        for name in computing
    ]


def _parts(pixels: np.ndarray, size: int, number: int) -> list[np.ndarray]:
    rows = np.arange(size * number) % len(pixels)
    return [pixels[part] for part in np.split(rows, number)]


def _seconds(computing: Mapping[str, Compute], parts: list[np.ndarray]) -> dict[str, list[float]]:
    for compute in computing.values():  # traced, compiled, buffers made
        compute(parts[0])
    seconds: dict[str, list[float]] = {name: [] for name in computing}
    begun = time.perf_counter()
    for part in parts:
        for name, compute in computing.items():
            started = time.perf_counter()
            compute(part)
            seconds[name].append(time.perf_counter() - started)
        if time.perf_counter() - begun > MOST_SECONDS:
            break
    return seconds


def _bytes(files: Files) -> dict[str, int]:
    return {
        name: sum(len(content) for path, content in files.items() if path.split("/", maxsplit=1)[0] == known.file)
        for name, known in FORMATS.items()
    }


def _keras_bytes(network: Any) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        write_keras_file(network, path)
        return path.stat().st_size
