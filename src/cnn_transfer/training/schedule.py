"""The parameters of a fit: its length, its learning rate, and what holds its weights back."""

from __future__ import annotations

from typing import NamedTuple, Self

from pydantic import Field, model_validator

from cnn_transfer.parameters import Parameters

STEPS_PER_CALL = range(13, 26)  # optimiser steps in one call of TensorFlow's runtime: nearly twice the speed at 32 px


class Pace(NamedTuple):
    """How the steps of a fit are grouped.

    Attributes:
        steps_per_call: Optimiser steps in one call of TensorFlow's runtime.
        interval: Steps from one validation to the next, a multiple of `steps_per_call`.
        validations: Number of validations.
    """

    steps_per_call: int
    interval: int
    validations: int


class Schedule(Parameters):
    """The course of one fit but for its learning rate; its length is given in `epochs`, or exactly in `steps`.

    Few images in a given number of epochs are few steps, and many images more than are needed: `least_steps` and
    `most_steps` bound what `epochs` ask for. BiT (arXiv 1912.11370, section 3.3) takes 500 steps of 512 images below
    20,000 images, 10,000 below 500,000, and 20,000 above. `steps` decides alone where it is given.
    """

    batch_size: int = Field(ge=1, le=4096)
    accumulated_batches: int = Field(default=1, ge=1, le=1024)  # whose mean gradient makes one step
    epochs: int | None = Field(default=None, ge=1, le=10_000)
    least_steps: int | None = Field(default=None, ge=1, le=10_000_000)  # of what `epochs` ask for; None: no bound
    most_steps: int | None = Field(default=None, ge=1, le=10_000_000)
    steps: int | None = Field(default=None, ge=1, le=10_000_000)  # so many, whatever the others say
    warmup_fraction: float = Field(ge=0, le=0.5)  # of all steps
    depth_decay: float = Field(
        default=1.0, gt=0, le=1
    )  # factor on the learning rate from block to block, from the head
    gradient_clip: float | None = Field(default=None, gt=0, le=1000)  # largest norm of the whole gradient; None: any
    weight_decay: float = Field(ge=0, le=1)
    towards_start: float | None = Field(default=None, ge=0, le=10)  # pull on kernels below the head; None: weight_decay
    label_smoothing: float = Field(ge=0, lt=1)  # share of the target spread over all classes
    validations: int = Field(ge=1, le=10_000)  # during the fit, evenly spaced
    patience: int = Field(ge=1)  # validations without a better one before the fit stops

    @model_validator(mode="after")
    def _a_length(self) -> Self:
        if self.epochs is None and self.steps is None:
            raise ValueError("give epochs or steps")
        if self.least_steps and self.most_steps and self.least_steps > self.most_steps:
            raise ValueError(f"least_steps must be at most most_steps, which is {self.most_steps}")
        return self

    @property
    def images_per_step(self) -> int:
        """Images whose gradient makes one step."""
        return self.batch_size * self.accumulated_batches

    def pace(self, training_images: int) -> Pace:
        """Group the steps so that validations are even and calls of the runtime are long.

        The length of the fit stays within a few per cent of what was asked, and is exact for short fits.
        """
        steps = self.length(training_images)
        interval = max(1, steps // self.validations)
        steps_per_call = interval
        if interval > STEPS_PER_CALL[-1]:
            steps_per_call = max(STEPS_PER_CALL, key=lambda calls: (interval // calls * calls, calls))
            interval = interval // steps_per_call * steps_per_call
        return Pace(steps_per_call, interval, max(1, round(steps / interval)))

    def length(self, training_images: int) -> int:
        """Steps, as asked for so many training images."""
        if self.steps is not None or self.epochs is None:
            return self.steps or 1
        steps = max(self.least_steps or 1, round(self.epochs * training_images / self.images_per_step))
        return min(steps, self.most_steps or steps)


class Optimisation(Schedule):
    """A schedule with its learning rate."""

    learning_rate: float = Field(gt=0, le=1)  # at the end of the warm-up
