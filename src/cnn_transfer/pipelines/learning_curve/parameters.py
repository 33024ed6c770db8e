"""Parameters of the stage `learning_curve`."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from cnn_transfer.parameters import Parameters

Labels = Annotated[int, Field(ge=1, le=1_000_000)]


class LearningCurveParameters(Parameters):
    """Which points the curve has."""

    labels_per_class: tuple[Labels, ...] = Field(min_length=1)  # of the transfer
    scratch_labels_per_class: tuple[Labels, ...] = Field(min_length=2)
    headline_labels: int  # among the first
    validation_ratio: float = Field(gt=0, le=1)  # validation images per training image, of both sides
    seeds: int = Field(ge=1, le=100)  # draws of labels, weights and order
    fine_tune: bool  # False: the transfer is the head in closed form

    @field_validator("labels_per_class", "scratch_labels_per_class")
    @classmethod
    def _rise(cls, labels: tuple[int, ...]) -> tuple[int, ...]:
        if list(labels) != sorted(set(labels)):
            raise ValueError(f"must rise from number to number, such as {sorted(set(labels))}")
        return labels

    @model_validator(mode="after")
    def _headline_is_measured(self) -> Self:
        if self.headline_labels not in self.labels_per_class:
            raise ValueError(f"headline_labels must be one of labels_per_class, {list(self.labels_per_class)}")
        return self
