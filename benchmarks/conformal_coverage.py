"""Do prediction sets and thresholds keep what they promise? A simulation with known truth, many repetitions.

python benchmarks/conformal_coverage.py [--repetitions 1000]

Each repetition draws validation images and fits anew; 10 classes, a network that is too sure of itself, so that its
probabilities are wrong.

Sets: the mean share of new images whose set holds the true class must be k / (n + 1), at least the wished one, within
four standard errors of the simulation; "within its range": how often the stated 95% range holds the true coverage.
Thresholds: the share of repetitions whose threshold has a true accuracy below the wish must be at most one minus the
confidence; "naive" takes the lowest confidence whose bound reaches the wish, as if it were the only look. "With less":
where the wish cannot be shown, an accuracy down to 0.8 is promised, which must be true as often. Groups: five images
each, in half of the groups five times the same, so that they are right or wrong together; "ignored" is what becomes of
the promises when nobody knows of the groups. About six minutes on 2 cores. Exits with 1 where a promise is broken.
"""

import argparse
import sys

import numpy as np
import pandas as pd
from scipy.special import softmax
from scipy.stats import beta

from cnn_transfer.evaluation.conformal import fit_sets
from cnn_transfer.evaluation.probabilities import read_probabilities
from cnn_transfer.evaluation.selective import choose_threshold

CLASSES = [f"class {number}" for number in range(10)]
COLUMNS = [f"probability_{name}" for name in CLASSES]
CONFIDENCE, LEAST = 0.95, 0.8
POPULATION = 200_000
GROUP = 5  # images


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repetitions", type=int, default=1000)
    repetitions = parser.parse_args().repetitions
    population = draw(POPULATION, np.random.default_rng(0))
    right = (population["label"] == population["predicted"]).mean()
    print(f"{repetitions} repetitions; accuracy of the network {right:.1%}\n")
    kept = [sets(population, repetitions), thresholds(population, repetitions), groups(population, repetitions)]
    sys.exit(0 if all(kept) else 1)


def draw(images: int, rng: np.random.Generator) -> pd.DataFrame:
    """Predictions of a network whose logits are twice what they should be."""
    logits = 8 * rng.normal(size=(images, len(CLASSES)))
    true = softmax(logits, axis=1).cumsum(axis=1)
    labels = (rng.random((images, 1)) > true).sum(axis=1).clip(max=len(CLASSES) - 1)
    names = np.asarray(CLASSES)
    table = pd.DataFrame({"id": np.arange(images).astype(str), "label": names[labels]})
    table["predicted"] = names[logits.argmax(axis=1)]
    return pd.concat([table, pd.DataFrame(softmax(2 * logits, axis=1).astype(np.float32), columns=COLUMNS)], axis=1)


def sample(population: pd.DataFrame, images: int, rng: np.random.Generator) -> pd.DataFrame:
    """Images of the population, drawn with replacement."""
    return population.iloc[rng.integers(0, len(population), images)].reset_index(drop=True)


def sets(population: pd.DataFrame, repetitions: int) -> bool:
    """Coverage of conformal sets over draws of validation images."""
    rows, kept = [], True
    _, values, labels, _, _ = read_probabilities(population)
    of_label = np.sort(values[np.arange(POPULATION), labels])
    for images in (50, 200):
        for coverage in (0.8, 0.9, 0.95):
            rng = np.random.default_rng(images)
            shares, inside = [], []
            for _ in range(repetitions):
                fitted = fit_sets(sample(population, images, rng), coverage)
                shares.append(1 - np.searchsorted(of_label, fitted["least_probability"]) / POPULATION)
                inside.append(fitted["coverage_low"] <= shares[-1] <= fitted["coverage_high"])
            error = np.std(shares) / np.sqrt(repetitions)
            expected = np.ceil((images + 1) * coverage - 1e-9) / (images + 1)
            kept &= abs(np.mean(shares) - expected) < 4 * error
            rows.append([images, coverage, expected, np.mean(shares), error, np.mean(inside)])
    columns = ["images", "wished", "expected", "covered", "standard error", "within its range"]
    print("Sets")
    print(pd.DataFrame(rows, columns=columns).round(4).to_string(index=False), "\n")
    return bool(kept)


def thresholds(population: pd.DataFrame, repetitions: int) -> bool:
    """How often a chosen threshold misses the wished accuracy, or the lower one that is promised instead."""
    confidence, correct = read(population)
    accuracy = correct.cumsum() / np.arange(1, len(correct) + 1)  # of the surest images, in the whole population

    def answered(threshold: float | None) -> int:
        return 0 if threshold is None else int(np.searchsorted(-confidence, -threshold, side="right"))

    rows, kept = [], True
    for images in (20, 50, 100, 200, 500):
        for wish in (0.9, 0.95, 0.98):
            rng = np.random.default_rng(images)
            chosen, naive, less, broken = [], [], [], 0
            for _ in range(repetitions):
                validation = sample(population, images, rng)
                chosen.append(answered(choose_threshold(validation, wish, CONFIDENCE)["threshold"]))
                naive.append(answered(lowest_of_all(validation, wish)))
                promise = choose_threshold(validation, wish, CONFIDENCE, LEAST)
                less.append(answered(promise["threshold"]))
                broken += less[-1] > 0 and accuracy[less[-1] - 1] < promise["promised_accuracy"]
            missed, naively = (
                np.mean([n > 0 and accuracy[n - 1] < wish for n in counts]) for counts in (chosen, naive)
            )
            most = 1 - CONFIDENCE + 3 * np.sqrt(CONFIDENCE * (1 - CONFIDENCE) / repetitions)
            kept &= max(missed, broken / repetitions) <= most
            best = (np.flatnonzero(accuracy >= wish).max(initial=-1) + 1) / POPULATION
            shares = [np.mean(counts) / POPULATION for counts in (chosen, less)]
            rows.append([images, wish, missed, naively, broken / repetitions, *shares, best])
    columns = ["images", "wished", "missed", "if naive", "with less", "answered", "with less", "answered at best"]
    print(f"Thresholds; at most {1 - CONFIDENCE:.2f} may miss")
    print(pd.DataFrame(rows, columns=columns).round(4).to_string(index=False))
    return bool(kept)


def groups(population: pd.DataFrame, repetitions: int) -> bool:
    """Sets and thresholds on images of groups, of which every single image is drawn like those of the population."""
    _, values, labels, _, _ = read_probabilities(population)
    of_label = np.sort(values[np.arange(POPULATION), labels])
    confidence, correct = read(population)
    accuracy = correct.cumsum() / np.arange(1, len(correct) + 1)
    rows, kept = [], True
    for number in (20, 40, 100):
        rng = np.random.default_rng(number)
        covered: dict[bool, list[float]] = {True: [], False: []}
        broken: dict[bool, list[bool]] = {True: [], False: []}
        answered: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(repetitions):
            drawn = rng.integers(0, POPULATION, (number, GROUP))
            alike = rng.random(number) < 0.5
            drawn[alike] = drawn[alike, :1]
            table = population.iloc[drawn.ravel()].reset_index(drop=True)
            for known in (True, False):
                own = table.assign(group=np.arange(number).repeat(GROUP).astype(str)) if known else table
                least = fit_sets(own, 0.9)["least_probability"]
                covered[known].append(1 - np.searchsorted(of_label, least) / POPULATION)
                promise = choose_threshold(own, 0.95, CONFIDENCE, LEAST)
                threshold = np.inf if promise["threshold"] is None else promise["threshold"]
                count = int(np.searchsorted(-confidence, -threshold, side="right"))
                answered[known].append(count / POPULATION)
                broken[known].append(bool(count and accuracy[count - 1] < promise["promised_accuracy"]))
        error = np.std(covered[True]) / np.sqrt(repetitions)
        most = 1 - CONFIDENCE + 3 * np.sqrt(CONFIDENCE * (1 - CONFIDENCE) / repetitions)
        kept &= np.mean(covered[True]) > 0.9 - 4 * error and np.mean(broken[True]) <= most
        figures = [np.mean(found[known]) for found in (covered, broken, answered) for known in (True, False)]
        rows.append([number, number * GROUP, *figures])
    names = ["covered (0.9)", "promises broken", "answered"]
    columns = ["groups", "images", *(f"{name}{tail}" for name in names for tail in ("", ", ignored"))]
    print("\nGroups")
    print(pd.DataFrame(rows, columns=columns).round(4).to_string(index=False))
    return bool(kept)


def read(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Confidence and whether the network is right, the surest first."""
    confidence = table[COLUMNS].to_numpy(np.float64).max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    return confidence[order], (table["label"] == table["predicted"]).to_numpy()[order]


def lowest_of_all(validation: pd.DataFrame, wish: float) -> float | None:
    """The lowest confidence whose own bound reaches the wish, as if it were the only look."""
    confidence, correct = read(validation)
    right, counts = correct.cumsum(), np.arange(1, len(correct) + 1)
    bounds = beta.ppf(1 - CONFIDENCE, np.maximum(right, 1e-9), counts - right + 1)
    passing = np.flatnonzero(bounds >= wish)
    return float(confidence[passing[-1]]) if len(passing) else None


if __name__ == "__main__":
    main()
