"""Do the intervals of the labels saved hold the truth as often as they say? Simulated curves whose truth is known.

    python benchmarks/labels_saved.py [--repetitions 1000]

Test images are hard or easy for all networks alike, with some noise of each network; a seed moves accuracies on the
scale of logits, by a part that all points of its side share and a part of each point. Three seeds; a row for each
share of the variance that is shared: how many of the 95% intervals hold the true worth, the true difference at the same
labels, and the true accuracy of the transfer. About 6 minutes on 2 busy cores.
"""

import argparse
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from cnn_transfer.evaluation.curve_points import CurvePoint
from cnn_transfer.evaluation.learning_curve import labels_saved, labels_to_reach

CURVES = {"transfer": {5: 0.6, 10: 0.66, 20: 0.7}, "scratch": {5: 0.5, 10: 0.6, 20: 0.66, 40: 0.72}}
IMAGES, SEED_EFFECT, NOISE = 2000, 0.1, 0.05
ENDS: dict[str, Callable[[float], float]] = {
    "measured": lambda value: value,
    "more_than": lambda _: np.inf,
    "at_most": lambda _: 0.0,
}


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repetitions", type=int, default=1000)
    repetitions = parser.parse_args().repetitions
    worth = labels_to_reach(
        list(CURVES["scratch"]), np.array([list(CURVES["scratch"].values())]), np.array([CURVES["transfer"][10]])
    )[0]
    difference = CURVES["transfer"][10] - CURVES["scratch"][10]
    print(f"{repetitions} repetitions, {IMAGES} test images, 3 seeds; true worth of 10 labels: {worth:.1f}")
    for shared in (0.0, 0.5, 1.0):
        rng = np.random.default_rng(0)
        held = np.zeros(3)
        for _ in range(repetitions):
            row = labels_saved(simulate(rng, shared), 10, 0.95, 1000, seed=0)["headline"]
            low, high = (ENDS[row[f"worth{end}_is"]](row[f"worth{end}"]) for end in ("_low", "_high"))
            held += [
                low - 1e-9 <= worth <= high + 1e-9,
                row["difference_low"] <= difference <= row["difference_high"],
                row["accuracy_low"] <= CURVES["transfer"][10] <= row["accuracy_high"],
            ]
        print(
            f"shared {shared:.0%}: worth {held[0] / repetitions:.1%}, difference {held[1] / repetitions:.1%}, ", end=""
        )
        print(f"accuracy {held[2] / repetitions:.1%}", flush=True)


def simulate(rng: np.random.Generator, shared: float) -> list[CurvePoint]:
    """The points of both sides."""
    hardness, points = rng.random(IMAGES), []
    for side, curve in CURVES.items():
        for seed in range(3):
            common = rng.normal(0, SEED_EFFECT * np.sqrt(shared))
            for labels, accuracy in curve.items():
                limit = expit(logit(accuracy) + common + rng.normal(0, SEED_EFFECT * np.sqrt(1 - shared)))
                hits = hardness + rng.normal(0, NOISE, IMAGES) < limit
                table = {"id": np.arange(IMAGES), "label": "a", "predicted": np.where(hits, "a", "b")}
                points.append(CurvePoint(side, labels, seed, pd.DataFrame(table)))
    return points


if __name__ == "__main__":
    main()
