"""Runs that are stopped, killed, repeated and overlapping, in processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from cnn_transfer.exit_codes import REFUSED
from projects import KEDRO, ROOT, make_project

TIMES = ("run_records", ".viz")  # written by each process


def start(project, *arguments, **variables):
    """A run of the small environment; its output is in `stdout`."""
    environment = os.environ | {"DO_NOT_TRACK": "1", "COLUMNS": "200"} | variables
    return subprocess.Popen(
        [str(KEDRO), "run", "--env", "test", *arguments],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    """Its exit code and what it printed."""
    printed, _ = process.communicate(timeout=550)
    return process.returncode, printed


def wait_for(project, run, node, process):
    """Until a process works on a node."""
    claim = project / f"data/08_reporting/run_records/{run}/{node}.claim"
    while not claim.exists() or not claim.read_bytes():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.1)


def files(project):
    """When each file was written that runs made."""
    found = (file for file in (project / "data").rglob("*") if file.is_file() and "01_raw" not in file.parts)
    return {str(file.relative_to(project)): file.stat().st_mtime_ns for file in found}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("runs") / "project")


def test_a_run_is_done_once_whatever_happens_to_its_processes(project):
    first = start(project, TRANSFER_RUN_ID="nightly-3")
    wait_for(project, "nightly-3", "pretrain_source.pretrain", first)

    first.send_signal(signal.SIGSTOP)  # so that it is still at it when the other one comes, however fast it is
    code, printed = finish(start(project, TRANSFER_RUN_ID="nightly-3"))
    first.send_signal(signal.SIGCONT)
    assert code == 1
    assert "pretrain_source.pretrain of the run nightly-3 is being worked on by process" in printed
    assert "Traceback" not in printed

    wait_for(project, "nightly-3", "finetune_target.train_from_scratch", first)
    told = time.monotonic()
    first.send_signal(signal.SIGTERM)
    code, printed = finish(first)
    assert time.monotonic() - told < 10
    assert code == 75
    assert "Stopping at SIGTERM" in printed
    assert "the same command with TRANSFER_RUN_ID=nightly-3" in printed
    assert "Traceback" not in printed

    records = project / "data/08_reporting/run_records/nightly-3"
    finished = len(list(records.glob("*.json")))
    pretrained = records / "pretrain_source.pretrain.json"
    made = pretrained.stat().st_mtime_ns
    code, printed = finish(start(project, TRANSFER_RUN_ID="nightly-3"))
    assert code == 0, printed
    assert f"{finished} nodes were done already in this run: preprocess (10), pretrain_source (1)" in printed
    assert pretrained.stat().st_mtime_ns == made, "pretraining was done again"
    assert "Verdict" in printed

    before = files(project)
    code, printed = finish(start(project, TRANSFER_RUN_ID="nightly-3"))
    assert code == 0, printed
    assert "Verdict" in printed
    assert files(project) == before, "a retry after success adds and changes nothing"
    assert not [name for name in before if ".partial-" in name or name.endswith(".claim")]
    assert not [name for name in before if "checkpoints" in name and name.endswith(".npz")]


def test_another_run_takes_over_what_does_not_depend_on_a_changed_parameter(project):
    code, printed = finish(start(project, "--params", "finetune_target.fine_tuning.steps=48"))
    assert code == 0, printed
    assert "nodes are unchanged since an earlier run, whose results are taken over" in printed
    assert "preprocess (10), pretrain_source (1), migrate_model (6)" in printed
    summary = max((project / "data/08_reporting/summary.json").glob("2*/summary.json"))
    reused = json.loads(summary.read_text())["reused_from"]
    assert reused["pretrain_source.pretrain"] == "nightly-3"
    assert reused["finetune_target.finetune"] is None
    assert reused["finetune_target.train_from_scratch"] == "nightly-3", "the baseline does not depend on it"


def test_a_run_keeps_to_what_it_was_made_with(project):
    code, printed = finish(start(project, "--params", "seed=5", TRANSFER_RUN_ID="nightly-3"))
    assert code == REFUSED
    assert "The run nightly-3 has made" in printed
    assert "with other seed" in printed


def test_a_version_that_is_not_there_is_told_with_those_that_are(project):
    code, printed = finish(start(project, "--pipelines", "evaluate", "--load-versions", "target_model:yesterday"))
    assert code == 1
    assert "target_model: There is no version yesterday of" in printed
    assert "nightly-3" in printed
    code, printed = finish(start(project, "--pipelines", "evaluate", TRANSFER_RUN_ID="weekly"))
    assert code == 1
    assert "There is no version weekly of" in printed
    assert "Traceback" not in printed


def test_a_run_id_that_is_no_name_is_refused(project):
    code, printed = finish(start(project, TRANSFER_RUN_ID="a/../b"))
    assert code == REFUSED
    assert "TRANSFER_RUN_ID must be 1 to 128 letters, digits or . _ + = @ -" in printed
    assert "Use a-..-b, for example" in printed
    assert "Traceback" not in printed


def measured_by(script, *arguments):
    """What a benchmark prints."""
    command = [sys.executable, str(ROOT / "benchmarks" / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=550, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.nightly
def test_killed_at_random_moments_the_same_command_ends_with_the_same_result():
    printed = measured_by("kills.py", "--kills", "3", "--seed", "3")
    assert "wrong results: 0" in printed, printed
    assert "unreadable: 0" in printed, printed
    assert "repeated: 0" in printed, printed


@pytest.mark.nightly
def test_interleaved_runs_read_their_own_versions():
    printed = measured_by("interleaved.py", "--repetitions", "1", "--stages", "3")
    assert "cross-reads: 0 in 1 repetitions" in printed, printed
