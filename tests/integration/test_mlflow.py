"""Tracking against a real MLflow server with SQLite: what a run logs, and that nothing about it can end a run."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import requests
from servers import free_port, make_environment, serving

from cnn_transfer.exit_codes import REFUSED
from projects import KEDRO, ROOT, make_project

pytestmark = [pytest.mark.timeout(600), pytest.mark.nightly]

RUN = ["run", "--env", "test"]
TARGET = [*RUN, "--namespaces", "preprocess.target"]
TRACKED = ["--params", "mlflow=true"]
AS_JSON = {"KEDRO_LOGGING_CONFIG": "conf/logging_json.yml", "KEDRO_LOGGING_MODULE_ALLOWLIST": "cnn_transfer"}
LOADED = """
import json, sys
import keras, mlflow, numpy as np
images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), np.uint8)
model = mlflow.pyfunc.load_model(sys.argv[1])
expected = keras.models.load_model(sys.argv[2], compile=False).predict(images, verbose=0)
difference = float(np.abs(model.predict(images) - expected).max())
print(json.dumps([difference, model.metadata.signature.to_dict(), model.metadata.metadata]))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a tracking server."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    address = f"http://127.0.0.1:{port}"

    def is_up():
        try:
            return requests.get(f"{address}/health", timeout=5).ok
        except requests.ConnectionError:
            return False

    command = [str(make_environment(".venv-mlflow", ROOT / "deploy/mlflow/requirements.lock") / "mlflow"), "server"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        f"{folder}/artifacts",
    ]
    with serving(command, folder / "server.log", is_up, {"MLFLOW_DISABLE_TELEMETRY": "true"}):
        yield address


def start(project, arguments, **variables):
    environment = os.environ | {"DO_NOT_TRACK": "1", "COLUMNS": "200"} | variables
    return subprocess.Popen(
        [str(KEDRO), *arguments],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(project, arguments, **variables):
    """Exit code and what was printed, standard error and output together."""
    process = start(project, arguments, **variables)
    printed, _ = process.communicate(timeout=500)
    return process.returncode, printed


def ask(server, request, **fields):
    answer = requests.get(f"{server}/api/2.0/mlflow/{request}", params=fields, timeout=20)
    answer.raise_for_status()
    return answer.json()


def runs_of(server, run_id):
    experiment = ask(server, "experiments/get-by-name", experiment_name="cnn_transfer")["experiment"]["experiment_id"]
    wanted = {"experiment_ids": [experiment], "filter": f"tags.`transfer.run_id` = '{run_id}'"}
    answer = requests.post(f"{server}/api/2.0/mlflow/runs/search", json=wanted, timeout=20)
    answer.raise_for_status()
    return answer.json().get("runs", [])


def latest(path):
    """The newest version of a file that Kedro versions."""
    return max(path.glob(f"*/{path.name}"))


def read(entries):
    return {entry["key"]: entry["value"] for entry in entries}


@pytest.fixture(scope="module")
def tracked(server, tmp_path_factory):
    """A project with a whole run that was logged, its only run in MLflow, and the lines of its log, which are JSON."""
    project = make_project(tmp_path_factory.mktemp("tracked") / "project")
    code, printed = run(project, [*RUN, *TRACKED], MLFLOW_TRACKING_URI=server, TRANSFER_RUN_ID="whole", **AS_JSON)
    assert code == 0, printed
    (logged,) = runs_of(server, "whole")
    return project, logged, [json.loads(line) for line in printed.splitlines()]


def test_a_run_is_in_mlflow_with_parameters_figures_and_curves(server, tracked):
    project, logged, lines = tracked
    assert logged["info"]["status"] == "FINISHED"
    assert logged["info"]["run_name"] == "whole"
    assert f"/runs/{logged['info']['run_id']}" in lines[-1]["message"]

    parameters = read(logged["data"]["params"])
    assert parameters["seed"] == "0"
    assert parameters["finetune_target.fine_tuning.steps"] == "40"
    assert parameters["preprocess.source.max_images_per_class"] == "60"

    metrics = read(logged["data"]["metrics"])
    summary = json.loads(latest(project / "data/08_reporting/summary.json").read_text())
    figures = json.loads(latest(project / "data/08_reporting/target_metrics.json").read_text())
    assert metrics["summary/difference"] == summary["difference"]
    assert metrics["target_metrics/accuracy"] == figures["accuracy"]
    assert metrics["target_metrics/ece"] == figures["ece"]

    asked = {"run_id": logged["info"]["run_id"], "metric_key": "source_training_log/validation_loss"}
    history = ask(server, "metrics/get-history", **asked)["metrics"]
    assert sorted(int(point.get("step", 0)) for point in history) == [0, 4, 8]


def test_every_line_of_a_run_says_which_run_and_node_it_comes_from(tracked):
    _, _, lines = tracked
    assert {line["run_id"] for line in lines} == {"whole"}
    nodes = {line["node"]: line["message"] for line in lines}
    assert "pretrain_source.pretrain" in nodes["pretrain_source.pretrain"]
    assert any("Verdict" in line["message"] and line["node"] is None for line in lines)


def test_files_and_the_model_come_back_as_they_were(server, tracked):
    project, logged, _ = tracked
    for name in ("08_reporting/report.html", "08_reporting/summary.json", "06_models/transfer_plan.json"):
        asked = {"run_uuid": logged["info"]["run_id"], "path": name}
        stored = requests.get(f"{server}/get-artifact", params=asked, timeout=20)
        assert stored.content == latest(project / "data" / name).read_bytes()

    (model,) = logged["outputs"]["model_outputs"]
    file = latest(project / "data/06_models/delivered_model.keras")
    loaded = subprocess.run(
        [sys.executable, "-c", LOADED, f"models:/{model['model_id']}", str(file)],
        env=os.environ | {"MLFLOW_TRACKING_URI": server, "MLFLOW_DISABLE_TELEMETRY": "true"},
        capture_output=True,
        text=True,
        check=True,
    )
    difference, signature, card = json.loads(loaded.stdout.splitlines()[-1])
    assert difference < 1e-6
    assert json.loads(signature["inputs"])[0]["tensor-spec"] == {"dtype": "uint8", "shape": [-1, 28, 28, 1]}
    assert json.loads(signature["outputs"])[0]["tensor-spec"] == {"dtype": "float32", "shape": [-1, 10]}
    assert card["class_names"] == [str(digit) for digit in range(10)]


def test_the_same_command_again_logs_nothing_twice(server, tracked):
    project, logged, _ = tracked
    code, printed = run(project, [*RUN, *TRACKED], MLFLOW_TRACKING_URI=server, TRANSFER_RUN_ID="whole")
    assert code == 0, printed
    (again,) = runs_of(server, "whole")
    assert again["info"]["status"] == "FINISHED"
    assert again["outputs"] == logged["outputs"]
    asked = {"run_id": logged["info"]["run_id"], "metric_key": "source_training_log/validation_loss"}
    assert len(ask(server, "metrics/get-history", **asked)["metrics"]) == 3


def test_tasks_that_begin_at_once_are_one_run_of_mlflow(server, project):
    tasks = [[*RUN, "--namespaces", f"preprocess.{role}", *TRACKED] for role in ("source", "target")]
    started = [start(project, task, MLFLOW_TRACKING_URI=server, TRANSFER_RUN_ID="tasks") for task in tasks]
    printed = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], printed
    (logged,) = runs_of(server, "tasks")
    assert logged["info"]["status"] == "FINISHED"
    states = {key: value for key, value in read(logged["data"]["tags"]).items() if key.startswith("task.")}
    assert list(states.values()) == ["FINISHED", "FINISHED"]


def test_a_stopped_run_is_killed_in_mlflow_until_it_goes_on(server, project):
    process = start(project, [*RUN, *TRACKED], MLFLOW_TRACKING_URI=server, TRANSFER_RUN_ID="stopped")
    for line in process.stdout:
        if "preprocess.source.check_images" in line:
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 75
    (logged,) = runs_of(server, "stopped")
    assert logged["info"]["status"] == "KILLED"


@pytest.mark.parametrize("silent", [False, True])
def test_a_server_that_is_down_costs_a_warning_and_not_the_run(project, silent):
    with socket.socket() as listener:  # takes connections and never answers
        listener.bind(("127.0.0.1", 0))
        if silent:
            listener.listen()
        address = f"http://user:secret@127.0.0.1:{listener.getsockname()[1]}"
        begun = time.monotonic()
        code, printed = run(project, [*TARGET, *TRACKED], MLFLOW_TRACKING_URI=address, MLFLOW_HTTP_REQUEST_TIMEOUT="3")
    assert code == 0, printed
    assert printed.count("WARNING") == 1
    assert "secret" not in printed
    assert "does not take what is logged" in printed
    assert time.monotonic() - begun < 90


def test_switched_off_nothing_of_mlflow_is_imported(project):
    """Even with a server's address at hand."""
    code, imports = run(project, TARGET, MLFLOW_TRACKING_URI="http://127.0.0.1:1", PYTHONPROFILEIMPORTTIME="1")
    assert code == 0, imports
    modules = {line.rsplit("|", maxsplit=1)[-1].strip() for line in imports.splitlines() if "import time:" in line}
    assert "cnn_transfer.tracking" in modules
    assert not [module for module in modules if module.split(".", maxsplit=1)[0] == "mlflow"]


def test_without_a_server_s_address_nothing_runs(project):
    code, printed = run(project, [*TARGET, *TRACKED], MLFLOW_TRACKING_URI="")
    assert code == REFUSED
    assert "MLFLOW_TRACKING_URI is not set" in printed
    assert not [file for file in (project / "data").rglob("*") if file.is_file() and "01_raw" not in file.parts]
