"""Nodes of the stage `evaluate`: the only ones that read the test split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cnn_transfer.evaluation import (
    Figure,
    compare,
    confusion_table,
    draw_confusion,
    draw_mistakes,
    draw_training_curves,
    measure,
    no_predictions,
    per_class_table,
    predict,
    summarise,
)
from cnn_transfer.evaluation.provenance import provenance
from cnn_transfer.images import ImageSet
from cnn_transfer.models import ModelCard, Network
from cnn_transfer.pipelines.evaluate.parameters import EvaluateParameters


def predict_test_images(
    network: Network, card: Mapping[str, Any], images: ImageSet, splits: pd.DataFrame
) -> pd.DataFrame:
    """Predict the test images; a network that was not trained predicts nothing."""
    if ModelCard.model_validate(card).training_images == 0:
        return no_predictions(images.used_in(splits))
    return predict(network, images, splits, "test")


def measure_target(
    predictions: pd.DataFrame, card: Mapping[str, Any], parameters: Mapping[str, Any], seed: int
) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """Metrics with intervals, the per-class table and the confusion table."""
    block = EvaluateParameters.parse(parameters, "evaluate")
    names = list(ModelCard.model_validate(card).class_names)
    metrics = measure(predictions, names, block.confidence, block.bootstrap_samples, seed)
    return metrics, per_class_table(predictions, names, block.confidence), confusion_table(predictions, names)


def measure_other(
    predictions: pd.DataFrame, card: Mapping[str, Any], parameters: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """Metrics of a network to compare with; none without one."""
    if predictions.empty:
        return {}
    return measure_target(predictions, card, parameters, seed)[0]


def judge_transfer(
    target_predictions: pd.DataFrame,
    baseline_predictions: pd.DataFrame,
    random_predictions: pd.DataFrame,
    target_log: pd.DataFrame,
    baseline_log: pd.DataFrame,
    parameters: Mapping[str, Any],
) -> dict[str, Any]:
    """Is the transferred network better, was it cheaper, and what does the difference come from?"""
    block = EvaluateParameters.parse(parameters, "evaluate")
    return compare(
        target_predictions, baseline_predictions, random_predictions, target_log, baseline_log, block.confidence
    )


def draw_results(
    images: ImageSet,
    predictions: pd.DataFrame,
    confusion: pd.DataFrame,
    source_log: pd.DataFrame,
    target_log: pd.DataFrame,
    baseline_log: pd.DataFrame,
    parameters: Mapping[str, Any],
) -> tuple[Figure, Figure, Figure]:
    """Draw the confusion matrix, the training curves and the most confident mistakes."""
    block = EvaluateParameters.parse(parameters, "evaluate")
    return (
        draw_confusion(confusion),
        draw_training_curves(source_log, target_log, baseline_log),
        draw_mistakes(images, predictions, block.mistakes_shown),
    )


def summarise_run(
    target_metrics: Mapping[str, Any],
    baseline_metrics: Mapping[str, Any],
    random_metrics: Mapping[str, Any],
    transfer_verdict: Mapping[str, Any],
    transfer_plan: Mapping[str, Any],
    target_model_card: Mapping[str, Any],
    delivered_model_card: Mapping[str, Any],
    target_image_counts: pd.DataFrame,
    node_seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Put the figures of the run together."""
    return summarise(
        target_metrics,
        baseline_metrics,
        random_metrics,
        transfer_verdict,
        transfer_plan,
        target_model_card,
        delivered_model_card,
        target_image_counts,
        node_seconds,
    )


def describe_run(
    parameters: Mapping[str, Any],
    source_model_card: Mapping[str, Any],
    target_model_card: Mapping[str, Any],
    environment: Mapping[str, Any],
) -> dict[str, Any]:
    """Keep what the run was made with: parameters, data, programs and machine.

    The parameters are those of the process that evaluates; stages that ran before with others are not known here.
    """
    source, target = (ModelCard.model_validate(card) for card in (source_model_card, target_model_card))
    fingerprints = {"source_images": source.training_fingerprint, "target_images": target.training_fingerprint}
    return provenance(parameters, fingerprints, target.precision, environment)
