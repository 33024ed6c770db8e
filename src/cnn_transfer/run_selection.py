"""What a command asks for: what is not there, or would be dropped, is told before Kedro raises or does otherwise."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import click
from kedro.pipeline import Pipeline

from cnn_transfer.exit_codes import RefusedError
from cnn_transfer.parameters import did_you_mean

DEFAULT = "__default__"
FILTERS = ("tags", "from_nodes", "to_nodes", "node_names", "from_inputs", "to_outputs")


def check_options(context: click.Context | None, arguments: Sequence[str]) -> None:
    """See whether no option was given twice: of such, Kedro keeps the last and drops the others.

    Args:
        context: Of the command; None where there is no command line.
        arguments: Of the process.

    Raises:
        RefusedError: When one was.
    """
    for option in context.command.params if context else ():
        given = [argument for argument in arguments if argument.partition("=")[0] in option.opts]
        if isinstance(option, click.Option) and not (option.multiple or option.count or option.is_flag) and given[1:]:
            raise RefusedError(
                f"{given[0].partition('=')[0]} was given {len(given)} times, and Kedro reads the last alone; nothing "
                f"was run. Put all into one, with commas between them: {option.opts[0]} "
                f"{'seed=1,target_images=PATH' if option.name == 'params' else 'ONE,OTHER'}"
            )


def check_runner(name: str, run_id: str | None) -> None:
    """See whether no run is named for a runner of Kedro's, which would write over what that run has made.

    Args:
        name: Of the runner.
        run_id: That was given to the run; None: none was.

    Raises:
        RefusedError: When one is.
    """
    if run_id is not None:
        raise RefusedError(
            f"Nothing was run. What the run {run_id} has made stays as it is, and {name} would make it anew: leave "
            "--runner out, and it goes on; or leave the id out (TRANSFER_RUN_ID, run_id), and a new one is made."
        )


def check_selection(options: Mapping[str, Any], registered: Mapping[str, Pipeline]) -> None:
    """See whether what a run is to do is there.

    Args:
        options: Those of `KedroSession.run`.
        registered: All pipelines by name.

    Raises:
        RefusedError: When a pipeline, a node or a tag is unknown, or nothing is left to run.
    """
    names = options.get("pipeline_names") or [DEFAULT]
    for name in names:
        _check("pipeline", name, registered, f"There are: {', '.join(sorted({*registered} - {DEFAULT}))}.")
    asked = sum((registered[name] for name in names), start=Pipeline([]))
    nodes, tags = [node.name for node in asked.nodes], sorted(set().union(*(node.tags for node in asked.nodes)))
    for option in ("node_names", "from_nodes", "to_nodes"):
        for name in options.get(option) or ():
            _check("node", name, nodes, f"They are listed by: kedro registry describe {names[0]}")
    for name in options.get("tags") or ():
        _check("tag", name, tags, f"There are: {', '.join(tags)}." if tags else "No node has one.")
    chosen = {name: options.get(name) for name in FILTERS}
    try:
        asked.filter(**chosen, node_namespaces=options.get("namespaces"))
    except ValueError as error:
        raise RefusedError(f"Nothing was run. {error}") from error


def _check(kind: str, name: str, known: Collection[str], others: str) -> None:
    if name not in known:
        raise RefusedError(f"There is no {kind} {name}. {did_you_mean(name, [*known])}{others}")
