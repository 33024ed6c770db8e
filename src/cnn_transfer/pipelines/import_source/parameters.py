"""Parameters of the stage `import_source`."""

from __future__ import annotations

from cnn_transfer.models import NetworkSource


class ImportParameters(NetworkSource):
    """The pretrained network, and what its card is to say where it cannot be known."""

    trained_on: str | None
    licence: str | None
