"""source images → source model, its card, its training log."""

from kedro.pipeline import Node, Pipeline

from cnn_transfer.pipelines.pretrain_source.nodes import pretrain


def create_pipeline() -> Pipeline:
    """The stage as a namespace that shares its datasets with the other stages."""
    node = Node(
        pretrain,
        inputs=[
            "source_images",
            "source_splits",
            "params:pretrain_source",
            "params:precision",
            "params:seed",
            "pretrain_checkpoints",
            "params:workers",
        ],
        outputs=["source_model", "source_model_card", "source_training_log"],
        name="pretrain",
    )
    return Pipeline([node], namespace="pretrain_source", prefix_datasets_with_namespace=False, tags=["pretrain_source"])
