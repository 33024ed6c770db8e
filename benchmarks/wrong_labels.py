"""Digits with wrong labels: what they cost, which of them a run finds, and what is gained when these are corrected.

python benchmarks/wrong_labels.py [--share 0.2] [--images 3000] [--seed 0]

A share of all labels, those of test images too, is replaced by another class. A first run lists labels that look wrong;
somebody who knows the digits goes over that list; a second run takes it back (`target_labels`).
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from project_copy import ROOT, copy_project, latest_version, run_transfer

NETWORKS = ("target", "baseline", "random", "delivered")


def make_images(path: Path, images: int, share: float, seed: int) -> pd.Series:
    """Write the set, and return the true class by id."""
    digits = pd.read_parquet(ROOT / "data/01_raw/mnist_digits.parquet").sample(images, random_state=seed)
    rng = np.random.default_rng(seed)
    names = np.array(sorted(digits["label"].unique()))
    truth = np.searchsorted(names, digits["label"])
    shift = np.where(rng.random(images) < share, rng.integers(1, len(names), images), 0)
    ids = [image["path"] for image in digits["image"]]
    digits.assign(label=names[(truth + shift) % len(names)]).to_parquet(path, index=False)
    return pd.Series(names[truth], ids)


def tell(project: Path, truth: pd.Series, summary: dict[str, object]) -> None:
    """Print what the run says of itself, and what is true."""
    print(f"   difference {summary['difference']:+.4f}, {summary['verdict']}, cost {summary['training_cost_ratio']}")
    for network in NETWORKS:
        table = pd.read_parquet(latest_version(project / f"data/07_model_output/{network}_predictions.parquet"))
        told, true = (table["predicted"].eq(wanted).mean() for wanted in (table["label"], table["id"].map(truth)))
        print(f"   {network:<10} {told:.4f} by the labels, {true:.4f} in truth", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        project = copy_project(Path(temporary) / "project")
        truth = make_images(project / "data/wrong.parquet", arguments.images, arguments.share, arguments.seed)
        parameters = {
            "seed": arguments.seed,
            "target_images": "data/wrong.parquet",
            "preprocess.target.split.labels_per_class": "null",
        }
        summary = run_transfer(project, **parameters)
        print("labels as they come")
        tell(project, truth, summary)
        splits = pd.read_parquet(latest_version(project / "data/03_primary/target_splits.parquet"))
        wrong = splits.loc[splits["label"] != splits["id"].map(truth), "split"].value_counts()
        listed = pd.read_csv(latest_version(project / "data/08_reporting/suspected_labels.csv"), dtype={"label": str})
        listed["true"] = listed["id"].map(truth)
        right = listed["label"] != listed["true"]
        for split, found in right.groupby(listed["split"]):
            print(f"   {split}: {found.sum()} of {wrong[split]} wrong labels are among the {len(found)} listed")
        listed.assign(label=listed["true"]).to_csv(project / "data/looked_at.csv", index=False)
        summary = run_transfer(project, **parameters, target_labels="data/looked_at.csv")
        print("the listed ones looked at")
        tell(project, truth, summary)


if __name__ == "__main__":
    main()
