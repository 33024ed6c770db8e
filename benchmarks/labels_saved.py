"""Do the intervals of the labels saved hold the truth as often as they say? Simulated curves whose truth is known.

    python benchmarks/labels_saved.py [--repetitions 1000]

Test images are hard or easy for all networks alike, with some noise of each network; a seed moves accuracies on the
scale of logits, by a part that all points of its side share and a part of each point. Three seeds; a row for each
share of the variance that is shared: how many of the 95% intervals hold the true worth, the true difference at the same
labels, and the true accuracy of the transfer. Then the same with few test images and two sides that are equally good,
near 100%: there an interval that misses the worth says that labels are saved, or lost, where neither is true. About 8
minutes on 2 busy cores.
"""

import argparse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from cnn_transfer.evaluation.curve_points import CurvePoint
from cnn_transfer.evaluation.learning_curve import labels_saved, labels_to_reach


class Setting(NamedTuple):
    """What is simulated: true accuracies by side and labels, test images, noise of a network in an image's hardness."""

    curves: dict[str, dict[int, float]]
    images: int
    noise: float


USUAL = Setting({"transfer": {5: 0.6, 10: 0.66, 20: 0.7}, "scratch": {5: 0.5, 10: 0.6, 20: 0.66, 40: 0.72}}, 2000, 0.05)
NEARLY_ALL = {5: 0.95, 10: 0.97, 20: 0.98, 40: 0.985}
EASIER = {5: 0.98, 10: 0.985, 20: 0.99, 40: 0.992}
# Noise adds no more mistakes than it takes away where its standard deviation is small beside them.
FEW = [
    Setting({"transfer": curve, "scratch": curve}, images, 0.01)
    for curve, images in ((NEARLY_ALL, 40), (EASIER, 40), (NEARLY_ALL, 80), (NEARLY_ALL, 150))
]
SEED_EFFECT = 0.1
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
    print(f"{repetitions} repetitions, 3 seeds, 95% intervals")
    for shared in (0.0, 0.5, 1.0):
        coverage(USUAL, shared, repetitions)
    for setting in FEW:
        coverage(setting, 0.5, repetitions)


def coverage(setting: Setting, shared: float, repetitions: int) -> None:
    """Print how many intervals about 10 labels hold the truth."""
    rng, curves = np.random.default_rng(0), setting.curves
    scratch = np.array([list(curves["scratch"].values())])
    accuracy = curves["transfer"][10]
    worth = labels_to_reach(list(curves["scratch"]), scratch, np.array([accuracy]))[0][0]
    difference = accuracy - curves["scratch"][10]
    held = np.zeros(3)
    for _ in range(repetitions):
        row = labels_saved(simulate(rng, setting, shared), 10, 0.95, 1000, seed=0)["headline"]
        low, high = (ENDS[row[f"worth{end}_is"]](row[f"worth{end}"]) for end in ("_low", "_high"))
        held += [
            low - 1e-9 <= worth <= high + 1e-9,
            row["difference_low"] <= difference <= row["difference_high"],
            row["accuracy_low"] <= accuracy <= row["accuracy_high"],
        ]
    print(f"{setting.images} test images, accuracy {accuracy:.1%}, 10 labels are worth {worth:.1f}, ", end="")
    print(f"shared {shared:.0%}: ", end="")
    shares = zip(("worth", "difference", "accuracy"), held / repetitions, strict=True)
    print(", ".join(f"{name} {share:.1%}" for name, share in shares), flush=True)


def simulate(rng: np.random.Generator, setting: Setting, shared: float) -> list[CurvePoint]:
    """The points of both sides."""
    hardness, points = rng.random(setting.images), []
    for side, curve in setting.curves.items():
        for seed in range(3):
            common = rng.normal(0, SEED_EFFECT * np.sqrt(shared))
            for labels, accuracy in curve.items():
                limit = expit(logit(accuracy) + common + rng.normal(0, SEED_EFFECT * np.sqrt(1 - shared)))
                hits = hardness + rng.normal(0, setting.noise, setting.images) < limit
                table = {"id": np.arange(setting.images), "label": "a", "predicted": np.where(hits, "a", "b")}
                points.append(CurvePoint(side, labels, seed, pd.DataFrame(table)))
    return points


if __name__ == "__main__":
    main()
