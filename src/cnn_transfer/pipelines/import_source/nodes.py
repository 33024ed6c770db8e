"""Nodes of the stage `import_source`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cnn_transfer.images import ImageFormat
from cnn_transfer.models import ModelCard, Network, NetworkReader
from cnn_transfer.pipelines.import_source.parameters import ImportParameters
from cnn_transfer.training import LOG_COLUMNS


def import_network(
    read_network: NetworkReader, parameters: Mapping[str, Any], image_format: Mapping[str, Any]
) -> tuple[Network, dict[str, Any], pd.DataFrame]:
    """Read a pretrained network that takes the target's images; nothing is trained, so the log is empty."""
    block = ImportParameters.parse(parameters, "import_source")
    shape = ImageFormat.parse(image_format, "preprocess.target.image_format").shape
    imported = read_network(block, shape)
    earlier = imported.card
    card = ModelCard(
        architecture=imported.architecture,
        image_shape=shape,
        class_names=(),
        trained_on=block.trained_on or imported.trained_on,
        training_fingerprint=earlier.training_fingerprint if earlier else "unknown",
        training_images=earlier.training_images if earlier else None,
        precision=earlier.precision if earlier else "unknown",
        initialised_from=imported.origin,
        strategy="imported",
        metrics={},  # of the network with its head, if there are any
        licence=block.licence or imported.licence,
    )
    return imported.network, card.model_dump(mode="json"), pd.DataFrame(columns=LOG_COLUMNS, dtype=float)
