"""What the augmentation of the source is worth to the target: Fashion-MNIST → handwritten digits.

    python benchmarks/source_augmentation.py [--seeds 3] [--draws 3] [--fractions 0.5]

Networks are pretrained as in conf/base but for the augmentation, each with several seeds; then heads in closed form are
fitted as `kedro run` does it, to 5, 10 and 20 labelled digits a class, without and with 3,000 images without a label.
They are judged on some 3,600 other digits of the training side, never on the test images of the default run: conf/base
was chosen by this table. The draws are the same for all rows. A minute a row and seed on 2 cores.
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd
from few_labels import COPIES, GRIDS, LABELS, with_copies
from kedro.config import OmegaConfigLoader
from own_source import ROOT, prepare

from cnn_transfer.images import Augmentation, ImageSet
from cnn_transfer.models import Network, frozen, tap_layers, tap_widths
from cnn_transfer.models.taps import tap_network
from cnn_transfer.pipelines.pretrain_source.nodes import pretrain
from cnn_transfer.settings import CONFIG_LOADER_ARGS
from cnn_transfer.transfer import choose_grid, choose_taps, fit_probe

UNLABELLED, A_BATCH = 3000, 256
MIRRORED: dict[str, Any] = {"horizontal_flip": True, "scale_fraction": 0.25, "outline_fraction": 0}
Features = dict[int, np.ndarray]  # by cells a side


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.5])
    arguments = parser.parse_args()
    parameters = OmegaConfigLoader(str(ROOT / "conf"), env="local", **CONFIG_LOADER_ARGS)["parameters"]
    variants = {"mirrored": MIRRORED, "not mirrored": MIRRORED | {"horizontal_flip": False}}
    variants["not mirrored, larger and smaller"] = {"outline_fraction": 0}
    variants |= {f"the same, {share:.0%} outlines": {"outline_fraction": share} for share in arguments.fractions}
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source, source_splits = prepare(folder / "source", "fashion_mnist", parameters, "source", 0)
        target, target_splits = prepare(folder / "target", "mnist_digits", parameters, "target", 0)
        pool = np.flatnonzero(target.table["id"].isin(target_splits.loc[target_splits["split"] != "test", "id"]))
        for name, changed in variants.items():
            block = parameters["pretrain_source"]
            block = block | {"augmentation": block["augmentation"] | changed}
            for seed in range(arguments.seeds):
                network, _, log = pretrain(source, source_splits, block, parameters["precision"], seed)
                found = judge(network, target, pool, parameters["migrate_model"]["augmentation"], arguments.draws)
                rows += [{"augmentation": name, "source": log["validation_accuracy"].max(), **row} for row in found]
            print(table(pd.DataFrame(rows)), end="\n\n", flush=True)


def judge(
    network: Network, images: ImageSet, pool: np.ndarray, moves: dict[str, Any], draws: int
) -> list[dict[str, Any]]:
    """One row a number of labels and draw: how many others are right, without and with images without a label."""
    pixels, truth = images.pixels(pool), images.classes[pool]
    everything, taps, widths = features(network, pixels)
    rows = []
    for draw in range(draws):
        order = np.random.default_rng(draw).permutation(len(pool))
        of_class = [order[truth[order] == c][: max(LABELS)] for c in range(len(images.class_names))]
        labelled = np.stack(of_class, axis=1).ravel()
        rest = order[~np.isin(order, labelled)]
        unlabelled, judged = rest[:UNLABELLED], rest[UNLABELLED:]
        copies, _, _ = features(network, with_copies(pixels[labelled], draw, Augmentation(**moves)))
        for labels in LABELS:
            some = slice(labels * len(images.class_names))
            few = {grid: known[: some.stop * COPIES] for grid, known in copies.items()}
            classes = truth[labelled[some]]
            choices = {grid: choose_taps(few[grid], classes, widths[grid], taps, COPIES) for grid in GRIDS}
            grid, _ = choose_grid(choices)
            ends, kept = np.cumsum([0, *widths[grid]]), [taps.index(name) for name in choices[grid].names]
            columns = np.concatenate([np.arange(ends[place], ends[place + 1]) for place in kept])
            row: dict[str, Any] = {"labels": labels}
            for name, others in (("alone", None), ("with others", everything[grid][unlabelled][:, columns])):
                probe = fit_probe(
                    few[grid][:, columns],
                    classes,
                    [widths[grid][place] for place in kept],
                    others,
                    copies=COPIES,
                    tap_weights=choices[grid].weights,
                )
                predicted = probe.probabilities(everything[grid][judged][:, columns]).argmax(axis=1)
                row[name] = float((predicted == truth[judged]).mean())
            rows.append(row)
    return rows


def features(network: Network, pixels: np.ndarray) -> tuple[Features, list[str], dict[int, list[int]]]:
    """What the head may read of images, the depths' names, and how wide each is."""
    import keras

    taps = tap_layers(network)
    tapped = keras.Model(network.input, [tap_network(network, taps, grid).output for grid in GRIDS])
    forward = frozen(tapped)
    parts = [forward(pixels[start : start + A_BATCH]) for start in range(0, len(pixels), A_BATCH)]
    known = {grid: np.concatenate([part[place] for part in parts]) for place, grid in enumerate(GRIDS)}
    return known, taps, {grid: tap_widths(network, taps, grid) for grid in GRIDS}


def table(rows: pd.DataFrame) -> str:
    """Markdown: means over seeds and draws."""
    lines = ["| augmentation of the source | source's validation | labels a class | head | with 3,000 unlabelled |"]
    lines.append("|---|---|---|---|---|")
    for name, group in rows.groupby("augmentation", sort=False):
        sizes = [group[group["labels"] == labels] for labels in LABELS]
        alone, others = (", ".join(f"{size[of].mean():.3f}" for size in sizes) for of in ("alone", "with others"))
        labels = ", ".join(map(str, LABELS))
        lines.append(f"| {name} | {group['source'].mean():.3f} | {labels} | {alone} | {others} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
