"""Parameters of the stage `pretrain_source`."""

from __future__ import annotations

from pydantic import Field, field_validator

from cnn_transfer.images import Augmentation
from cnn_transfer.models import ARCHITECTURES
from cnn_transfer.parameters import Parameters, did_you_mean
from cnn_transfer.training import Optimisation


class PretrainParameters(Parameters):
    """The network and its training on the source."""

    architecture: str
    class_balance: float = Field(ge=0, le=1)
    optimisation: Optimisation
    augmentation: Augmentation
    licence: str

    @field_validator("architecture")
    @classmethod
    def _registered(cls, name: str) -> str:
        if name not in ARCHITECTURES:
            known = list(ARCHITECTURES)
            raise ValueError(f"must be one of {', '.join(known)}. {did_you_mean(name, known)}".strip().rstrip("."))
        return name
