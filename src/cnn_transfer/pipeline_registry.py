"""The pipelines that `kedro run --pipelines <name>` knows, written out."""

from kedro.pipeline import Pipeline

from cnn_transfer.pipelines import evaluate, finetune_target, migrate_model, preprocess, pretrain_source

STAGES = {
    "preprocess": preprocess,
    "pretrain_source": pretrain_source,
    "migrate_model": migrate_model,
    "finetune_target": finetune_target,
    "evaluate": evaluate,
}


def register_pipelines() -> dict[str, Pipeline]:
    """The five stages, each to be run alone from what the catalog holds, and their sum."""
    stages = {name: stage.create_pipeline() for name, stage in STAGES.items()}
    transfer = sum(stages.values(), start=Pipeline([]))
    return {**stages, "transfer": transfer, "__default__": transfer}
