"""Kedro's command line, which says in words what it cannot read of its options."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
from kedro.framework.cli.project import run as kedros
from kedro.framework.cli.utils import split_string
from kedro.utils import load_obj
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from cnn_transfer.configuration import unreadable
from cnn_transfer.exit_codes import RefusedError

COMMA = (
    "A comma ends a value: a list belongs into a parameter file (conf/local/parameters.yml where no --env is chosen, "
    "else that of the environment), an address with a comma into catalog.yml beside it."
)
Read = Callable[[click.Context, click.Parameter, Any], Any]


def _read_parameters(read: Read, context: click.Context, option: click.Parameter, given: Any) -> Any:
    """What Kedro reads.

    Raises:
        RefusedError: When a value is no YAML, or was cut at a comma.
    """
    try:
        return read(context, option, given)
    except click.UsageError as error:
        items = split_string(context, option, given)
        if "=" in items[0] and not all("=" in item for item in items):
            raise click.UsageError(f"{error.message} {COMMA}", context) from error
        raise
    except (YAMLError, OmegaConfBaseException) as error:
        told = [text for item in split_string(context, option, given) if (text := _unread(item))]
        raise RefusedError(f"{option.opts[0]} cannot be read; nothing was run.\n" + "\n".join(told)) from error


def _unread(item: str) -> str | None:
    """What is wrong with `name=value`; None: it can be read."""
    try:
        OmegaConf.to_container(OmegaConf.from_dotlist([item]))
    except OmegaConfBaseException:
        return f"{item}: cannot be read. ${{ begins a reference to another value, and no text can hold it here."
    except YAMLError as error:
        name, _, value = item.partition("=")
        what = error.problem if isinstance(error, MarkedYAMLError) else str(error).splitlines()[0]
        quoted = value.replace("'", "''")
        return (
            f"{name}: must be YAML ({what}). Received: {value}. In quotes, a text is taken as it stands: "
            f"\"{name}='{quoted}'\""
        )
    return None


def _read_file(read: Read, context: click.Context, option: click.Parameter, given: Any) -> Any:
    """What Kedro reads of a file of options.

    Raises:
        RefusedError: When it is no YAML, or has no block for the command.
    """
    if given and (told := unreadable(Path(given), shown=True)):
        raise RefusedError(f"{told} Nothing was run.")
    try:
        return read(context, option, given)
    except (KeyError, AttributeError) as error:
        raise RefusedError(
            f"{given} has no options of {context.info_name}; nothing was run. They stand below its name, for instance "
            f"{context.info_name}: {{env: test}}"
        ) from error


def _read_runner(context: click.Context, option: click.Parameter, given: str | None) -> str | None:
    """The name of a runner.

    Raises:
        BadParameter: When there is none of this name.
    """
    try:
        load_obj(given or "SequentialRunner", "kedro.runner")
    except (ImportError, AttributeError, ValueError) as error:
        raise click.BadParameter(f"there is no runner {given}. Leave it out.", context, option) from error
    return given


def _spoken(option: click.Parameter) -> click.Parameter:
    readers = {"params": _read_parameters, "runner_params": _read_parameters, "config": _read_file}
    option = copy.copy(option)
    if option.name in readers and option.callback:
        option.callback = partial(readers[option.name], option.callback)
    elif option.name == "runner":
        option.callback = _read_runner
    return option


run = click.Command("run", callback=kedros.callback, params=[*map(_spoken, kedros.params)], help=kedros.help)
cli = click.Group("cnn_transfer", {"run": run})  # which Kedro looks for, and prefers to its own
