"""source model → features of the target's images → transfer plan → migrated model; beside it, random weights."""

from kedro.pipeline import Node, Pipeline

from cnn_transfer.pipelines.migrate_model.nodes import (
    draw_plan,
    extract_features,
    extract_random_features,
    migrate,
    migrate_random,
    plan,
)


def create_pipeline() -> Pipeline:
    """The stage as a namespace that shares its datasets with the other stages."""
    settings = ["params:migrate_model", "params:seed"]
    wanted = ["source_model", "target_images", "target_splits", *settings]
    nodes = [
        Node(extract_features, inputs=wanted, outputs="target_features", name="extract_features"),
        Node(extract_random_features, inputs=wanted, outputs="random_features", name="extract_random_features"),
        Node(
            plan,
            inputs=[
                "source_model",
                "source_model_card",
                "target_features",
                "random_features",
                "target_splits",
                *settings,
            ],
            outputs=[
                "transfer_plan",
                "target_head",
                "random_plan",
                "random_head",
                "depth_scores",
                "tap_choice",
                "left_out_predictions",
                "unlabelled_predictions",
            ],
            name="plan",
        ),
        Node(draw_plan, inputs=["depth_scores", "transfer_plan"], outputs="depth_plot", name="draw_plan"),
        Node(
            migrate, inputs=["source_model", "transfer_plan", "target_head"], outputs="migrated_model", name="migrate"
        ),
        Node(
            migrate_random,
            inputs=["source_model", "random_plan", "random_head", "params:seed"],
            outputs="migrated_random_model",
            name="migrate_random",
        ),
    ]
    return Pipeline(nodes, namespace="migrate_model", prefix_datasets_with_namespace=False, tags=["migrate_model"])
