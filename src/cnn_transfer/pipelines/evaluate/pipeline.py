"""target and baseline models, test images → predictions → metrics, verdict, pictures → summary."""

from kedro.pipeline import Node, Pipeline

from cnn_transfer.pipelines.evaluate.nodes import (
    describe_run,
    draw_results,
    judge_transfer,
    measure_other,
    measure_target,
    predict_test_images,
    summarise_run,
)


def create_pipeline() -> Pipeline:
    """The stage as a namespace that shares its datasets with the other stages."""
    nodes = [
        Node(
            predict_test_images,
            inputs=["target_model", "target_model_card", "target_images", "target_splits"],
            outputs="target_predictions",
            name="predict_target",
        ),
        Node(
            predict_test_images,
            inputs=["baseline_model", "baseline_model_card", "target_images", "target_splits"],
            outputs="baseline_predictions",
            name="predict_baseline",
        ),
        Node(
            predict_test_images,
            inputs=["random_model", "random_model_card", "target_images", "target_splits"],
            outputs="random_predictions",
            name="predict_random",
        ),
        Node(
            measure_target,
            inputs=["target_predictions", "target_model_card", "params:evaluate", "params:seed"],
            outputs=["target_metrics", "per_class_metrics", "confusion_matrix"],
            name="measure_target",
        ),
        Node(
            measure_other,
            inputs=["baseline_predictions", "baseline_model_card", "params:evaluate", "params:seed"],
            outputs="baseline_metrics",
            name="measure_baseline",
        ),
        Node(
            measure_other,
            inputs=["random_predictions", "random_model_card", "params:evaluate", "params:seed"],
            outputs="random_metrics",
            name="measure_random",
        ),
        Node(
            judge_transfer,
            inputs=[
                "target_predictions",
                "baseline_predictions",
                "random_predictions",
                "target_training_log",
                "baseline_training_log",
                "params:evaluate",
            ],
            outputs="transfer_verdict",
            name="judge_transfer",
        ),
        Node(
            draw_results,
            inputs=[
                "target_images",
                "target_predictions",
                "confusion_matrix",
                "source_training_log",
                "target_training_log",
                "baseline_training_log",
                "params:evaluate",
            ],
            outputs=["confusion_plot", "training_curves", "mistakes_sheet"],
            name="draw_results",
        ),
        Node(
            summarise_run,
            inputs=[
                "target_metrics",
                "baseline_metrics",
                "random_metrics",
                "transfer_verdict",
                "transfer_plan",
                "target_model_card",
                "delivered_model_card",
                "target_image_counts",
                "node_seconds",
            ],
            outputs="summary",
            name="summarise",
        ),
        Node(
            describe_run,
            inputs=["parameters", "source_model_card", "target_model_card", "environment"],
            outputs="run_provenance",
            name="describe_run",
        ),
    ]
    return Pipeline(nodes, namespace="evaluate", prefix_datasets_with_namespace=False, tags=["evaluate"])
