"""Parameters of the stage `label_next`."""

from __future__ import annotations

from pydantic import Field

from cnn_transfer.parameters import Parameters


class LabelNextParameters(Parameters):
    """How many labels are asked for."""

    images: int = Field(ge=1, le=10_000)
