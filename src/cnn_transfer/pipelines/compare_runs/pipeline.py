"""all versions of summary and provenance → table of runs, table of what differed, plot."""

from kedro.pipeline import Node, Pipeline

from cnn_transfer.pipelines.compare_runs.nodes import compare_runs, draw


def create_pipeline() -> Pipeline:
    """The stage as a namespace that shares its datasets with the other stages."""
    nodes = [
        Node(
            compare_runs,
            inputs=["all_summaries", "all_provenances"],
            outputs=["runs_table", "runs_differences"],
            name="compare_runs",
        ),
        Node(draw, inputs=["runs_table", "runs_differences"], outputs="runs_plot", name="draw"),
    ]
    return Pipeline(nodes, namespace="compare_runs", prefix_datasets_with_namespace=False, tags=["compare_runs"])
