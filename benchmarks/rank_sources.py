"""Is the order of sources right: rank_sources on networks whose order is known, at 10 labels a class.

    python benchmarks/rank_sources.py [--networks 3] [--draws 10] [--labels 10]

The same small network is trained on 10,000 images of Fashion-MNIST, on 5,000 digits, on those of them that are 0 to 4,
or not at all, several times. Targets are 3,000 other images of either set, of which each trial draws the labelled ones;
accuracies are those of the chosen heads on the rest. The measure was chosen on the seeds 0 to 2; these are others.

The orders: data of the same kind, then unrelated data or half of the classes, then random weights. Fashion-MNIST as the
source for digits is in no order, since it is worth one or two points there; its pairs are printed, too.
"""

import argparse
import os
import tempfile
from collections.abc import Mapping
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pandas as pd

from cnn_transfer.images import (
    Augmentation,
    DecodedImages,
    ImageFormat,
    ImageSet,
    list_images,
    open_image_set,
    write_image_set,
)
from cnn_transfer.images.augmentation import augment
from cnn_transfer.models import build_network, reinitialise, tap_layers
from cnn_transfer.transfer import FeatureExtraction, FeatureSet, HeadRule, choose_head, rank_sources
from cnn_transfer.transfer.feature_collection import open_feature_collection, write_feature_collection

ROOT = Path(__file__).parents[1]
NOTHING = {name: False if field.annotation is bool else 0.0 for name, field in Augmentation.model_fields.items()}
MOVES = Augmentation(**NOTHING | {"rotation_degrees": 15, "shift_fraction": 0.12, "scale_fraction": 0.25})
RULE = HeadRule(
    taps=None,
    grids=(2, 3),
    depth_steepness=0,
    copies=0,
    augmentation=Augmentation(**NOTHING),
    most_unlabelled=0,
    class_shares="labelled",
)
TARGET_IMAGES = 3000
FIRST_SEED = 10
ORDERS = {"fashion": ("fashion", "digits", "random"), "digits": ("digits", "digits 0-4", "random")}
MEASURES = ("squared error", "the head's", "log loss", "accuracy", "neighbours")


def read_images(name: str, folder: Path) -> ImageSet:
    """One of the bundled sets, as it comes."""
    listing = list_images(ROOT / f"data/01_raw/{name}.parquet")
    image_format = ImageFormat(image_size_px=28, channels=1)
    write_image_set(DecodedImages(listing, image_format, np.arange(len(listing.table))), folder / name)
    return open_image_set(folder / name)


def train(images: ImageSet, rows: np.ndarray, moved: int, seed: int) -> keras.Model:
    """A compact_cnn after four epochs of the images and of so many moved copies of each."""
    keras.utils.set_random_seed(seed)
    pixels = images.pixels(rows)
    classes = np.unique(images.classes[rows], return_inverse=True)[1]
    parts = [pixels]
    for copy in range(moved):
        for start in range(0, len(pixels), 1000):
            some = pixels[start : start + 1000]
            draw = np.array([seed, 100_000 * copy + start], np.int32)
            parts.append(np.asarray(augment(some, np.zeros((len(some), 1), np.float32), draw, MOVES)[0]))
    targets = np.tile(classes, moved + 1)
    network = build_network("compact_cnn", (28, 28, 1), int(classes.max()) + 1, seed)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, 4 * (len(targets) // 128))
    network.compile(keras.optimizers.AdamW(rate), "sparse_categorical_crossentropy")
    network.fit(np.concatenate(parts), targets, batch_size=128, epochs=4, verbose=0)
    return network


def sources_and_targets(sets: Mapping[str, ImageSet], seed: int, folder: Path) -> dict[str, Mapping[str, FeatureSet]]:
    """Train the sources of a seed, and compute their features of both targets."""
    rng = np.random.default_rng(seed)
    targets, others = {}, {}
    for name, images in sets.items():
        targets[name], others[name] = np.split(rng.permutation(len(images)), [TARGET_IMAGES])
    digits = others["digits"][:5000]
    networks = {
        "fashion": train(sets["fashion"], others["fashion"][:10_000], 1, seed),
        "digits": train(sets["digits"], digits, 3, seed),
        "digits 0-4": train(sets["digits"], digits[sets["digits"].classes[digits] < 5], 5, seed),
    }
    networks["random"] = reinitialise(networks["digits"], seed + 100)
    result: dict[str, Mapping[str, FeatureSet]] = {}
    for name, rows in targets.items():
        wanted = {
            source: lambda network=network, name=name, rows=rows: FeatureExtraction(
                network, sets[name], rows, rows[:0], tuple(tap_layers(network)), RULE.grids, 0, RULE.augmentation
            )
            for source, network in networks.items()
        }
        write_feature_collection(wanted, folder / f"{name}{seed}")
        result[name] = open_feature_collection(folder / f"{name}{seed}")
    return result


def trial(features: Mapping[str, FeatureSet], labels: pd.Series, per_class: int, seed: int) -> pd.DataFrame:
    """Draw labelled images; one row a source: its accuracy on the other images, and all measures."""
    drawn = labels.groupby(labels).sample(per_class, random_state=seed)
    splits = pd.DataFrame({"id": drawn.index, "label": drawn.to_numpy(), "split": "training"})
    rest = labels.drop(drawn.index)
    truth = pd.Index(np.unique(drawn)).get_indexer(pd.Index(rest))
    classes = pd.Index(np.unique(drawn)).get_indexer(pd.Index(drawn))
    heads = {source: choose_head(one, splits, RULE, 0) for source, one in features.items()}
    table = rank_sources(heads, dict.fromkeys(heads, heads["random"])).table.set_index("candidate")
    rows = []
    for source, head in heads.items():
        guess = head.probe.probabilities(features[source].of(rest.index.tolist(), head.taps, head.grid)).argmax(axis=1)
        likely = head.probe.left_out[np.arange(len(classes)), classes]
        scores = (-table["loss"][source], -head.probe.path["error"].min(), np.log(likely).mean(), head.accuracy)
        rows.append([source, (guess == truth).mean(), *scores, head.neighbours, table["verdict"][source]])
    errors = [head.least_errors for head in heads.values()]  # of each left-out image, for paired differences
    return pd.DataFrame(rows, columns=["source", "test", *MEASURES, "verdict"]).assign(errors=pd.Series(errors))


def report(trials: pd.DataFrame, target: str, order: tuple[str, ...]) -> None:
    """Print the pairs of a target, and the share of right orders by each measure."""
    wide: Any = trials[trials["target"] == target].pivot(index=["seed", "draw"], columns="source")
    print(f"\n**Target {target}**, {len(wide)} trials\n")
    print("| better / worse | difference on test images | right order | clear (95%) | clear and wrong |")
    print("|---|---|---|---|---|")
    others = [source for source in wide["test"] if source not in order]
    means = wide["test"].mean()
    unordered = [sorted((a, b), key=means.get, reverse=True) for a in order for b in others]  # the means say which
    for better, worse in [*combinations(order, 2), *unordered]:
        difference = wide["test"][better] - wide["test"][worse]
        right = wide["squared error"][better] > wide["squared error"][worse]
        pairs = np.stack(wide["errors"][worse] - wide["errors"][better])
        z = pairs.mean(axis=1) / (pairs.std(axis=1, ddof=1) / np.sqrt(pairs.shape[1]))
        print(
            f"| {better} / {worse} | {100 * difference.mean():+.1f} ± {100 * difference.std():.1f} points | "
            f"{right.mean():.0%} | {(z > 1.96).mean():.0%} | {(z < -1.96).mean():.0%} |"
        )
    print(f"\n{' > '.join(order)}, all of it right, by measure:")
    for measure in (*MEASURES, "test"):  # the last: what a ranking that knew the test images would reach
        right = np.all([wide[measure][a] > wide[measure][b] for a, b in pairwise(order)], axis=0)
        print(f"  {measure:<14} {right.sum()} of {len(right)} ({right.mean():.0%})")
    print("called of no use over random weights:", end=" ")
    useless = wide["verdict"] == "adds nothing over random weights"
    print(", ".join(f"{source} {share:.0%}" for source, share in useless.mean().items() if source != "random"))


def main() -> None:
    """Train, try and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", type=int, default=3)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--labels", type=int, default=10)
    arguments = parser.parse_args()
    tables = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sets = {"fashion": read_images("fashion_mnist", folder), "digits": read_images("mnist_digits", folder)}
        for seed in range(FIRST_SEED, FIRST_SEED + arguments.networks):
            for target, features in sources_and_targets(sets, seed, folder).items():
                labels = sets[target].table.set_index("id")["label"].loc[features["random"].table["id"]]
                for draw in range(arguments.draws):
                    table = trial(features, labels, arguments.labels, 1000 * seed + draw)
                    tables.append(table.assign(target=target, seed=seed, draw=draw))
    for target, order in ORDERS.items():
        report(pd.concat(tables), target, order)


if __name__ == "__main__":
    main()
