"""migrated models, target images → target model; the same from random weights; the same network from scratch."""

from kedro.pipeline import Node, Pipeline

from cnn_transfer.pipelines.finetune_target.nodes import deliver, finetune, train_from_scratch


def create_pipeline() -> Pipeline:
    """The stage as a namespace that shares its datasets with the other stages."""
    images = ["target_images", "target_splits"]
    shared = [
        f"params:{name}"
        for name in ("finetune_target.augmentation", "finetune_target.class_balance", "precision", "seed")
    ]
    tuning = ["params:finetune_target.fine_tuning", "params:finetune_target.pseudo_labels", *shared]
    nodes = [
        Node(
            finetune,
            inputs=[
                "migrated_model",
                "source_model_card",
                "transfer_plan",
                "target_features",
                *images,
                *tuning,
                "finetune_checkpoints",
                "params:workers",
            ],
            outputs=["target_model", "target_model_card", "target_training_log", "target_trials"],
            name="finetune",
        ),
        Node(
            finetune,
            inputs=[
                "migrated_random_model",
                "source_model_card",
                "random_plan",
                "random_features",
                *images,
                *tuning,
                "finetune_random_checkpoints",
                "params:workers",
            ],
            outputs=["random_model", "random_model_card", "random_training_log", "random_trials"],
            name="finetune_random",
        ),
        Node(
            train_from_scratch,
            inputs=[
                "migrated_model",
                "source_model_card",
                *images,
                "params:finetune_target.baseline",
                *shared,
                "train_from_scratch_checkpoints",
                "params:workers",
            ],
            outputs=["baseline_model", "baseline_model_card", "baseline_training_log", "baseline_trials"],
            name="train_from_scratch",
        ),
        Node(
            deliver,
            inputs=[
                "target_model",
                "target_model_card",
                "random_model",
                "random_model_card",
                "baseline_model",
                "baseline_model_card",
            ],
            outputs=["delivered_model", "delivered_model_card"],
            name="deliver",
        ),
    ]
    return Pipeline(nodes, namespace="finetune_target", prefix_datasets_with_namespace=False, tags=["finetune_target"])
