"""A new release every night: which bad ones does the comparison with the one before stop, and what does that cost?

    python benchmarks/releases.py [--quick]

1. Simulated pairs of networks of known accuracy, on the same test images: how often is a challenger refused that is as
   good, and one that is worse by so much, over all or in one class? Two networks make mostly the same mistakes: an
   image is wrong where its difficulty, which they share, and something of their own are above a threshold.
2. Simulated nights, always with the same test images. Training varies by chance, and one night in ten is spoilt. What
   is the served network worth, and how much better does it look on the test images than it is? Beside the rule: serving
   whatever is new, and keeping whatever does best on the test images, which is to choose on them.
3. Networks whose probabilities are right: how often can none of their answers be promised (`evaluate.wished_accuracy`,
   `least_accuracy`), so that they are refused where the one before answers?
4. Real runs of the default pipeline on digits, each compared with the same first release (left out by --quick; about 15
   minutes): other draws of images and weights, fewer and more labels, and labels spoilt in three ways.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from project_copy import copy_project, latest_version, run_kedro
from scipy import stats

from cnn_transfer.evaluation.selective import choose_threshold
from cnn_transfer.evaluation.verdict import paired_difference
from cnn_transfer.exporting.challenge import Rule, passes, weigh
from cnn_transfer.exporting.champion import JUDGED_COLUMNS

SHARED = 0.7  # of the variance that decides whether an image is wrong
ACCURACY = 0.97
REPETITIONS = 400
NIGHTS, SEQUENCES = 100, 60
CHANCE = 0.005  # standard deviation of accuracy from training to training
SPOILT, LOSS = 0.1, 0.05  # share of nights, and what they lose of accuracy
RULE = Rule("clearly_worse", 0.0, 0.95)


def correct(accuracies: np.ndarray, difficulty: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What networks have right: (networks, images) booleans.

    Args:
        accuracies: (networks,) or (networks, images) of each, 0-1.
        difficulty: (images,) standard normal, shared by all.
        rng: Of what each has of its own.
    """
    thresholds = stats.norm.ppf(np.reshape(accuracies, (len(accuracies), -1)))
    own = rng.standard_normal((len(accuracies), len(difficulty)))
    return np.asarray(np.sqrt(SHARED) * difficulty + np.sqrt(1 - SHARED) * own < thresholds)


def refused(classes: int, images: int, loss: float, of_one_class: float, rng: np.random.Generator) -> tuple[float, ...]:
    """Shares of challengers that are refused, and that are so for the accuracy over all images."""
    labels = np.arange(images) % classes
    now = np.where(labels == 0, ACCURACY - loss - of_one_class, ACCURACY - loss)
    table = pd.DataFrame(dict.fromkeys(JUDGED_COLUMNS, ""), index=range(images))
    table["id"] = table["group"] = np.arange(images).astype(str)
    table["label"] = labels.astype(str)
    counts = np.zeros(2)
    for _ in range(REPETITIONS):
        pair = correct(np.stack([now, np.full(images, ACCURACY)]), rng.standard_normal(images), rng)
        for column, right in zip(("predicted", "champion_predicted"), pair, strict=True):
            table[column] = np.where(right, table["label"], "other")
        figures, _ = weigh(table, RULE)
        counts += not passes(figures, RULE), figures["verdict"] == "worse"
    return tuple(counts / REPETITIONS)


def pairs() -> pd.DataFrame:
    """How often a challenger is refused, by what it is worth."""
    rng, rows = np.random.default_rng(0), []
    for images in (300, 3000):
        for classes in (2, 10, 100):
            for loss, of_one_class in ((0.0, 0.0), (0.005, 0.0), (0.01, 0.0), (0.02, 0.0), (0.05, 0.0), (0.0, 0.2)):
                share, overall = refused(classes, images, loss, of_one_class, rng)
                rows.append([images, classes, 100 * loss, 100 * of_one_class, share, overall])
    columns = ["test images", "classes", "points worse", "in one class", "refused", "for the accuracy over all"]
    return pd.DataFrame(rows, columns=columns)


def newest(_: np.ndarray, __: np.ndarray) -> bool:
    """Serve whatever is new."""
    return True


def not_clearly_worse(now: np.ndarray, before: np.ndarray) -> bool:
    """The rule of `export`."""
    return paired_difference(now, before, RULE.confidence).high >= 0


def best_on_test(now: np.ndarray, before: np.ndarray) -> bool:
    """To choose on the test images."""
    return bool(now.sum() >= before.sum())


def nights(images: int, rule: Callable[[np.ndarray, np.ndarray], bool]) -> dict[str, float]:
    """What is served over many nights; the same networks for each rule."""
    rng, served, stated, spoilt = np.random.default_rng(1), [], [], []
    for _ in range(SEQUENCES):
        bad = rng.random(NIGHTS) < SPOILT
        bad[0] = False
        worth = np.clip(ACCURACY + CHANCE * rng.standard_normal(NIGHTS), 0, 0.999) - LOSS * bad
        right = correct(worth, rng.standard_normal(images), rng)
        champion = 0
        for night in range(NIGHTS):
            if rule(right[night], right[champion]):
                champion = night
            served.append(worth[champion])
            stated.append(right[champion].mean())
            spoilt.append(bad[champion])
    return {
        "accuracy that is served": float(np.mean(served)),
        "nights on a spoilt network": float(np.mean(spoilt)),
        "looks better than it is by (points)": 100 * float(np.mean(np.subtract(stated, served))),
    }


def sequences() -> pd.DataFrame:
    """Each rule with small and large test sets."""
    rules = {"the newest": newest, "not clearly worse": not_clearly_worse, "the best on the test images": best_on_test}
    rows = [
        {"test images": images, "rule": name, **nights(images, rule)}
        for images in (300, 3000)
        for name, rule in rules.items()
    ]
    return pd.DataFrame(rows)


def silences() -> pd.DataFrame:
    """How often a network of two classes answers nothing, by its accuracy and the validation images that show it."""
    rng, rows = np.random.default_rng(2), []
    for accuracy in (0.85, 0.9, 0.94, 0.97, 0.99):
        row: dict[str, float] = {"accuracy": accuracy}
        for images in (10, 20, 40, 80, 200):
            silent = 0
            for _ in range(REPETITIONS):
                likelier = 0.5 + 0.5 * rng.beta((2 * accuracy - 1) / (2 - 2 * accuracy), 1, images)
                table = pd.DataFrame({"id": np.arange(images).astype(str), "predicted": "yes"})
                table["label"] = np.where(rng.random(images) < likelier, "yes", "no")
                table["probability_no"], table["probability_yes"] = 1 - likelier, likelier
                silent += choose_threshold(table, 0.98, RULE.confidence, 0.8)["threshold"] is None
            row[f"{images} images"] = silent / REPETITIONS
        rows.append(row)
    return pd.DataFrame(rows)


def spoil(project: Path, name: str, splits: pd.DataFrame) -> Path:
    """A table of labels in which those of images that are not test images are wrong."""
    rng = np.random.default_rng(2)
    table = splits[splits["split"] != "test"][["id", "label"]].reset_index(drop=True)
    if name == "every third label is wrong":
        changed = table[rng.random(len(table)) < 1 / 3]
        changed = changed.assign(label=(changed["label"].astype(int) + rng.integers(1, 10, len(changed))) % 10)
    elif name == "every third 3 is called 8":
        changed = table[(table["label"] == "3") & (rng.random(len(table)) < 1 / 3)].assign(label="8")
    else:  # 4 and 9 exchanged
        changed = table[table["label"].isin(["4", "9"])]
        changed = changed.assign(label=changed["label"].map({"4": "9", "9": "4"}))
    path = project / f"{name.replace(' ', '_')}.csv"
    changed.to_csv(path, index=False)
    return path


def real() -> pd.DataFrame:
    """Runs of the default pipeline against the same first release."""
    rows = []
    labels = "preprocess.target.split.labels_per_class"
    with tempfile.TemporaryDirectory() as temporary:
        project = copy_project(Path(temporary) / "project")
        run_kedro(project)
        run_kedro(project, "--pipelines", "export", **{"export.timed_calls": 5, "export.timed_batches": 1})
        splits = pd.read_parquet(latest_version(project / "data/03_primary/target_splits.parquet"))
        names = ("every third label is wrong", "every third 3 is called 8", "4 and 9 exchanged")
        challengers: dict[str, dict[str, Any]] = {
            "another draw of images and weights (seed 1)": {"seed": 1},
            "another draw of images and weights (seed 2)": {"seed": 2},
            "10 labels a class instead of 20": {labels: 10},
            "40 labels a class instead of 20": {labels: 40},
            **{name: {"target_labels": spoil(project, name, splits)} for name in names},
        }
        for name, parameters in challengers.items():
            run_kedro(project, **parameters)
            run_kedro(project, "--pipelines", "export", "--nodes", "export.challenge_champion")
            found = json.loads(latest_version(project / "data/08_reporting/champion_comparison.json").read_text())
            keys = ("images", "accuracy", "champion_accuracy", "difference", "difference_low", "difference_high")
            worse = ", ".join(found["worse_classes"])
            rows.append(
                {"challenger": name, **{key: found[key] for key in keys}, "worse in": worse, "": found["passed"]}
            )
            print(rows[-1], flush=True)
    return pd.DataFrame(rows).rename(columns={"": "released"})


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="without real runs")
    quick = parser.parse_args().quick
    print(pairs().to_string(index=False, float_format="{:.3f}".format), "\n", flush=True)
    print(sequences().to_string(index=False, float_format="{:.4f}".format), "\n", flush=True)
    print(silences().to_string(index=False, float_format="{:.3f}".format), "\n", flush=True)
    if not quick:
        print(real().to_string(index=False, float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
