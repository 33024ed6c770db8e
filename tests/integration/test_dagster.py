"""The jobs under `dagster dev`, in an environment of its own that has the project's packages, too.

Its servers listen on the loopback interface only and keep everything in a temporary folder.
"""

import json
import os
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import free_port, make_environment, own_variables, running, wait_until

from cnn_transfer.pipeline_registry import register_pipelines
from projects import ROOT, make_project, results, run_kedro

pytestmark = [pytest.mark.timeout(900), pytest.mark.nightly]

JOBS = "{repositoriesOrError {... on RepositoryConnection {nodes {name location {name} jobs {name}}}}}"
LAUNCH = """mutation ($selector: JobOrPipelineSelector!) {
  launchRun(executionParams: {selector: $selector, runConfigData: {}}) {
    __typename ... on LaunchRunSuccess {run {runId}} ... on PythonError {message}
  }
}"""
GO_ON = """mutation ($run: String!) {
  launchRunReexecution(reexecutionParams: {parentRunId: $run, strategy: FROM_FAILURE}) {
    __typename ... on LaunchRunSuccess {run {runId}} ... on PythonError {message}
  }
}"""
STATUS = "query ($run: ID!) {runOrError(runId: $run) {... on Run {status stepStats {stepKey status}}}}"
ERRORS = """query ($run: ID!) {
  logsForRun(runId: $run) {
    ... on EventConnection {events {... on ExecutionStepFailureEvent {stepKey error {message cause {message}}}}}
  }
}"""


class Dagster:
    """Dagster's web server and its GraphQL."""

    def __init__(self, home: Path, project: Path) -> None:
        self.project, self.log, self.port = project, home / "servers.log", free_port()
        programs = make_environment(".venv-dagster", ROOT / "deploy/dagster/requirements.lock")
        self.dagster = programs / "dagster"
        shutil.copy(ROOT / "deploy/dagster/dagster.yaml", home)
        self.env = own_variables() | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "DAGSTER_HOME": str(home),
            "PYTHONPATH": str(ROOT / "src"),
            "TRANSFER_PROJECT": str(project),
            "KEDRO_ENV": "test",
            "DO_NOT_TRACK": "1",
        }

    def servers(self) -> Any:
        command = [str(self.dagster), "dev", "--host", "127.0.0.1", "--port", str(self.port)]
        definitions = ["--module-name", "definitions", "--working-directory", str(ROOT / "deploy/dagster")]
        return running([*command, *definitions], env=self.env, cwd=self.project, log=self.log)

    def ask(self, query: str, **variables: Any) -> Any:
        """The answer to a question in GraphQL; None while the server does not answer."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql", body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                found = json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error
        except OSError:
            return None
        assert "errors" not in found, found
        return found["data"]

    def jobs(self) -> dict[str, dict[str, str]]:
        """What selects each job, by its name."""
        nodes = (self.ask(JOBS) or {}).get("repositoriesOrError", {}).get("nodes", [])
        return {
            job["name"]: {
                "repositoryName": node["name"],
                "repositoryLocationName": node["location"]["name"],
                "jobName": job["name"],
            }
            for node in nodes
            for job in node["jobs"]
        }

    def outcome(self, run: str, seconds: float) -> tuple[str, dict[str, str]]:
        """How a run ended, and each of its ops."""

        def ended() -> Any:
            found = (self.ask(STATUS, run=run) or {}).get("runOrError")
            return found if found and found["status"] in {"SUCCESS", "FAILURE", "CANCELED"} else None

        found = wait_until(f"run {run} ended", ended, seconds, self.log)
        return found["status"], {op["stepKey"]: op["status"] for op in found["stepStats"]}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project without digits."""
    project = make_project(tmp_path / "project")
    raw = project / "data/01_raw"
    raw.unlink()
    raw.mkdir()
    (raw / "fashion_mnist.parquet").symlink_to(ROOT / "data/01_raw/fashion_mnist.parquet")
    return project


@pytest.fixture
def dagster(project: Path, tmp_path: Path) -> Iterator[Dagster]:
    """Dagster with nothing in it, running."""
    (tmp_path / "home").mkdir()
    dagster = Dagster(tmp_path / "home", project)
    settings = tmp_path / "home/dagster.yaml"
    settings.write_text(re.sub(r"(?m)^( +enabled:) true", r"\1 false", settings.read_text()))  # retries: by hand below
    with dagster.servers():
        yield dagster


def test_a_failed_job_says_why_and_goes_on_under_the_same_run_id_to_the_results_of_kedro_run(dagster, project):
    jobs = wait_until("the jobs are there", dagster.jobs, 240, dagster.log)
    assert {name for name in jobs if not name.startswith("__")} == {"test__transfer"}

    first = dagster.ask(LAUNCH, selector=jobs["test__transfer"])["launchRun"]["run"]["runId"]
    status, _ = dagster.outcome(first, 300)
    assert status == "FAILURE"
    failures = [event for event in dagster.ask(ERRORS, run=first)["logsForRun"]["events"] if event]
    message = json.dumps(failures)
    assert "target_raw_images: nothing at" in message
    assert "mnist_digits.parquet. Make it with: make data" in message

    digits = project / "data/01_raw/mnist_digits.parquet"
    digits.symlink_to(ROOT / "data/01_raw/mnist_digits.parquet")
    second = dagster.ask(GO_ON, run=first)["launchRunReexecution"]["run"]["runId"]
    status, ops = dagster.outcome(second, 600)
    assert status == "SUCCESS", dagster.log.read_text()[-5000:]
    assert len(ops) == len(register_pipelines()["transfer"].nodes) + 2  # and what comes before and after them
    assert set(ops.values()) == {"SUCCESS"}

    written = {path.name for path in (project / "data").glob("0[2-8]_*/*/[!.]*")}
    (run_id,) = written
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\d\.\d{6}Z_" + first, run_id)
    records = json.loads((project / f"data/08_reporting/summary.json/{run_id}/summary.json").read_text())["seconds"]
    assert len(records) > 40

    alone = run_kedro(project, "run", "--env", "test", "--params", "run_id=alone,reuse=false")
    assert alone.returncode == 0, alone.stdout
    assert results(project, run_id) == results(project, "alone")
