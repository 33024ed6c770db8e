"""Predictions on held-out images, metrics with intervals, the verdict on the transfer, and its pictures."""

from cnn_transfer.evaluation.background_sheet import draw_backgrounds_exchanged
from cnn_transfer.evaluation.backgrounds import judge_backgrounds, measure_backgrounds
from cnn_transfer.evaluation.calibration import (
    calibrate,
    calibration_error,
    draw_reliability,
    fit_calibration,
    reliability_table,
)
from cnn_transfer.evaluation.conformal import fit_sets, measure_sets, prediction_sets
from cnn_transfer.evaluation.damage import measure_damage
from cnn_transfer.evaluation.damage_figure import draw_damage
from cnn_transfer.evaluation.embedding import embed_images, reference_rows
from cnn_transfer.evaluation.explanations import Explanations, draw_explanations, explain
from cnn_transfer.evaluation.familiarity import familiarity_table, fit_familiarity, measure_familiarity
from cnn_transfer.evaluation.familiarity_sheets import draw_nearest, draw_unfamiliar
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
from cnn_transfer.evaluation.fine_tuning_change import fine_tuning_change
from cnn_transfer.evaluation.image_sheets import draw_examples, draw_groups, draw_image_histograms, draw_rejected
from cnn_transfer.evaluation.metrics import (
    Interval,
    confusion_table,
    measure,
    per_class_table,
    wilson_interval,
)
from cnn_transfer.evaluation.mistakes import (
    confused_pairs,
    draw_confused_pairs,
    draw_suspected_labels,
    suspected_labels,
)
from cnn_transfer.evaluation.predictions import (
    as_predictions,
    confident_mistakes,
    left_out_rows,
    no_predictions,
    predict,
    predictions_without_labels,
)
from cnn_transfer.evaluation.reliance import describe_reliance, judge_reliance
from cnn_transfer.evaluation.report import RunResults, limits_of_use, write_model_card, write_report
from cnn_transfer.evaluation.selective import (
    choose_threshold,
    draw_risk_coverage,
    measure_threshold,
    risk_coverage_area,
    risk_coverage_table,
)
from cnn_transfer.evaluation.similarity import draw_similarity, map_similarity, similarity_by_depth
from cnn_transfer.evaluation.slices import image_attributes, slice_table
from cnn_transfer.evaluation.summary import (
    describe_intake,
    describe_ranking,
    describe_summary,
    doubts_about_images,
    summarise,
)
from cnn_transfer.evaluation.tried_damage import TriedDamage, try_damage
from cnn_transfer.evaluation.verdict import compare, paired_difference, training_cost_ratio

__all__ = [
    "Explanations",
    "Figure",
    "Interval",
    "RunResults",
    "TriedDamage",
    "as_predictions",
    "as_svg",
    "calibrate",
    "calibration_error",
    "choose_threshold",
    "compare",
    "confident_mistakes",
    "confused_pairs",
    "confusion_table",
    "describe_intake",
    "describe_ranking",
    "describe_reliance",
    "describe_summary",
    "doubts_about_images",
    "draw_accuracies",
    "draw_backgrounds_exchanged",
    "draw_confused_pairs",
    "draw_confusion",
    "draw_damage",
    "draw_depths",
    "draw_examples",
    "draw_explanations",
    "draw_groups",
    "draw_image_histograms",
    "draw_mistakes",
    "draw_nearest",
    "draw_ranking",
    "draw_rejected",
    "draw_reliability",
    "draw_risk_coverage",
    "draw_similarity",
    "draw_suspected_labels",
    "draw_training_curves",
    "draw_unfamiliar",
    "embed_images",
    "explain",
    "familiarity_table",
    "fine_tuning_change",
    "fit_calibration",
    "fit_familiarity",
    "fit_sets",
    "image_attributes",
    "judge_backgrounds",
    "judge_reliance",
    "left_out_rows",
    "limits_of_use",
    "map_similarity",
    "measure",
    "measure_backgrounds",
    "measure_damage",
    "measure_familiarity",
    "measure_sets",
    "measure_threshold",
    "no_predictions",
    "paired_difference",
    "per_class_table",
    "predict",
    "prediction_sets",
    "predictions_without_labels",
    "reference_rows",
    "reliability_table",
    "risk_coverage_area",
    "risk_coverage_table",
    "similarity_by_depth",
    "slice_table",
    "summarise",
    "suspected_labels",
    "training_cost_ratio",
    "try_damage",
    "wilson_interval",
    "write_model_card",
    "write_report",
]
