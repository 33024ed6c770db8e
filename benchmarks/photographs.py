"""Few labels on photographs of your own: the closed-form head against logistic regression and fastai.

    python benchmarks/photographs.py FOLDER [--labels 5 10 20] [--seeds 3] [--networks efficientnet_lite2]
                                            [--sizes 224] [--fastai-seeds 0]

FOLDER has a folder of images a class. ImageNet's weights; each seed draws so many labels a class, nested, and up to
2,000 of all other images are the test. Photographs cannot lie in this repository; docs/measured.md has the figures of
public sets.

Rows: the head as a run makes it (cells, depths and their weights decided on left-out labelled images) with seven moved
copies of each image, as conf/imagenet or conf/photos moves them and expects deep depths to weigh; the latter on all
depths, weighing the same; scikit-learn's logistic regression on the globally averaged last layer, C by
cross-validation; fastai's `fine_tune(10)` of EfficientNet-Lite0's weights, mirrored at random, in an environment of its
own (see few_labels.py).
"""

import argparse
from pathlib import Path
from typing import Any

import few_labels
import numpy as np
import pandas as pd
from kedro.config import OmegaConfigLoader
from sklearn.linear_model import LogisticRegressionCV

from cnn_transfer.images import DecodedImages, ImageFormat, list_images
from cnn_transfer.models.efficientnet_lite import EFFICIENTNET_LITE
from cnn_transfer.settings import CONFIG_LOADER_ARGS
from cnn_transfer.transfer import HeadRule, choose_grid, choose_taps, fit_probe

MOST_TEST = 2000
ENVIRONMENTS = ("imagenet", "photos")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labels", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--networks", nargs="+", default=["efficientnet_lite2"], choices=EFFICIENTNET_LITE)
    parser.add_argument("--sizes", type=int, nargs="+", default=[224])
    parser.add_argument("--resize", default="stretch", choices=("stretch", "crop", "pad"))
    parser.add_argument("--fastai-seeds", type=int, default=0)
    parser.add_argument("--fastai-env", type=Path, default=few_labels.ROOT / "build/fastai-env")
    options = parser.parse_args()
    rows = [row for network in options.networks for size in options.sizes for row in measure(options, network, size)]
    table = pd.DataFrame(rows)
    print(
        table.pivot_table(index=["network", "size", "peer"], columns="labels", values="accuracy", sort=False)
        .round(3)
        .to_string()
    )


def measure(options: argparse.Namespace, network: str, size: int) -> list[dict[str, Any]]:
    """One row a peer, labels and seed with one network at one size."""
    pixels, classes = load(options.folder, ImageFormat(image_size_px=size, channels=3, resize=options.resize))
    extract, taps, widths = few_labels.feature_network(pixels.shape[1:], network)
    rules = {name: rule_of(name) for name in ENVIRONMENTS}
    python = few_labels.fastai_environment(options.fastai_env) if options.fastai_seeds else None
    most, rows = max(options.labels), list[dict[str, Any]]()
    for seed in range(options.seeds):
        order = np.random.default_rng(seed).permutation(len(classes))
        drawn = [order[classes[order] == index] for index in range(classes.max() + 1)]
        test = np.setdiff1d(order, np.concatenate([own[:most] for own in drawn]))
        test = np.random.default_rng(seed).permutation(test)[:MOST_TEST]
        test_deep, test_last = extract(pixels[test])
        for count in options.labels:
            images = np.concatenate([own[:count] for own in drawn])
            labels = classes[images]
            predicted, notes = {}, dict[str, str]()
            for name, rule in rules.items():
                deep, last = extract(few_labels.with_copies(pixels[images], seed, rule.augmentation))
                choices = {
                    grid: choose_taps(
                        deep[grid], labels, widths[grid], taps, few_labels.COPIES, steepness=rule.depth_steepness
                    )
                    for grid in few_labels.GRIDS
                }
                grid, _ = choose_grid(choices)
                choice = choices[grid]
                kept = [width for tap, width in zip(taps, widths[grid], strict=True) if tap in choice.names]
                used = deep[grid][:, choice.columns]
                probe = fit_probe(used, labels, kept, copies=few_labels.COPIES, tap_weights=choice.weights)
                predicted[f"ours, {name}"] = probe.probabilities(test_deep[grid][:, choice.columns]).argmax(axis=1)
                share = choice.weights[-1] / choice.weights.sum()
                notes[f"ours, {name}"] = (
                    f"{len(kept)} taps to {choice.names[-1]}, which weighs {share:.0%}; {grid} cells"
                )
            alike = fit_probe(deep[grid], labels, widths[grid], copies=few_labels.COPIES)  # moved as the last above
            predicted["all depths alike"] = alike.probabilities(test_deep[grid]).argmax(axis=1)
            folds = min(5, int(np.bincount(labels).min()))
            model = LogisticRegressionCV(
                Cs=np.logspace(-4, 3, 8), cv=folds, scoring="neg_log_loss", max_iter=300,
                l1_ratios=(0.0,), use_legacy_attributes=False,
            )  # fmt: skip
            predicted["logistic regression"] = model.fit(last[:: few_labels.COPIES], labels).predict(test_last)
            scores = {peer: float((found == classes[test]).mean()) for peer, found in predicted.items()}
            if python is not None and seed < options.fastai_seeds and network == few_labels.LITE0:
                data = {"x": pixels[images], "y": labels, "test": pixels[test], "truth": classes[test]}
                scores["fastai fine_tune(10)"] = few_labels.fastai(python, seed, data, mirrored=True)["accuracy"]
            for peer, accuracy in scores.items():
                row = {"network": network, "size": size, "labels": count, "seed": seed, "peer": peer}
                rows.append(row | {"accuracy": accuracy})
                print(*row.values(), f"{accuracy:.4f}", notes.get(peer, ""), flush=True)
    return rows


def load(folder: Path, image_format: ImageFormat) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of all images that can be used, and their classes."""
    listing = list_images(folder)
    chunks = list(DecodedImages(listing, image_format, np.arange(len(listing.table))).chunks())
    labels = pd.concat([chunk.table["label"] for chunk in chunks], ignore_index=True)
    known = labels.notna().to_numpy()
    classes = np.unique(labels[known], return_inverse=True)[1]
    return np.concatenate([chunk.pixels for chunk in chunks])[known], classes


def rule_of(environment: str) -> HeadRule:
    """What the heads of an environment may read, and how the copies of its training images are moved."""
    parameters = OmegaConfigLoader(str(few_labels.ROOT / "conf"), env=environment, **CONFIG_LOADER_ARGS)["parameters"]
    return HeadRule(**{name: parameters["migrate_model"][name] for name in HeadRule.model_fields})


if __name__ == "__main__":
    main()
