"""How often intervals hold the truth and verdicts see a difference that is none, in simulations of known truth.

    python benchmarks/intervals.py [--repetitions 1000] [--seed 0] [--only TEXT]

An interval of 95% must hold the truth in 93-97% of the repetitions: "PASS". A repetition is one draw of test images,
and for the verdicts over seeds one of trainings, too. "edge" is within two standard errors of that (1.6 points in
1,000), so that chance in the simulation may have done it; "wide" holds the truth more often, as intervals over 2 or 3
seeds do, which must guess at how much training varies; "biased" stands for a fail of a calibration error, which is
biased by its definition. A verdict where there is no difference must be one in at most 5%. Truths are known by
construction, or measured on 400,000 images. About a quarter of an hour on 2 cores.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import stats

from cnn_transfer.evaluation.metrics import measure, per_class_table
from cnn_transfer.evaluation.verdict import compare, compare_over_seeds

LEVEL = 0.95
LOWEST, HIGHEST, MOST_FALSE = 0.93, 0.97, 0.05
MANY = 400_000


@dataclass(frozen=True)
class Classifier:
    """Images whose logits are normal, with a shift at the true class, reported `sharpness` times as large.

    Attributes:
        classes: How many.
        shift: Of the true class's logit, in standard deviations.
        sharpness: 1 is calibrated: then the probabilities are the posterior ones, when all classes are as frequent.
        rarest: Frequency of the rarest class, as a share of the most frequent one's.
        correlation: Of the latent logits of images of one group.
        group_size: Images a group, on average; sizes vary. 1: no groups.
        stratified: Whether each class has as many images as any other, as in a split that is drawn here.
    """

    classes: int
    shift: float
    sharpness: float = 1.0
    rarest: float = 1.0
    correlation: float = 0.0
    group_size: int = 1
    stratified: bool = False

    @property
    def names(self) -> list[str]:
        """Of the classes."""
        return [f"c{k:02d}" for k in range(self.classes)]

    def draw(self, images: int, rng: np.random.Generator) -> pd.DataFrame:
        """A table of predictions."""
        frequencies = np.geomspace(1, self.rarest, self.classes)
        groups = rng.integers(0, max(1, images // self.group_size), images)
        labels = rng.choice(self.classes, images, p=frequencies / frequencies.sum())
        labels = np.arange(images) % self.classes if self.stratified else labels
        noise = rng.normal(size=(images, self.classes))
        if self.group_size > 1:
            shared = rng.normal(size=(groups.max() + 1, self.classes))[groups]
            noise = np.sqrt(1 - self.correlation) * noise + np.sqrt(self.correlation) * shared
        noise[np.arange(images), labels] += self.shift
        logits = self.shift * self.sharpness * noise
        probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        names = np.array(self.names)
        table = pd.DataFrame({"id": np.arange(images), "label": names[labels]})
        table["predicted"] = names[probabilities.argmax(axis=1)]
        if self.group_size > 1:
            table["group"] = groups
        columns = [f"probability_{name}" for name in names]
        return pd.concat([table, pd.DataFrame(probabilities, columns=columns)], axis=1)

    @cached_property
    def truth(self) -> dict[str, float]:
        """The figures on very many images; groups change none of them."""
        table = Classifier(self.classes, self.shift, self.sharpness, self.rarest).draw(MANY, np.random.default_rng(99))
        found = measure(table, self.names, LEVEL, 2, 0)
        rarest = per_class_table(table, self.names, LEVEL).iloc[-1]
        return found | {f"rarest class: {name}": rarest[name] for name in ("recall", "precision", "f1", "auroc")}


FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "log_loss", "brier", "ece", "classwise_ece")
BIASED = ("ece", "classwise_ece")
CLASSIFIERS = {
    "3 classes, 100 images": (Classifier(3, 1.5), 100),
    "2 classes, 200 images, 97% right": (Classifier(2, 2.7), 200),
    "10 classes, 200 images": (Classifier(10, 2.5), 200),
    "10 classes, 500 images, rarest 1 in 5, overconfident": (Classifier(10, 3, 2, 0.2), 500),
    "10 classes, 2,000 images": (Classifier(10, 2.5), 2000),
    "100 classes, 400 images": (Classifier(100, 3.5), 400),
    "100 classes, 4 images of each": (Classifier(100, 3.5, stratified=True), 400),
    "30 groups of 10, correlation 0.5": (Classifier(3, 1.5, 1, 1, 0.5, 10), 300),
    "10 groups of 20, correlation 0.3": (Classifier(3, 1.5, 1, 1, 0.3, 20), 200),
    "100 groups of 5, correlation 0.8": (Classifier(5, 2, 1, 1, 0.8, 5), 500),
    "10 classes, 12 images of each, 98% right": (Classifier(10, 3.8, stratified=True), 120),
}


def metric_coverage(repetitions: int, rng: np.random.Generator, only: str = "") -> Iterator[tuple[str, str, float]]:
    """Scenario, figure, and how often its interval held the truth."""
    for scenario, (classifier, images) in CLASSIFIERS.items():
        if only not in scenario:
            continue
        held = defaultdict(list)
        for seed in range(repetitions):
            table = classifier.draw(images, rng)
            found = measure(table, classifier.names, LEVEL, 150, seed)
            for name in [*FIGURES, *(key for key in found if key.startswith("top_") and key.endswith("accuracy"))]:
                held[name].append(found[f"{name}_low"] <= classifier.truth[name] <= found[f"{name}_high"])
            rarest = per_class_table(table, classifier.names, LEVEL).iloc[-1]
            for name in ("recall", "precision", "f1", "auroc"):
                if not np.isnan(rarest[name]):
                    key = f"rarest class: {name}"
                    held[key].append(rarest[f"{name}_low"] <= classifier.truth[key] <= rarest[f"{name}_high"])
        for name, values in held.items():
            yield scenario, name, float(np.mean(values))


@dataclass(frozen=True)
class Pair:
    """Two networks on the same images: both are right where skill, ease of the image, luck and noise add up above 0.

    Attributes:
        skills: Of the two.
        ease: Standard deviation over images (or groups of them) of what both find easy.
        taste: Of what one finds easy and the other does not.
        luck: Of trainings.
        group_size: Images a group, which share ease and taste.
    """

    skills: tuple[float, float]
    ease: float = 1.0
    taste: float = 0.7
    luck: float = 0.0
    group_size: int = 1

    def draw(self, seeds: int, images: int, rng: np.random.Generator) -> np.ndarray:
        """Booleans (2, seeds, images): who is right."""
        units = self.groups(images)
        ease = self.ease * rng.normal(size=units.max() + 1)[units]
        taste = self.taste * rng.normal(size=(2, 1, units.max() + 1))[..., units]
        luck = self.luck * rng.normal(size=(2, seeds, 1))
        noise = rng.normal(size=(2, seeds, images))
        return np.asarray(np.array(self.skills)[:, None, None] + ease + taste + luck + noise > 0)

    def groups(self, images: int) -> np.ndarray:
        """(images,) the group of each."""
        return np.arange(images) // self.group_size

    @property
    def truth(self) -> float:
        """Difference of the accuracies."""
        spread = np.sqrt(1 + self.ease**2 + self.taste**2 + self.luck**2)
        first, second = stats.norm.cdf(np.array(self.skills) / spread)
        return float(first - second)


PAIRS = {
    "100 images, no difference": (Pair((1, 1)), 1, 100),
    "1,000 images, no difference": (Pair((1, 1)), 1, 1000),
    "300 images, both good, no difference": (Pair((4, 4)), 1, 300),
    "300 images": (Pair((1.5, 1)), 1, 300),
    "40 groups of 8, no difference": (Pair((1, 1), group_size=8), 1, 320),
    "10 groups of 30, no difference": (Pair((1, 1), group_size=30), 1, 300),
    "2 seeds, 500 images, no difference": (Pair((1, 1), luck=0.2), 2, 500),
    "3 seeds, 500 images, no difference": (Pair((1, 1), luck=0.2), 3, 500),
    "5 seeds, 500 images, no difference": (Pair((1, 1), luck=0.2), 5, 500),
    "5 seeds, 500 images, training hardly varies, no difference": (Pair((1, 1), luck=0.02), 5, 500),
    "5 seeds, 2,000 images": (Pair((1.3, 1), luck=0.1), 5, 2000),
    "10 seeds, 200 images, no difference": (Pair((1, 1), luck=0.1), 10, 200),
    "5 seeds, 40 groups of 8, no difference": (Pair((1, 1), luck=0.1, group_size=8), 5, 320),
}
NO_LOG = pd.DataFrame(
    {"images_processed": [0.0, 1.0], "validation_accuracy": [0.1, 0.9], "validation_loss": [2.0, 1.0]}
)


def verdict_coverage(repetitions: int, rng: np.random.Generator, only: str = "") -> Iterator[tuple[str, str, float]]:
    """Scenario, "difference" or "false verdicts", and how often."""
    for scenario, (pair, seeds, images) in PAIRS.items():
        if only not in scenario:
            continue
        held, verdicts, small = [], [], []
        for _ in range(repetitions):
            tables = [[_table(row, pair.groups(images)) for row in side] for side in pair.draw(seeds, images, rng)]
            if seeds == 1:
                log = NO_LOG.assign(delivered=True)
                found = compare(tables[0][0], tables[1][0], tables[0][0].iloc[:0], log, log, images, LEVEL)
                small.append(found["mcnemar_p"] < 1 - LEVEL)
            else:
                found = compare_over_seeds(tables[0], tables[1], LEVEL)
            held.append(found["difference_low"] <= pair.truth <= found["difference_high"])
            verdicts.append(found["verdict"] != "neutral")
        yield scenario, "difference", float(np.mean(held))
        if pair.truth == 0:
            yield scenario, "false verdicts", float(np.mean(verdicts))
            if small:
                yield scenario, "false by McNemar", float(np.mean(small))


def _table(correct: np.ndarray, groups: np.ndarray) -> pd.DataFrame:
    labels = np.where(np.arange(len(correct)) % 2, "a", "b")
    others = np.where(labels == "a", "b", "a")
    return pd.DataFrame({"id": np.arange(len(correct)), "label": labels, "group": groups}).assign(
        predicted=np.where(correct, labels, others)
    )


def judge(figure: str, share: float, repetitions: int) -> str:
    """PASS, or what is wrong with it."""
    bounds = (0.0, MOST_FALSE) if figure.startswith("false") else (LOWEST, HIGHEST)
    if bounds[0] <= share <= bounds[1]:
        return "PASS"
    nearest = min(bounds, key=lambda bound: abs(share - bound))
    if abs(share - nearest) <= 2 * np.sqrt(nearest * (1 - nearest) / repetitions):
        return "edge"
    if figure in BIASED:
        return "biased"
    return "wide" if share > HIGHEST else "fail"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="scenarios whose name holds this text")
    options = parser.parse_args()
    start = time.perf_counter()
    results: dict[str, int] = defaultdict(int)
    for simulate in (metric_coverage, verdict_coverage):
        rows = simulate(options.repetitions, np.random.default_rng(options.seed), options.only)
        for scenario, figure, share in rows:
            verdict = judge(figure, share, options.repetitions)
            results[verdict] += 1
            print(f"{scenario:<58} {figure:<24} {share:7.1%}  {verdict}", flush=True)
    counts = ", ".join(f"{count} {verdict}" for verdict, count in results.items())
    print(f"{counts}; {options.repetitions:,} repetitions, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
