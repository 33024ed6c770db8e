"""Do promises that rest on left-out training images hold, and what are labels worth that need not validate?

python benchmarks/left_out_promises.py [--draws 20]

EfficientNet-Lite0 with ImageNet's weights at 96 px on the bundled digits and Fashion-MNIST, 5, 10 and 20 labels a
class, without and with 1,000 images without a label. The closed-form head learns from all labels and is judged by
itself: its probabilities of training images that are left out give the calibration, the threshold (an accuracy of 0.98
wished, down to 0.8 promised, 95% confidence) and the prediction sets (95%). Beside it, the same labels divided: half
train, half validate, alone or together with those of the training that are left out. All other images, some 3,000, say
what is true.

"broken": how often the answered ones among them are right less often than was promised; at most one draw in twenty may
be. Draws of one set overlap, so that they are no independent evidence. About ten minutes on 2 cores. Exits with 1 where
promises are broken more often, all cells of a row taken together, by three standard errors.
"""

import argparse
import sys
from typing import Any

import few_labels
import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from cnn_transfer.evaluation import (
    as_predictions,
    calibrate,
    choose_threshold,
    fit_calibration,
    fit_sets,
    prediction_sets,
)
from cnn_transfer.evaluation.probabilities import read_probabilities
from cnn_transfer.transfer import Probe, choose_taps, fit_probe
from cnn_transfer.transfer.depths import TapChoice

WISHED, LEAST, CONFIDENCE, COVERAGE = 0.98, 0.8, 0.95, 0.95
NAMES = [f"class {number}" for number in range(few_labels.CLASSES)]
GRID = 2


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=20)
    draws = parser.parse_args().draws
    rows = []
    extract, taps, widths = few_labels.feature_network()
    for name, file in few_labels.SETS.items():
        pixels, labels = few_labels.load(file)
        features = extract(pixels)[0][GRID]
        for seed in range(draws):
            for count in few_labels.LABELS:
                with threadpool_limits(1, user_api="blas"):
                    found = measure(features, labels, count, seed, taps, widths[GRID])
                rows += [{"set": name, "labels": count, **row} for row in found]
            print(f"{name}: draw {seed + 1} of {draws}", file=sys.stderr, flush=True)
    table = pd.DataFrame(rows)
    groups = table.groupby(["set", "unlabelled", "labels", "judged by"], sort=False)
    means = groups[["accuracy", "confidence", "promised", "answered", "right", "broken", "covered", "size"]].mean()
    print(f"{draws} draws; means; at most {1 - CONFIDENCE:.2f} of the promises may be broken\n")
    print(means.round(3).to_string())
    shares = table.groupby(["unlabelled", "judged by"])["broken"].agg(["mean", "size"])
    most = 1 - CONFIDENCE + 3 * np.sqrt(CONFIDENCE * (1 - CONFIDENCE) / shares["size"])
    print("\nBroken in all\n", shares.assign(most=most).round(3).to_string())
    sys.exit(int((shares["mean"] > most).any()))


def measure(
    features: np.ndarray, labels: np.ndarray, count: int, seed: int, taps: list[str], widths: list[int]
) -> list[dict[str, Any]]:
    """One row a way to be judged, without and with images without a label."""
    order = np.random.default_rng(seed).permutation(len(labels))
    drawn = np.stack([order[labels[order] == index][:count] for index in range(few_labels.CLASSES)], axis=1)
    others = np.random.default_rng(seed).permutation(np.setdiff1d(order, drawn))
    pool, test = others[: few_labels.UNLABELLED], others[few_labels.UNLABELLED :]
    half = (count + 1) // 2
    rows = []
    for unlabelled in (None, features[pool]):
        for training, held in ((drawn.ravel(), drawn[:0].ravel()), (drawn[:half].ravel(), drawn[half:].ravel())):
            choice = choose_taps(features[training], labels[training], widths, taps)
            used = [width for tap, width in zip(taps, widths, strict=True) if tap in choice.names]
            others_used = None if unlabelled is None else unlabelled[:, choice.columns]
            probe = fit_probe(
                features[training][:, choice.columns],
                labels[training],
                used,
                others_used,
                tap_weights=choice.weights,
            )

            def predictions(
                rows: np.ndarray, values: np.ndarray | None = None, probe: Probe = probe, choice: TapChoice = choice
            ) -> pd.DataFrame:
                values = probe.probabilities(features[rows][:, choice.columns]) if values is None else values
                ids = pd.DataFrame({"id": rows.astype(str), "label": np.asarray(NAMES)[labels[rows]], "split": "test"})
                return as_predictions(ids, "test", values, NAMES)

            left_out = predictions(training, probe.out_of_sample).assign(left_out=True)
            ways = {"left out": left_out}
            if len(held):
                validation = predictions(held).assign(left_out=False)
                ways = {"divided": validation, "divided, both": pd.concat([validation, left_out], ignore_index=True)}
            kind = "none" if unlabelled is None else f"{len(pool):,}"
            true = predictions(test)
            rows += [{"unlabelled": kind, "judged by": way, **promises(ways[way], true)} for way in ways]
    return rows


def promises(judged: pd.DataFrame, true: pd.DataFrame) -> dict[str, Any]:
    """What is promised by some images, and what is true of others."""
    calibration = fit_calibration(judged)
    judged, true = calibrate(judged, calibration), calibrate(true, calibration)
    promise = choose_threshold(judged, WISHED, CONFIDENCE, LEAST)
    data = read_probabilities(true)
    answered = data.confidence >= (np.inf if promise["threshold"] is None else promise["threshold"])
    right = data.correct[answered].mean() if answered.any() else np.nan
    sets = prediction_sets(true, fit_sets(judged, COVERAGE))
    return {
        "accuracy": data.correct.mean(),
        "confidence": data.confidence.mean(),
        "promised": np.nan if promise["promised_accuracy"] is None else promise["promised_accuracy"],
        "answered": answered.mean(),
        "right": right,
        "broken": bool(answered.any() and right < promise["promised_accuracy"]),
        "covered": sets["covered"].mean(),
        "size": sets["size"].mean(),
    }


if __name__ == "__main__":
    main()
