"""Validated parameter blocks: the base class of all of them and the errors that users read.

A block is a frozen pydantic model. Nodes receive the plain mapping from the configuration and make the model in
their first line; the hooks validate every block before the first node works.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

WORDS = {  # of YAML, where pydantic says what it is to Python
    "tuple_type": "Input should be a list, such as [1, 2]",
    "dict_type": "Input should be a block of names and values",
    "model_type": "Input should be a block of names and values",
}


class ParameterError(ValueError):
    """One or more parameters are unknown, missing or out of bounds."""


class Parameters(BaseModel):
    """A frozen block of parameters that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @classmethod
    def parse(cls, block: Any, name: str) -> Self:
        """Make the model from a configuration block.

        Args:
            block: Mapping of parameter names to values, as read from YAML.
            name: Dotted name of the block in the configuration, used in errors; empty for the top level.

        Raises:
            ParameterError: Naming each bad key, what is allowed, what was received and the nearest valid spelling.
        """
        if not isinstance(block, Mapping):
            raise ParameterError(
                f"{name} must be a mapping with the keys {', '.join(cls.model_fields)}. Received: {block!r}."
            )
        try:
            return cls.model_validate(dict(block))
        except ValidationError as error:
            lines = [_describe(cls, name, dict(problem)) for problem in error.errors()]
            raise ParameterError("\n".join(lines)) from error


def _describe(model: type[BaseModel], name: str, problem: dict[str, Any]) -> str:
    location = [str(part) for part in problem["loc"]]
    key = ".".join(part for part in [name, *location] if part)
    if problem["type"] == "extra_forbidden":
        allowed = list(_model_at(model, location[:-1]).model_fields)
        return f"{key} is not a parameter. {did_you_mean(location[-1], allowed)}Allowed: {', '.join(allowed)}."
    if problem["type"] == "missing":
        return f"{key} is missing: it has no default."
    said = WORDS.get(problem["type"], problem["msg"].removeprefix("Value error, "))
    received = problem["input"]
    if isinstance(received, Mapping) and any(isinstance(value, Mapping) for value in received.values()):
        return f"{key}: {said}."  # blocks in a block would be a page of text: the message names what it is about
    end = "" if said.endswith((".", "?")) else "."
    return f"{key}: {said}{end} Received: {received!r}."


def _model_at(model: type[BaseModel], location: list[str]) -> type[BaseModel]:
    """The nested model that a pydantic error location points into; list indices stay in the same field."""
    for part in location:
        if part not in model.model_fields:
            continue
        annotation = model.model_fields[part].annotation
        candidates = [annotation, *get_args(annotation)]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), model)
    return model


def check_pattern(pattern: str, example: str) -> str:
    """A regular expression as it is.

    Args:
        pattern: What is to have a group.
        example: One that has.

    Raises:
        ValueError: When it is none, or has no group.
    """
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"not a regular expression ({error})") from error
    if not groups:
        raise ValueError(f"needs a group in parentheses, such as {example}")
    return pattern


def did_you_mean(word: str, allowed: list[str]) -> str:
    """A sentence with the nearest allowed spelling and a trailing space, or nothing when none is near."""
    near = get_close_matches(word, allowed, n=1, cutoff=0.6)
    return f"Did you mean {near[0]}? " if near else ""
