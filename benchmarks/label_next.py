"""Labels that are asked for against labels of images drawn at random: what each of them is worth.

    python benchmarks/label_next.py [--seeds 8] [--runs 4]

The head: EfficientNet-Lite0 at 96 px on the bundled digits and Fashion-MNIST, 5 labels a class, 1,000 images without a
label, 2,000 test images, the splits of `few_labels.py`. Twice 50 of the 1,000 get their label: those that
`transfer.active_learning` asks for, those of which the head is least sure (the smallest margin between the two most
probable classes), or any; of any also 150, 200 and 300. Each time the head is fitted anew, with the images that still
have none. How to choose was decided on other images of these sets, and 4,500 of CIFAR-10.

Whole runs (`--runs` of them with other seeds; 0: none), without the baseline and random weights: Fashion-MNIST to
digits with 5 labels a class, and digits to Fashion-MNIST with 10; then the same with 50 labels that `label_next` asks
for, and with 50 of images drawn at random. At last the default run with 2,000 Fashion images among the digits without a
label: how many of these are asked for, and how many are among those that the network is least sure of.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import few_labels
import numpy as np
import pandas as pd
from project_copy import ROOT, copy_project, latest_version, run_kedro, run_transfer

from cnn_transfer.images import TRAINING_ONLY, open_image_set
from cnn_transfer.prediction import Predictor
from cnn_transfer.transfer import fit_probe
from cnn_transfer.transfer.active_learning import Coordinates, most_informative, penalty_of

LABELS, BATCH, ROUNDS, POOL, GRID = 5, 50, 2, 1000, 2
AT_RANDOM = (50, 100, 150, 200, 300)
FOREIGN = 2000
ALONE = {"finetune_target.baseline.enabled": "false", "migrate_model.random_weights": "false"}
WHOLE_RUNS: dict[str, dict[str, Any]] = {
    "digits": {"preprocess.target.split.labels_per_class": 5},
    "Fashion": {
        "target_images": "data/01_raw/fashion_mnist.parquet",
        "source_images": "data/01_raw/mnist_digits.parquet",
        "preprocess.target.split.labels_per_class": 10,
    },
}


def asked_for(features: np.ndarray, labelled: np.ndarray, classes: np.ndarray, pool: np.ndarray, widths: list[int],
              probabilities: np.ndarray) -> np.ndarray:  # fmt: skip
    """Positions in the pool of the images that the product asks for."""
    coordinates = Coordinates.of_images(features[labelled], features[pool], widths)
    known, others = coordinates.of(features[labelled]), coordinates.of(features[pool])
    doubt = 1 - (probabilities**2).sum(axis=1)
    return most_informative(known, others, doubt, penalty_of(known, classes), BATCH)


def measure_head(name: str, seeds: int) -> pd.DataFrame:
    """One row a seed, way of choosing and number of further labels: accuracy."""
    extract, _, widths = few_labels.feature_network()
    pixels, labels = few_labels.load(few_labels.SETS[name])
    features = extract(pixels)[0][GRID]
    test, rows = np.arange(few_labels.TEST), []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        drawn = few_labels.TEST + rng.permutation(few_labels.TRAIN)
        first = np.concatenate([drawn[labels[drawn] == c][:LABELS] for c in range(few_labels.CLASSES)])
        pool = rng.permutation(np.setdiff1d(drawn, first))[:POOL]

        def fit(labelled: np.ndarray, others: np.ndarray, way: str, further: int, seed: int = seed) -> Any:
            probe = fit_probe(features[labelled], labels[labelled], widths[GRID], features[others])
            accuracy = float((probe.probabilities(features[test]).argmax(axis=1) == labels[test]).mean())
            rows.append({"set": name, "seed": seed, "way": way, "labels": further, "accuracy": accuracy})
            print(name, seed, way, further, f"{accuracy:.4f}", flush=True)
            return probe

        start = fit(first, pool, "none", 0)
        for further in AT_RANDOM:
            fit(np.concatenate([first, pool[:further]]), pool[further:], "at random", further)
        for way in ("asked for", "least sure"):
            labelled, left, probe = first, pool, start
            for number in range(1, ROUNDS + 1):
                probabilities = probe.probabilities(features[left])
                if way == "asked for":
                    chosen = asked_for(features, labelled, labels[labelled], left, widths[GRID], probabilities)
                else:
                    chosen = np.diff(np.sort(probabilities, axis=1)[:, -2:])[:, 0].argsort(kind="stable")[:BATCH]
                labelled, left = np.concatenate([labelled, left[chosen]]), np.delete(left, chosen)
                probe = fit(labelled, left, way, number * BATCH)
    return pd.DataFrame(rows)


def give_labels(project: Path, truth: pd.Series, name: str, ids: pd.Series) -> str:
    """Write a table of labels as the page does; its place in the project."""
    file = f"data/{name}.csv"
    table = pd.DataFrame({"id": ids, "label": ids.map(truth), "split": TRAINING_ONLY})
    table.dropna(subset="label").to_csv(project / file, index=False)
    return file


def truth_of(path: Path) -> pd.Series:
    """The class of each image of a bundled set by its id."""
    table = pd.read_parquet(path)
    return pd.Series(table["label"].to_numpy(), [image["path"] for image in table["image"]])


def measure_runs(project: Path, name: str, seed: int) -> dict[str, Any]:
    """Accuracies of whole runs: without further labels, with those that are asked for, and with others."""
    parameters = WHOLE_RUNS[name] | ALONE | {"seed": seed}
    truth = truth_of(project / parameters.get("target_images", "data/01_raw/mnist_digits.parquet"))
    found = {"set": name, "seed": seed, "before": run_transfer(project, **parameters)["target_accuracy"]}
    splits = pd.read_parquet(latest_version(project / "data/03_primary/target_splits.parquet"))
    pool = splits["id"][splits["split"] == "unlabelled"]
    run_kedro(project, "--pipelines", "label_next", **{"label_next.images": BATCH})
    asked = pd.read_csv(latest_version(project / "data/08_reporting/images_to_label.csv"), dtype=str)["id"]
    for way, ids in (("asked for", asked), ("at random", pool.sample(BATCH, random_state=seed))):
        file = give_labels(project, truth, f"{name}-{seed}-{way.replace(' ', '-')}", ids)
        found[way] = run_transfer(project, **parameters, target_labels=file)["target_accuracy"]
    print(found, flush=True)
    return found


def measure_foreign(project: Path) -> None:
    """Print how many images of none of the classes are asked for."""
    digits = pd.read_parquet(ROOT / "data/01_raw/mnist_digits.parquet")
    foreign = pd.read_parquet(ROOT / "data/01_raw/fashion_mnist.parquet").sample(FOREIGN, random_state=0)
    pd.concat([digits, foreign.assign(label=None)]).to_parquet(project / "data/mixed.parquet", index=False)
    run_transfer(project, target_images="data/mixed.parquet", **ALONE)
    run_kedro(project, "--pipelines", "label_next", **{"label_next.images": BATCH})
    splits = pd.read_parquet(latest_version(project / "data/03_primary/target_splits.parquet"))
    asked = pd.read_csv(latest_version(project / "data/08_reporting/images_to_label.csv"), dtype=str)["id"]
    images = open_image_set(latest_version(project / "data/02_intermediate/target_images"))
    predictor = Predictor.load(latest_version(project / "data/06_models/predictor"))
    rows = images.rows(splits, "unlabelled")
    parts = np.array_split(rows, max(1, len(rows) // few_labels.TEST))
    sure = np.concatenate([predictor.judge(images.pixels(part)).confidence for part in parts])
    pool = images.table["id"].iloc[rows]
    for what, ids in (
        ("without a label", pool),
        ("that are asked for", asked),
        ("that the network is least sure of", pool.iloc[sure.argsort(kind="stable")[:BATCH]]),
    ):
        print(f"foreign: {(~ids.str.startswith('digits/')).mean():.1%} of {len(ids):,} images {what}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--runs", type=int, default=4)
    options = parser.parse_args()
    if options.seeds:
        table = pd.concat([measure_head(name, options.seeds) for name in few_labels.SETS])
        mean = table.pivot_table(index=["set", "way"], columns="labels", values="accuracy", sort=False)
        print(mean.round(4).to_string())
        wide = table.pivot_table(index=["set", "seed", "labels"], columns="way", values="accuracy").reset_index()
        for way in ("asked for", "least sure"):
            gain = (wide[way] - wide["at random"]).groupby([wide["set"], wide["labels"]]).agg(["mean", "sem"]).dropna()
            print(f"{way}, beyond as many at random\n{gain.round(4).to_string()}")
    with tempfile.TemporaryDirectory() as temporary:
        project = copy_project(Path(temporary) / "project")
        found = [measure_runs(project, name, seed) for name in WHOLE_RUNS for seed in range(options.runs)]
        if found:
            print(pd.DataFrame(found).round(4).to_string())
        measure_foreign(project)


if __name__ == "__main__":
    main()
