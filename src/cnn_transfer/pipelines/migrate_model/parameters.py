"""Parameters of the stage `migrate_model`."""

from __future__ import annotations

from cnn_transfer.transfer import HeadRule


class MigrateParameters(HeadRule):
    """What the head reads and learns from, and whether the same is tried on random weights."""

    random_weights: bool
