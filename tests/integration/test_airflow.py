"""The DAGs under Airflow, in an environment of its own: `airflow dags test`, and runs that its scheduler starts.

The servers listen on the loopback interface only and keep everything in a temporary folder.
"""

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from servers import free_port, make_environment, own_variables, running, wait_until

from cnn_transfer.pipeline_registry import register_pipelines
from projects import KEDRO, ROOT, make_project, results, run_kedro

pytestmark = pytest.mark.timeout(900)
PIPELINES = ("transfer", "transfer_pretrained", "release", "release_pretrained", "predict", "export")
DAG, DAG_OF_A_FILE, DAG_OF_RELEASES = (f"cnn_transfer.{name}" for name in PIPELINES[:3])
LONG = "finetune_target.train_from_scratch"
TASKS = {
    "preprocess.source": set(),
    "preprocess.target": set(),
    "pretrain_source": {"preprocess.source"},
    "migrate_model": {"preprocess.target", "pretrain_source"},
    "finetune_target.finetune": {"migrate_model"},
    "finetune_target.finetune_random": {"migrate_model"},
    "finetune_target.train_from_scratch": {"migrate_model"},
    "finetune_target.deliver": {
        "finetune_target.finetune", "finetune_target.finetune_random", "finetune_target.train_from_scratch",
    },
    "evaluate": {"finetune_target.deliver"},
}  # fmt: skip


class Airflow:
    """Airflow's command line and its REST API."""

    def __init__(self, home: Path, project: Path, dags: Path) -> None:
        self.project, self.home, self.log = project, home, home / "servers.log"
        self.bin, self.port = make_environment(".venv-airflow", ROOT / "deploy/airflow/requirements.lock"), free_port()
        self.env = own_variables() | {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self.port}/execution/",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "TRANSFER_PROJECT": str(project),
            "TRANSFER_KEDRO": str(KEDRO),
            "DO_NOT_TRACK": "1",
        }
        self._token = ""

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(self.bin / "airflow"), *arguments],
            cwd=self.home, env=self.env, text=True, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
        return done.stdout

    def servers(self) -> Any:
        """What `airflow standalone` starts, but for the triggerer and the server of logs to other machines."""
        airflow = str(self.bin / "airflow")
        return running(
            [airflow, "api-server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"],
            [airflow, "dag-processor"],
            [airflow, "scheduler", "--skip-serve-logs"],
            env=self.env,
            cwd=self.home,
            log=self.log,
        )

    def api(self, path: str, body: Any = None) -> Any:
        """A request to the REST API; None while the server does not answer in time, or has nothing of the name yet."""
        address = f"http://127.0.0.1:{self.port}"
        try:
            if not self._token:
                with urllib.request.urlopen(f"{address}/auth/token", timeout=60) as answer:
                    self._token = json.load(answer)["access_token"]
            headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
            data = None if body is None else json.dumps(body).encode()
            request = urllib.request.Request(f"{address}/api/v2/{path}", data, headers)
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code in {404, 503}:
                return None
            raise AssertionError(f"{path}: {error.code} {error.read().decode()}") from error
        except OSError:
            return None

    def trigger(self, name: str, parameters: str, dag: str = DAG) -> None:
        """Start a DAG run."""
        conf = {"environment": "test", "parameters": parameters}
        run = {"dag_run_id": name, "logical_date": None, "conf": conf}
        found = self.api(f"dags/{dag}/dagRuns", run)
        assert found or wait_until(f"{name} is there", lambda: self.api(f"dags/{dag}/dagRuns/{name}"), 60, self.log)

    def ended(self, name: str, dag: str = DAG) -> bool:
        """Whether nothing more will happen in a DAG run."""
        run = self.api(f"dags/{dag}/dagRuns/{name}")
        return bool(run and run["state"] in {"success", "failed"})

    def stop(self, name: str, task: str) -> None:
        """Clear a task that runs: it is stopped, and begins anew."""
        what = {"dag_run_id": name, "task_ids": [task], "dry_run": False, "only_failed": False}
        self.api(f"dags/{DAG}/clearTaskInstances", what)

    def tries(self, name: str, dag: str = DAG) -> dict[str, tuple[str | None, int]]:
        """State and number of the present try of each task of a DAG run."""
        found = self.api(f"dags/{dag}/dagRuns/{name}/taskInstances") or {"task_instances": []}
        return {task["task_id"]: (task["state"], task["try_number"]) for task in found["task_instances"]}

    def log_of(self, name: str, task: str, attempt: int, dag: str = DAG) -> str:
        """The log of a try, as a user sees it."""
        answer = self.api(f"dags/{dag}/dagRuns/{name}/taskInstances/{task}/logs/{attempt}?full_content=true")
        return "\n".join(str(line["event"]) if isinstance(line, dict) else line for line in answer["content"])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose tasks are tried again after seconds, and have half a minute where the source is a file."""
    project = make_project(tmp_path_factory.mktemp("airflow") / "project")
    settings = project / "conf/base/airflow.yml"
    text = re.sub(r"(?m)^( +retry_delay_seconds:) \d+", r"\1 2", settings.read_text())
    text = re.sub(r"(?m)^( +max_active_tasks:) \d+", r"\1 1", text)  # of a run; two runs, two cores
    hurried = (
        "transfer_pretrained:\n  timeout_hours: 0.01\n  retries: 20\n  retry_factor: 1\n  retry_delay_seconds: 12\n"
    )
    settings.write_text(text.replace("transfer_pretrained:\n", hurried))
    return project


@pytest.fixture(scope="module")
def alone(project: Path) -> Callable[[int], dict[str, Any]]:
    """The results with a seed, in one process of `kedro run`."""

    @cache
    def run(seed: int) -> dict[str, Any]:
        done = run_kedro(project, "run", "--env", "test", "--params", f"seed={seed},run_id=alone_{seed}")
        assert done.returncode == 0, done.stdout
        return results(project, f"alone_{seed}")

    return run


@pytest.fixture(scope="module")
def dags(project: Path) -> Path:
    """A folder with the DAG files."""
    template = ROOT / "deploy/airflow/dag.py.jinja"
    folder = project.parent / "dags"
    done = run_kedro(
        project,
        *("airflow", "create", "--pipelines", ",".join(PIPELINES)),
        *("--jinja-file", str(template), "--target-dir", str(folder)),
    )
    assert done.returncode == 0, done.stdout
    return folder


@pytest.fixture(scope="module")
def airflow(project: Path, dags: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """Airflow with an empty database."""
    airflow = Airflow(tmp_path_factory.mktemp("home"), project, dags)
    airflow("db", "migrate")
    yield airflow
    shutil.rmtree(airflow.home)


def tasks_of(file: Path) -> dict[str, tuple[str, list[str], str]]:
    """The table of tasks of a DAG file, read without Airflow."""
    table = re.search(r"(?ms)^TASKS: .*? = (\{.*?^\})", file.read_text())
    assert table is not None
    return dict(eval(table[1]))  # written by the project's own template


def test_tasks_and_their_order_come_from_the_pipelines(dags):
    pipelines = register_pipelines()
    for name in PIPELINES:
        tasks = tasks_of(dags / f"cnn_transfer_{name}_dag.py")
        nodes = {node.name: part.split() for node in pipelines[name].nodes for part, _, _ in tasks.values()}
        assert len(nodes) == len(pipelines[name].nodes)
        run_by = {
            node.name: [task for task, (part, _, _) in tasks.items() if part.split()[1] in (node.name, node.namespace)]
            for node in pipelines[name].nodes
        }
        assert all(len(found) == 1 for found in run_by.values()), run_by

        def ancestors(task, tasks=tasks):
            return set(tasks[task][1]).union(*(ancestors(parent) for parent in tasks[task][1]))

        for node, parents in pipelines[name].node_dependencies.items():
            (task,) = run_by[node.name]
            assert {run_by[parent.name][0] for parent in parents} <= ancestors(task) | {task}
    transfer = tasks_of(dags / "cnn_transfer_transfer_dag.py")
    assert {task: set(before) for task, (_, before, _) in transfer.items()} == TASKS


def test_dags_test_runs_all_tasks_as_one_run(airflow, project, alone, tmp_path):
    expected = alone(1)
    airflow("dags", "test", DAG, "--conf", json.dumps({"environment": "test", "parameters": "seed=1"}))
    written = {path.name for path in (project / "data").glob("0[2-8]_*/*/[!.]*")}
    (run_id,) = written - {"alone_0", "alone_1"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\d\.\d{6}Z_transfer_manual__[\w.+-]+", run_id)
    assert results(project, run_id) == expected
    digits = tmp_path / "digits.parquet"
    pd.read_parquet(ROOT / "data/01_raw/mnist_digits.parquet").head(100).to_parquet(digits)
    airflow("dags", "test", "cnn_transfer.predict", "--conf", json.dumps({"parameters": f"images={digits}"}))
    (counts,) = (project / "data").rglob("*_predict_manual__*/prediction_counts.json")
    assert json.loads(counts.read_text())["labelled"] == 100


@pytest.mark.nightly
def test_overlapping_runs_keep_apart_and_failed_and_stopped_tasks_are_tried_again(airflow, project, alone, tmp_path):
    expected = {"late": alone(0), "seed_1": alone(1)}
    digits = tmp_path / "digits.parquet"  # comes when the first try has failed
    with airflow.servers():
        wait_until("the DAG is there", lambda: airflow.api(f"dags/{DAG}"), 240, airflow.log)
        airflow.trigger("seed_1", "seed=1,reuse=false")
        airflow.trigger("late", f"target_images={digits}")
        airflow.trigger("refused", "seed=none")

        def failed() -> bool:
            return airflow.tries("late").get("preprocess.target") == ("up_for_retry", 1)

        wait_until("the first try of preprocess.target failed", failed, 240, airflow.log)
        digits.symlink_to(ROOT / "data/01_raw/mnist_digits.parquet")
        log = airflow.log_of("late", "preprocess.target", 1)
        assert f"target_raw_images: nothing at {digits}. Check the parameter target_images." in log
        assert "Command exited with return code 1" in log

        def training() -> list[Path]:
            return list((project / "data/08_reporting/run_records").glob("*_seed_1/pretrain_source.pretrain.claim"))

        wait_until("seed_1 trains its source network", training, 300, airflow.log)
        airflow.stop("seed_1", "pretrain_source")

        runs = ("seed_1", "late", "refused")
        wait_until("all runs ended", lambda: all(airflow.ended(name) for name in runs), 600, airflow.log)
        tries = {name: airflow.tries(name) for name in runs}
        refusals = [airflow.log_of("refused", f"preprocess.{which}", 1) for which in ("source", "target")]
        stopped = airflow.log_of("seed_1", "pretrain_source", 1)
    assert {task: state for task, (state, _) in tries["late"].items()} == dict.fromkeys(TASKS, "success")
    assert tries["late"]["preprocess.target"][1] == 2
    assert tries["seed_1"] == dict.fromkeys(TASKS, ("success", 1)) | {"pretrain_source": ("success", 2)}
    assert "Stopping at SIGTERM." in stopped
    at_once = {f"preprocess.{which}": ("failed", 1) for which in ("source", "target")}
    assert {task: tried for task, tried in tries["refused"].items() if tried[0] != "upstream_failed"} == at_once
    assert all("Wrong parameters; nothing was run." in log and "code 78" in log for log in refusals)
    for name, figures in expected.items():
        (run_id,) = {path.name for path in (project / "data/08_reporting/summary.json").glob(f"*_transfer_{name}")}
        assert results(project, run_id) == figures
    assert expected["late"] != expected["seed_1"]


@pytest.mark.nightly
def test_a_task_that_takes_longer_than_its_tries_may_ends_as_if_it_had_not_been_stopped(airflow, project, alone):
    alone(0)
    source = project / "data/06_models/source_model.keras/alone_0/source_model.keras"
    long = "finetune_target.baseline.steps=12000,finetune_target.baseline.validations=48"
    parameters = f"import_source.network={source},{long},reuse=false"
    done = run_kedro(
        project,
        *("run", "--env", "test", "--pipelines", "transfer_pretrained", "--params", f"{parameters},run_id=alone_long"),
    )
    assert done.returncode == 0, done.stdout
    with airflow.servers():
        wait_until("the DAG is there", lambda: airflow.api(f"dags/{DAG_OF_A_FILE}"), 240, airflow.log)
        airflow.trigger("long", parameters, DAG_OF_A_FILE)
        wait_until("the run ended", lambda: airflow.ended("long", DAG_OF_A_FILE), 800, airflow.log)
        tries = airflow.tries("long", DAG_OF_A_FILE)
        logs = [airflow.log_of("long", LONG, attempt + 1, DAG_OF_A_FILE) for attempt in range(tries[LONG][1])]
    assert {state for state, _ in tries.values()} == {"success"}
    assert len(logs) > 1
    assert all("Sending SIGTERM signal to process group" in log for log in logs[:-1])
    assert any(" goes on after epoch " in log for log in logs[1:])
    (run_id,) = {path.name for path in (project / "data/08_reporting/summary.json").glob("*_pretrained_long")}
    assert results(project, run_id) == results(project, "alone_long")


@pytest.mark.nightly
def test_nights_release_what_is_as_good_and_fail_at_once_where_a_class_is_gone(airflow, project, tmp_path):
    labelled = tmp_path / "labelled"
    digits = pd.read_parquet(ROOT / "data/01_raw/mnist_digits.parquet").groupby("label").head(80)
    for number, (image, label) in enumerate(digits[["image", "label"]].itertuples(index=False)):
        (labelled / label).mkdir(parents=True, exist_ok=True)
        (labelled / label / f"{number}.png").write_bytes(image["bytes"])

    def night(name: str) -> dict[str, tuple[str | None, int]]:
        airflow.trigger(name, f"target_images={labelled}", DAG_OF_RELEASES)
        wait_until(f"{name} ended", lambda: airflow.ended(name, DAG_OF_RELEASES), 300, airflow.log)
        return airflow.tries(name, DAG_OF_RELEASES)

    with airflow.servers():
        wait_until("the DAG is there", lambda: airflow.api(f"dags/{DAG_OF_RELEASES}"), 240, airflow.log)
        good = {name: night(name) for name in ("night_1", "night_2")}  # the second with what was there before
        (labelled / "3").rename(tmp_path / "3")
        lacking = night("night_3")
        (tmp_path / "3").rename(labelled / "3")
        good["night_4"] = night("night_4")
        logs = {name: airflow.log_of(name, "export", 1, DAG_OF_RELEASES) for name in (*good, "night_3")}
    for tries in good.values():
        assert set(tries.values()) == {("success", 1)}
    assert lacking == dict.fromkeys(good["night_1"], ("success", 1)) | {"export": ("failed", 1)}
    assert "GONE CLASS: 3." in logs["night_3"]
    assert "return code 78" in logs["night_3"]
    releases = [path.parts[-3] for path in (project / "data/06_models/release").glob("*/release/exports.json")]
    assert {run.partition("_release_")[2] for run in releases} == set(good)
    for name in ("night_2", "night_4"):
        assert "The network is that of the release before, " in logs[name]
