"""Digits of which some are a hundred times as rare as others: does the transfer keep the rare ones?

python benchmarks/uneven_classes.py [--seeds 1] [--balance 0 0.5 1]

Training images fall from 400 to 4 a class, which digit is how rare is drawn; a quarter as many validate, at least two;
150 of each test. Accuracy on these is that of a user to whom all classes count the same; weighted as the classes are
frequent in training it is that of a user to whom all images do.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from project_copy import ROOT, copy_project, latest_version, run_transfer

MOST, LEAST, TESTED = 400, 4, 150
NETWORKS = ("target", "baseline", "random", "delivered")


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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--balance", type=float, nargs="+", default=[0, 0.5, 1])
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for seed in range(arguments.seeds):
            project = copy_project(Path(temporary) / f"seed{seed}")
            counts = make_images(project / "data/uneven.parquet", seed)
            for balance in arguments.balance:
                summary = run_transfer(
                    project,
                    seed=seed,
                    target_images="data/uneven.parquet",
                    **{
                        "preprocess.target.split.labels_per_class": "null",
                        "finetune_target.class_balance": balance,
                    },
                )
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
    table = pd.DataFrame(rows).drop(columns="seed")
    print(table.groupby(["class_balance", "network"], sort=False).mean().round(4).to_string())


if __name__ == "__main__":
    main()
