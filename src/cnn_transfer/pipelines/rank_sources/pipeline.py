"""candidates, the target's training images → features, of random weights too → ranking, choice, plot."""

from kedro.pipeline import Node, Pipeline

from cnn_transfer.pipelines.rank_sources.nodes import draw_ranks, extract_candidates, rank


def create_pipeline() -> Pipeline:
    """The stage as a namespace that shares its datasets with the other stages."""
    settings = ["params:rank_sources", "params:migrate_model"]
    nodes = [
        Node(
            extract_candidates,
            inputs=[
                "pretrained_networks",
                "target_images",
                "target_splits",
                *settings,
                "params:preprocess.target.image_format",
                "params:seed",
            ],
            outputs=["candidate_features", "candidate_random_features"],
            name="extract_candidates",
        ),
        Node(
            rank,
            inputs=["candidate_features", "candidate_random_features", "target_splits", *settings, "params:seed"],
            outputs=["source_ranking", "source_choice"],
            name="rank",
        ),
        Node(draw_ranks, inputs="source_ranking", outputs="source_ranking_plot", name="draw_ranks"),
    ]
    return Pipeline(nodes, namespace="rank_sources", prefix_datasets_with_namespace=False, tags=["rank_sources"])
