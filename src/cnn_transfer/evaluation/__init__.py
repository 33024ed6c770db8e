"""Predictions on held-out images, metrics with intervals, the verdict on the transfer, and its pictures."""

from cnn_transfer.evaluation.figures import (
    Figure,
    as_svg,
    draw_accuracies,
    draw_confusion,
    draw_depths,
    draw_mistakes,
    draw_ranking,
    draw_training_curves,
)
from cnn_transfer.evaluation.image_sheets import draw_examples, draw_image_histograms, draw_rejected
from cnn_transfer.evaluation.metrics import (
    Interval,
    confusion_table,
    measure,
    per_class_table,
    wilson_interval,
)
from cnn_transfer.evaluation.predictions import as_predictions, no_predictions, predict
from cnn_transfer.evaluation.report import RunResults, write_model_card, write_report
from cnn_transfer.evaluation.summary import describe_intake, describe_ranking, describe_summary, summarise
from cnn_transfer.evaluation.verdict import compare, paired_difference, training_cost_ratio

__all__ = [
    "Figure",
    "Interval",
    "RunResults",
    "as_predictions",
    "as_svg",
    "compare",
    "confusion_table",
    "describe_intake",
    "describe_ranking",
    "describe_summary",
    "draw_accuracies",
    "draw_confusion",
    "draw_depths",
    "draw_examples",
    "draw_image_histograms",
    "draw_mistakes",
    "draw_ranking",
    "draw_rejected",
    "draw_training_curves",
    "measure",
    "no_predictions",
    "paired_difference",
    "per_class_table",
    "predict",
    "summarise",
    "training_cost_ratio",
    "wilson_interval",
    "write_model_card",
    "write_report",
]
