"""Tracking without MLflow: what is named in the configuration, and what goes wrong; tests/integration has a server."""

import logging
from pathlib import Path

import click
import pytest
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from cnn_transfer import tracking
from cnn_transfer.mlflow_run import flatten, without_credentials
from cnn_transfer.parameters import ParameterError
from cnn_transfer.pipeline_registry import register_pipelines
from cnn_transfer.settings import CONFIG_LOADER_ARGS
from cnn_transfer.tracking import Tracking, TrackingHooks, name_task

CONF = Path(__file__).parents[1] / "conf"


def load(name):
    return OmegaConfigLoader(str(CONF), env="test", **CONFIG_LOADER_ARGS)[name]


def switched(on=True, **datasets):
    return DataCatalog({"params:mlflow": MemoryDataset(on)} | datasets)


def double(x):
    return 2 * x


def pipeline(*names):
    return Pipeline([Node(double, f"x{name}", f"y{name}", name=name, namespace="stage") for name in names])


def test_it_is_off_even_with_a_server_s_address(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setattr(tracking, "MlflowRun", None)
    assert load("parameters")["mlflow"] is False
    for catalog in (DataCatalog(), switched(on=False)):
        TrackingHooks().before_pipeline_run({"run_id": "1"}, pipeline("a"), catalog)


def test_every_name_in_the_configuration_is_in_the_catalog():
    assert Tracking.parse(load("tracking"), "tracking").names() <= set().union(
        *(graph.datasets() for graph in register_pipelines().values())
    )


def test_what_is_missing_is_named_with_the_remedy(monkeypatch):
    asked = Tracking(experiment="e", metrics=("sumary",))
    catalog = DataCatalog({"summary": MemoryDataset({})})
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(ParameterError, match=r"pip install 'cnn-transfer\[mlflow\]'"):
        asked.check(catalog)
    monkeypatch.setattr(tracking, "find_spec", lambda name: True)
    with pytest.raises(ParameterError, match="MLFLOW_TRACKING_URI is not set"):
        asked.check(catalog)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    with pytest.raises(ParameterError, match=r"sumary is not in the catalog\. Did you mean summary"):
        asked.check(catalog)


class Refusing:
    """A run whose server refuses everything."""

    def __getattr__(self, name):
        raise ConnectionError("no route to http://user:secret@tracking:5000")


def test_a_server_that_fails_is_one_warning_without_its_password(monkeypatch, caplog):
    monkeypatch.setattr(tracking, "MlflowRun", lambda *arguments: Refusing())
    monkeypatch.setattr(tracking, "find_spec", lambda name: True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@tracking:5000")
    hooks, graph, catalog = TrackingHooks(), pipeline("a"), switched(ya=MemoryDataset({"accuracy": 0.5}))
    hooks._tracking = Tracking(experiment="e", metrics=("ya",))
    with caplog.at_level(logging.INFO):
        hooks.before_pipeline_run({"run_id": "1"}, graph, catalog)
        hooks.before_dataset_loaded()
        hooks.after_dataset_saved("ya", {"accuracy": 0.5})
        hooks.after_pipeline_run(graph, catalog)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "the same command with TRANSFER_RUN_ID=1 logs what is missing" in caplog.messages[1]
    assert "secret" not in caplog.text


def test_a_wrong_configuration_stops_the_run(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    hooks = TrackingHooks()
    hooks._tracking = Tracking(experiment="e")
    with pytest.raises(click.ClickException, match="nothing was run"):
        hooks.before_pipeline_run({"run_id": "1"}, pipeline("a"), switched())


def test_tasks_are_named_after_their_nodes():
    assert name_task(pipeline("a")) == "stage.a"
    assert name_task(pipeline("a", "b")) == name_task(pipeline("b", "a"))
    assert name_task(pipeline("a", "b")) != name_task(pipeline("a", "c"))


def test_nested_values_get_dotted_names():
    values = {"_anchor": 1, "seed": 0, "stage": {"rates": [0.1, 0.2], "none": {}, "block": {"steps": 3}}}
    expected = {"seed": 0, "stage.rates": "[0.1, 0.2]", "stage.none": "{}", "stage.block.steps": 3}
    assert dict(flatten(values)) == expected


def test_addresses_are_shown_without_credentials():
    assert without_credentials("at https://me:pass@host:5000/x, user@mail") == "at https://***@host:5000/x, user@mail"
