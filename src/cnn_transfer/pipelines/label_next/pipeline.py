"""the predictor that was chosen, the images that it was made with → images to label, a sheet and a page of them."""

from kedro.pipeline import Node, Pipeline

from cnn_transfer.pipelines.label_next.nodes import choose, draw, write_page


def create_pipeline() -> Pipeline:
    """The stage as a namespace that shares its datasets with the other stages."""
    nodes = [
        Node(
            choose,
            inputs=["chosen_predictor", "model_images", "model_splits", "params:label_next"],
            outputs="images_to_label",
            name="choose",
        ),
        Node(draw, inputs=["images_to_label", "model_images"], outputs="images_to_label_sheet", name="draw"),
        Node(
            write_page,
            inputs=["images_to_label", "model_images", "chosen_predictor"],
            outputs="images_to_label_page",
            name="write_page",
        ),
    ]
    return Pipeline(nodes, namespace="label_next", prefix_datasets_with_namespace=False, tags=["label_next"])
