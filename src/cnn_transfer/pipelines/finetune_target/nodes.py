"""Nodes of the stage `finetune_target`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import pandas as pd

from cnn_transfer.evaluation.intervals import effective_number
from cnn_transfer.evaluation.predictions import predict, units_of
from cnn_transfer.images import Augmentation, ImageSet, class_names, split_examples
from cnn_transfer.models import ModelCard, Network
from cnn_transfer.parameters import Parameters
from cnn_transfer.training import Checkpoints, choose_precision
from cnn_transfer.transfer import (
    Baseline,
    FeatureSet,
    FineTuning,
    PseudoLabels,
    SearchFit,
    TransferPlan,
    build_pool,
    fine_tune,
    is_clearly_better,
    keep_probe,
    no_search,
    train_baseline,
)

Block = TypeVar("Block", bound=Parameters)


def finetune(
    migrated_model: Network,
    source_model_card: Mapping[str, Any],
    transfer_plan: Mapping[str, Any],
    features: FeatureSet,
    images: ImageSet,
    splits: pd.DataFrame,
    fine_tuning: Mapping[str, Any],
    pseudo_labels: Mapping[str, Any],
    augmentation: Mapping[str, Any],
    class_balance: float,
    precision: str,
    seed: int,
    checkpoints: Checkpoints | None = None,
    workers: int = 1,
) -> tuple[Network, dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """Fine-tune as the strategy says, from the head in closed form; without a plan, nothing is trained.

    Without validation images the head stays as it is: nothing would say whether fine-tuning made it better.
    """
    rule, pseudo = _block(FineTuning, fine_tuning, "fine_tuning"), _block(PseudoLabels, pseudo_labels, "pseudo_labels")
    policy = choose_precision(precision, migrated_model)
    source_card = ModelCard.model_validate(source_model_card)
    if not transfer_plan:
        result = no_search(migrated_model, policy)
        return result.fit.network, _card(result, images, splits, source_card, ""), result.log, result.trials
    plan = TransferPlan.model_validate(transfer_plan)
    origin = f"{plan.source} up to {plan.cut_layer}"
    if not (splits["split"] == "validation").any():
        result = keep_probe(migrated_model, rule, policy, len(features.table))
        return result.fit.network, _card(result, images, splits, source_card, origin), result.log, result.trials
    training, validation = (
        split_examples(images, splits, "training", class_balance),
        split_examples(images, splits, "validation"),
    )
    pool = None
    if plan.self_trained and pseudo.share:
        pool = build_pool(migrated_model, plan.taps, plan.grid, features, images, splits, pseudo)
    result = fine_tune(
        migrated_model,
        training,
        validation,
        rule,
        _block(Augmentation, augmentation, "augmentation"),
        policy,
        seed,
        pool,
        forward_images=len(features.table),
        phase=f"from {plan.source}",
        checkpoints=checkpoints,
        workers=workers,
    )
    return result.fit.network, _card(result, images, splits, source_card, origin), result.log, result.trials


def train_from_scratch(
    migrated_model: Network,
    source_model_card: Mapping[str, Any],
    images: ImageSet,
    splits: pd.DataFrame,
    baseline: Mapping[str, Any],
    augmentation: Mapping[str, Any],
    class_balance: float,
    precision: str,
    seed: int,
    checkpoints: Checkpoints | None = None,
    workers: int = 1,
) -> tuple[Network, dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """Train the same architecture, or the one named, from random weights, tuned on validation and to convergence.

    Without validation images there is nothing to tune it on, and an untuned baseline would flatter the transfer: none
    is trained.
    """
    search = _block(Baseline, baseline, "baseline")
    policy = choose_precision(precision, None if search.architecture else migrated_model)
    if (splits["split"] == "validation").any():
        training, validation = (
            split_examples(images, splits, "training", class_balance),
            split_examples(images, splits, "validation"),
        )
        moves = _block(Augmentation, augmentation, "augmentation")
        result = train_baseline(migrated_model, training, validation, search, moves, policy, seed, checkpoints, workers)
    else:
        result = no_search(migrated_model, policy)
    source_card = ModelCard.model_validate(source_model_card)
    own = source_card.model_copy(update={"architecture": search.architecture or source_card.architecture})
    return result.fit.network, _card(result, images, splits, own, "random weights"), result.log, result.trials


def deliver(
    target_model: Network,
    target_card: Mapping[str, Any],
    random_model: Network,
    random_card: Mapping[str, Any],
    baseline_model: Network,
    baseline_card: Mapping[str, Any],
) -> tuple[Network, dict[str, Any]]:
    """The transferred network, or another that was trained and is clearly better on validation.

    Clearly: its log loss is lower, and its accuracy higher by more than a standard error. A difference within that is
    chance, and the transferred network is what the run is about.
    """
    chosen, card = target_model, target_card
    for network, other in ((random_model, random_card), (baseline_model, baseline_card)):
        if other["metrics"] and card["metrics"] and is_clearly_better(other["metrics"], card["metrics"]):
            chosen, card = network, other
    return chosen, dict(card)


def _block(model: type[Block], block: Mapping[str, Any], name: str) -> Block:
    """One block of the stage's parameters: what a node reads is all that it is given, and all that it depends on."""
    return model.parse(block, f"finetune_target.{name}")


def _card(
    result: SearchFit, images: ImageSet, splits: pd.DataFrame, source_card: ModelCard, initialised_from: str
) -> dict[str, Any]:
    trained = len(result.log) > 0
    figures = ["validation_loss", "validation_accuracy", "validation_log_loss"]
    best: dict[str, float] = {}
    validation = splits[splits["split"] == "validation"]
    if trained and len(validation):
        best = {name: float(result.delivered[name]) for name in figures}
        best["validation_images"] = len(validation)
        if units_of(validation).grouped:
            predictions = predict(result.fit.network, images, splits, "validation")
            right = (predictions["predicted"] == predictions["label"]).to_numpy()
            best["validation_images"] = effective_number(right, predictions["group"])
    card = ModelCard(
        architecture=source_card.architecture,
        image_shape=images.image_shape,
        class_names=class_names(splits),
        trained_on=images.name,
        training_fingerprint=images.fingerprint,
        training_images=len(images.rows(splits, "training")) if trained else 0,
        precision=result.fit.precision,
        initialised_from=initialised_from,
        strategy=str(result.delivered["strategy"]) if trained else "",
        metrics=best,
        licence=source_card.licence,
    )
    return card.model_dump(mode="json")
