"""chosen predictor, images of its run → files → parity, times → table, plot; with the release before → release."""

from kedro.pipeline import Node, Pipeline

from cnn_transfer.pipelines.export.nodes import (
    challenge_champion,
    compare_exports,
    draw_challenge,
    release,
    tabulate_exports,
    time_all,
    write_exports,
)


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
            challenge_champion,
            inputs=["chosen_predictor", "published_releases", *images, "params:export", "params:evaluate.confidence"],
            outputs=["champion_comparison", "champion_classes", "champion_changes"],
            name="challenge_champion",
        ),
        Node(
            draw_challenge,
            inputs=["champion_comparison", "champion_classes", "champion_changes", "model_images"],
            outputs=["champion_plot", "champion_sheet"],
            name="draw_challenge",
        ),
        Node(
            release,
            inputs=[
                "chosen_predictor",
                "exported_files",
                "export_parity",
                "export_speed",
                "export_table",
                "champion_comparison",
            ],
            outputs="release",
            name="release",
        ),
    ]
    return Pipeline(nodes, namespace="export", prefix_datasets_with_namespace=False, tags=["export"])
