"""a pretrained network, the target's image format → source model, its card, an empty training log."""

from kedro.pipeline import Node, Pipeline

from cnn_transfer.pipelines.import_source.nodes import import_network


def create_pipeline() -> Pipeline:
    """The stage as a namespace that shares its datasets with the other stages."""
    node = Node(
        import_network,
        inputs=["pretrained_networks", "params:import_source", "params:preprocess.target.image_format"],
        outputs=["source_model", "source_model_card", "source_training_log"],
        name="import_network",
    )
    return Pipeline([node], namespace="import_source", prefix_datasets_with_namespace=False, tags=["import_source"])
