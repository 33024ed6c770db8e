"""Checks before a run and the summary after it."""

import os
from pathlib import Path
from types import SimpleNamespace

import click
import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset, Version
from kedro.pipeline import Node, Pipeline

from cnn_transfer.datasets import (
    ChosenPredictorDataset,
    JSONDataset,
    RawImagesDataset,
    ReleaseDataset,
    RunRecordsDataset,
    TextDataset,
)
from cnn_transfer.hooks import CheckHooks, IntakeHooks, SummaryHooks
from cnn_transfer.hooks.summaries import wrapped
from cnn_transfer.pipeline_registry import register_pipelines


def double(x):
    return 2 * x


def test_check_refuses_wrong_parameters_with_all_of_them():
    hooks = CheckHooks()
    hooks._parameters = {"sed": 1}
    with pytest.raises(click.ClickException) as refused:
        hooks.before_pipeline_run(Pipeline([]), DataCatalog())
    assert "sed is not a parameter. Did you mean seed?" in refused.value.message
    assert "seed is missing" in refused.value.message


@pytest.mark.parametrize(
    ("line", "width", "expected"),
    [
        ("Verdict         better, and cheaper", 29, "Verdict         better, and\n                cheaper"),
        ("                one two three four", 27, "                one two\n                three four"),
        (" 1. fashion  squared error 0.1", 24, " 1. fashion  squared\n             error 0.1"),
        ("words without a name before them", 20, "words without a name\nbefore them"),
        ("Labels          data/a-very-long/path.parquet", 20, "Labels\n                data/a-very-long/path.parquet"),
        ("Use it          kedro run --params seed=1", 20, "Use it          kedro run --params seed=1"),
        (
            "To try          Rank more of them: kedro run --env mine --pipelines rank_sources",
            40,
            "To try          Rank more of them:\n                kedro run --env mine --pipelines rank_sources",
        ),
        ("Verdict         better, and cheaper", None, "Verdict         better, and cheaper"),
        ("Labels a class  1   2    3", 30, "Labels a class  1   2    3"),
    ],
)
def test_long_lines_go_on_below_their_beginning(line, width, expected):
    assert wrapped(line, width) == expected


@pytest.mark.parametrize(
    ("stage", "inputs", "refused"),
    [
        ("evaluate", ["x"], True),  # uses none
        ("export", ["x", "predictor"], True),  # of the pipeline release: the run's own
        ("export", ["x", "chosen_predictor"], False),
        ("predict", ["x"], False),  # a later part of it
    ],
)
def test_model_version_is_refused_where_no_model_of_another_run_is_used(stage, inputs, refused, whole_parameters):
    hooks = CheckHooks()
    hooks._parameters = whole_parameters | {"model_version": "yesterday"}
    node = Node(lambda *values: values, inputs, "made", name="do", namespace=stage)
    catalog = DataCatalog({name: MemoryDataset(1) for name in (*inputs, "source_raw_images", "target_raw_images")})
    if refused:
        with pytest.raises(click.ClickException, match="model_version: yesterday was asked for, but nothing of this"):
            hooks.before_pipeline_run(Pipeline([node]), catalog)
    else:
        hooks.before_pipeline_run(Pipeline([node]), catalog)


@pytest.mark.parametrize(("read", "told"), [("x", True), ("target_raw_images", False)])
def test_labels_that_no_part_of_the_run_reads_are_told(read, told, whole_parameters, caplog):
    hooks = CheckHooks()
    hooks._parameters, hooks._command_line = whole_parameters, {"target_labels": "labels.csv"}
    catalog = DataCatalog({name: MemoryDataset(1) for name in ("x", "source_raw_images", "target_raw_images")})
    hooks.before_pipeline_run(Pipeline([Node(double, read, "made", name="do", namespace="label_next")]), catalog)
    assert ("target_labels: labels.csv was asked for, but nothing of this run reads" in caplog.text) == told


@pytest.mark.parametrize(
    ("changes", "role", "told"),
    [
        ({"images": "new"}, "alone", "images: new was asked for, but nothing of this run labels new images"),
        ({}, "chief", "several machines, which must be given the id of their run"),
    ],
)
def test_what_does_not_fit_what_is_run_is_refused(changes, role, told, whole_parameters, monkeypatch):
    monkeypatch.setattr("cnn_transfer.hooks.checks.role", lambda: role)
    hooks = CheckHooks()
    hooks._parameters = whole_parameters | changes
    names = ("x", "source_raw_images", "target_raw_images")
    catalog = DataCatalog({name: MemoryDataset(1) for name in names})
    with pytest.raises(click.ClickException, match=told):
        hooks.before_pipeline_run(Pipeline([Node(double, "x", "y", name="do", namespace="evaluate")]), catalog)


@pytest.mark.parametrize(("asked", "refused"), [("yesterday", True), ("today", False)])
def test_another_version_of_what_the_run_makes_itself_is_refused(asked, refused, whole_parameters, tmp_path):
    hooks = CheckHooks()
    hooks._parameters, hooks._run_is_given = whole_parameters, True
    catalog = DataCatalog(
        {
            **{name: MemoryDataset(1) for name in ("x", "source_raw_images", "target_raw_images")},
            "made": JSONDataset(filepath=str(tmp_path / "made.json"), version=Version(asked, "today")),
            "run_records": RunRecordsDataset(filepath=str(tmp_path / "records"), version=Version("today", "today")),
        }
    )
    graph = Pipeline([Node(double, "x", "made", name="do", namespace="evaluate")])
    if refused:
        with pytest.raises(click.ClickException, match="--load-versions made:yesterday was asked for, but this run"):
            hooks.before_pipeline_run(graph, catalog)
    else:
        hooks.before_pipeline_run(graph, catalog)


@pytest.mark.parametrize(("version", "hint"), [(20261125, True), ("2026_11_25", False)])
def test_a_model_version_that_yaml_has_read_as_a_number_is_told_with_how_to_give_it(version, hint, tmp_path):
    hooks = CheckHooks()
    hooks._parameters = {"model_version": version}
    catalog = DataCatalog({"chosen_predictor": ChosenPredictorDataset(str(tmp_path), model_version=version)})
    assert ("reads 0123 as 83, 2026_11_25 as 20261125" in hooks._missing("chosen_predictor", catalog)) == hint


@pytest.fixture
def whole_parameters():
    """Those of the environment test."""
    from kedro.config import OmegaConfigLoader

    from cnn_transfer.settings import CONFIG_LOADER_ARGS

    root = Path(__file__).parents[1]
    return OmegaConfigLoader(str(root / "conf"), env="test", **CONFIG_LOADER_ARGS)["parameters"]


def test_summary_is_silent_when_the_run_made_none(capsys):
    SummaryHooks().after_pipeline_run(Pipeline([Node(double, "x", "y")]), DataCatalog({"y": MemoryDataset(1)}))
    assert capsys.readouterr().out == ""


def test_what_is_doubtful_about_images_is_said_before_anything_is_trained(caplog):
    intake = {"listed": 40, "used": 30, "classes": 3, "alike": 12, "set_aside": {"duplicate": 10},
              "notes": {"near_duplicate": 6}, "series": [], "shortcut": None,
              "similar_labels": ["'Dog', 'dog'"]}  # fmt: skip
    with caplog.at_level("INFO", "cnn_transfer"):
        IntakeHooks().after_dataset_saved("target_intake", intake)
        IntakeHooks().after_dataset_saved("target_splits", intake)
        IntakeHooks().after_dataset_saved("source_intake", intake | {"alike": 2, "similar_labels": []})
        IntakeHooks().after_dataset_saved("source_intake", intake | {"similar_labels": []})
    levels, lines = zip(*[(record.levelname, record.getMessage()) for record in caplog.records], strict=True)
    assert levels == ("INFO", "WARNING", "WARNING", "INFO", "INFO", "WARNING")
    assert lines[0] == "target: 40 listed, 30 used, of 3 classes; set aside: 10 duplicate; noted: 6 near_duplicate"
    assert lines[1].startswith(
        "target: Classes whose names differ only by case or white space are classes of their own"
    )
    assert lines[2].startswith("target: 40% of the images are near copies of others")
    assert "preprocess.target.check.group_pattern" in lines[2]
    assert "preprocess.source.check.group_pattern" in lines[5]


def test_summary_names_its_file(tmp_path, capsys):
    dataset = JSONDataset(filepath=str(tmp_path / "summary.json"))
    dataset.save(
        {
            "target_accuracy": 0.9,
            "target_accuracy_low": 0.8,
            "target_accuracy_high": 0.95,
            "target_balanced_accuracy": 0.89,
            "baseline_accuracy": None,
            "random_accuracy": None,
            "sentence": "No baseline was trained: nothing to compare with.",
            "advice": [],
            "statements": [],
            "calibration_error": None,
            "suspected_labels": 0,
            "plan": "A ridge on 1 of 2 depths.",
            "delivered": "probe, from shapes",
            "n_train": 10,
            "n_validation": 10,
            "n_test": 100,
            "target": "digits",
            "precision": "float32",
            "seconds": {"a": 1.0, "b": 2.0, "c": 40.0},
            "peak_memory_mb": {"a": 1500.0, "b": 900.0, "c": None},
            "reused_from": {"a": None, "b": None, "c": "yesterday"},
        }
    )
    SummaryHooks().after_pipeline_run(Pipeline([Node(double, "x", "summary")]), DataCatalog({"summary": dataset}))
    printed = capsys.readouterr().out
    assert "90.0% (80.0% to 95.0%) on 100 test images of digits" in printed
    assert "3 s in nodes, most in b (2 s); 40 s saved by what earlier runs had made; at most 1.5 GB" in printed
    assert "No baseline" in printed
    assert f"Where to look   {tmp_path / 'summary.json'}" in printed


def test_the_report_is_where_to_look_when_the_run_wrote_one(tmp_path, capsys):
    summary = JSONDataset(filepath=str(tmp_path / "summary.json"))
    test_summary_names_its_file(tmp_path, capsys)
    report = TextDataset(filepath=str(tmp_path / "report.html"))
    nodes = [Node(double, "x", "summary"), Node(double, "summary", "report")]
    hooks = SummaryHooks()
    hooks.after_context_created(SimpleNamespace(env="photos", config_loader=SimpleNamespace(runtime_params=None)))
    hooks.after_pipeline_run(Pipeline(nodes), DataCatalog({"summary": summary, "report": report}))
    printed = capsys.readouterr().out
    assert f"Where to look   {tmp_path / 'report.html'}" in printed
    assert printed.endswith("kedro viz run --env photos\n\n")


def test_the_choice_of_a_source_is_used_on_the_images_that_it_was_made_on(capsys):
    row = {"rank": 1, "candidate": "a", "loss": 0.1, "accuracy": 0.9, "accuracy_gain": 0.1, "verdict": "clearly worse"}
    choice = {"sentence": "a helps most.", "params": "--params import_source.network=a"}
    asked = {"target_images": "photos", "run_id": "r", "rank_sources": {"candidates": {"a": {"network": "a"}}},
             "preprocess": {"target": {"split": {"labels_per_class": None, "test_fraction": 0.3}}}}  # fmt: skip
    hooks = SummaryHooks()
    hooks.after_context_created(SimpleNamespace(env="mine", config_loader=SimpleNamespace(runtime_params=asked)))
    catalog = {"source_ranking": MemoryDataset(pd.DataFrame([row])), "source_choice": MemoryDataset(choice)}
    hooks.after_pipeline_run(Pipeline([Node(double, "x", ["source_ranking", "source_choice"])]), DataCatalog(catalog))
    assert capsys.readouterr().out.splitlines()[-1] == (
        "Use it          kedro run --env mine --pipelines transfer_pretrained --params target_images=photos,"
        "preprocess.target.split.labels_per_class=null,preprocess.target.split.test_fraction=0.3,import_source.network=a"
    )


def test_a_run_whose_release_is_not_served_says_which_one_is(capsys, monkeypatch, tmp_path):
    for name in ("describe_exports", "describe_champion"):
        monkeypatch.setattr(f"cnn_transfer.hooks.summaries.{name}", lambda _: [])
    for run, completed in (("7", 1e9), ("8", 4e9)):
        file = tmp_path / f"release/{run}/release/exports.json"
        file.parent.mkdir(parents=True)
        file.touch()
        os.utime(file, (completed, completed))
    release = ReleaseDataset(filepath=f"{tmp_path}/release", version=Version("7", "7"))
    catalog = {"export_table": MemoryDataset(0), "champion_comparison": MemoryDataset(0), "release": release}
    SummaryHooks().after_pipeline_run(Pipeline([Node(double, "x", [*catalog])]), DataCatalog(catalog))
    released, not_served = capsys.readouterr().out.splitlines()[-2:]
    assert released == f"Released        {tmp_path}/release/7/release"
    assert not_served.startswith("NOT SERVED      8 is: its exports.json is younger, of 2096-10-02 07:06:40+00:00.")


def raw_images(**changed):
    return DataCatalog({"source_raw_images": RawImagesDataset(**{"filepath": "/p/set", "made_by": "make"} | changed)})


@pytest.mark.parametrize("wanted", ["set", "./set", "set/", "/p/set", "/p//set/.", "\\p\\set"])
def test_the_place_that_was_asked_for_may_be_written_in_several_ways(wanted):
    hooks = CheckHooks()
    hooks._project, hooks._parameters = Path("/p"), {"source_images": wanted}
    assert hooks._unread("source", raw_images()) == ""


@pytest.mark.parametrize("wanted", ["et", "p/set", "other", "s3://p/set"])
def test_a_place_that_the_catalog_does_not_read_is_told(wanted):
    hooks = CheckHooks()
    hooks._project, hooks._parameters = Path("/p"), {"source_images": wanted}
    assert f"source_images: {wanted} was asked for, but" in hooks._unread("source", raw_images())


@pytest.mark.parametrize(("wanted", "told"), [("set.csv", False), ("./set.csv", False), ("t.csv", True)])
def test_labels_lie_in_the_project_too(wanted, told):
    hooks = CheckHooks()
    hooks._project, hooks._parameters = Path("/p"), {"source_labels": wanted}
    assert ("was asked for, but" in hooks._unread("source", raw_images(labels="/p/set.csv"))) == told


def test_an_address_is_a_place():
    hooks = CheckHooks()
    hooks._project, hooks._parameters = Path("/p"), {"source_images": "s3://bucket/set"}
    assert hooks._unread("source", raw_images(filepath="s3://bucket/set")) == ""


@pytest.mark.parametrize(
    ("size", "images", "made_by", "told"),
    [
        (64, None, "make data", False),
        (96, None, "make data", True),
        (96, "x", "make data", False),
        (96, None, None, False),
    ],
)
def test_the_bundled_images_are_not_enlarged_for_hours(size, images, made_by, told):
    hooks = CheckHooks()
    image_format = {"image_size_px": size}
    hooks._parameters = {"source_images": images, "preprocess": {"source": {"image_format": image_format}}}
    assert ("--pipelines transfer_pretrained" in hooks._enlarged(raw_images(made_by=made_by))) == told


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"source_images": None}, "nothing at /p/set. Check the parameter source_images, which is empty."),
        ({"source_images": "set"}, "nothing at /p/set. Check the parameter source_images."),
        ({}, "nothing at /p/set. Make it with: make"),
    ],
)
def test_images_that_are_not_there_come_with_what_to_do(parameters, expected):
    hooks = CheckHooks()
    hooks._parameters = parameters
    assert hooks._missing("source_raw_images", raw_images()) == f"source_raw_images: {expected}"
    several = hooks._missing("source_raw_images", raw_images(filepath="/p/set/*/GT-*.csv"))
    assert "nothing at /p/set/*/GT-*.csv. In a path, * stands for tables of one folder, and only in" in several


def test_a_file_system_that_cannot_be_asked_is_named(monkeypatch):
    def refuse(*_):
        raise RuntimeError("Unable to locate credentials")

    monkeypatch.setattr("cnn_transfer.datasets.raw_images_dataset.open_images", refuse)
    told = CheckHooks()._missing("source_raw_images", raw_images())
    assert told == "source_raw_images: /p/set cannot be looked at: Unable to locate credentials"


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"type": "json.JSONDataset", "filepaht": "x"}, "Dataset 'summary' must only contain arguments valid for"),
        ({"type": "json.JSOMDataset", "filepath": "x"}, "'JSOMDataset' not found in 'json'"),
    ],
)
def test_an_entry_of_the_catalog_that_cannot_be_made_stops_the_run_with_its_name(entry, told, whole_parameters):
    hooks = CheckHooks()
    hooks._parameters = whole_parameters
    graph = Pipeline([Node(double, "x", "summary", name="do", namespace="evaluate")])
    with pytest.raises(click.ClickException, match="The catalog cannot be used; nothing was run") as refused:
        hooks.before_pipeline_run(graph, DataCatalog.from_config({"summary": entry}))
    assert told in refused.value.message


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (
            "target_raw_image",
            "The entry target_raw_image of the catalog is used by no pipeline. Did you mean target_raw_",
        ),
        ("weather_of_the_day", ""),  # of somebody's own
        ("target_raw_images", ""),
    ],
)
def test_an_entry_of_the_catalog_with_a_mistyped_name_is_told(entry, told, whole_parameters, caplog, monkeypatch):
    monkeypatch.setattr("cnn_transfer.hooks.checks.pipelines", register_pipelines())
    hooks = CheckHooks()
    hooks._parameters = whole_parameters
    hooks.after_catalog_created({entry: {}, "summary": {}})
    catalog = DataCatalog({name: MemoryDataset(1) for name in ("x", "source_raw_images", "target_raw_images")})
    hooks.before_pipeline_run(Pipeline([Node(double, "x", "made", name="do", namespace="evaluate")]), catalog)
    assert ("is used by no pipeline" in caplog.text) == bool(told)
    assert told in caplog.text
