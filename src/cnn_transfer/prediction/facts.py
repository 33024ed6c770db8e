"""What a predictor is and promises, beside its weights."""

from __future__ import annotations

from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from cnn_transfer.images import ImageFormat
from cnn_transfer.models import ModelCard

FORM = 5  # of the folder; a predictor of another form is refused


class PredictorFacts(BaseModel):
    """The facts that a predictor works by.

    Attributes:
        form: Of the folder that holds it.
        card: What the network expects and is.
        image_format: How images are decoded and resized; the same as in training.
        calibration: What makes its probabilities honest, see `evaluation.fit_calibration`. It is part of what the
            runtimes compute.
        threshold: Confidence from which an image is answered, see `evaluation.choose_threshold`; None: there is none
            that keeps the promise, and nothing is answered.
        promised_accuracy: Of the answered images, 0-1; None: nothing is answered.
        confidence: With which it is promised, 0-1.
        sets: How improbable a class may be to be in a prediction set, see `evaluation.fit_sets`; empty: no sets.
        familiarity: How strange beside the training images an image may be, see `evaluation.fit_familiarity`.
        statements: What holds for its answers, in sentences.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: int = FORM
    card: ModelCard
    image_format: ImageFormat
    calibration: dict[str, Any]
    threshold: float | None
    promised_accuracy: float | None = Field(validation_alias=AliasChoices("promised_accuracy", "wished_accuracy"))
    confidence: float
    sets: dict[str, Any]
    familiarity: dict[str, Any]
    statements: tuple[str, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the probabilities."""
        return self.card.class_names
