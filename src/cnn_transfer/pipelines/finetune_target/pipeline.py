"""migrated model, target images → target model; the same network from scratch → baseline model."""

from kedro.pipeline import Node, Pipeline

from cnn_transfer.pipelines.finetune_target.nodes import finetune, train_from_scratch


def create_pipeline() -> Pipeline:
    """The stage as a namespace that shares its datasets with the other stages."""
    images = ["target_images", "target_splits"]
    settings = ["params:finetune_target", "params:precision", "params:seed"]
    nodes = [
        Node(
            finetune,
            inputs=["migrated_model", "source_model_card", "transfer_plan", *images, *settings],
            outputs=["target_model", "target_model_card", "target_training_log", "target_trials"],
            name="finetune",
        ),
        Node(
            train_from_scratch,
            inputs=["migrated_model", "source_model_card", *images, *settings],
            outputs=["baseline_model", "baseline_model_card", "baseline_training_log", "baseline_trials"],
            name="train_from_scratch",
        ),
    ]
    return Pipeline(nodes, namespace="finetune_target", prefix_datasets_with_namespace=False, tags=["finetune_target"])
