"""What people read on the terminal: a line an intake, a summary at the end of a run."""

from __future__ import annotations

import json
import logging
import re
import shutil
import sys
import textwrap
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import AbstractVersionedDataset, DataCatalog
from kedro.pipeline import Pipeline

from cnn_transfer.datasets import ReleaseDataset, versions
from cnn_transfer.evaluation import describe_intake, describe_ranking, describe_summary, doubts_about_images
from cnn_transfer.evaluation.learning_curve import describe_labels_saved
from cnn_transfer.evaluation.run_comparison import describe_runs
from cnn_transfer.exporting import describe_champion, describe_exports
from cnn_transfer.log_origin import ORIGIN
from cnn_transfer.prediction.audit import describe_audit, describe_audit_sample
from cnn_transfer.prediction.label_next import describe_images_to_label
from cnn_transfer.prediction.labelling import describe_labels
from cnn_transfer.training.workers import role

LOGGER = logging.getLogger("cnn_transfer")
INTAKE = "intake"
SUMMARY, REPORT = "summary", "report"
RANKING, CHOICE = "source_ranking", "source_choice"
TO_LABEL, LABEL_PAGE = "images_to_label", "images_to_label_page"
LABELS_SAVED, CURVE_REPORT = "labels_saved", "learning_curve_report"
EXPORTS, CHAMPION, RELEASE = "export_table", "champion_comparison", "release"
RUNS, CHANGES = "runs_table", "runs_differences"
AUDIT, AUDIT_SAMPLE, POPULATION, AUDIT_PAGE = "audit_result", "audit_sample", "audit_population", "audit_page"
KNOWN = "audit_known"
# It is copied as it stands, so it stays on one line.
COMMAND = r"kedro run(?: --\S+(?: (?!-)\S+)?)+"
MOST_COLUMNS = 120
OF_A_RANKING = {"rank_sources", "import_source", "run_id"}  # parameters that the run of its choice has not, or its own
PREDICTIONS, COUNTS, DRIFT = "predictions", "prediction_counts", "drift"


def wrapped(line: str, width: int | None) -> str:
    """A line of a summary on as many lines as it takes, each below the beginning of its text.

    Args:
        line: A name, two spaces or more, and a text; or spaces and a text.
        width: Of the terminal, characters; None: no terminal, where lines stay whole for other programs.
    """
    beginning = re.match(r"\s*(?:\S.*?\s{2,})?", line)
    start = len(beginning[0]) if beginning else 0
    if width is None or len(line) <= width or re.match(COMMAND, line[start:]):
        return line
    line, indent = re.sub(COMMAND, lambda command: command[0].replace(" ", "\0"), line), " " * start
    filled = textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return filled.replace("\0", " ")


def dot_list(parameters: Mapping[str, Any], above: str = "") -> list[str]:
    """Parameters as they stand behind `--params`, one `block.key=value` each."""
    items: list[str] = []
    for key, value in parameters.items():
        if isinstance(value, Mapping):
            items += dot_list(value, f"{above}{key}.")
        else:
            items.append(f"{above}{key}={value if isinstance(value, str) else json.dumps(value)}")
    return items


class IntakeHooks:
    """Say in a line a set what was used and what was set aside, and what somebody should look at."""

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Log the counts of an intake, before anything is trained."""
        if dataset_name.endswith(INTAKE):
            name = dataset_name.removesuffix(f"_{INTAKE}")
            LOGGER.info("%s: %s", name, describe_intake(data))
            for doubt in doubts_about_images(data, name):
                LOGGER.warning("%s: %s", name, doubt)


def describe_release(dataset: ReleaseDataset) -> list[str]:
    """Where the release lies, and which other one is served where it seems to be younger."""
    lines = [f"Released        {versions.address_of(dataset)}"]
    if other := dataset.served_instead():
        when = datetime.fromtimestamp(other.completed, UTC).isoformat(" ", "seconds")
        lines.append(
            f"NOT SERVED      {other.version} is: its exports.json is younger, of {when}. Where a clock was wrong "
            "then, touch this one's later, or delete that release."
        )
    return lines


class SummaryHooks:
    """End a run that made something to be told of, such as a summary or a ranking, with a few lines on the terminal."""

    def __init__(self) -> None:
        self._env = ""
        self._asked: dict[str, Any] = {}

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Keep the environment and what was asked for by `--params`, which the next run needs, too."""
        if context.env:
            self._env = f" --env {context.env}"
        self._asked = context.config_loader.runtime_params or {}

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Print them and where to look, on one of several machines."""
        if role() == "worker":
            return
        made, command = pipeline.all_outputs(), f"kedro run{self._env}"
        if SUMMARY in made:
            self._print(describe_summary(catalog.load(SUMMARY)), catalog.get(REPORT if REPORT in made else SUMMARY))
        if {RANKING, CHOICE} <= made:
            asked = dot_list({key: value for key, value in self._asked.items() if key not in OF_A_RANKING})
            lines = describe_ranking(catalog.load(RANKING), catalog.load(CHOICE), command, asked)
            self._print(lines, catalog.get(RANKING))
        if LABELS_SAVED in made:
            page = catalog.get(CURVE_REPORT if CURVE_REPORT in made else LABELS_SAVED)
            self._print(describe_labels_saved(catalog.load(LABELS_SAVED)), page)
        if TO_LABEL in made:
            page = catalog.get(LABEL_PAGE if LABEL_PAGE in made else TO_LABEL)
            self._print(describe_images_to_label(catalog.load(TO_LABEL), command), page)
        if {EXPORTS, CHAMPION, RELEASE} <= made:
            lines = [*describe_exports(catalog.load(EXPORTS)), *describe_champion(catalog.load(CHAMPION))]
            if isinstance(dataset := catalog.get(RELEASE), ReleaseDataset):
                lines += describe_release(dataset)
            self._print(lines, catalog.get(EXPORTS))
        if {RUNS, CHANGES} <= made:
            self._print(describe_runs(catalog.load(RUNS), catalog.load(CHANGES)), catalog.get(RUNS))
        if {PREDICTIONS, COUNTS, DRIFT} <= made:
            lines = describe_labels(catalog.load(COUNTS), catalog.load(DRIFT))
            labels = catalog.get(PREDICTIONS)
            if isinstance(labels, AbstractVersionedDataset):
                lines.append(f"Labels          {versions.address_of(labels)}")
            self._print(lines, catalog.get(COUNTS))
        if {AUDIT_SAMPLE, POPULATION, KNOWN} <= made:
            sample, population, known = (catalog.load(name) for name in (AUDIT_SAMPLE, POPULATION, KNOWN))
            lines = describe_audit_sample(sample, population, known, command)
            self._print(lines, catalog.get(AUDIT_PAGE if AUDIT_PAGE in made else AUDIT_SAMPLE))
        if AUDIT in made:
            self._print(describe_audit(catalog.load(AUDIT)), catalog.get(AUDIT))

    def _print(self, lines: list[str], dataset: Any) -> None:
        if ORIGIN.for_collectors:
            LOGGER.info("\n".join(lines))
            return
        width = min(MOST_COLUMNS, shutil.get_terminal_size().columns) if sys.stdout.isatty() else None
        click.echo("\n" + "\n".join(wrapped(line, width) for line in lines))
        if isinstance(dataset, AbstractVersionedDataset):
            viz = f"kedro viz run{self._env}"
            click.echo(f"Where to look   {versions.address_of(dataset)}, pictures and tables beside it; {viz}\n")
