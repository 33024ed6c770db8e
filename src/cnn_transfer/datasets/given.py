"""What people name by a parameter: read where it lies, never written."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

from kedro.io import AbstractDataset
from kedro.io.core import DatasetError

from cnn_transfer.images import open_location

T = TypeVar("T")


class GivenDataset(AbstractDataset[NoReturn, T]):
    """Something at a path or an address that a parameter names.

    Args:
        filepath: Local path or address, such as `s3://bucket/photos`; None: not said yet.
        credentials: For the file system, as Kedro reads them from `credentials.yml`.
        fs_args: Further arguments of the file system.
        metadata: For Kedro's plugins.
    """

    def __init__(
        self,
        filepath: str | None = None,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._filepath = filepath
        self.metadata = metadata
        self._storage_options = {**(fs_args or {}), **(credentials or {})}

    def save(self, data: NoReturn) -> None:
        raise DatasetError(f"{self._filepath} is never written. Received: {type(data).__name__}.")

    def identity(self) -> dict[str, Any]:
        """What was chosen, whatever is there."""
        return {"filepath": self._filepath}

    def _exists(self) -> bool:
        if self._filepath is None:
            return False
        filesystem, path = open_location(self._filepath, self._storage_options)
        return bool(filesystem.exists(path))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
