"""Nodes of the stage `pretrain_source`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cnn_transfer.images import ImageSet, split_examples
from cnn_transfer.models import ModelCard, Network, build_network
from cnn_transfer.pipelines.pretrain_source.parameters import PretrainParameters
from cnn_transfer.training import Checkpoints, choose_precision, fit


def pretrain(
    images: ImageSet,
    splits: pd.DataFrame,
    parameters: Mapping[str, Any],
    precision: str,
    seed: int,
    checkpoints: Checkpoints | None = None,
    workers: int = 1,
) -> tuple[Network, dict[str, Any], pd.DataFrame]:
    """Train a network on the source from random weights."""
    block = PretrainParameters.parse(parameters, "pretrain_source")
    training = split_examples(images, splits, "training", block.class_balance)
    validation = split_examples(images, splits, "validation")
    class_names = training.images.class_names
    network = build_network(block.architecture, images.image_shape, len(class_names), seed)
    policy = choose_precision(precision)
    result = fit(
        network,
        training,
        validation,
        block.optimisation,
        block.augmentation,
        policy,
        seed,
        "pretraining",
        checkpoints,
        workers,
    )
    card = ModelCard(
        architecture=block.architecture,
        image_shape=images.image_shape,
        class_names=class_names,
        trained_on=images.name,
        training_fingerprint=images.fingerprint,
        training_images=len(training),
        precision=result.precision,
        initialised_from="random weights",
        strategy="from scratch",
        metrics=result.best[["validation_loss", "validation_accuracy"]].to_dict(),
        licence=block.licence,
    )
    return result.network, card.model_dump(mode="json"), result.log
