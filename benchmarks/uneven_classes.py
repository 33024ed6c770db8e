"""Digits of which some are a hundred times as rare as others: does the transfer keep the rare ones?

python benchmarks/uneven_classes.py [--seeds 1] [--balance 0 0.5 1]     # --balance without a number: heads only

Training images fall from 400 to 4 a class, which digit is how rare is drawn; a quarter as many validate, at least two;
150 of each test. Accuracy on these is that of a user to whom all classes count the same; weighted as the classes are
frequent in training it is that of a user to whom all images do.

Of the head in closed form: log loss and accuracy of left-out training images where one of a class of c images weighs
c ** -w, with a temperature alone, and with shifts of the classes as well.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from project_copy import ROOT, copy_project, latest_version, run_kedro, run_transfer
from scipy.special import log_softmax

from cnn_transfer.transfer.features import open_features
from cnn_transfer.transfer.probe import calibrate, calibrate_to_mix
from cnn_transfer.transfer.ridge import class_targets, fit_ridge
from cnn_transfer.transfer.standardised import Standardised, standardisation

MOST, LEAST, TESTED = 400, 4, 150
NETWORKS = ("target", "baseline", "random", "delivered")
POWERS = (0.0, 0.5, 1.0)
IMAGES = {"target_images": "data/uneven.parquet", "preprocess.target.split.labels_per_class": "null"}


def make_images(path: Path, seed: int) -> pd.Series:
    """Write the set, and return the number of training images of each class."""
    digits = pd.read_parquet(ROOT / "data/01_raw/mnist_digits.parquet")
    names = np.random.default_rng(seed).permutation(sorted(digits["label"].unique()))
    counts = pd.Series(np.geomspace(MOST, LEAST, len(names)).round().astype(int), names)
    parts = []
    for name, training in counts.items():
        validation = max(2, training // 4)
        own = digits[digits["label"] == name].sample(training + validation + TESTED, random_state=seed)
        parts.append(own.assign(split=np.repeat(["training", "validation", "test"], [training, validation, TESTED])))
    pd.concat(parts, ignore_index=True).to_parquet(path)
    return counts


def judge_heads(data: Path) -> list[dict[str, float]]:
    """The head on what the plan of the newest run reads, with other weights and with and without shifts."""
    plan = json.loads(latest_version(data / "06_models/transfer_plan.json").read_text())
    features = open_features(latest_version(data / "04_feature/target_features"))
    splits = pd.read_parquet(latest_version(data / "03_primary/target_splits.parquet"))
    training = splits[splits["split"] == "training"]
    classes, names = pd.factorize(training["label"], sort=True)
    copies, (taps, grid) = 1 + features.copies, (plan["taps"], plan["grid"])
    rows = features.of(training["id"], taps, grid, copies=True)
    standardised = Standardised(rows, *standardisation(rows, features.widths_of(taps, grid)))
    targets = class_targets(classes, len(names)).repeat(copies, axis=0)
    found = []
    for power in POWERS:
        weights = np.bincount(classes)[classes] ** -power
        left_out = fit_ridge(standardised, targets, (weights / weights.mean()).repeat(copies), copies).left_out
        for shifted, (factor, shift) in {
            False: (calibrate(left_out, classes), np.zeros(len(names))),
            True: calibrate_to_mix(left_out, classes),
        }.items():
            likely = log_softmax(factor * left_out + shift, axis=1)
            hits = pd.Series(likely.argmax(axis=1) == classes)
            found.append(
                {
                    "w": power,
                    "shifted": shifted,
                    "log loss": -likely[np.arange(len(classes)), classes].mean(),
                    "right": hits.mean(),
                    "right, all classes alike": hits.groupby(classes).mean().mean(),
                }
            )
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--balance", type=float, nargs="*", default=[0, 0.5, 1])
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    heads = []
    with tempfile.TemporaryDirectory() as temporary:
        for seed in range(arguments.seeds):
            project = copy_project(Path(temporary) / f"seed{seed}")
            counts = make_images(project / "data/uneven.parquet", seed)
            for balance in arguments.balance:
                options = IMAGES | {"finetune_target.class_balance": balance}
                summary = run_transfer(project, seed=seed, **options)
                for network in NETWORKS:
                    table = pd.read_parquet(
                        latest_version(project / f"data/07_model_output/{network}_predictions.parquet")
                    )
                    recalls = table["predicted"].eq(table["label"]).groupby(table["label"]).mean()
                    rows.append(
                        {
                            "seed": seed,
                            "class_balance": balance,
                            "network": network,
                            "all classes alike": recalls.mean(),
                            "all images alike": (recalls * counts).sum() / counts.sum(),
                            "three rarest": recalls[counts.nsmallest(3).index].mean(),
                            "cost ratio": summary["training_cost_ratio"] if network == "target" else np.nan,
                        }
                    )
                    print(rows[-1], flush=True)
            if not arguments.balance:
                run_kedro(project, "--to-nodes", "migrate_model.plan", seed=seed, **IMAGES)
            heads += judge_heads(project / "data")
    print(pd.DataFrame(heads).groupby(["w", "shifted"]).mean().round(3).to_string())
    if rows:
        table = pd.DataFrame(rows).drop(columns="seed")
        print(table.groupby(["class_balance", "network"], sort=False).mean().round(4).to_string())


if __name__ == "__main__":
    main()
