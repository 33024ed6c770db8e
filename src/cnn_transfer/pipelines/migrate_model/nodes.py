"""Nodes of the stage `migrate_model`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from cnn_transfer.evaluation import Figure, as_predictions, draw_depths, predictions_without_labels
from cnn_transfer.images import ImageSet, class_names
from cnn_transfer.models import ModelCard, Network, reinitialise
from cnn_transfer.pipelines.migrate_model.parameters import MigrateParameters
from cnn_transfer.transfer import (
    FeatureExtraction,
    FeatureSet,
    TransferPlan,
    build_target_network,
    choose_head,
    depth_table,
    head_weights,
    judge_mirroring,
    plan_extraction,
    plan_transfer,
    rows_to_mirror,
)


def extract_features(
    source_model: Network, images: ImageSet, splits: pd.DataFrame, parameters: Mapping[str, Any], seed: int
) -> FeatureExtraction:
    """Say which features are wanted; they are computed while they are written."""
    block = MigrateParameters.parse(parameters, "migrate_model")
    copies = block.copies_of(int((splits["split"] == "training").sum()))
    wanted = plan_extraction(
        source_model, images, splits, block.grids, copies, block.augmentation, block.most_unlabelled, seed
    )
    return replace(wanted, mirrored=rows_to_mirror(images, splits, block.augmentation, seed))


def extract_random_features(
    source_model: Network, images: ImageSet, splits: pd.DataFrame, parameters: Mapping[str, Any], seed: int
) -> FeatureExtraction:
    """The same of the same network with random weights; none when they are not to be tried."""
    wanted = extract_features(reinitialise(source_model, seed), images, splits, parameters, seed)
    if not MigrateParameters.parse(parameters, "migrate_model").random_weights:
        wanted = replace(wanted, rows=wanted.rows[:0], copied=wanted.copied[:0])
    return replace(wanted, mirrored=wanted.mirrored[:0])


def plan(
    source_model: Network,
    source_model_card: Mapping[str, Any],
    features: FeatureSet,
    random_features: FeatureSet,
    splits: pd.DataFrame,
    parameters: Mapping[str, Any],
    seed: int,
) -> tuple[
    dict[str, Any], pd.DataFrame, dict[str, Any], pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame
]:
    """Decide what is transferred and fit the head, and say what would be reached without any knowledge."""
    block = MigrateParameters.parse(parameters, "migrate_model")
    card = ModelCard.model_validate(source_model_card)
    head = choose_head(features, splits, block, seed)
    random_head = None
    if len(random_features.table):
        random_head = choose_head(random_features, splits, block.of_random_weights(), seed)
    mirroring = judge_mirroring(features, splits, head)
    decision = plan_transfer(source_model, card, features, head, random_head, mirroring)
    names = class_names(splits)
    random_plan: dict[str, Any] = {}
    random_weights = pd.DataFrame(columns=list(names), dtype="float32")
    if random_head is not None:
        unlearnt = card.model_copy(update={"trained_on": "random weights", "training_fingerprint": ""})
        random_plan = plan_transfer(source_model, unlearnt, random_features, random_head, None).model_dump(mode="json")
        random_weights = head_weights(random_head, names)
    return (
        decision.model_dump(mode="json"),
        head_weights(head, names),
        random_plan,
        random_weights,
        depth_table(head, random_head),
        head.steps,
        as_predictions(splits, "training", head.probe.out_of_sample, names),
        predictions_without_labels(head.learnt_unlabelled, head.probe.unlabelled, names),
    )


def draw_plan(depths: pd.DataFrame, transfer_plan: Mapping[str, Any]) -> Figure:
    """Draw what each depth knows, of the source's weights and of random ones."""
    return draw_depths(depths, transfer_plan)


def migrate(source_model: Network, transfer_plan: Mapping[str, Any], weights: pd.DataFrame) -> Network:
    """Build the target's network from the source's as planned."""
    return build_target_network(source_model, TransferPlan.model_validate(transfer_plan), weights)


def migrate_random(source_model: Network, random_plan: Mapping[str, Any], weights: pd.DataFrame, seed: int) -> Network:
    """The same from random weights; without a plan, a network that nobody trains."""
    network = reinitialise(source_model, seed)
    return migrate(network, random_plan, weights) if random_plan else network
