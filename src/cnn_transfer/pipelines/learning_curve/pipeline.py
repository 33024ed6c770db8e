"""source model, architecture from scratch, the target's images → features → points → table, labels saved, report."""

from kedro.pipeline import Node, Pipeline

from cnn_transfer.pipelines.learning_curve.nodes import draw, extract_curve_features, measure, plan, report


def create_pipeline() -> Pipeline:
    """The stage as a namespace that shares its datasets with the other stages."""
    images = ["target_images", "target_splits", "target_checked_images"]
    settings = ["params:learning_curve", "params:migrate_model"]
    nodes = [
        Node(
            extract_curve_features,
            inputs=["source_model", *images, *settings, "params:seed"],
            outputs="learning_curve_features",
            name="extract_features",
        ),
        Node(
            plan,
            inputs=[
                "source_model",
                "migrated_model",
                *images,
                "learning_curve_features",
                *settings,
                "params:finetune_target",
                "params:precision",
                "params:seed",
            ],
            outputs="learning_curve_points",
            name="measure_points",
        ),
        Node(
            measure,
            inputs=[
                "learning_curve_points",
                "params:learning_curve",
                "params:evaluate.confidence",
                "params:evaluate.bootstrap_samples",
                "params:seed",
            ],
            outputs=["learning_curve", "labels_saved"],
            name="weigh",
        ),
        Node(draw, inputs=["learning_curve", "labels_saved"], outputs="learning_curve_plot", name="draw"),
        Node(
            report,
            inputs=["learning_curve", "labels_saved", "learning_curve_plot", "source_model_card", "target_images"],
            outputs="learning_curve_report",
            name="write_report",
        ),
    ]
    return Pipeline(nodes, namespace="learning_curve", prefix_datasets_with_namespace=False, tags=["learning_curve"])
