"""Kedro's context and session for this project: a run has one identity, goes on after a stop, reuses what is there."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import Any

import click
from kedro.framework.context import KedroContext
from kedro.framework.session import KedroSession
from kedro.io import CatalogProtocol, DataCatalog, DatasetError
from kedro.runner import AbstractRunner, SequentialRunner

from cnn_transfer.datasets import RawImagesDataset
from cnn_transfer.exit_codes import STOPPED, RefusedError
from cnn_transfer.log_origin import ORIGIN
from cnn_transfer.parameters import ParameterError
from cnn_transfer.refusals import leaves_the_run_whole, refusal
from cnn_transfer.run_identity import given_run_id
from cnn_transfer.run_selection import check_options, check_runner, check_selection
from cnn_transfer.runner import ResumingRunner
from cnn_transfer.termination import ended_by_signals
from cnn_transfer.training.workers import WorkerLostError


class RunContext(KedroContext):
    """Pins the versions that a run saves and loads to its id.

    Kedro gives each process a version to save of its own and loads the latest one, which may be another run's.
    """

    def _get_catalog(
        self,
        catalog_class: type = DataCatalog,
        save_version: str | None = None,
        load_versions: dict[str, str] | None = None,
    ) -> CatalogProtocol[str, Any]:
        """The catalog of the run that was named, else of the run that begins; without any run, of the latest versions.

        Args:
            catalog_class: Kedro's.
            save_version: Kedro's timestamp, when a run begins.
            load_versions: Versions that the command line asks for, which are loaded as they are.

        Raises:
            RefusedError: When an entry cannot be used, or a version is asked for of what is no entry.
        """
        run_id = given_run_id(self._runtime_params) or save_version
        entries = self.config_loader["catalog"]
        for entry in entries.values():
            if isinstance(entry, dict) and str(entry.get("type")).endswith(RawImagesDataset.__name__):
                labels = entry.get("labels")
                if labels and "://" not in labels:
                    entry["labels"] = str(self.project_path / labels)  # as Kedro does with `filepath`
        self.config_loader["catalog"] = entries
        if run_id is not None:
            versioned = [name for name, entry in entries.items() if isinstance(entry, dict) and entry.get("versioned")]
            load_versions = dict.fromkeys(versioned, run_id) | (load_versions or {})
        try:
            return super()._get_catalog(catalog_class, run_id, load_versions)
        except DatasetError as error:
            raise RefusedError(f"The catalog cannot be used; nothing was run. {error}".strip()) from error


class RunSession(KedroSession):
    """Runs with a runner that skips what is done, and stops at SIGTERM with what is needed to go on."""

    def run(self, *, runner: AbstractRunner | None = None, **options: Any) -> dict[str, Any]:  # type: ignore[override]
        """Kedro's `KedroSession.run`, by names; other runners than the sequential one are for runs without a name."""
        from cnn_transfer.pipeline_registry import register_pipelines

        if runner is None or type(runner) is SequentialRunner:
            runner = ResumingRunner(is_async=bool(runner and runner._is_async))
        logger = logging.getLogger("cnn_transfer")
        try:
            check_options(click.get_current_context(silent=True), sys.argv[1:])
            check_selection(options, register_pipelines())
            if not isinstance(runner, ResumingRunner):
                with suppress(ParameterError):  # of an id that cannot be one, which the hooks tell
                    check_runner(type(runner).__name__, given_run_id(self.store.get("runtime_params")))
            with ended_by_signals(logger) as end_if_told:
                if isinstance(runner, ResumingRunner):
                    runner.before_node = end_if_told
                result: dict[str, Any] = self._run(runner, options)
        except click.ClickException as error:
            if not ORIGIN.for_collectors:
                raise
            logger.error(error.message)  # else click prints it
            raise SystemExit(error.exit_code) from error
        except WorkerLostError as error:
            logger.error(str(error))
            raise SystemExit(STOPPED) from error
        return result

    def _run(self, runner: AbstractRunner, options: dict[str, Any]) -> dict[str, Any]:
        try:
            return dict(super().run(runner=runner, **options))
        except Exception as error:
            if told := refusal(error):
                kind = click.ClickException if leaves_the_run_whole(error) else RefusedError
                raise kind(told) from error
            raise
