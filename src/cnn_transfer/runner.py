"""A runner that does what is not done yet: a run goes on where it was stopped, and takes over what others have made.

For each node, in this order:

1. made in this run, from the same: skipped. From something else: the run stops, since its versions stay as they are;
2. made by another run from the same (fingerprint): its outputs become this run's, unless `reuse` is false;
3. being made in this run by another process: the run stops;
4. otherwise it runs. Its record, written by the hooks after its last output, makes it done.

Where TF_CONFIG names several machines and each of them is given the same command, the chief does all of this; the
others take part in the nodes that train, and save nothing.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from itertools import chain
from typing import Any

import click
from kedro.io import AbstractVersionedDataset, CatalogProtocol
from kedro.io.core import VersionNotFoundError
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.runner import SequentialRunner
from kedro.runner.task import Task
from pluggy import PluginManager

from cnn_transfer.datasets import (
    CheckpointsDataset,
    ClaimedError,
    ImageSetDataset,
    LabelledImagesDataset,
    RunRecordsDataset,
    versions,
)
from cnn_transfer.evaluation.probabilities import counted
from cnn_transfer.exit_codes import RefusedError
from cnn_transfer.fingerprints import Fingerprints
from cnn_transfer.refusals import leaves_the_run_whole
from cnn_transfer.termination import Terminated
from cnn_transfer.training.workers import Team, join

LOGGER = logging.getLogger("cnn_transfer")
RUN_RECORDS = "run_records"
DONE = ("node was done already in this run", "nodes were done already in this run")
UNCHANGED = "unchanged since an earlier run, whose results are taken over (--params reuse=false makes them anew)"
TAKEN_OVER = (f"node is {UNCHANGED}", f"nodes are {UNCHANGED}")


def run_records(catalog: CatalogProtocol[str, Any]) -> RunRecordsDataset | None:
    """The records of the run that a catalog belongs to; None in catalogs that keep none."""
    return catalog.get(RUN_RECORDS) if RUN_RECORDS in catalog else None


def versioned(catalog: CatalogProtocol[str, Any], name: str) -> AbstractVersionedDataset[Any, Any] | None:
    """A dataset of the catalog that has versions; None for others."""
    dataset = catalog.get(name)
    return dataset if isinstance(dataset, AbstractVersionedDataset) else None


def trains(node: Node, catalog: CatalogProtocol[str, Any]) -> bool:
    """Whether fits of a node can go on from checkpoints, and on several machines."""
    return any(isinstance(catalog.get(name), CheckpointsDataset) for name in node.inputs)


def take_part(team: Team, pipeline: Pipeline, catalog: CatalogProtocol[str, Any]) -> None:
    """Run the nodes that the chief runs and that train, when it does, and throw away what they return."""
    nodes = {node.name: node for node in pipeline.nodes}
    for name in team.tasks():
        LOGGER.info("Taking part in %s.", name)
        nodes[name].run({dataset: catalog.load(dataset) for dataset in nodes[name].inputs})


class ChangedRunError(RefusedError):
    """A run has made something from other inputs than those that it is given now."""


class ResumingRunner(SequentialRunner):
    """Kedro's sequential runner, for catalogs that keep `run_records`; with others it is that runner.

    Attributes:
        before_node: Called before each node.
    """

    before_node: Callable[[], None] = staticmethod(lambda: None)
    _team: Team | None = None

    def __str__(self) -> str:
        kind = f"{SequentialRunner.__module__}.{SequentialRunner.__qualname__}"
        return f"<{kind} object that goes on>"  # kedro-viz shows the status of runs with that runner only

    @property
    def _logger(self) -> logging.Logger:
        return logging.getLogger("kedro.runner")  # whose lines the hooks' ones stand for

    def run(
        self,
        pipeline: Pipeline,
        catalog: CatalogProtocol[str, Any],
        hook_manager: PluginManager | None = None,
        run_id: str | None = None,
        only_missing_outputs: bool = False,
    ) -> dict[str, Any]:
        """Kedro's, whose `only_missing_outputs` leaves out what is there, whatever it was made from.

        With records nothing is left out: what is there is skipped once it is seen to be made from the same.
        """
        filtered = only_missing_outputs and run_records(catalog) is None
        return dict(super().run(pipeline, catalog, hook_manager, run_id, filtered))

    def _run(
        self,
        pipeline: Pipeline,
        catalog: CatalogProtocol[str, Any],
        hook_manager: PluginManager | None = None,
        run_id: str | None = None,
    ) -> None:
        records = run_records(catalog)
        if records is None:
            super()._run(pipeline, catalog, hook_manager, run_id)
            return
        self._team = join() if any(trains(node, catalog) for node in pipeline.nodes) else None
        if self._team and self._team.index:
            take_part(self._team, pipeline, catalog)
            return
        progress = _Progress(catalog, records)
        uses_left = Counter(chain.from_iterable(node.inputs for node in pipeline.nodes))
        try:
            for node in pipeline.nodes:
                self.before_node()
                if not progress.is_done(node):
                    self._make(node, progress, hook_manager, run_id)
                self._release_datasets(node, catalog, uses_left, pipeline)
        except BaseException as error:
            progress.tell()
            if leaves_the_run_whole(error) and not isinstance(error, ChangedRunError):
                LOGGER.warning(
                    "%sWhat is done is kept. To go on from here, give the same command with TRANSFER_RUN_ID=%s.",
                    # Said when it came, too, but to nobody where native code is being kept from standard error.
                    "Stopped by SIGTERM. " if isinstance(error, Terminated) else "",
                    records.run_id,
                )
            raise
        progress.tell()
        if self._team:
            self._team.dismiss()

    def _make(self, node: Node, progress: _Progress, hook_manager: PluginManager | None, run_id: str | None) -> None:
        try:
            with progress.records.claim(node.name):
                if progress.is_done(node) or progress.take_over(node):
                    return
                progress.tell_once()
                with self._team.at_work(node.name) if self._team and trains(node, progress.catalog) else nullcontext():
                    Task(node, progress.catalog, self._is_async, hook_manager, run_id).execute()
        except ClaimedError as error:
            raise click.ClickException(str(error)) from error


class _Progress:
    """What of a run is done, and what can be taken over from other runs."""

    def __init__(self, catalog: CatalogProtocol[str, Any], records: RunRecordsDataset) -> None:
        self.catalog, self.records = catalog, records
        self._fingerprints = Fingerprints(catalog, records)
        self._reuses = bool(catalog.load("params:reuse"))
        self._told = False
        self._untold: Counter[tuple[tuple[str, str], str]] = Counter()

    def is_done(self, node: Node) -> bool:
        """Whether this run has made the node's outputs, from what it would make them from now.

        Raises:
            ChangedRunError: When it has made them from something else.
        """
        record = self.records.records().get(node.name)
        if record is None or not self._exist(node, self.records.run_id):
            return False
        changes = self._fingerprints.of(node).changes(record)
        if changes:
            raise ChangedRunError(
                f"The run {self.records.run_id} has made {', '.join(node.outputs)} with other "
                f"{', '.join(name.removeprefix('params:') for name in changes)}. What a run has made stays as it is: "
                "give this run another id (TRANSFER_RUN_ID), or none. What has not changed is taken over from the "
                "earlier run."
            )
        self._note(DONE, node)
        return True

    def take_over(self, node: Node) -> bool:
        """Make the outputs of another run that were made from the same this run's; False when there are none."""
        fingerprint = self._fingerprints.of(node)
        if not self._reuses or fingerprint.value is None:
            return False
        for run, record in self.records.find(fingerprint.value):
            if run != self.records.run_id and self._adopt(node, run, record):
                maker = record["reused_from"] or run
                mine = {"identities": fingerprint.identities, "reused_from": maker, "finished": time.time()}
                self.records.save({node.name: record | mine})
                self._note(TAKEN_OVER, node)
                return True
        return False

    def _adopt(self, node: Node, run: str, record: Mapping[str, Any]) -> bool:
        """Make a run's outputs of a node this run's, unless they are gone, edited, or lack images that may be read."""
        try:
            if not self._exist(node, run):
                return False
            if edited := self._edited(node, run, record):
                LOGGER.info("%s of the run %s was edited since it was made, and is not taken over.", edited, run)
                return False
            if unread := self._unread(node, run):
                LOGGER.info("The run %s could not read %s; they are tried again.", run, counted(unread, "image"))
                return False
            for dataset in filter(None, self._outputs(node)):
                versions.discard(dataset, self.records.run_id)
                versions.adopt(dataset, run, self.records.run_id)
        except (VersionNotFoundError, FileNotFoundError):  # somebody deletes that run just now
            return False
        return True

    def tell_once(self) -> None:
        """Say what was not run before the first node that is; of what comes later, the end of the run tells."""
        if not self._told:
            self.tell()
        self._told = True

    def tell(self) -> None:
        """Say in a line what was not run."""
        for why in dict.fromkeys(why for why, _ in self._untold):
            counts = {stage: count for (reason, stage), count in self._untold.items() if reason == why}
            total = sum(counts.values())
            stages = ", ".join(f"{stage} ({count})" for stage, count in counts.items())
            LOGGER.info("%d %s: %s", total, why[0] if total == 1 else why[1], stages)
        self._untold.clear()

    def _exist(self, node: Node, run: str) -> bool:
        return all(dataset is not None and versions.exists(dataset, run) for dataset in self._outputs(node))

    def _edited(self, node: Node, run: str, record: Mapping[str, Any]) -> str:
        """The names of those outputs that somebody has written in."""
        by_name = zip(node.outputs, self._outputs(node), strict=True)
        return ", ".join(
            name for name, dataset in by_name if dataset and versions.was_edited(dataset, run, record["outputs"][name])
        )

    def _unread(self, node: Node, run: str) -> int:
        """How many images a run's outputs lack that may be readable now."""
        sets = [each for each in self._outputs(node) if isinstance(each, ImageSetDataset | LabelledImagesDataset)]
        return sum(each.unread(run) for each in sets)

    def _outputs(self, node: Node) -> list[AbstractVersionedDataset[Any, Any] | None]:
        return [versioned(self.catalog, name) for name in node.outputs]

    def _note(self, why: tuple[str, str], node: Node) -> None:
        self._untold[why, str(node.namespace).split(".", maxsplit=1)[0]] += 1
