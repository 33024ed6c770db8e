"""Parameters of the stage `preprocess`."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from cnn_transfer.images import CheckRule, ImageFormat, SplitRule, Workers
from cnn_transfer.parameters import Parameters


class ImageSetParameters(Parameters):
    """How one image set is read, checked and split."""

    image_format: ImageFormat
    max_images_per_class: int | None = Field(ge=2)
    preparation: Workers
    check: CheckRule
    split: SplitRule


class PreprocessParameters(Parameters):
    """Both image sets; one network takes the images of both, so they share one format."""

    source: ImageSetParameters
    target: ImageSetParameters

    @model_validator(mode="after")
    def _same_format(self) -> Self:
        pairs = zip(self.source.image_format, self.target.image_format, strict=True)
        if odd := [f"{name} ({one} and {other})" for (name, one), (_, other) in pairs if one != other]:
            raise ValueError(
                "source and target must have the same image_format, since one network takes both; theirs differ in "
                f"{', '.join(odd)}"
            )
        if self.target.split.test_fraction == 0:
            raise ValueError("target.split.test_fraction must be above 0: without test images nothing can be judged")
        if self.source.split.validation_ratio == 0:
            raise ValueError("source.split.validation_ratio must be above 0: pretraining is stopped by it")
        return self
