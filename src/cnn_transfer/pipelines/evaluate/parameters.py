"""Parameters of the stage `evaluate`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cnn_transfer.parameters import Parameters


class ExplanationParameters(Parameters):
    """Which attribution methods explain predictions, on how many images they are judged and shown."""

    methods: tuple[Literal["grad_cam", "integrated_gradients"], ...]  # none: nothing is explained
    images_shown: int = Field(ge=1, le=50)
    images_judged: int = Field(ge=2, le=10_000)
    curve_steps: int = Field(ge=2, le=256)  # of the insertion and deletion curves
    path_steps: int = Field(ge=1, le=1024)  # gradients an image, of integrated gradients


class BackgroundParameters(Parameters):
    """How often a test image is put on another background, and what of it is taken for the thing."""

    exchanges: int = Field(ge=0, le=10_000)  # with each kind of background; 0: none
    middle: float = Field(ge=0.05, le=0.95)  # share of the area that the rectangle in the middle has


class EvaluateParameters(Parameters):
    """Levels and sizes of the evaluation; those that nodes are given one by one are strict."""

    confidence: float = Field(gt=0.5, lt=1, strict=True)
    bootstrap_samples: int = Field(ge=100, le=1_000_000, strict=True)
    reliability_bins: int = Field(ge=1, le=100)
    wished_accuracy: float = Field(gt=0.5, lt=1)  # of the images that are answered
    least_accuracy: float = Field(ge=0.5, le=1)  # of them, where the wish cannot be shown; 1: the wish
    set_coverage: float | None = Field(gt=0.5, lt=1)  # None: no prediction sets
    false_alarm_rate: float = Field(gt=0, lt=0.5)  # share of ordinary images that may be called unfamiliar
    most_false_alarms: float = Field(ge=0, lt=0.5)  # of them, where too few images cannot keep that rate; 0: never
    tried_copies: int = Field(ge=0, le=100_000, strict=True)  # of validation images, damaged at random
    damaged_images: int = Field(ge=0, le=10_000, strict=True)  # of the test, in every way and degree; 0: none
    backgrounds: BackgroundParameters
    mistakes_shown: int = Field(ge=1, le=200)
    explanations: ExplanationParameters
