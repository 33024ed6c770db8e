"""What configuration takes from the machine: environment variables, by the resolver `${environment:NAME}`."""

from __future__ import annotations

import os
from typing import Any

import click
from kedro.config import OmegaConfigLoader
from omegaconf.errors import InterpolationResolutionError


def environment(name: str) -> str:
    """The value of an environment variable; Kedro keeps OmegaConf's own resolver to credentials.

    Raises:
        InterpolationResolutionError: When it is not set, or empty.
    """
    if value := os.environ.get(name):
        return value
    raise InterpolationResolutionError(
        f"The environment variable {name} must be set and is not; this environment's configuration reads it. "
        f"For instance: export {name}=s3://bucket/prefix"
    )


class ConfigLoader(OmegaConfigLoader):
    """Kedro's, with a message instead of a traceback where a variable is not set."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)  # reads globals.yml
        except InterpolationResolutionError as error:
            raise click.ClickException(str(error).splitlines()[0]) from error
