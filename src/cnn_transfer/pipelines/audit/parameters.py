"""Parameters of the stage `audit`."""

from __future__ import annotations

from pydantic import Field

from cnn_transfer.parameters import Parameters


class AuditParameters(Parameters):
    """How many images somebody is asked about; all of them fit on one page."""

    answered: int = Field(ge=1, le=400)
    withheld: int = Field(ge=0, le=100)
