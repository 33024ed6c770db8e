"""source model, classes of the target → transfer plan → migrated model."""

from kedro.pipeline import Node, Pipeline

from cnn_transfer.pipelines.migrate_model.nodes import migrate, plan


def create_pipeline() -> Pipeline:
    """The stage as a namespace that shares its datasets with the other stages."""
    nodes = [
        Node(
            plan,
            inputs=["source_model", "source_model_card", "target_splits", "params:migrate_model"],
            outputs="transfer_plan",
            name="plan",
        ),
        Node(
            migrate,
            inputs=["source_model", "transfer_plan", "target_splits", "params:seed"],
            outputs="migrated_model",
            name="migrate",
        ),
    ]
    return Pipeline(nodes, namespace="migrate_model", prefix_datasets_with_namespace=False, tags=["migrate_model"])
