"""Versioned folders whose content is memory-mapped, and which reuse what earlier versions hold."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, TypeVar

import fsspec
from kedro.io import AbstractVersionedDataset, Version
from kedro.io.core import DatasetError, get_protocol_and_path

Saved = TypeVar("Saved")
Loaded = TypeVar("Loaded")


class LocalFolder(AbstractVersionedDataset[Saved, Loaded]):
    """The part that such datasets share; each says what its folders hold, and loads and saves them."""

    WHAT: ClassVar[str]  # in errors, with its verb
    LAST_FILE: ClassVar[str]  # a version that has it is complete

    def __init__(self, filepath: str, version: Version | None = None, metadata: dict[str, Any] | None = None) -> None:
        protocol, path = get_protocol_and_path(filepath, version)
        if protocol != "file":
            raise DatasetError(f"{self.WHAT} memory-mapped and needs a local folder. Received: {filepath}.")
        self._fs = fsspec.filesystem("file", auto_mkdir=True)
        self.metadata = metadata
        super().__init__(PurePosixPath(path), version, self._fs.exists, self._fs.glob)

    def _earlier(self) -> list[Path]:
        """The complete versions, the newest first."""
        if self._version is None:
            return []
        name = Path(self._filepath).name
        return [file.parent for file in sorted(Path(self._filepath).glob(f"*/{name}/{self.LAST_FILE}"), reverse=True)]

    def _exists(self) -> bool:
        return bool(self._fs.exists(str(self._get_load_path())))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "version": self._version}
