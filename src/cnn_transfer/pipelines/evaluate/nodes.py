"""Nodes of the stage `evaluate`: the only ones that read the test split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cnn_transfer.evaluation import (
    Figure,
    RunResults,
    compare,
    confusion_table,
    draw_accuracies,
    draw_confusion,
    draw_mistakes,
    draw_training_curves,
    measure,
    no_predictions,
    per_class_table,
    predict,
    summarise,
    write_model_card,
    write_report,
)
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


def measure_network(
    predictions: pd.DataFrame, card: Mapping[str, Any], parameters: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """Metrics with intervals; none of a network that was not trained."""
    if predictions.empty:
        return {}
    block = EvaluateParameters.parse(parameters, "evaluate")
    names = ModelCard.model_validate(card).class_names
    return measure(predictions, list(names), block.confidence, block.bootstrap_samples, seed)


def tabulate(
    predictions: pd.DataFrame, card: Mapping[str, Any], parameters: Mapping[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table by class and the confusion table."""
    block = EvaluateParameters.parse(parameters, "evaluate")
    names = list(ModelCard.model_validate(card).class_names)
    return per_class_table(predictions, names, block.confidence), confusion_table(predictions, names)


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
    target_metrics: Mapping[str, Any],
    baseline_metrics: Mapping[str, Any],
    random_metrics: Mapping[str, Any],
    source_log: pd.DataFrame,
    target_log: pd.DataFrame,
    baseline_log: pd.DataFrame,
    parameters: Mapping[str, Any],
) -> tuple[Figure, Figure, Figure, Figure]:
    """Draw the accuracies, the confusion matrix, the training curves and the most confident mistakes."""
    block = EvaluateParameters.parse(parameters, "evaluate")
    networks = {"transfer": target_metrics, "from scratch": baseline_metrics, "random weights": random_metrics}
    return (
        draw_accuracies({name: metrics for name, metrics in networks.items() if metrics}),
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


def report(**results: Any) -> str:
    """Put everything that the run found out on one page; the arguments are the fields of `RunResults`."""
    return write_report(RunResults(**results))


def describe_delivered_model(
    card: Mapping[str, Any],
    metrics: Mapping[str, Any],
    per_class_metrics: pd.DataFrame,
    summary: Mapping[str, Any],
) -> str:
    """Write the card of the delivered model."""
    return write_model_card(card, metrics, per_class_metrics, summary)
