"""Stop a run before its first node when parameters are wrong, inputs are missing, or the store cannot be used."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import AbstractVersionedDataset, DataCatalog
from kedro.io.core import DatasetError, VersionNotFoundError
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from cnn_transfer.configuration import ConfigLoader
from cnn_transfer.datasets import (
    AllVersionsDataset,
    ChosenPredictorDataset,
    LabelTableDataset,
    NewImagesDataset,
    OfModelDataset,
    RawImagesDataset,
    versions,
)
from cnn_transfer.datasets.store import StoreError, check_store, configure_store
from cnn_transfer.exit_codes import RefusedError
from cnn_transfer.hooks.take_over import take_over_inputs
from cnn_transfer.images import about_wildcards
from cnn_transfer.parameters import ParameterError, did_you_mean
from cnn_transfer.run_identity import AS_A_NUMBER, given_run_id
from cnn_transfer.run_parameters import parse_run_parameters
from cnn_transfer.runner import run_records
from cnn_transfer.training.workers import role

ALL_SUMMARIES = "all_summaries"
# Parameters that the catalog passes on, after "source_" or "target_", and attributes of RawImagesDataset.
WHAT_RAW_IMAGES_READ = {"images": "filepath", "labels": "labels", "name_pattern": "name_pattern", "columns": "columns"}
PLACES = {"images", "labels"}  # among them: their paths lie in the project
USE_A_MODEL = {"export", "label_next", "predict"}  # stages that read a chosen predictor
OWN_MODEL = "predictor"  # or that of their own run
EARLIER_STAGES = "Run the stages before this one first, in this run, or all: kedro run"
MOST_NAMED = 10
LARGEST_BUNDLED_PX = 64  # the most for which networks of our own are made; the bundled images have 28
logger = logging.getLogger(__name__)
ReadAsTheyCome = ChosenPredictorDataset | LabelTableDataset | NewImagesDataset | OfModelDataset | RawImagesDataset


def stage_of(node: Node) -> str:
    """The stage that a node belongs to, which begins its namespace."""
    return str(node.namespace).split(".", maxsplit=1)[0]


class CheckHooks:
    """Stop a run before its first node when parameters are wrong or inputs are missing."""

    def __init__(self) -> None:
        self._parameters: dict[str, Any] = {}
        self._command_line: dict[str, Any] = {}
        self._project = Path()
        self._run_is_given = False
        self._entries: frozenset[str] = frozenset()

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Keep the parameters for the check before the run."""
        self._parameters, self._project = context.params, context.project_path
        self._command_line = context.config_loader.runtime_params or {}
        if context.env not in {None, "local"} and isinstance(context.config_loader, ConfigLoader):
            for file in context.config_loader.local_files():
                logger.warning(
                    "conf/local/%s is not read with --env %s: beside conf/base Kedro reads one environment. What is to "
                    "count here belongs into conf/%s.",
                    file,
                    context.env,
                    context.env,
                )
        try:
            self._run_is_given = given_run_id(context.params) is not None
        except ParameterError as error:
            raise RefusedError(str(error)) from error

    @hook_impl
    def after_catalog_created(self, conf_catalog: dict[str, Any]) -> None:
        """Keep the names of its entries."""
        self._entries = frozenset(conf_catalog)

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Check all parameters, whatever part of the graph runs, and that what the run reads is there."""
        stages = {stage_of(node) for node in pipeline.nodes}
        try:
            parse_run_parameters(self._parameters, stages)
        except ParameterError as error:
            where = self._explained_in(str(error))
            raise RefusedError(f"Wrong parameters; nothing was run.\n{error}{where}") from error
        self._tell_what_is_mistyped()
        for name in sorted({*pipeline.datasets(), "source_raw_images", "target_raw_images"}):
            try:
                catalog.get(name)  # makes it
            except DatasetError as error:
                raise RefusedError(f"The catalog cannot be used; nothing was run. {error}".strip()) from error
        unread = [text for role in ("source", "target") if (text := self._unread(role, catalog))]
        if "pretrain_source" in stages and (text := self._enlarged(catalog)):
            unread.append(text)
        version = self._parameters.get("model_version")
        if version is not None and (USE_A_MODEL.isdisjoint(stages) or OWN_MODEL in pipeline.datasets()):
            unread.append(
                f"model_version: {version} was asked for, but nothing of this run uses the network of another. Leave "
                f"it out, or run --pipelines {' or '.join(sorted(USE_A_MODEL))}."
            )
        if unread:
            raise RefusedError("Wrong parameters; nothing was run.\n" + "\n".join(unread))
        if role() != "alone" and not self._run_is_given:
            raise RefusedError(
                "TF_CONFIG names several machines, which must be given the id of their run: set TRANSFER_RUN_ID to the "
                "same on all of them."
            )
        if own := [text for name in sorted(pipeline.all_outputs()) if (text := self._loads_another(name, catalog))]:
            raise RefusedError("Wrong versions to load; nothing was run.\n" + "\n".join(own))
        missing, may_come = [], True
        for name in sorted(pipeline.inputs()):
            try:
                text = self._missing(name, catalog)
            except ParameterError as error:
                text, may_come = f"{name}: {error}", False
            missing += [text] if text else []
        if missing:
            kind = click.ClickException if may_come else RefusedError
            raise kind("Inputs that are missing or cannot be used; nothing was run.\n" + "\n".join(_told_once(missing)))
        if not self._run_is_given:
            self._tell_what_is_not_read(pipeline)
            take_over_inputs(pipeline, catalog)

    def _explained_in(self, problems: str) -> str:
        """The files whose comments say what the parameters in these lines mean."""
        base = self._project / "conf/base"
        blocks = {line.partition(":")[0].partition(".")[0] for line in problems.splitlines()}
        own = {block: f"parameters_{block}.yml" for block in blocks if block.isidentifier()}
        files = {own[name] if name in own and (base / own[name]).is_file() else "parameters.yml" for name in blocks}
        return f"\nWhat parameters mean: {' and '.join(f'conf/base/{file}' for file in sorted(files))}."

    def _tell_what_is_mistyped(self) -> None:
        """Warn of entries of the catalog whose names are nearly those of others, and which no pipeline uses."""
        known = set[str]().union(*(graph.datasets() for graph in pipelines.values()))
        for name in sorted(self._entries - known):
            if meant := did_you_mean(name, sorted(known)):
                logger.warning("The entry %s of the catalog is used by no pipeline. %s", name, meant.strip())

    def _tell_what_is_not_read(self, pipeline: Pipeline) -> None:
        """Warn of images and labels that the command line names, and that this part of the graph does not read."""
        for name in (f"{side}_{part}" for side in ("source", "target") for part in sorted(PLACES)):
            wanted, read_from = self._command_line.get(name), f"{name.partition('_')[0]}_raw_images"
            if wanted is not None and read_from not in pipeline.inputs():
                logger.warning(
                    "%s: %s was asked for, but nothing of this run reads images to learn from: it goes on with those "
                    "of an earlier run, under the labels that they had. To change them, run all: kedro run",
                    name,
                    wanted,
                )

    def _unread(self, role: str, catalog: DataCatalog) -> str:
        """What is wrong with a path, or how to read it, that this environment's catalog does not read, or nothing."""
        raw = catalog.get(f"{role}_raw_images")
        is_read = isinstance(raw, RawImagesDataset)
        for part, attribute in WHAT_RAW_IMAGES_READ.items():
            name = f"{role}_{part}"
            wanted, read = self._parameters.get(name), getattr(raw, attribute) if is_read else None
            if wanted is not None and read != wanted and not (part in PLACES and self._is_place(wanted, read)):
                return (
                    f"{name}: {wanted} was asked for, but the catalog of this environment reads {raw}. Leave it out, "
                    f"take another --env, or put ${{runtime_params:{name}}} into the entry {role}_raw_images."
                )
        return ""

    def _is_place(self, wanted: str, read: str | None) -> bool:
        """Whether a catalog that reads one place reads what was asked for; Kedro makes paths absolute."""
        paths = [Path(place.replace("\\", "/")) for place in (wanted, read or "")]
        return self._project / paths[0] == paths[1]

    def _enlarged(self, catalog: DataCatalog) -> str:
        """Why pretraining on the bundled images makes no sense at the size that is set, or nothing."""
        raw, image_format = catalog.get("source_raw_images"), self._parameters["preprocess"]["source"]["image_format"]
        is_bundled = isinstance(raw, RawImagesDataset) and raw.made_by and self._parameters.get("source_images") is None
        if not is_bundled or image_format["image_size_px"] <= LARGEST_BUNDLED_PX:
            return ""
        return (
            "preprocess.source.image_format.image_size_px: the bundled source images have 28 px a side; pretraining "
            f"on them at {image_format['image_size_px']} px would take hours for nothing. Take a network that has been "
            "pretrained (--pipelines transfer_pretrained), or give source_images=PATH."
        )

    @staticmethod
    def _loads_another(name: str, catalog: DataCatalog) -> str:
        """That what this run makes would be loaded in the version of another run; nothing when its own is."""
        records, version = run_records(catalog), versions.asked_for(catalog.get(name))
        if records is None or version in (None, records.run_id):
            return ""
        return (
            f"--load-versions {name}:{version} was asked for, but this run makes {name} itself. Leave it out, or run "
            "only the nodes after the one that makes it (--from-nodes, --pipelines)."
        )

    def _missing(self, name: str, catalog: DataCatalog) -> str:
        """What is missing and how to get it, or nothing when the dataset is there.

        Raises:
            ParameterError: When the dataset has not been told where to look, which no later attempt changes.
        """
        dataset = catalog.get(name)
        if isinstance(dataset, RawImagesDataset) and (missing := self._missing_images(name, dataset)):
            return missing
        if isinstance(dataset, ReadAsTheyCome):
            return self._unusable(name, dataset)
        if isinstance(dataset, AbstractVersionedDataset) and not dataset.exists():
            return self._missing_version(name, dataset, catalog)
        if isinstance(dataset, AllVersionsDataset) and name == ALL_SUMMARIES and not dataset.exists():
            return f"{name}: no run has written a summary yet. Make one with: kedro run"
        return ""

    def _missing_images(self, name: str, dataset: RawImagesDataset) -> str:
        parameter = name.replace("_raw_images", "_images")
        try:
            is_there = dataset.exists()
        except DatasetError as error:  # whatever a file system raises, for want of a package or of credentials
            return f"{name}: {dataset.filepath} cannot be looked at: {error.__cause__ or error}"
        if is_there:
            told = f"{name}: no labels at {dataset.labels}. Check the parameter target_labels."
            return "" if dataset.labels_exist() else told
        remedy = f"Make it with: {dataset.made_by}" if dataset.made_by else "Check its filepath in the catalog."
        if parameter in self._parameters:
            path = self._parameters[parameter]
            remedy = f"Check the parameter {parameter}{', which is empty' if path is None else ''}."
        return f"{name}: nothing at {dataset.filepath}.{about_wildcards(dataset.filepath)} {remedy}"

    def _unusable(self, name: str, dataset: ReadAsTheyCome) -> str:
        """Why new images or labels cannot be read, or a model not be used; nothing when they can."""
        try:
            dataset.check()
        except VersionNotFoundError as error:  # told once, whatever is missing of it
            return f"{error} {self._misread()}Name one with --params model_version=RUN, or make one with: kedro run"
        except ParameterError:
            raise
        except (OSError, ValueError, ModuleNotFoundError) as error:
            return f"{name}: {error}"
        return ""

    def _misread(self) -> str:
        """That the command line has made a number of a version's name, or nothing."""
        version = self._parameters.get("model_version")
        if version is None or isinstance(version, str):
            return ""
        return f"{AS_A_NUMBER.format('model_version')} "

    def _missing_version(self, name: str, dataset: AbstractVersionedDataset[Any, Any], catalog: DataCatalog) -> str:
        """The same of a version; what an earlier run has is there for a run that begins, which takes it over."""
        records, wanted = run_records(catalog), str(dataset.resolve_load_version())
        begins = records is not None and wanted == records.run_id and not self._run_is_given
        if begins and dataset.list_versions():
            return ""
        told = f"no version in {dataset._filepath}." if begins else versions.missing_version(dataset, wanted)
        return f"{name}: {told} {EARLIER_STAGES}"


def _told_once(missing: list[str]) -> list[str]:
    """What is missing, with the names alone of what an earlier stage would have made like the first."""
    told = list(dict.fromkeys(missing))
    alike = [text for text in told if text.endswith(EARLIER_STAGES)]
    names = [text.split(":", maxsplit=1)[0] for text in alike[1:]]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    likewise = [f"Likewise missing: {', '.join(names[:MOST_NAMED])}{more}."] if names else []
    return [text for text in told if text not in alike] + alike[:1] + likewise


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
