"""Parameters of the stage `predict`."""

from __future__ import annotations

from pydantic import Field

from cnn_transfer.parameters import Parameters


class PredictParameters(Parameters):
    """How new images are labelled and compared with those of the training."""

    decoding_threads: int | None = Field(ge=1, le=64)
    drift_confidence: float = Field(ge=0.5, lt=1)
