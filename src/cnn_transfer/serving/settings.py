"""What can be set of the service: on its command line (`--port 80`) or by variables (`CNN_TRANSFER_PORT=80`)."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import Literal, Self

from pydantic import Field, ValidationInfo, field_validator

from cnn_transfer.parameters import Parameters, did_you_mean
from cnn_transfer.prediction import RUNTIMES

PREFIX = "CNN_TRANSFER_"
STORE, RELEASES = "TRANSFER_STORE", "06_models/release"
MEGABYTE = 10**6


class Settings(Parameters):
    """Settings of the service; the command line goes before variables, these before the defaults."""

    release: str = Field(
        default=f"data/{RELEASES}",
        description="folder of releases, here or on s3://, of which the newest is served, or one release; where "
        f"{STORE} names the store of the runs, those in it",
    )
    host: str = Field(default="127.0.0.1", description="address to listen on; 0.0.0.0 for every one of this machine")
    port: int = Field(default=8000, ge=0, le=65535, description="port to listen on; 0 for a free one")
    runtime: str = Field(default="onnx", description=f"what computes the network: {', '.join(RUNTIMES)}")
    threads: int = Field(
        default=1, ge=1, le=256, description="threads that compute one batch; more pay for large networks only"
    )
    most_files: int = Field(default=16, ge=1, le=1000, description="files a request")
    most_file_mb: float = Field(default=10, gt=0, le=1000, description="megabytes a file")
    most_request_mb: float = Field(default=32, gt=0, le=10_000, description="megabytes a request")
    most_megapixels: float = Field(
        default=50, gt=0, le=10_000, description="megapixels an image declares; where training took less, that holds"
    )
    upload_seconds: float = Field(default=20, gt=0, le=3600, description="time to send a request")
    most_waiting_images: int = Field(
        default=128, ge=1, le=100_000, description="images that wait at once; further requests get 503"
    )
    most_waiting_mb: float = Field(
        default=256,
        gt=0,
        le=100_000,
        description="megabytes of uploads in memory at once, at least those of a request; further get 503",
    )
    most_batch: int = Field(default=64, ge=1, le=1024, description="images that are labelled together")
    watch_seconds: float = Field(default=5, gt=0, le=3600, description="time between two looks for a new release")
    grace_seconds: float = Field(
        default=3, ge=0, le=3600, description="time from SIGTERM, when /ready says 503, to taking no more connections"
    )
    drain_seconds: int = Field(default=25, ge=1, le=3600, description="time that requests have to end after that")
    logs: Literal["text", "json"] = Field(
        default="text", description="form of the log: text, or json, one object a line"
    )

    @field_validator("runtime")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in RUNTIMES:
            near = did_you_mean(name, list(RUNTIMES))
            raise ValueError(f"must be one of {', '.join(RUNTIMES)}. {near}".strip())
        return name

    @field_validator("most_waiting_mb")
    @classmethod
    def _holds_a_request(cls, waiting: float, info: ValidationInfo) -> float:
        request = info.data.get("most_request_mb", 0)  # not there where it is out of bounds itself
        if waiting < request:
            raise ValueError(
                f"must be at least most_request_mb, {request:g}, or the largest requests are always refused. Raise it, "
                "or lower most_request_mb"
            )
        return waiting

    @classmethod
    def read(cls, arguments: Sequence[str], environment: Mapping[str, str]) -> Self:
        """Read the command line and the variables.

        Raises:
            ParameterError: When a value is out of bounds, or a variable with the prefix is no setting.
            SystemExit: When an argument is unknown, or help is asked for.
        """
        parser = argparse.ArgumentParser(
            "python -m cnn_transfer.serving",
            description="Answer over HTTP with the newest release. Each argument can be a variable: "
            f"{PREFIX}PORT=8000 is --port 8000.",
        )
        for name, field in cls.model_fields.items():
            parser.add_argument(
                f"--{name.replace('_', '-')}",
                metavar=name.rsplit("_", maxsplit=1)[-1].upper(),
                help=f"{field.description} (default: {field.default})",
            )
        given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
        variables = {
            name.removeprefix(PREFIX).lower(): value for name, value in environment.items() if name.startswith(PREFIX)
        }
        store = os.path.expanduser(environment.get(STORE, ""))  # as the runs do
        in_store = {"release": f"{store.rstrip('/')}/{RELEASES}"} if store else {}
        return cls.parse(in_store | variables | given, "")
