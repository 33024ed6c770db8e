"""Few labels from a source of one's own: this project's method, Keras's guide, and training from scratch.

    python benchmarks/own_source.py [--seeds 5] [--labels 5 10 20]
    python benchmarks/own_source.py --env article --labels 500     # all labels, the article's network

Fashion-MNIST → handwritten digits, no ImageNet. One source network for all; each seed draws other labelled images. All
peers get the same images: as many for validation as for training (a tenth with --env article), 3,000 for the test, and
the project's method also those that are left without their labels. Parameters are those of conf/base, or of the
environment, which may leave rows out. Rows:

- transfer: head in closed form on several depths, then fine-tuning, as in `kedro run`;
- random weights: the same method without any knowledge;
- from scratch: the tuned and converged baseline of `kedro run`;
- guide: https://keras.io/guides/transfer_learning: global average of the last layer, dropout 0.2 and a dense layer, 20
  epochs at 1e-3 on the frozen network, then 10 epochs at 1e-5 of all layers in inference mode; with the same
  augmentation, and at least 1,000 and 500 steps, since 20 epochs of six steps leave it at .25.

Below: what a head on each depth alone knows, of left-out training images (mean of the seeds).

Cost is that of `training_cost_ratio`: images until the baseline's final validation accuracy, a share of the baseline's.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pandas as pd
from kedro.config import OmegaConfigLoader

from cnn_transfer.evaluation.verdict import training_cost_ratio
from cnn_transfer.images import (
    DecodedImages,
    Examples,
    ImageSet,
    assign_splits,
    check_image_set,
    list_images,
    open_image_set,
    ordered_batches,
    split_examples,
    training_batches,
    write_image_set,
)
from cnn_transfer.models import (
    ModelCard,
    Network,
    add_linear_head,
    copy_network,
    cut_layers,
    cut_network,
    reinitialise,
    tap_layers,
    tap_widths,
)
from cnn_transfer.pipelines.finetune_target.parameters import FinetuneParameters
from cnn_transfer.pipelines.migrate_model.nodes import extract_features
from cnn_transfer.pipelines.migrate_model.parameters import MigrateParameters
from cnn_transfer.pipelines.preprocess.parameters import ImageSetParameters
from cnn_transfer.pipelines.pretrain_source.nodes import pretrain
from cnn_transfer.settings import CONFIG_LOADER_ARGS
from cnn_transfer.training import choose_precision
from cnn_transfer.transfer import (
    Head,
    SearchFit,
    build_pool,
    build_target_network,
    choose_head,
    depth_table,
    fine_tune,
    head_weights,
    open_features,
    train_baseline,
    write_features,
)
from cnn_transfer.transfer.plan import plan_transfer

ROOT = Path(__file__).parents[1]
PEERS = ["transfer", "random weights", "from scratch", "guide"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--labels", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--env", default="local")
    arguments = parser.parse_args()
    parameters = OmegaConfigLoader(str(ROOT / "conf"), env=arguments.env, **CONFIG_LOADER_ARGS)["parameters"]
    rows, depths = [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source_images, source_splits = prepare(folder / "source", "fashion_mnist", parameters, "source", 0)
        source, card, _ = pretrain(
            source_images, source_splits, parameters["pretrain_source"], parameters["precision"], 0
        )
        for labels in arguments.labels:
            for seed in range(arguments.seeds):
                target = parameters["preprocess"]["target"]
                target["split"]["labels_per_class"] = labels
                where = folder / "target"
                images, splits = prepare(where, "mnist_digits", parameters, "target", seed)
                measured, known = compare(source, card, images, splits, parameters, seed, folder / f"{labels}-{seed}")
                rows += [{"labels": labels, "seed": seed, **row} for row in measured]
                depths.append(known.assign(labels=labels))
                done = [row for row in rows if (row["labels"], row["seed"]) == (labels, seed)]
                print(pd.DataFrame(done).round(4).to_string(index=False, header=seed == 0), flush=True)
    table = pd.DataFrame(rows)
    groups = table.groupby(["labels", "peer"], sort=False)
    summary = groups.agg(
        accuracy=("accuracy", "mean"), spread=("accuracy", "std"), cost=("cost", "median"), seconds=("seconds", "mean")
    )
    print(summary.round(4).to_string())
    figures = ["used", "accuracy", "random_accuracy"]
    print(pd.concat(depths).groupby(["labels", "tap"], sort=False)[figures].mean().round(3).to_string())


def prepare(folder: Path, name: str, parameters: dict[str, Any], role: str, seed: int) -> tuple[ImageSet, pd.DataFrame]:
    """The bundled images as the stage `preprocess` prepares them; decoded once."""
    block = ImageSetParameters.parse(parameters["preprocess"][role], "preprocess")
    if not folder.exists():
        listing = list_images(ROOT / f"data/01_raw/{name}.parquet")
        write_image_set(DecodedImages(listing, block.image_format, np.arange(len(listing.table))), folder)
    images = open_image_set(folder)
    checked = check_image_set(images, block.check, block.split)
    return images, assign_splits(checked.table, block.split, seed)


def compare(
    source: Network,
    card: dict[str, Any],
    images: ImageSet,
    splits: pd.DataFrame,
    parameters: dict[str, Any],
    seed: int,
    folder: Path,
) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """One row a peer, and what each depth knows."""
    block = FinetuneParameters.parse(parameters["finetune_target"], "finetune_target")
    training, validation = split_examples(images, splits, "training"), split_examples(images, splits, "validation")
    precision = choose_precision(parameters["precision"])
    start = time.perf_counter()
    baseline = train_baseline(
        head_on_all_depths(source, training), training, validation, block.baseline, block.augmentation, precision, seed
    )
    results: dict[str, tuple[Network, float, SearchFit | None]] = {
        "from scratch": (baseline.fit.network, time.perf_counter() - start, baseline)
    }
    if not block.baseline.enabled:
        results.clear()
    starts = {"transfer": source, "random weights": reinitialise(source, seed)}
    if not parameters["migrate_model"]["random_weights"]:
        del starts["random weights"]
    heads: dict[str, Head] = {}
    for peer, network in starts.items():
        start = time.perf_counter()
        result, heads[peer] = transfer(network, card, images, splits, parameters, seed, folder / peer)
        results[peer] = result.fit.network, time.perf_counter() - start, result
    start = time.perf_counter()
    tuned = guide(source, training, validation, block, seed)
    results["guide"] = tuned, time.perf_counter() - start, None
    test = split_examples(images, splits, "test")
    measured = [
        {
            "peer": peer,
            "accuracy": accuracy(results[peer][0], test),
            "cost": cost(results[peer][2], baseline, len(validation)),
            "seconds": results[peer][1],
        }
        for peer in PEERS
        if peer in results
    ]
    return measured, depth_table(heads["transfer"], heads.get("random weights"))


def head_on_all_depths(source: Network, examples: Examples) -> Network:
    """The source's architecture with a head on all depths, as the transferred network has it."""
    taps = tap_layers(source)
    classes = len(examples.images.class_names)
    kernel = np.zeros((sum(tap_widths(source, taps, 2)), classes), np.float32)
    return add_linear_head(copy_network(source), taps, 2, kernel, np.zeros(classes, np.float32))


def transfer(
    network: Network,
    card: dict[str, Any],
    images: ImageSet,
    splits: pd.DataFrame,
    parameters: dict[str, Any],
    seed: int,
    folder: Path,
) -> tuple[SearchFit, Head]:
    """The stages migrate_model and finetune_target."""
    rule = MigrateParameters.parse(parameters["migrate_model"], "migrate_model")
    block = FinetuneParameters.parse(parameters["finetune_target"], "finetune_target")
    write_features(extract_features(network, images, splits, parameters["migrate_model"], seed), folder)
    features = open_features(folder)
    head = choose_head(features, splits, rule, seed)
    plan = plan_transfer(network, ModelCard.model_validate(card), features, head, None)
    migrated = build_target_network(network, plan, head_weights(head, images.class_names))
    training, validation = split_examples(images, splits, "training"), split_examples(images, splits, "validation")
    pool = None
    if plan.self_trained:
        pool = build_pool(migrated, plan.taps, plan.grid, features, images, splits, block.pseudo_labels)
    precision = choose_precision(parameters["precision"])
    tuned = fine_tune(
        migrated,
        training,
        validation,
        block.fine_tuning,
        block.augmentation,
        precision,
        seed,
        pool,
        forward_images=len(features.table),
    )
    return tuned, head


def guide(source: Network, training: Examples, validation: Examples, block: FinetuneParameters, seed: int) -> Network:
    """Frozen head first, then everything at a low rate, as the guide does it."""
    base = cut_network(copy_network(source), cut_layers(source)[-1])
    x = keras.layers.GlobalAveragePooling2D()(base.output)
    x = keras.layers.Dropout(0.2, seed=seed)(x)
    classes = len(training.images.class_names)
    model = keras.Model(base.input, keras.layers.Dense(classes, activation="softmax", dtype="float32")(x))
    epoch = max(1, len(training) // 32)
    for steps, rate, frozen in ((max(1000, 20 * epoch), 1e-3, True), (max(500, 10 * epoch), 1e-5, False)):
        for layer in base.layers:
            layer.trainable = not frozen and not isinstance(layer, keras.layers.BatchNormalization)
        model.compile(keras.optimizers.Adam(rate), "categorical_crossentropy", metrics=["accuracy"])
        model.fit(
            training_batches(training, 32, seed, block.augmentation),
            steps_per_epoch=steps // 10,
            epochs=10,
            validation_data=ordered_batches(validation),
            verbose=0,
            shuffle=False,
        )
    return model


def accuracy(network: Network, test: Examples) -> float:
    """Share of right answers."""
    probabilities = network.predict(ordered_batches(test).map(lambda pixels, _: pixels), verbose=0)
    return float((probabilities.argmax(axis=1) == test.targets.argmax(axis=1)).mean())


def cost(result: SearchFit | None, baseline: SearchFit, validation_images: int) -> float:
    """Images until the baseline's final validation accuracy, as a share of its own; infinite when never reached."""
    if result is None:
        return float("nan")
    if not len(baseline.log):
        return float("nan")
    ratio = training_cost_ratio(result.log, baseline.log, validation_images)["ratio"]
    return float("inf") if ratio is None else ratio


if __name__ == "__main__":
    main()
