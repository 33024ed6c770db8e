"""Sources are ranked through the real command line, in new processes."""

import json

import pandas as pd
import pytest

from cnn_transfer.exit_codes import REFUSED
from cnn_transfer.models import build_network

pytestmark = pytest.mark.slow


def latest(path):
    return max(path.glob(f"*/{path.name}"))


def outputs(project):
    files = [file for file in (project / "data").rglob("*") if file.is_file()]
    return [file for file in files if "01_raw" not in file.parts]


def test_candidates_are_ranked_and_one_is_chosen(project, kedro):
    build_network("compact_cnn", (28, 28, 1), 3, seed=5).save(project / "one.keras")
    build_network("article_cnn", (28, 28, 1), 3, seed=5).save(project / "two.keras")
    refused = kedro(project, "run", "--env", "test", "--pipelines", "rank_sources")
    assert refused.returncode == REFUSED
    assert "nothing was run" in refused.stdout
    assert "rank_sources.candidates must name at least one network" in refused.stdout
    assert outputs(project) == []
    names = ("one", "two")
    parameters = ",".join(f"rank_sources.candidates.{name}.network={name}.keras" for name in names)
    result = kedro(project, "run", "--env", "test", "--pipelines", "rank_sources", "--params", parameters)
    assert result.returncode == 0, result.stdout
    table = pd.read_parquet(latest(project / "data/08_reporting/source_ranking.parquet"))
    assert sorted(table["candidate"]) == list(names)
    assert table["computed"].tolist() == [80, 80]  # 8 images a class
    assert table["rank"].tolist() == [1, 2]
    choice = json.loads(latest(project / "data/08_reporting/source_choice.json").read_text())
    assert choice["candidate"] in {"one", "two", None}
    assert choice["sentence"] in result.stdout
    assert f" 1. {table['candidate'][0]}  squared error" in result.stdout
    if choice["candidate"] is not None:
        assert f"kedro run --env test --pipelines transfer_pretrained {choice['params']}" in result.stdout
    assert latest(project / "data/08_reporting/source_ranking_plot.png").stat().st_size > 10_000
    assert not (project / "data/06_models").exists()
