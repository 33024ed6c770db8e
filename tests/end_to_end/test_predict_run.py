"""New images through the real command line: labelled, killed and resumed, refused early."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from projects import ROOT

pytestmark = pytest.mark.slow

KEDRO = Path(sys.executable).with_name("kedro")
DIGITS = ROOT / "data/01_raw/mnist_digits.parquet"
CIRCUMSTANCES = {"run_records"}  # time and memory


def command(images, *more):
    return ("run", "--env", "test", "--pipelines", "predict", "--params", ",".join([f"images={images}", *more]))


def latest(path):
    return max(path.glob(f"*/{path.name}"))


def made(project, run):
    """All files that a run of predict has made, by their place below its name."""
    return {
        str(file.relative_to(project / "data")).replace(run, "RUN"): file.read_bytes()
        for file in (project / "data").glob(f"0[78]*/*/{run}/**/*")
        if file.is_file() and file.relative_to(project / "data").parts[1] not in CIRCUMSTANCES
    }


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """The digits with the images in a table, and a damaged one."""
    contents = pq.read_table(DIGITS, columns=["image"])["image"].to_pylist()
    contents[7] = {"bytes": b"no image", "path": None}
    path = tmp_path_factory.mktemp("images") / "digits.parquet"
    pq.write_table(pa.table({"image": contents}), path, row_group_size=1000)
    return path


@pytest.fixture(scope="module")
def projects(finished_project, tmp_path_factory):
    """Two copies of a project in which a run has finished."""
    folder = tmp_path_factory.mktemp("predict")
    for name in ("whole", "killed"):
        shutil.copytree(finished_project, folder / name, symlinks=True)
    return folder / "whole", folder / "killed"


@pytest.fixture(scope="module")
def whole(projects, kedro, images):
    """A project in which all digits were labelled without a break, and what was printed."""
    result = kedro(projects[0], *command(images, "run_id=unbroken"))
    assert result.returncode == 0, result.stdout
    return projects[0], " ".join(result.stdout.split())


def test_all_images_are_labelled_or_rejected_and_the_end_says_so(whole):
    project, printed = whole
    folder = project / "data/07_model_output/predictions.parquet/unbroken/predictions.parquet"
    labels = pd.read_parquet(folder)
    counts = json.loads(latest(project / "data/08_reporting/prediction_counts.json").read_text())
    rejected = pd.read_parquet(latest(project / "data/08_reporting/rejected_new_images.parquet"))
    assert (counts["listed"], counts["labelled"], counts["rejected"]) == (10_000, len(labels), 1)
    assert rejected["reason"].tolist() == ["not_an_image"]
    assert "Images 10,000 listed, 9,999 labelled by" in printed
    assert "1 rejected: 1 not_an_image" in printed
    drift = json.loads(latest(project / "data/08_reporting/drift.json").read_text())
    assert drift["statement"] in printed
    assert latest(project / "data/08_reporting/drift_plot.png").stat().st_size > 10_000
    assert "labelling:" not in printed  # no progress bar without a terminal


def test_the_same_again_is_taken_over(whole, kedro, images):
    result = kedro(whole[0], *command(images))
    assert result.returncode == 0, result.stdout
    assert "4 nodes are unchanged since an earlier run" in " ".join(result.stdout.split())


@pytest.mark.parametrize("same_id", [True, False])
def test_a_killed_run_goes_on_and_ends_with_the_same_files(whole, projects, kedro, images, same_id):
    project = projects[1]
    run = "unbroken" if same_id else "other"
    process = subprocess.Popen(
        [str(KEDRO), *command(images, "run_id=unbroken" if same_id else "run_id=first")],
        cwd=project,
        env=os.environ | {"DO_NOT_TRACK": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    store = project / "data/07_model_output/predictions.parquet"
    try:
        while not (parts := list(store.glob("*/.partial-*/part-*"))) and process.poll() is None:
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert 1 <= len(parts) <= 2
    assert not list(store.glob("*/predictions.parquet"))
    written = {part.name: part.stat().st_mtime_ns for part in parts}
    result = kedro(project, *command(images, f"run_id={run}"))
    assert result.returncode == 0, result.stdout
    ours, theirs = made(project, run), made(whole[0], "unbroken")
    assert ours == theirs
    if same_id:
        kept = {part.name: part.stat().st_mtime_ns for part in store.glob("unbroken/*/part-*")}
        assert kept.items() >= written.items()
    for version in store.iterdir():
        shutil.rmtree(version)


def test_what_cannot_be_done_is_told_before_the_first_node(whole, kedro, tmp_path, images):
    (tmp_path / "empty").mkdir()
    told = []
    for parameters in (("model_version=yesterday",), ("model_version=yesterday", "run_id=x")):
        result = kedro(whole[0], *command(tmp_path / "empty", *parameters))
        assert result.returncode == 1
        assert "Traceback" not in result.stdout
        told.append(" ".join(result.stdout.split()))
    version = latest(whole[0] / "data/06_models/predictor").parent.name
    for text in told:
        assert "nothing was run" in text
        assert "There is no image in" in text
        assert "There is no version yesterday of" in text
        assert version in text
    result = kedro(whole[0], "run", "--env", "test", "--pipelines", "predict")
    assert result.returncode == 78
    assert "--params images=PATH" in " ".join(result.stdout.split())
