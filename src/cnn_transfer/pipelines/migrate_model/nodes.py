"""Nodes of the stage `migrate_model`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cnn_transfer.images import class_names
from cnn_transfer.models import ModelCard, Network
from cnn_transfer.pipelines.migrate_model.parameters import MigrateParameters
from cnn_transfer.transfer import TransferPlan, build_target_network, plan_transfer


def plan(
    source_model: Network, source_model_card: Mapping[str, Any], splits: pd.DataFrame, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Decide what is transferred."""
    block = MigrateParameters.parse(parameters, "migrate_model")
    card = ModelCard.model_validate(source_model_card)
    decision = plan_transfer(source_model, card, block.cut_layer, len(class_names(splits)))
    return decision.model_dump(mode="json")


def migrate(source_model: Network, transfer_plan: Mapping[str, Any], splits: pd.DataFrame, seed: int) -> Network:
    """Build the target's network from the source's as planned."""
    decision = TransferPlan.model_validate(transfer_plan)
    return build_target_network(source_model, decision, len(class_names(splits)), seed)
