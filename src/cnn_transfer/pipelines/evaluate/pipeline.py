"""target and baseline models, test images → predictions → metrics, verdict, pictures → summary."""

from dataclasses import fields

from kedro.pipeline import Node, Pipeline

from cnn_transfer.evaluation import RunResults, summarise
from cnn_transfer.pipelines.evaluate.nodes import (
    abstain,
    calibrate_probabilities,
    compare_representations,
    damage_test_images,
    describe_delivered_model,
    describe_run,
    draw_damaged_images,
    draw_familiarity,
    draw_probabilities,
    draw_results,
    explain_predictions,
    find_confusions,
    judge_familiarity,
    judge_transfer,
    measure_network,
    pack_predictor,
    predict_for_calibration,
    predict_sets,
    predict_test_images,
    report,
    slice_accuracy,
    suspect_labels,
    tabulate,
    try_damage_on_validation_images,
)

NETWORKS = ("target", "baseline", "random", "delivered")
REPORTED = [field.name for field in fields(RunResults)]  # under the same names in the catalog


def create_pipeline() -> Pipeline:
    """The stage as a namespace that shares its datasets with the other stages."""
    nodes = [
        *(node for network in NETWORKS for node in _predict_and_measure(network)),
        Node(
            tabulate,
            inputs=["delivered_predictions", "delivered_model_card", "params:evaluate"],
            outputs=["per_class_metrics", "confusion_matrix"],
            name="tabulate",
        ),
        Node(
            slice_accuracy,
            inputs=["target_images", "target_splits", "delivered_predictions", "params:evaluate"],
            outputs="slices",
            name="slice",
        ),
        Node(
            predict_for_calibration,
            inputs=[
                "delivered_model",
                "delivered_model_card",
                "target_model_card",
                "target_images",
                "target_splits",
                "left_out_predictions",
            ],
            outputs="calibration_predictions",
            name="predict_for_calibration",
        ),
        Node(
            calibrate_probabilities,
            inputs=[
                "calibration_predictions",
                "delivered_predictions",
                "delivered_model_card",
                "params:evaluate",
                "params:seed",
            ],
            outputs=["calibration", "calibrated_predictions", "calibrated_metrics", "reliability"],
            name="calibrate",
        ),
        Node(
            abstain,
            inputs=["calibration_predictions", "calibration", "calibrated_predictions", "params:evaluate"],
            outputs=["risk_coverage", "abstention"],
            name="abstain",
        ),
        Node(
            predict_sets,
            inputs=["calibration_predictions", "calibration", "calibrated_predictions", "params:evaluate"],
            outputs=["conformal_sets", "prediction_sets", "set_coverage"],
            name="predict_sets",
        ),
        Node(
            draw_probabilities,
            inputs=["reliability", "risk_coverage", "abstention"],
            outputs=["reliability_plot", "risk_coverage_plot"],
            name="draw_probabilities",
        ),
        Node(
            try_damage_on_validation_images,
            inputs=[
                "delivered_model",
                "target_images",
                "target_splits",
                "calibration",
                "abstention",
                "params:evaluate.tried_copies",
                "params:seed",
            ],
            outputs="tried_damage",
            name="try_damage",
        ),
        Node(
            judge_familiarity,
            inputs=[
                "delivered_model",
                "delivered_model_card",
                "target_images",
                "target_splits",
                "tried_damage",
                "abstention",
                "params:evaluate",
                "params:seed",
            ],
            outputs=["familiarity", "familiarity_of_test_images", "unfamiliar_images"],
            name="judge_familiarity",
        ),
        Node(
            draw_familiarity,
            inputs=["target_images", "familiarity_of_test_images", "calibrated_predictions"],
            outputs=["nearest_sheet", "unfamiliar_sheet"],
            name="draw_familiarity",
        ),
        Node(
            find_confusions,
            inputs=["target_images", "calibrated_predictions"],
            outputs=["confused_pairs", "confused_pairs_sheet"],
            name="find_confusions",
        ),
        Node(
            suspect_labels,
            inputs=[
                "target_images",
                "left_out_predictions",
                "calibration_predictions",
                "calibration",
                "calibrated_predictions",
            ],
            outputs=["suspected_labels", "suspected_labels_sheet"],
            name="suspect_labels",
        ),
        Node(
            explain_predictions,
            inputs=["delivered_model", "target_images", "calibrated_predictions", "params:evaluate", "params:seed"],
            outputs=["explanations", "explanations_sheet"],
            name="explain",
        ),
        Node(
            compare_representations,
            inputs=[
                "migrated_model",
                "target_model",
                "target_images",
                "target_predictions",
                "params:evaluate",
                "params:seed",
            ],
            outputs=["representation_similarity", "map_similarity", "similarity_plot"],
            name="compare_representations",
        ),
        Node(
            judge_transfer,
            inputs=[
                "target_predictions",
                "baseline_predictions",
                "random_predictions",
                "target_training_log",
                "baseline_training_log",
                "baseline_trials",
                "baseline_model_card",
                "depth_scores",
                "transfer_plan",
                "params:evaluate",
            ],
            outputs="transfer_verdict",
            name="judge_transfer",
        ),
        Node(
            draw_results,
            inputs=[
                "target_images",
                "calibrated_predictions",
                "confusion_matrix",
                "target_metrics",
                "baseline_metrics",
                "random_metrics",
                "source_training_log",
                "target_training_log",
                "baseline_training_log",
                "params:evaluate",
            ],
            outputs=["accuracy_plot", "confusion_plot", "training_curves", "mistakes_sheet"],
            name="draw_results",
        ),
        Node(
            summarise,
            inputs=[
                "target_metrics",
                "baseline_metrics",
                "random_metrics",
                "delivered_metrics",
                "calibrated_metrics",
                "abstention",
                "set_coverage",
                "unfamiliar_images",
                "explanations",
                "suspected_labels",
                "transfer_verdict",
                "transfer_plan",
                "target_model_card",
                "delivered_model_card",
                "target_image_counts",
                "target_intake",
                "run_records",
            ],
            outputs="summary",
            name="summarise",
        ),
        Node(
            describe_delivered_model,
            inputs=[
                "delivered_model_card",
                "calibrated_metrics",
                "per_class_metrics",
                "summary",
                "calibration",
                "target_images",
                "abstention",
                "familiarity",
            ],
            outputs="model_card",
            name="write_model_card",
        ),
        Node(
            pack_predictor,
            inputs=[
                "delivered_model",
                "delivered_model_card",
                "model_card",
                "target_images",
                "target_splits",
                "calibration_predictions",
                "calibration",
                "abstention",
                "conformal_sets",
                "params:evaluate.false_alarm_rate",
                "params:evaluate.most_false_alarms",
                "tried_damage",
                "params:seed",
            ],
            outputs="predictor",
            name="pack_predictor",
        ),
        Node(
            damage_test_images,
            inputs=[
                "predictor",
                "target_images",
                "target_splits",
                "params:evaluate.damaged_images",
                "params:evaluate.confidence",
                "params:seed",
            ],
            outputs="damage_table",
            name="damage_test_images",
        ),
        Node(
            draw_damaged_images,
            inputs=["target_images", "target_splits", "damage_table", "params:evaluate.damaged_images", "params:seed"],
            outputs="damage_sheet",
            name="draw_damaged_images",
        ),
        Node(report, inputs={name: name for name in REPORTED}, outputs="report", name="write_report"),
        Node(
            describe_run,
            inputs=["parameters", "source_model_card", "target_model_card", "environment"],
            outputs="run_provenance",
            name="describe_run",
        ),
    ]
    return Pipeline(nodes, namespace="evaluate", prefix_datasets_with_namespace=False, tags=["evaluate"])


def _predict_and_measure(network: str) -> list[Node]:
    card = f"{network}_model_card"
    return [
        Node(
            predict_test_images,
            inputs=[f"{network}_model", card, "target_images", "target_splits"],
            outputs=f"{network}_predictions",
            name=f"predict_{network}",
        ),
        Node(
            measure_network,
            inputs=[f"{network}_predictions", card, "params:evaluate", "params:seed"],
            outputs=f"{network}_metrics",
            name=f"measure_{network}",
        ),
    ]
