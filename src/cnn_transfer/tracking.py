"""Tracking in MLflow by hooks and configuration only; off unless the parameter `mlflow` is true.

What a node saves is logged as it is saved; what this process did not make itself (reused outputs, or what a server that
was down has missed) at the end, from the catalog.
"""

from __future__ import annotations

import atexit
import logging
import os
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from kedro.config import MissingConfigException
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from pydantic import Field

from cnn_transfer.datasets import ClaimedError
from cnn_transfer.evaluation.provenance import OF_A_PROCESS
from cnn_transfer.exit_codes import RefusedError
from cnn_transfer.mlflow_run import MlflowRun, describe_process, without_credentials
from cnn_transfer.parameters import ParameterError, Parameters, did_you_mean
from cnn_transfer.prediction.native_notes import import_tensorflow
from cnn_transfer.run_identity import given_run_id
from cnn_transfer.runner import run_records

LOGGER = logging.getLogger("cnn_transfer")
CONFIGURATION = "tracking"  # of the configuration loader: tracking*.yml
CLAIM_SECONDS = 60
SWITCH = "params:mlflow"
SERVER, EXPERIMENT = "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"


class Tracking(Parameters):
    """The contents of `tracking.yml`; the names are those of catalog entries."""

    experiment: str = Field(min_length=1)
    metrics: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()
    artifacts: tuple[str, ...] = ()
    model: str | None = None
    model_card: str | None = None

    def names(self) -> set[str]:
        """All catalog entries that are named."""
        return {*self.metrics, *self.curves, *self.artifacts, *filter(None, (self.model, self.model_card))}

    def check(self, catalog: DataCatalog) -> None:
        """See whether tracking is possible.

        Raises:
            ParameterError: Naming what is missing.
        """
        if find_spec("mlflow") is None:
            raise ParameterError(
                "mlflow: true was asked for, but MLflow is not installed. Install it with: pip install "
                "'cnn-transfer[mlflow]', or leave mlflow out."
            )
        if not os.environ.get(SERVER):
            raise ParameterError(
                f"mlflow: true was asked for, but {SERVER} is not set. Set it to the address of a tracking server, "
                "such as http://127.0.0.1:5000, or leave mlflow out."
            )
        known = list(catalog.keys())
        for name in sorted(self.names() - set(known)):
            raise ParameterError(f"tracking.yml: {name} is not in the catalog. {did_you_mean(name, known)}")


OFF = Tracking(experiment="none")


class TrackingHooks:
    """Log a run to MLflow: parameters, figures, curves, files and the delivered model."""

    def __init__(self) -> None:
        self._tracking = OFF
        self._project, self._parameters, self._environment = Path(), dict[str, Any](), ""
        self._run: MlflowRun | None = None
        self._begin: Callable[[], MlflowRun] | None = None
        self._logged: set[str] = set()
        self._failing = self._has_failed = False
        self._run_id = ""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Read the configuration."""
        try:
            self._tracking = Tracking.parse(context.config_loader[CONFIGURATION], CONFIGURATION)
        except MissingConfigException:  # a configuration without it
            self._tracking = OFF
        except ParameterError as error:
            raise RefusedError(f"Wrong configuration; nothing was run.\n{error}") from error
        self._project, self._parameters, self._environment = context.project_path, context.params, str(context.env)

    @hook_impl(tryfirst=True)  # before anything is written
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """See whether tracking is wanted and possible; the run in MLflow begins with its first node."""
        self._begin = self._run = None
        if SWITCH not in catalog or not catalog.load(SWITCH):
            return
        try:
            self._tracking.check(catalog)
        except ParameterError as error:
            raise RefusedError(f"Wrong configuration; nothing was run.\n{error}") from error
        self._run_id = run_id = given_run_id(self._parameters) or str(run_params["run_id"])
        experiment = os.environ.get(EXPERIMENT) or self._tracking.experiment
        tags = {**describe_process(self._project), "kedro.env": self._environment}
        self._logged = set()
        self._failing = self._has_failed = False
        self._begin = lambda: MlflowRun(experiment, run_id, name_task(pipeline), tags, lambda: claim(catalog))
        atexit.register(self._end, "KILLED")  # a signal's exception passes by Kedro's hooks

    @hook_impl
    def before_dataset_loaded(self) -> None:
        """Begin a run, or go on with that of an earlier process."""
        self._try(self._log_parameters)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Log what has just been made, but for files and the model, which wait for the end."""
        if dataset_name in self._tracking.metrics:
            self._try(self._log_metrics, dataset_name, data)
        if dataset_name in self._tracking.curves:
            self._try(self._log_curves, dataset_name, data)

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Log the rest, and end."""
        self._log_rest(pipeline, catalog)
        self._end("FINISHED")

    @hook_impl
    def on_pipeline_error(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Log what was made before the error, and end."""
        self._log_rest(pipeline, catalog)
        self._end("FAILED")

    def _log_rest(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        self._failing = False  # a server that was down may be back
        tracking, made = self._tracking, pipeline.all_outputs()
        self._try(self._log_parameters)
        for names, log in ((tracking.metrics, self._log_metrics), (tracking.curves, self._log_curves)):
            for name in names:
                if name in made and name not in self._logged:
                    self._try(self._log_stored, catalog, name, log)
        for name in tracking.artifacts:
            if name in made:
                self._try(self._log_file, catalog, name)
        if tracking.model in made:
            self._try(self._log_model, catalog)

    def _log_parameters(self) -> None:
        if self._run is None or "parameters" in self._logged:
            return
        parameters = {name: value for name, value in self._parameters.items() if name not in OF_A_PROCESS}
        changed = self._run.log_parameters(parameters)
        if changed:
            LOGGER.warning(
                "MLflow keeps the first values of a run's parameters; this process has others of %s.",
                ", ".join(changed),
            )
        self._logged.add("parameters")

    def _log_metrics(self, name: str, data: Any) -> None:
        if self._run is not None:
            self._run.log_metrics(name, data)
            self._logged.add(name)

    def _log_curves(self, name: str, data: Any) -> None:
        if self._run is not None:
            self._run.log_curves(name, data)
            self._logged.add(name)

    @staticmethod
    def _log_stored(catalog: DataCatalog, name: str, log: Callable[[str, Any], None]) -> None:
        if catalog.exists(name):
            log(name, catalog.load(name))

    def _log_file(self, catalog: DataCatalog, name: str) -> None:
        if self._run is None or not catalog.exists(name):
            return
        dataset: Any = catalog.get(name)
        stored = PurePosixPath(str(dataset._get_load_path()))
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / stored.name
            dataset._fs.get_file(str(stored), str(local))
            self._run.log_file(local, PurePosixPath(str(dataset._filepath)).parent.name)

    def _log_model(self, catalog: DataCatalog) -> None:
        name, card = self._tracking.model, self._tracking.model_card
        if self._run is None or name is None or not catalog.exists(name) or self._run.has_model():
            return
        import_tensorflow()  # where all was done already, nothing else has
        self._run.log_model(name, catalog.load(name), catalog.load(card) if card and catalog.exists(card) else {})

    def _end(self, status: str) -> None:
        if self._begin is None:
            return
        atexit.unregister(self._end)
        if (run := self._run) is not None:
            self._try(lambda: run.end(status))
            if not self._failing:
                LOGGER.info("MLflow: %s", run.address)
        self._begin = None

    def _try(self, log: Callable[..., Any], *arguments: Any) -> None:
        """Do something with MLflow; whatever goes wrong is said once, and does not end the run."""
        if self._begin is None or self._failing:
            return
        try:
            if self._run is None:
                self._run = self._begin()
            log(*arguments)
        except Exception as error:
            self._failing = True
            if self._has_failed:
                LOGGER.info(
                    "MLflow has not got all of this run. Once it answers, the same command with TRANSFER_RUN_ID=%s "
                    "logs what is missing, and computes nothing anew.",
                    self._run_id,
                )
                return
            self._has_failed = True
            LOGGER.warning(
                "MLflow at %s does not take what is logged (%s). The run goes on; at its end there is another try.",
                without_credentials(os.environ.get(SERVER, "")),
                without_credentials(f"{type(error).__name__}: {error}"),
            )


@contextmanager
def claim(catalog: DataCatalog) -> Iterator[None]:
    """Wait for other processes of this run that begin it in MLflow, and keep them waiting; they meet in the store."""
    records = run_records(catalog)
    deadline = time.monotonic() + CLAIM_SECONDS
    with ExitStack() as held:
        while records is not None:
            try:
                held.enter_context(records.claim("mlflow"))
                break
            except ClaimedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        yield


def name_task(pipeline: Pipeline) -> str:
    """A name for the part of a graph that a process runs: the node, or the stages with a checksum of the nodes."""
    names = sorted(node.name for node in pipeline.nodes)
    if len(names) == 1:
        return names[0]
    stages = sorted({name.split(".", maxsplit=1)[0] for name in names})
    return f"{' '.join(stages)} {zlib.crc32(' '.join(names).encode()):08x}"
