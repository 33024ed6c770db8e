"""Parameters of the stage `migrate_model`."""

from __future__ import annotations

from cnn_transfer.parameters import Parameters


class MigrateParameters(Parameters):
    """Where the source network is cut."""

    cut_layer: str | None
