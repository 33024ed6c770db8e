"""Parameters of the stage `evaluate`."""

from __future__ import annotations

from pydantic import Field

from cnn_transfer.parameters import Parameters


class EvaluateParameters(Parameters):
    """Levels and sizes of the evaluation."""

    confidence: float = Field(gt=0.5, lt=1)
    bootstrap_samples: int = Field(ge=100, le=1_000_000)
    mistakes_shown: int = Field(ge=1, le=200)
