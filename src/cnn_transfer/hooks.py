"""What happens around the nodes: checks before the first one, a record of each, a summary after the last."""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import Any

import click
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import AbstractVersionedDataset, DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from cnn_transfer.configuration import ConfigLoader
from cnn_transfer.datasets import (
    AllVersionsDataset,
    CheckpointsDataset,
    ChosenPredictorDataset,
    CurvePointsDataset,
    FeatureCollectionDataset,
    FeaturesDataset,
    KerasModelDataset,
    PredictorDataset,
    PretrainedNetworksDataset,
    RawImagesDataset,
    RunRecordsDataset,
    versions,
)
from cnn_transfer.datasets.store import StoreError, check_store, configure_store
from cnn_transfer.evaluation import describe_intake, describe_ranking, describe_summary
from cnn_transfer.evaluation.learning_curve import describe_labels_saved
from cnn_transfer.evaluation.run_comparison import describe_runs
from cnn_transfer.fingerprints import Fingerprint, Fingerprints
from cnn_transfer.log_origin import ORIGIN, current_node
from cnn_transfer.parameters import ParameterError
from cnn_transfer.resources import count_images, peak_memory_mb, reset_peak_memory
from cnn_transfer.run_identity import given_run_id
from cnn_transfer.run_parameters import parse_run_parameters
from cnn_transfer.runner import run_records, versioned
from cnn_transfer.training.workers import role

LOGGER = logging.getLogger("cnn_transfer")
INTAKE = "intake"
SUMMARY, REPORT = "summary", "report"
RANKING, CHOICE = "source_ranking", "source_choice"
LABELS_SAVED = "labels_saved"
ALL_SUMMARIES = "all_summaries"
RUNS, CHANGES = "runs_table", "runs_differences"
WITH_TENSORFLOW = (
    ChosenPredictorDataset, CurvePointsDataset, FeatureCollectionDataset, FeaturesDataset, KerasModelDataset,
    PredictorDataset, PretrainedNetworksDataset,
)  # fmt: skip


def stage_of(node: Node) -> str:
    """The stage that a node belongs to, which begins its namespace."""
    return str(node.namespace).split(".", maxsplit=1)[0]


def take_over_inputs(pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Make what a part of the graph reads, but does not make, this run's own: as the latest run has it.

    All comes from one run where one has all of it; else each from the latest that has it.
    """
    records = run_records(catalog)
    if records is None:
        return
    wanted = {
        name: found
        for name in sorted(pipeline.inputs())
        if (dataset := versioned(catalog, name))
        and dataset.resolve_load_version() == records.run_id
        and not versions.exists(dataset, records.run_id)
        and (found := dataset.list_versions(full_path=False))
    }
    in_all = [
        version for version in next(iter(wanted.values()), []) if all(version in found for found in wanted.values())
    ]
    for run in dict.fromkeys((in_all or found)[0] for found in wanted.values()):
        names = [name for name, found in wanted.items() if (in_all or found)[0] == run]
        made = {name: digest for record in records.of_run(run).values() for name, digest in record["outputs"].items()}
        digests = {}
        for name in names:
            if dataset := versioned(catalog, name):
                digests[name] = made.get(name) or versions.digest(dataset, run)
                versions.adopt(dataset, run, records.run_id)
        records.save_inputs(digests, run)
        LOGGER.info("Takes %s from the run %s.", ", ".join(names) if len(names) < 4 else f"{len(names)} inputs", run)


class CheckHooks:
    """Stop a run before its first node when parameters are wrong or inputs are missing."""

    def __init__(self) -> None:
        self._parameters: dict[str, Any] = {}
        self._run_is_given = False

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Keep the parameters for the check before the run."""
        self._parameters = context.params
        try:
            self._run_is_given = given_run_id(context.params) is not None
        except ParameterError as error:
            raise click.ClickException(str(error)) from error

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Check all parameters, whatever part of the graph runs, and that what the run reads is there."""
        stages = {stage_of(node) for node in pipeline.nodes}
        try:
            parse_run_parameters(self._parameters, stages)
        except ParameterError as error:
            raise click.ClickException(f"Wrong parameters; nothing was run.\n{error}") from error
        unread = [text for role in ("source", "target") if (text := self._unread(role, catalog))]
        if unread:
            raise click.ClickException("Wrong parameters; nothing was run.\n" + "\n".join(unread))
        if role() != "alone" and not self._run_is_given:
            raise click.ClickException(
                "TF_CONFIG names several machines, which must be given the id of their run: set TRANSFER_RUN_ID to the "
                "same on all of them."
            )
        missing = [text for name in sorted(pipeline.inputs()) if (text := self._missing(name, catalog))]
        if missing:
            raise click.ClickException("Missing inputs; nothing was run.\n" + "\n".join(missing))
        if not self._run_is_given:
            take_over_inputs(pipeline, catalog)

    def _unread(self, role: str, catalog: DataCatalog) -> str:
        """What is wrong with a path of images that this environment's catalog does not read, or nothing."""
        path = self._parameters.get(f"{role}_images")
        raw = catalog.get(f"{role}_raw_images")
        if path is None or (isinstance(raw, RawImagesDataset) and raw.filepath.endswith(path)):
            return ""
        return (
            f"{role}_images: {path} was asked for, but the catalog of this environment reads {raw}. Leave it out, take "
            f"another --env, or put ${{runtime_params:{role}_images}} into the entry {role}_raw_images."
        )

    def _missing(self, name: str, catalog: DataCatalog) -> str:
        """What is missing and how to get it, or nothing when the dataset is there."""
        dataset = catalog.get(name)
        if isinstance(dataset, RawImagesDataset) and not dataset.exists():
            parameter = name.replace("_raw_images", "_images")
            remedy = f"Make it with: {dataset.made_by}" if dataset.made_by else "Check its filepath in the catalog."
            if self._parameters.get(parameter):
                remedy = f"Check the parameter {parameter}."
            return f"{name}: nothing at {dataset.filepath}. {remedy}"
        if isinstance(dataset, AbstractVersionedDataset) and not dataset.exists():
            return self._missing_version(name, dataset, catalog)
        if isinstance(dataset, AllVersionsDataset) and name == ALL_SUMMARIES and not dataset.exists():
            return f"{name}: no run has written a summary yet. Make one with: kedro run"
        return ""

    def _missing_version(self, name: str, dataset: AbstractVersionedDataset[Any, Any], catalog: DataCatalog) -> str:
        """The same of a version; what an earlier run has is there for a run that begins, which takes it over."""
        records, wanted = run_records(catalog), str(dataset.resolve_load_version())
        begins = records is not None and wanted == records.run_id and not self._run_is_given
        if begins and dataset.list_versions():
            return ""
        told = f"no version in {dataset._filepath}." if begins else versions.missing_version(dataset, wanted)
        return f"{name}: {told} Run the stages before this one first, in this run, or all: kedro run"


class StoreHooks:
    """Give the store its credentials, and stop a run before its first node when it cannot be used."""

    def __init__(self) -> None:
        self._address: str | None = None

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Configure the file system before the catalog makes use of it."""
        if not isinstance(context.config_loader, ConfigLoader):
            return
        self._address = context.config_loader.store(context.project_path)
        try:
            configure_store(self._address, context.config_loader.store_credentials())
        except StoreError as error:
            raise click.ClickException(str(error)) from error

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self) -> None:
        """Try it, before other checks look for inputs there."""
        if self._address is None:
            return
        try:
            check_store(self._address)
        except StoreError as error:
            raise click.ClickException(f"Nothing was run. {error}") from error


class IntakeHooks:
    """Say in a line a set what was used and what was set aside."""

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Log the counts of an intake."""
        if dataset_name.endswith(INTAKE):
            LOGGER.info("%s: %s", dataset_name.removesuffix(f"_{INTAKE}"), describe_intake(data))


class TensorFlowHooks:
    """Import TensorFlow without the lines that its C++ core writes to the terminal at start-up."""

    def __init__(self) -> None:
        self._catalog: DataCatalog | None = None

    @hook_impl
    def after_catalog_created(self, catalog: DataCatalog) -> None:
        """Keep the catalog, which tells what a node needs; some orchestrators make one a node and run no pipeline."""
        self._catalog = catalog

    @hook_impl(trylast=True)  # after the checks
    def before_pipeline_run(self) -> None:
        """Import it at once where several machines train together, which meet before the first node."""
        if role() != "alone":
            self._import()

    @hook_impl(tryfirst=True)  # before a node's clock starts
    def before_dataset_loaded(self, node: Node) -> None:
        """Import it before the first node that needs it: a run that takes over all that trains does not pay for it."""
        if "tensorflow" in sys.modules or self._catalog is None:
            return
        datasets = [self._catalog.get(name) for name in (*node.inputs, *node.outputs)]
        if any(isinstance(dataset, WITH_TENSORFLOW) for dataset in datasets):
            self._import()

    @staticmethod
    def _import() -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        # These lines come before any log level is read, so that the only way is to close the stream they go to.
        standard_error = os.dup(2)
        try:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
                import tensorflow as tf

                tf.config.list_physical_devices()  # looks for a GPU, and complains when there is none
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)


class RecordHooks:
    """Write what each node read and made, how long it took and what memory it needed to the records of the run.

    A node's time counts from the loading of its first input to the saving of its last output: image sets are decoded
    while they are saved. With its record a node is done: no process of the run does it again.
    """

    def __init__(self) -> None:
        self._catalog: DataCatalog | None = None
        self._records: RunRecordsDataset | None = None
        self._fingerprints: Fingerprints | None = None
        self._started: dict[str, tuple[float, Fingerprint | None]] = {}
        self._unsaved: dict[str, set[str]] = {}
        self._images: dict[str, int | None] = {}

    @hook_impl
    def after_catalog_created(self, catalog: DataCatalog) -> None:
        """Keep the catalog, and the records to write to."""
        self._catalog = catalog
        self._records = run_records(catalog)
        self._fingerprints = Fingerprints(catalog, self._records) if self._records else None

    @hook_impl
    def before_dataset_loaded(self, node: Node) -> None:
        """Start a node's clock with its first input."""
        if node.name not in self._started:
            reset_peak_memory()
            fingerprint = self._fingerprints.of(node) if self._fingerprints else None
            self._started[node.name] = (time.perf_counter(), fingerprint)
            self._unsaved[node.name] = set(node.outputs)

    @hook_impl
    def after_node_run(self, node: Node, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
        """Count the images, and remove what a killed process left in the place of the outputs."""
        self._images[node.name] = count_images(inputs, outputs)
        if self._records is None or self._catalog is None:
            return
        for name in node.outputs:
            if dataset := versioned(self._catalog, name):
                versions.discard(dataset, str(dataset.resolve_save_version()))

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, node: Node) -> None:
        """Stop a node's clock with its last output, and write its record."""
        self._unsaved[node.name].discard(dataset_name)
        if self._unsaved[node.name]:
            return
        started, fingerprint = self._started.pop(node.name)
        seconds = time.perf_counter() - started
        LOGGER.info("%-40s %6.1f s", node.name, seconds)
        if self._records is None or self._catalog is None or fingerprint is None:
            return
        images = self._images.pop(node.name, None)
        record = {
            "node": node.name,
            "fingerprint": fingerprint.value,
            "inputs": fingerprint.inputs,
            "outputs": {name: self._digest(name) for name in node.outputs},
            "seconds": round(seconds, 3),
            "peak_memory_mb": peak_memory_mb(),
            "images_per_second": images and round(images / seconds, 1),
            "reused_from": None,
            "finished": time.time(),
        }
        self._records.save({node.name: record})
        for name in node.inputs:
            if isinstance(dataset := self._catalog.get(name), CheckpointsDataset):
                dataset.load().clear()

    def _digest(self, name: str) -> str:
        if self._catalog and (dataset := versioned(self._catalog, name)):
            return versions.digest(dataset, str(dataset.resolve_save_version()))
        return f"not versioned, made {time.time()}"


class LogHooks:
    """Tell the lines of JSON logs which run and node they come from."""

    def __init__(self) -> None:
        self._run_id: str | None = None

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Keep the run's id, when it was given."""
        self._run_id = given_run_id(context.params)

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Name the run."""
        ORIGIN.run_id = self._run_id or str(run_params["run_id"])

    @hook_impl(tryfirst=True)
    def before_dataset_loaded(self, node: Node) -> None:
        """Name the node, which begins with its first input."""
        current_node.set(node.name)

    @hook_impl(tryfirst=True)
    def before_node_run(self, node: Node) -> None:
        """Name it again: inputs may have been loaded in other threads."""
        current_node.set(node.name)

    @hook_impl(tryfirst=True)
    def after_pipeline_run(self) -> None:
        """What comes now, comes from no node."""
        current_node.set(None)


class SummaryHooks:
    """End a run that made a summary, a ranking, a learning curve or a comparison, with a few lines on the terminal."""

    def __init__(self) -> None:
        self._command = "kedro run"

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Keep the environment, which the next run needs, too."""
        if context.env:
            self._command = f"kedro run --env {context.env}"

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Print them and where to look, on one of several machines."""
        if role() == "worker":
            return
        made = pipeline.all_outputs()
        if SUMMARY in made:
            self._print(describe_summary(catalog.load(SUMMARY)), catalog.get(REPORT if REPORT in made else SUMMARY))
        if {RANKING, CHOICE} <= made:
            lines = describe_ranking(catalog.load(RANKING), catalog.load(CHOICE), self._command)
            self._print(lines, catalog.get(RANKING))
        if LABELS_SAVED in made:
            self._print(describe_labels_saved(catalog.load(LABELS_SAVED)), catalog.get(LABELS_SAVED))
        if {RUNS, CHANGES} <= made:
            self._print(describe_runs(catalog.load(RUNS), catalog.load(CHANGES)), catalog.get(RUNS))

    def _print(self, lines: list[str], dataset: Any) -> None:
        if ORIGIN.for_collectors:
            LOGGER.info("\n".join(lines))
            return
        click.echo("\n" + "\n".join(lines))
        if isinstance(dataset, AbstractVersionedDataset):
            click.echo(
                f"Where to look   {versions.address_of(dataset)}, pictures and tables beside it; kedro viz run\n"
            )
