"""new images, the predictor that was chosen → labels part by part → rejected images, counts, drift, plot."""

from kedro.pipeline import Node, Pipeline

from cnn_transfer.pipelines.predict.nodes import count, draw_drift, label_images, measure_drift


def create_pipeline() -> Pipeline:
    """The stage as a namespace that shares its datasets with the other stages."""
    nodes = [
        Node(
            label_images,
            inputs=["new_images", "chosen_predictor", "params:predict"],
            outputs="predictions",
            name="label_images",
        ),
        Node(count, inputs="predictions", outputs=["rejected_new_images", "prediction_counts"], name="count"),
        Node(
            measure_drift,
            inputs=["predictions", "chosen_predictor", "params:predict"],
            outputs=["drift", "drift_table"],
            name="measure_drift",
        ),
        Node(draw_drift, inputs="drift", outputs="drift_plot", name="draw_drift"),
    ]
    return Pipeline(nodes, namespace="predict", prefix_datasets_with_namespace=False, tags=["predict"])
