"""Checks before a run and the summary after it."""

import click
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from cnn_transfer.datasets import JSONDataset, NodeSecondsDataset
from cnn_transfer.hooks import CheckHooks, SummaryHooks, TimingHooks


def double(x):
    return 2 * x


def test_check_refuses_wrong_parameters_with_all_of_them():
    hooks = CheckHooks()
    hooks._parameters = {"sed": 1}
    with pytest.raises(click.ClickException) as refused:
        hooks.before_pipeline_run(Pipeline([]), DataCatalog())
    assert "sed is not a parameter. Did you mean seed?" in refused.value.message
    assert "seed is missing" in refused.value.message


def test_timing_is_written_for_each_node(tmp_path):
    seconds = NodeSecondsDataset(filepath=str(tmp_path / "seconds"))
    catalog = DataCatalog({"node_seconds": seconds})
    node = Node(double, "x", "y", name="double", namespace="stage")
    hooks = TimingHooks()
    hooks.before_node_run(node)
    hooks.after_node_run(node, catalog)
    assert 0 <= seconds.load()["stage.double"] < 1


def test_summary_is_silent_when_the_run_made_none(capsys):
    SummaryHooks().after_pipeline_run(Pipeline([Node(double, "x", "y")]), DataCatalog({"y": MemoryDataset(1)}))
    assert capsys.readouterr().out == ""


def test_summary_names_its_file(tmp_path, capsys):
    dataset = JSONDataset(filepath=str(tmp_path / "summary.json"))
    dataset.save(
        {
            "target_accuracy": 0.9,
            "target_accuracy_low": 0.8,
            "target_accuracy_high": 0.95,
            "baseline_accuracy": None,
            "sentence": "No baseline was trained: nothing to compare with.",
            "n_train": 10,
            "n_validation": 10,
            "n_test": 100,
            "precision": "float32",
            "seconds": {"a": 1.0, "b": 2.0},
        }
    )
    SummaryHooks().after_pipeline_run(Pipeline([Node(double, "x", "summary")]), DataCatalog({"summary": dataset}))
    printed = capsys.readouterr().out
    assert "90.0% (80.0% to 95.0%) on 100 test images" in printed
    assert "most in b (2 s)" in printed
    assert "No baseline" in printed
