"""Pretrained networks as an input of the graph: what a node reads them with."""

from __future__ import annotations

from typing import Any, NoReturn

from kedro.io import AbstractDataset
from kedro.io.core import DatasetError

from cnn_transfer.models import NetworkReader, read_network


class PretrainedNetworksDataset(AbstractDataset[NoReturn, NetworkReader]):
    """A reader of networks by name or path, so that nodes read no files by themselves.

    Which network is read is a parameter (`import_source`); the reader looks in installed packages, in Keras's cache and
    on the local disk.

    Args:
        metadata: For Kedro's plugins.
    """

    def __init__(self, metadata: dict[str, Any] | None = None) -> None:
        self.metadata = metadata

    def load(self) -> NetworkReader:
        return read_network

    def save(self, data: NoReturn) -> None:
        raise DatasetError(f"Pretrained networks are never written. Received: {type(data).__name__}.")

    def _describe(self) -> dict[str, Any]:
        return {}
