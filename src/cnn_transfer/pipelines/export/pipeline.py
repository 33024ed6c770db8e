"""chosen predictor, the images of its run → files → comparison, times → table, plot → release."""

from kedro.pipeline import Node, Pipeline

from cnn_transfer.pipelines.export.nodes import compare_exports, release, tabulate_exports, time_all, write_exports


def create_pipeline() -> Pipeline:
    """The stage as a namespace that shares its datasets with the other stages."""
    images = ["model_images", "model_splits"]
    nodes = [
        Node(
            write_exports,
            inputs=["chosen_predictor", *images, "params:export", "params:seed"],
            outputs="exported_files",
            name="write_files",
        ),
        Node(
            compare_exports,
            inputs=[
                "chosen_predictor",
                "exported_files",
                *images,
                "params:export",
                "params:evaluate.confidence",
                "params:seed",
            ],
            outputs="export_parity",
            name="compare",
        ),
        Node(
            time_all,
            inputs=["chosen_predictor", "exported_files", *images, "environment", "params:export", "params:seed"],
            outputs="export_speed",
            name="time",
        ),
        Node(
            tabulate_exports,
            inputs=["export_parity", "export_speed", "params:export"],
            outputs=["export_table", "export_plot"],
            name="tabulate",
        ),
        Node(
            release,
            inputs=["chosen_predictor", "exported_files", "export_parity", "export_speed", "export_table"],
            outputs="release",
            name="release",
        ),
    ]
    return Pipeline(nodes, namespace="export", prefix_datasets_with_namespace=False, tags=["export"])
