"""Nodes of the stage `learning_curve`, which reads the test images to measure, and chooses nothing by them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cnn_transfer.evaluation import Figure
from cnn_transfer.evaluation.curve_plan import Draws, Training, check_scratch_labels, draws_of_curve, plan_points
from cnn_transfer.evaluation.curve_points import CurvePoint, PlannedPoint
from cnn_transfer.evaluation.learning_curve import (
    curve_table,
    draw_learning_curve,
    labels_saved,
    verdict_over_seeds,
)
from cnn_transfer.evaluation.report.curve_report import write_curve_report
from cnn_transfer.images import TRAINING_ONLY, Augmentation, ImageSet
from cnn_transfer.models import Network
from cnn_transfer.pipelines.learning_curve.parameters import LearningCurveParameters
from cnn_transfer.training import choose_precision
from cnn_transfer.transfer import Baseline, FeatureExtraction, FeatureSet, FineTuning, HeadRule, PseudoLabels
from cnn_transfer.transfer.label_draws import plan_curve_extraction


def extract_curve_features(
    source_model: Network,
    images: ImageSet,
    splits: pd.DataFrame,
    checked: pd.DataFrame,
    parameters: Mapping[str, Any],
    migration: Mapping[str, Any],
    seed: int,
) -> FeatureExtraction:
    """Say which features all points of the transfer need together; they are computed while they are written."""
    block = LearningCurveParameters.parse(parameters, "learning_curve")
    splits = _of_random_labels(splits, checked)
    check_scratch_labels(splits, block.scratch_labels_per_class, block.validation_ratio)
    rule = _rule(migration)
    return plan_curve_extraction(source_model, images, _transfer_draws(splits, block, rule, seed).values(), rule)


def plan(
    source_model: Network,
    migrated_model: Network,
    images: ImageSet,
    splits: pd.DataFrame,
    checked: pd.DataFrame,
    features: FeatureSet,
    parameters: Mapping[str, Any],
    migration: Mapping[str, Any],
    tuning: Mapping[str, Any],
    precision: str,
    seed: int,
) -> list[PlannedPoint]:
    """Say which points the curve has and how each is measured, which happens while they are written, one by one."""
    block = LearningCurveParameters.parse(parameters, "learning_curve")
    rule = _rule(migration)
    training = Training(
        head=rule,
        fine_tuning=FineTuning.parse(tuning["fine_tuning"], "finetune_target.fine_tuning") if block.fine_tune else None,
        pseudo_labels=PseudoLabels.parse(tuning["pseudo_labels"], "finetune_target.pseudo_labels"),
        baseline=Baseline.parse(tuning["baseline"], "finetune_target.baseline").model_copy(update={"enabled": True}),
        augmentation=Augmentation.parse(tuning["augmentation"], "finetune_target.augmentation"),
        class_balance=float(tuning["class_balance"]),
        precision=choose_precision(precision, migrated_model),
    )
    splits = _of_random_labels(splits, checked)
    scratch_draws = draws_of_curve(
        splits, block.scratch_labels_per_class, range(seed, seed + block.seeds), block.validation_ratio
    )
    transfer_draws = _transfer_draws(splits, block, rule, seed)
    return plan_points(source_model, migrated_model, images, features, transfer_draws, scratch_draws, training)


def measure(
    points: list[CurvePoint], parameters: Mapping[str, Any], confidence: float, samples: int, seed: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Put the accuracies of the points together, and say how many labels from scratch the transfer is worth."""
    block = LearningCurveParameters.parse(parameters, "learning_curve")
    table = curve_table(points, confidence)
    saved = labels_saved(points, block.headline_labels, confidence, samples, seed)
    return table, saved | {"verdict_over_seeds": verdict_over_seeds(points, confidence)}


def draw(table: pd.DataFrame, saved: Mapping[str, Any]) -> Figure:
    """Draw both sides with their intervals, and the headline."""
    return draw_learning_curve(table, saved)


def report(
    table: pd.DataFrame, saved: Mapping[str, Any], plot: str, source_card: Mapping[str, Any], images: ImageSet
) -> str:
    """Put the curve, its headline and the verdict over all trainings on one page."""
    return write_curve_report(table, saved, plot, source_card["trained_on"], images.name)


def _rule(migration: Mapping[str, Any]) -> HeadRule:
    """That of migrate_model."""
    return HeadRule.parse({name: migration[name] for name in HeadRule.model_fields}, "migrate_model")


def _of_random_labels(splits: pd.DataFrame, checked: pd.DataFrame) -> pd.DataFrame:
    """Images that were asked about lose their labels: no random sample, dealt anew they would validate, too."""
    asked = checked["id"][checked["split"].eq(TRAINING_ONLY)]
    return splits.assign(label=splits["label"].mask(splits["id"].isin(asked)))


def _transfer_draws(splits: pd.DataFrame, block: LearningCurveParameters, rule: HeadRule, seed: int) -> Draws:
    seeds = range(seed, seed + block.seeds)
    return draws_of_curve(splits, block.labels_per_class, seeds, block.validation_ratio, rule.most_unlabelled)
