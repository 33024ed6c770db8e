"""Nodes of the stage `finetune_target`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cnn_transfer.images import ImageSet, class_names, split_examples
from cnn_transfer.models import ModelCard, Network
from cnn_transfer.pipelines.finetune_target.parameters import FinetuneParameters
from cnn_transfer.training import Fit, choose_precision
from cnn_transfer.transfer import TransferPlan, fine_tune, train_baseline


def finetune(
    migrated_model: Network,
    source_model_card: Mapping[str, Any],
    transfer_plan: Mapping[str, Any],
    images: ImageSet,
    splits: pd.DataFrame,
    parameters: Mapping[str, Any],
    precision: str,
    seed: int,
) -> tuple[Network, dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """Fit the head, then the whole network."""
    block = FinetuneParameters.parse(parameters, "finetune_target")
    plan = TransferPlan.model_validate(transfer_plan)
    policy = choose_precision(precision)
    training = split_examples(images, splits, "training", block.balanced)
    validation = split_examples(images, splits, "validation")
    result = fine_tune(migrated_model, training, validation, block.head, block.whole, block.augmentation, policy, seed)
    origin = f"{plan.source} up to {plan.cut_layer}"
    card = _card(result.fit, images, splits, ModelCard.model_validate(source_model_card), origin)
    return result.fit.network, card, result.log, result.trials


def train_from_scratch(
    migrated_model: Network,
    source_model_card: Mapping[str, Any],
    images: ImageSet,
    splits: pd.DataFrame,
    parameters: Mapping[str, Any],
    precision: str,
    seed: int,
) -> tuple[Network, dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """Train the same architecture from random weights, tuned on validation and to convergence."""
    block = FinetuneParameters.parse(parameters, "finetune_target")
    policy = choose_precision(precision)
    training = split_examples(images, splits, "training", block.balanced)
    validation = split_examples(images, splits, "validation")
    result = train_baseline(migrated_model, training, validation, block.baseline, block.augmentation, policy, seed)
    source_card = ModelCard.model_validate(source_model_card)
    card = _card(result.fit, images, splits, source_card, "random weights")
    return result.fit.network, card, result.log, result.trials


def _card(
    result: Fit, images: ImageSet, splits: pd.DataFrame, source_card: ModelCard, initialised_from: str
) -> dict[str, Any]:
    trained = len(result.log) > 0
    best = result.best[["validation_loss", "validation_accuracy"]].to_dict() if trained else {}
    card = ModelCard(
        architecture=source_card.architecture,
        image_shape=images.image_shape,
        class_names=class_names(splits),
        trained_on=images.name,
        training_fingerprint=images.fingerprint,
        training_images=len(images.rows(splits, "training")) if trained else 0,
        precision=result.precision,
        initialised_from=initialised_from,
        metrics=best,
        licence=source_card.licence,
    )
    return card.model_dump(mode="json")
