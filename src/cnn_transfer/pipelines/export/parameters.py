"""Parameters of the stage `export`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from cnn_transfer.exporting import FORMATS, check_formats
from cnn_transfer.exporting.challenge import Refuse
from cnn_transfer.parameters import ParameterError, Parameters

Tolerance = Annotated[float, Field(gt=0, le=1)]


class ChampionParameters(Parameters):
    """Which release is refused beside the one before."""

    refuse: Refuse
    most_loss: float = Field(ge=0, le=1)  # of accuracy


class ExportParameters(Parameters):
    """Which files are made, how far they may be from the network, and on what that is measured."""

    formats: tuple[str, ...] = Field(min_length=1)
    logits_tolerance: dict[str, Tolerance]  # by format that computes in float32
    accuracy_loss: float = Field(ge=0, le=1)  # of what computes in 8 bits
    calibration_images: int = Field(ge=1, le=100_000)  # training images
    compared_images: int = Field(ge=1, le=1_000_000)  # validation and unlabelled images
    timed_calls: int = Field(ge=1, le=100_000)  # with one image each
    timed_batches: int = Field(ge=1, le=10_000)  # of each size
    champion: ChampionParameters

    @field_validator("formats")
    @classmethod
    def _differ(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(formats)) < len(formats):
            raise ValueError("formats must be named once each")
        check_formats([name for name in formats if name not in FORMATS])
        return formats

    @model_validator(mode="after")
    def _have_a_tolerance_each(self) -> ExportParameters:
        exact = {name for name in self.formats if FORMATS[name].exact}
        if missing := sorted(exact - self.logits_tolerance.keys()):
            raise ValueError(f"logits_tolerance must have a number for {', '.join(missing)}")
        if unknown := sorted(self.logits_tolerance.keys() - {name for name in FORMATS if FORMATS[name].exact}):
            raise ValueError(f"logits_tolerance has a number for {', '.join(unknown)}, which it is not for")
        return self

    def check(self) -> None:
        """See, without importing them, whether the packages are there.

        Raises:
            ParameterError: Naming those that are missing, and how to install them.
        """
        try:
            check_formats(self.formats)
        except ModuleNotFoundError as error:
            raise ParameterError(f"export.formats: {error}") from error
