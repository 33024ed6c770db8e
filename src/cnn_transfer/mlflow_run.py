"""One run of this project as one run of MLflow, whichever processes it consists of.

MLflow (3 or newer, `mlflow-skinny` is enough) is imported inside the functions. A run is found by its tag
`transfer.run_id`; what has been logged before is not logged again, so that a retry changes nothing. Names are cleaned
and shortened to what MLflow takes: 250 letters, digits and `_-. :/`; values of parameters to 6,000 characters.
"""

from __future__ import annotations

import getpass
import json
import logging
import math
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    import keras
    from mlflow.entities import Metric, Run
    from mlflow.tracking import MlflowClient

RUN_ID, TASK, CHANGED = "transfer.run_id", "task", "transfer.changed_parameters"
NAME_LENGTH, VALUE_LENGTH, TAG_LENGTH = 250, 6000, 5000  # MLflow's limits; of a tag, that of older servers
PARAMETERS_AT_ONCE, METRICS_AT_ONCE = 100, 1000
NOT_A_NAME = re.compile(r"[^\w\-. :/]", re.ASCII)
CREDENTIALS = re.compile(r"(?<=//)[^/@\s]+(?=@)")
# A server that is down must not hold up a run for minutes, and all lines go through the project's logging. Whoever sets
# one of these is heard.
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # 7 of MLflow's own wait for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class MlflowRun:
    """A run on the server that MLflow's environment names, found or begun.

    Args:
        experiment: Its name; made when there is none.
        run_id: The run's id in this project.
        task: Which part of the run this process is, for the tag that holds its state.
        tags: Further tags of a new run.
        alone: Makes a context in which no other process of this run begins it, since MLflow knows no unique tags.
    """

    def __init__(
        self,
        experiment: str,
        run_id: str,
        task: str,
        tags: Mapping[str, str],
        alone: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it warns of each retry
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        self._task = _name(f"{TASK}.{task}")
        self._experiment = _experiment(self._client, experiment)
        run = _find(self._client, self._experiment, run_id)
        if run is None:
            with alone():
                run = _find(self._client, self._experiment, run_id) or self._client.create_run(
                    self._experiment, tags={**tags, RUN_ID: run_id}, run_name=run_id
                )
        self._id = run.info.run_id
        self._client.set_tag(self._id, self._task, "RUNNING")
        self._client.update_run(self._id, status="RUNNING")

    @property
    def address(self) -> str:
        """Where a browser finds it, or what a program calls it."""
        server = without_credentials(self._client.tracking_uri)
        place = f"experiments/{self._experiment}/runs/{self._id}"
        return f"{server.rstrip('/')}/#/{place}" if server.startswith("http") else f"{place} of {server}"

    def log_parameters(self, parameters: Mapping[str, Any]) -> list[str]:
        """Log them under their dotted names; MLflow keeps the first value of each.

        Returns:
            The names of those that have another value in MLflow already, from an earlier process of the run.
        """
        from mlflow.entities import Param

        logged = self._client.get_run(self._id).data.params
        wanted = {_name(key): str(value)[:VALUE_LENGTH] for key, value in flatten(parameters)}
        new = [Param(key, value) for key, value in wanted.items() if key not in logged]
        for start in range(0, len(new), PARAMETERS_AT_ONCE):
            self._client.log_batch(self._id, params=new[start : start + PARAMETERS_AT_ONCE])
        changed = [key for key, value in wanted.items() if logged.get(key, value) != value]
        if changed:
            values = "; ".join(f"{key}: {logged[key]} → {wanted[key]}" for key in changed)
            self._client.set_tag(self._id, CHANGED, values[:TAG_LENGTH])
        return changed

    def log_metrics(self, name: str, figures: Mapping[str, Any]) -> None:
        """Log all numbers of a nested mapping as `<name>/<dotted key>`."""
        numbers = {f"{name}/{key}": value for key, value in flatten(figures) if _is_number(value)}
        self._log({key: {0: float(value)} for key, value in numbers.items()})

    def log_curves(self, name: str, log: pd.DataFrame) -> None:
        """Log training and validation figures by step as `<name>/<column>`, or `<name>/trial <n>/<column>` of a search.

        Args:
            name: Of the training log.
            log: See `cnn_transfer.training.Fit.log`: `step`, columns `training_*` and `validation_*`, maybe `trial`.
        """
        columns = [str(column) for column in log if str(column).startswith(("training_", "validation_"))]
        curves: dict[str, dict[int, float]] = {}
        for row in log.to_dict("records"):
            trial = f"/trial {row['trial']}" if "trial" in log else ""
            for column in columns:
                if _is_number(row[column]):
                    curves.setdefault(f"{name}{trial}/{column}", {})[int(row["step"])] = float(row[column])
        self._log(curves)

    def log_file(self, path: Path, folder: str) -> None:
        """Store a file as an artefact; an earlier one of this name is replaced."""
        self._client.log_artifact(self._id, str(path), folder)

    def log_model(self, name: str, model: keras.Model, metadata: Mapping[str, Any]) -> None:
        """Store a model that `mlflow.pyfunc.load_model` loads: uint8 images in, probabilities out.

        Args:
            name: Of the model.
            model: Takes raw uint8 pixels of a fixed size.
            metadata: Put beside it as it is, such as the names of the classes.
        """
        import keras
        import mlflow.tensorflow
        import numpy as np
        import tensorflow as tf
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus
        from mlflow.models import Model, ModelSignature
        from mlflow.types import Schema, TensorSpec

        shape = model.input_shape[1:]
        signature = ModelSignature(
            Schema([TensorSpec(np.dtype("uint8"), (-1, *shape))]),
            Schema([TensorSpec(np.dtype(model.outputs[0].dtype), (-1, *model.output_shape[1:]))]),
        )
        logged = self._client.create_logged_model(self._experiment, name, self._id)
        with tempfile.TemporaryDirectory() as folder:
            # The flavour `mlflow.keras` fails with an input example: https://github.com/mlflow/mlflow/issues/16183
            mlflow.tensorflow.save_model(
                model,
                f"{folder}/model",
                mlflow_model=Model(
                    artifact_path=logged.artifact_location,
                    run_id=self._id,
                    model_id=logged.model_id,
                    model_uuid=logged.model_id,
                    metadata=dict(metadata),
                ),
                signature=signature,
                input_example=np.zeros((1, *shape), np.uint8),
                pip_requirements=[
                    f"tensorflow=={tf.__version__}",
                    f"keras=={keras.__version__}",
                ],  # else it looks for them in a process of its own, 10 s
            )
            self._client.log_model_artifacts(logged.model_id, f"{folder}/model")
        self._client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
        self._client.log_outputs(self._id, [LoggedModelOutput(logged.model_id, step=0)])

    def has_model(self) -> bool:
        """Whether a process of the run has stored a model."""
        outputs = self._client.get_run(self._id).outputs
        return bool(outputs and outputs.model_outputs)

    def end(self, status: str) -> None:
        """End this process's part: FINISHED, FAILED or KILLED; the run has ended when no part of it is running.

        A run of several processes is FINISHED when the last one ends and none has failed or was killed.
        """
        self._client.set_tag(self._id, self._task, status)
        tags = self._client.get_run(self._id).data.tags
        states = {value for key, value in tags.items() if key.startswith(f"{TASK}.")}
        if "RUNNING" not in states:
            worst = next((state for state in ("FAILED", "KILLED") if state in states), "FINISHED")
            self._client.set_terminated(self._id, worst)

    def _log(self, curves: Mapping[str, Mapping[int, float]]) -> None:
        """Log values by name and step, but for those names whose last value is there already."""
        from mlflow.entities import Metric

        logged = self._client.get_run(self._id).data.metrics
        now = int(time.time() * 1000)
        new: list[Metric] = [
            Metric(_name(key), value, now, step)
            for key, points in curves.items()
            if logged.get(_name(key)) != points[max(points)]
            for step, value in points.items()
        ]
        for start in range(0, len(new), METRICS_AT_ONCE):
            self._client.log_batch(self._id, metrics=new[start : start + METRICS_AT_ONCE])


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a nested mapping with their dotted names, but for keys with a leading underscore (YAML anchors)."""
    for key, value in values.items():
        if str(key).startswith("_"):
            continue
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value) if isinstance(value, list | dict) else value


def without_credentials(text: str) -> str:
    """The text with `***` for the user and password of addresses."""
    return CREDENTIALS.sub("***", text)


def describe_process(project: Path) -> dict[str, str]:
    """MLflow's own tags: who started what, from which commit."""
    tags = {"mlflow.source.name": project.name}
    try:
        tags["mlflow.user"] = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        tags["mlflow.user"] = str(os.getuid())
    command = ["git", "-C", str(project), "rev-parse", "HEAD"]
    try:
        tags["mlflow.source.git.commit"] = subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        return tags
    return tags


def _experiment(client: MlflowClient, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException as error:  # another process was quicker
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)
    return str(found.experiment_id)


def _find(client: MlflowClient, experiment: str, run_id: str) -> Run | None:
    found = list(client.search_runs([experiment], f"tags.`{RUN_ID}` = '{run_id}'"))
    return min(found, key=lambda run: run.info.start_time) if found else None


def _name(key: str) -> str:
    return NOT_A_NAME.sub("_", key)[:NAME_LENGTH]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
