"""Runs are compared through the real command line."""

import json
import shutil

import pandas as pd
import pytest

pytestmark = pytest.mark.slow

COMPARE = ("run", "--env", "test", "--pipelines", "compare_runs")


def latest(path):
    return max(path.glob(f"*/{path.name}"))


@pytest.fixture(scope="module")
def two_runs(finished_project, kedro, tmp_path_factory):
    """A project with a whole run, the last stage again with another parameter, and a run that left half a summary."""
    folder = tmp_path_factory.mktemp("runs") / "project"
    shutil.copytree(finished_project, folder, symlinks=True)
    result = kedro(folder, "run", "--env", "test", "--pipelines", "evaluate", "--params", "evaluate.confidence=0.9")
    assert result.returncode == 0, result.stdout
    broken = folder / "data/08_reporting/summary.json/2020-01-01T00.00.00.000Z/summary.json"
    broken.parent.mkdir()
    broken.write_text("{")
    return folder


def test_runs_are_listed_with_what_differs(two_runs, kedro):
    result = kedro(two_runs, *COMPARE)
    assert result.returncode == 0, result.stdout
    reporting = two_runs / "data/08_reporting"
    table = pd.read_parquet(latest(reporting / "runs_table.parquet"))
    assert table["status"].tolist() == ["skipped", "complete", "complete"]
    differences = pd.read_parquet(latest(reporting / "runs_differences.parquet"))
    assert differences["key"].tolist() == ["parameters.evaluate.confidence"]
    assert differences.iloc[0, 1:].tolist() == ["0.95", "0.9"]
    assert "evaluate.confidence: 0.95 → 0.9" in result.stdout
    assert "2020-01-01T00.00.00.000Z  skipped: its summary cannot be read: JSONDecodeError" in result.stdout
    assert latest(reporting / "runs_plot.png").stat().st_size > 10_000


def test_a_run_keeps_what_it_was_made_with(finished_project):
    path = latest(finished_project / "data/08_reporting/run_provenance.json")
    provenance = json.loads(path.read_text())
    assert provenance["parameters"]["preprocess"]["target"]["split"]["labels_per_class"] == 8
    assert "_course" not in provenance["parameters"]
    assert all(len(fingerprint) == 32 for fingerprint in provenance["data"].values())
    assert set(provenance["data"]) == {"source_images", "target_images"}
    assert provenance["packages"]["keras"]


def test_without_a_run_there_is_nothing_to_compare(project, kedro):
    result = kedro(project, *COMPARE)
    assert result.returncode == 1
    assert "no run has written a summary yet. Make one with: kedro run" in result.stdout
