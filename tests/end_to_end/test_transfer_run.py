"""The graph through the real command line, in new processes."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import yaml

from cnn_transfer.pipeline_registry import register_pipelines

pytestmark = pytest.mark.slow

STAGES = ("preprocess", "pretrain_source", "migrate_model", "finetune_target", "evaluate")
SUMMARY_KEYS = {
    "target_accuracy", "target_accuracy_low", "target_accuracy_high", "baseline_accuracy", "training_cost_ratio",
    "difference", "difference_low", "difference_high", "verdict", "n_train", "n_test", "source", "strategy",
    "cut_layer", "precision", "seconds", "random_accuracy", "knowledge", "method", "sentence", "plan", "delivered",
}  # fmt: skip


def latest(path: Path) -> Path:
    return max(path.glob(f"*/{path.name}"))


def summary_of(project: Path) -> dict:
    return json.loads(latest(project / "data/08_reporting/summary.json").read_text())


def test_transfer_writes_a_summary_with_the_agreed_keys(finished_project):
    summary = summary_of(finished_project)
    assert summary.keys() >= SUMMARY_KEYS
    assert summary["n_train"] == 80
    assert summary["n_test"] == 180
    assert summary["target_accuracy_low"] <= summary["target_accuracy"] <= summary["target_accuracy_high"]
    assert summary["difference_low"] <= summary["difference"] <= summary["difference_high"]
    assert summary["verdict"] in {"positive", "neutral", "negative"}
    assert {name.split(".")[0] for name in summary["seconds"]} == set(STAGES)
    assert all(seconds >= 0 for seconds in summary["seconds"].values())


def test_transfer_ends_with_the_summary_on_the_terminal(finished_run):
    project, printed = finished_run
    last = "\n".join(printed.strip().splitlines()[-14:])
    assert f"{summary_of(project)['target_accuracy']:.1%}" in last
    assert str(latest(project / "data/08_reporting/report.html")) in last.replace("\n", "")
    warnings = [line for line in printed.splitlines() if "WARNING" in line]
    assert len(warnings) == 1
    assert "Option '--pipeline' is deprecated" in printed, (
        "the run was started with the old spelling, which still works"
    )


def test_summary_agrees_with_the_predictions_on_disk(finished_project):
    predictions = pd.read_parquet(latest(finished_project / "data/07_model_output/target_predictions.parquet"))
    splits = pd.read_parquet(latest(finished_project / "data/03_primary/target_splits.parquet"))
    assert set(predictions["id"]) == set(splits.loc[splits["split"] == "test", "id"])
    accuracy = (predictions["label"] == predictions["predicted"]).mean()
    assert summary_of(finished_project)["target_accuracy"] == accuracy


def test_every_output_is_a_version_of_one_run(finished_project):
    catalog = [yaml.safe_load(file.read_text()) for file in (finished_project / "conf/base").glob("catalog*.yml")]
    made = register_pipelines()["transfer"].all_outputs()
    entries = {name: entry for block in catalog for name, entry in block.items() if entry.get("versioned")}
    entries = {name: entry for name, entry in entries.items() if name in made}
    assert len(entries) > 40
    entries.pop("run_records", None)
    stored = {name: entry["filepath"].replace("${globals:store}", "data") for name, entry in entries.items()}
    versions = {name: list((finished_project / path).iterdir()) for name, path in stored.items()}
    assert all(len(found) == 1 for found in versions.values()), versions
    assert len({found[0].name for found in versions.values()}) == 1


def test_stage_by_stage_in_separate_processes_gives_the_same_result(finished_project, project, kedro):
    for stage in STAGES:
        result = kedro(project, "run", "--env", "test", "--pipelines", stage)
        assert result.returncode == 0, result.stdout
    whole, stages = summary_of(finished_project), summary_of(project)
    for figures in ("seconds", "peak_memory_mb", "images_per_second", "reused_from"):
        assert whole.pop(figures).keys() == stages.pop(figures).keys()
    assert stages == whole
    for name in ("target_predictions.parquet", "baseline_predictions.parquet", "random_predictions.parquet"):
        first, second = (
            pd.read_parquet(latest(folder / "data/07_model_output" / name)) for folder in (finished_project, project)
        )
        pd.testing.assert_frame_equal(first, second)


def test_article_environment_reports_no_baseline(project, kedro):
    small = {
        "preprocess.source.max_images_per_class": 40,
        "preprocess.target.max_images_per_class": 60,
        "preprocess.target.split.labels_per_class": 20,
        "finetune_target.fine_tuning.steps": 10,
    }
    result = kedro(project, "run", "--env", "article", "--params", ",".join(f"{k}={v}" for k, v in small.items()))
    assert result.returncode == 0, result.stdout
    summary = summary_of(project)
    assert [summary[key] for key in ("baseline_accuracy", "difference", "verdict", "training_cost_ratio")] == [None] * 4
    assert [summary[key] for key in ("random_accuracy", "knowledge", "method")] == [None] * 3
    assert "No baseline was trained" in result.stdout
    assert json.loads(latest(project / "data/06_models/random_plan.json").read_text()) == {}


def test_the_probe_alone_is_the_planned_network(finished_project, project, kedro):
    shutil.rmtree(project / "data")
    shutil.copytree(finished_project / "data", project / "data", symlinks=True)
    changes = "finetune_target.fine_tuning.strategy=probe,finetune_target.baseline.enabled=false"
    result = kedro(project, "run", "--env", "test", "--pipelines", "finetune_target", "--params", changes)
    assert result.returncode == 0, result.stdout
    trials = pd.read_parquet(latest(project / "data/08_reporting/target_trials.parquet"))
    assert set(trials["strategy"]) == {"probe"}
    assert json.loads(latest(project / "data/06_models/target_model_card.json").read_text())["strategy"] == "probe"
    assert pd.read_parquet(latest(project / "data/08_reporting/baseline_trials.parquet")).empty
    models = [latest(project / f"data/06_models/{name}_model.keras") for name in ("migrated", "target")]
    weights = [keras.models.load_model(model).get_weights() for model in models]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_validation_images_the_graph_runs_on_from_the_splits(finished_project, project, kedro):
    shutil.rmtree(project / "data")
    shutil.copytree(finished_project / "data", project / "data", symlinks=True)
    first = "preprocess.target.split_images"
    changes = "preprocess.target.split.validation_ratio=0"
    result = kedro(project, "run", "--env", "test", "--from-nodes", first, "--params", changes)
    assert result.returncode == 0, result.stdout
    summary = summary_of(project)
    assert (summary["n_validation"], summary["strategy"], summary["verdict"]) == (0, "probe", None)
    assert summary["random_accuracy"] is not None
    assert "chosen on those left out" in result.stdout
    assert "Traceback" not in result.stdout


def test_what_the_plan_decided_is_what_the_models_are(finished_project):
    models = finished_project / "data/06_models"
    plan = json.loads(latest(models / "transfer_plan.json").read_text())
    migrated = keras.models.load_model(latest(models / "migrated_model.keras"))
    assert migrated.count_params() == plan["transferred_parameters"] + plan["new_parameters"]
    depths = pd.read_parquet(latest(finished_project / "data/08_reporting/depth_scores.parquet"))
    assert depths["tap"].tolist() == plan["cut_layers"]
    assert depths["tap"][depths["used"]].tolist() == plan["taps"]
    summary = summary_of(finished_project)
    assert (summary["plan"], summary["cut_layer"]) == (plan["sentence"], plan["taps"][-1])
    card = json.loads(latest(models / "delivered_model_card.json").read_text())
    assert summary["delivered"].startswith(card["strategy"])


def test_the_probe_is_among_the_trials_and_a_floor_for_what_is_delivered(finished_project):
    trials = pd.read_parquet(latest(finished_project / "data/08_reporting/target_trials.parquet"))
    probe, delivered = trials[trials["strategy"] == "probe"].iloc[0], trials[trials["delivered"]].iloc[0]
    assert delivered["validation_log_loss"] <= probe["validation_log_loss"]
    assert delivered["validation_accuracy"] >= probe["validation_accuracy"]
