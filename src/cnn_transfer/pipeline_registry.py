"""The pipelines that `kedro run --pipelines <name>` knows, written out."""

from kedro.pipeline import Pipeline

from cnn_transfer.pipelines import (
    audit,
    compare_runs,
    evaluate,
    export,
    finetune_target,
    import_source,
    label_next,
    learning_curve,
    migrate_model,
    predict,
    preprocess,
    pretrain_source,
    rank_sources,
)

STAGES = {
    "preprocess": preprocess,
    "pretrain_source": pretrain_source,
    "migrate_model": migrate_model,
    "finetune_target": finetune_target,
    "evaluate": evaluate,
}
ALTERNATIVES = {"import_source": import_source}  # in the place of pretrain_source
FURTHER = {
    "audit": audit,
    "compare_runs": compare_runs,
    "export": export,
    "label_next": label_next,
    "learning_curve": learning_curve,
    "predict": predict,
    "rank_sources": rank_sources,
}  # graphs of their own, on the same parts
# What export reads of a chosen run, where it is the run's own.
OWN = {"chosen_predictor": "predictor", "model_images": "target_images", "model_splits": "target_splits"}


def register_pipelines() -> dict[str, Pipeline]:
    """The stages, each to be run alone from what the catalog holds, and what they add up to.

    `transfer` trains its source network itself; `transfer_pretrained` imports one and needs no source images;
    `rank_sources` says which one to import; `learning_curve` says, after a run, how many labels it saved, `label_next`
    which images to label for the next one; `compare_runs` puts all runs side by side; `predict` labels new images with
    what a run delivered, of which `audit_sample` asks somebody for labels and `audit` says how often it was right;
    `export` writes it for other programs. `release` and `release_pretrained` are for a schedule:
    a whole run, and the export of what it delivered, which is served unless it is worse than what was served before.
    """
    stages = {name: stage.create_pipeline() for name, stage in (STAGES | ALTERNATIVES | FURTHER).items()}
    transfer = sum((stages[name] for name in STAGES), start=Pipeline([]))
    target = stages["preprocess"].only_nodes_with_namespaces(["preprocess.target"])
    after = stages["migrate_model"] + stages["finetune_target"] + stages["evaluate"]
    pretrained = target + stages["import_source"] + after
    of_this_run = Pipeline(stages["export"], inputs=OWN)
    sample, result = (stages["audit"].only_nodes_with_namespaces([f"audit.{part}"]) for part in ("sample", "result"))
    return {
        **stages,
        "audit_sample": sample,
        "audit": result,
        "transfer": transfer,
        "transfer_pretrained": pretrained,
        "release": transfer + of_this_run,
        "release_pretrained": pretrained + of_this_run,
        "rank_sources": target + stages["rank_sources"],
        "__default__": transfer,
    }
