"""Is an export as good as the network? Each is computed by its own runtime, and compared with Keras on real images.

What computes in float32 must give the same logits but for rounding, on every image. What computes in 8 bits does not:
of it the accuracy is asked, and two things are known of that. The difference on the same validation images, with its
interval (`evaluation.verdict.paired_difference`). And, of validation and unlabelled images together, how many get
another class: accuracy cannot fall by more than their share, whatever the labels are. Loss is what is measured; whether
it is also shown to be within the tolerance is said, since few images cannot show it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cnn_transfer.evaluation.intervals import proportion_interval
from cnn_transfer.evaluation.verdict import paired_difference
from cnn_transfer.exporting.conversion import FORMATS, Files
from cnn_transfer.exporting.release import write_files
from cnn_transfer.images import ImageSet, images_a_batch
from cnn_transfer.images.listing import hash_ranks
from cnn_transfer.prediction import Outputs, Predictor, Runtime, open_runtime


@dataclass(frozen=True)
class Compared:
    """Images that exports are compared with Keras on; none of the test split.

    Attributes:
        pixels: (n, height, width, channels) uint8; the validation images first.
        classes: (validation images,) int, the true class of each.
        groups: (n,) the group of each image.
    """

    pixels: np.ndarray
    classes: np.ndarray
    groups: np.ndarray


@contextmanager
def opened(files: Files, threads: int | None = None) -> Iterator[dict[str, Runtime]]:
    """The runtimes of exports, by name."""
    with tempfile.TemporaryDirectory() as folder:
        write_files(files, Path(folder))
        names = [name for name, known in FORMATS.items() if (Path(folder) / known.file).exists()]
        yield {name: open_runtime(Path(folder), name, threads) for name in names}


def check_same_images(predictor: Predictor, images: ImageSet) -> None:
    """Refuse images that a predictor was not made with.

    Raises:
        ValueError: When the fingerprints differ.
    """
    card = predictor.facts.card
    if images.fingerprint != card.training_fingerprint:
        raise ValueError(
            f"The images must be those that the predictor {predictor.version} was made with, {card.trained_on} with "
            f"the fingerprint {card.training_fingerprint}. Received: {images.name} with {images.fingerprint}. Export a "
            "version whose images are still there: --params model_version=RUN; or make one with: kedro run"
        )


def calibration_pixels(images: ImageSet, splits: pd.DataFrame, most: int, seed: int) -> np.ndarray:
    """Training images that show which values occur: all, or `most` drawn whatever their order."""
    return images.pixels(_drawn(images, images.rows(splits, "training"), most, seed))


def images_to_compare(predictor: Predictor, images: ImageSet, splits: pd.DataFrame, most: int, seed: int) -> Compared:
    """All validation images, and unlabelled ones up to `most` together.

    Raises:
        ValueError: When there are neither, or the predictor was made with others.
    """
    check_same_images(predictor, images)
    validation = images.rows(splits, "validation")
    others = _drawn(images, images.rows(splits, "unlabelled"), max(0, most - len(validation)), seed)
    rows = np.concatenate([validation, others])
    if not len(rows):
        raise ValueError(
            "Exports are compared on validation and unlabelled images. Received: none of either. Keep some: raise "
            "preprocess.target.split.validation_ratio, and run all again."
        )
    table = splits.set_index("id").reindex(images.table["id"].iloc[rows])
    names = pd.Index(predictor.facts.class_names)
    classes = names.get_indexer(pd.Index(table["label"].iloc[: len(validation)]))
    groups = table.get("group", table.index)
    return Compared(images.pixels(rows), np.asarray(classes), np.asarray(groups, object))


def compare(
    predictor: Predictor,
    files: Files,
    compared: Compared,
    tolerances: Mapping[str, float],
    accuracy_loss: float,
    confidence: float,
) -> list[dict[str, Any]]:
    """Compare exports with Keras.

    Args:
        predictor: One that Keras computes.
        files: Its exports.
        compared: Real images.
        tolerances: Largest difference of logits, by name of each format that computes in float32.
        accuracy_loss: That the others may have, 0-1.
        confidence: Level of the intervals, 0-1.

    Returns:
        One entry an export, in words of JSON: `name`, `file`, `passed`, `shown` (whether the images suffice to show
        it), `verdict` (a sentence), `images`, `validation_images`, `changed` (images with another class), `agreement`
        with `agreement_low` (0-1), `most_lost` (of accuracy, 0-1), `probabilities_difference`, `logits_difference`,
        `features_difference` (largest), and `accuracy`, `keras_accuracy`, `accuracy_change` with `_low` and `_high`,
        which are None without validation images.
    """
    expected = _compute(predictor.runtime, compared.pixels)
    with opened(files) as runtimes:
        found = {name: _compute(runtime, compared.pixels) for name, runtime in runtimes.items()}
    return [
        _judge(name, expected, outputs, compared, tolerances, accuracy_loss, confidence)
        for name, outputs in found.items()
    ]


def _judge(
    name: str,
    expected: Outputs,
    found: Outputs,
    compared: Compared,
    tolerances: Mapping[str, float],
    accuracy_loss: float,
    confidence: float,
) -> dict[str, Any]:
    same = expected.probabilities.argmax(axis=1) == found.probabilities.argmax(axis=1)
    agreement = proportion_interval(same, confidence, compared.groups)
    accuracies = _accuracies(expected, found, compared, confidence)
    # Both hold: accuracy does not fall below its interval, and not by more images than change their class.
    most_lost = min(1 - agreement.low, max(0.0, -accuracies["accuracy_change_low"]) if len(compared.classes) else 1.0)
    figures: dict[str, Any] = {
        "name": name,
        "file": FORMATS[name].file,
        "images": len(same),
        "validation_images": len(compared.classes),
        "changed": int((~same).sum()),
        "agreement": agreement.estimate,
        "agreement_low": agreement.low,
        "most_lost": most_lost,
        **{
            f"{output}_difference": float(np.abs(wanted - got).max())
            for output, wanted, got in zip(Outputs._fields, expected, found, strict=True)
        },
        **accuracies,
    }
    judged = (
        _within_rounding(figures, tolerances[name]) if FORMATS[name].exact else _within_accuracy(figures, accuracy_loss)
    )
    return figures | judged


def _accuracies(expected: Outputs, found: Outputs, compared: Compared, confidence: float) -> dict[str, Any]:
    labelled = len(compared.classes)
    names = ("accuracy", "keras_accuracy", "accuracy_change", "accuracy_change_low", "accuracy_change_high")
    if not labelled:
        return dict.fromkeys(names)
    before, after = (
        outputs.probabilities[:labelled].argmax(axis=1) == compared.classes for outputs in (expected, found)
    )
    change = paired_difference(after, before, confidence, compared.groups[:labelled])
    return dict(zip(names, (float(after.mean()), float(before.mean()), *change), strict=True))


def _within_rounding(figures: Mapping[str, Any], tolerance: float) -> dict[str, Any]:
    difference = figures["logits_difference"]
    passed = bool(difference <= tolerance)  # not with NaN
    verdict = f"logits differ by at most {difference:.1e} on {figures['images']:,} images (allowed: {tolerance:.0e})"
    return {"passed": passed, "shown": passed, "verdict": verdict}


def _within_accuracy(figures: Mapping[str, Any], tolerance: float) -> dict[str, Any]:
    change, low, high = (figures[name] for name in ("accuracy_change", "accuracy_change_low", "accuracy_change_high"))
    known, most = change is not None, figures["most_lost"]
    loss = -change if known else 1 - figures["agreement"]
    passed, shown = loss <= tolerance, most <= tolerance
    measured = (
        f"{100 * change:+z.1f} points of accuracy ({100 * low:+z.1f} to {100 * high:+z.1f}) on "
        f"{figures['validation_images']:,} validation images"
        if known
        else "accuracy not measured, without validation images"
    )
    verdict = (
        f"{measured}; {figures['changed']:,} of {figures['images']:,} images get another class, so that at most "
        f"{100 * most:.2f} points are lost (allowed: {100 * tolerance:g})"
    )
    if passed and not shown:
        verdict = f"not outside what is allowed, nor shown to be within it: {verdict}"
    return {"passed": bool(passed), "shown": bool(passed and shown), "verdict": verdict}


def _compute(runtime: Runtime, pixels: np.ndarray) -> Outputs:
    step = images_a_batch(pixels.shape[1:])  # all runtimes are open, and each keeps the memory of its largest batch
    parts = [runtime(pixels[start : start + step]) for start in range(0, len(pixels), step)]
    return Outputs(*map(np.concatenate, zip(*parts, strict=True)))


def _drawn(images: ImageSet, rows: np.ndarray, most: int, seed: int) -> np.ndarray:
    if len(rows) <= most:
        return rows
    ranks = np.asarray(hash_ranks(images.table["id"].iloc[rows], seed))
    return np.sort(rows[np.argsort(ranks)[:most]])
