"""Exports as versioned folders: the files by themselves, the release that they become part of, and all releases."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset, Version
from kedro.io.core import DatasetError

from cnn_transfer.datasets import versions
from cnn_transfer.datasets.cache import local_copy
from cnn_transfer.datasets.local_folder import LocalFolder
from cnn_transfer.exporting import Candidate, Files, Release, read_files, write_files, write_release
from cnn_transfer.exporting.published import PublishedRelease, complete_releases
from cnn_transfer.exporting.release import EXPORTS
from cnn_transfer.prediction import Predictor


class ExportedFilesDataset(LocalFolder[Files, Files]):
    """A folder of exports, whose content is in memory between two nodes.

    Args:
        filepath: Folder, on this machine or on a store.
        version: Kedro's version.
        credentials: For the file system.
        metadata: For Kedro's plugins.
    """

    LAST_FILE = "complete"

    def _open(self, folder: Path) -> Files:
        return read_files(folder)

    def _write(self, data: Files, folder: Path) -> None:
        folder.mkdir(parents=True)
        write_files(data, folder)
        (folder / self.LAST_FILE).touch()


class ReleaseDataset(LocalFolder[Release, Predictor]):
    """A release; loading opens its predictor, computed by Keras.

    Args:
        filepath: Folder, on this machine or on a store.
        version: Kedro's version.
        credentials: For the file system.
        metadata: For Kedro's plugins.
    """

    LAST_FILE = EXPORTS

    def _open(self, folder: Path) -> Predictor:
        return Predictor.load(folder)

    def _write(self, data: Release, folder: Path) -> None:
        write_release(data, folder)

    def served_instead(self) -> PublishedRelease | None:
        """The release that is served rather than the one that loading opens, since it seems to be younger."""
        found = complete_releases(self._fs, str(self._filepath))
        return found[0] if found and found[0].version != self.resolve_load_version() else None


class PublishedReleasesDataset(AbstractDataset[NoReturn, list[Candidate]]):
    """Read-only: all complete releases, the newest first; each is opened when it is asked for.

    Args:
        filepath: That of the versioned entry of releases, local or an address.
        credentials: For the file system.
        metadata: For Kedro's plugins.
    """

    def __init__(
        self, filepath: str, credentials: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        self.metadata = metadata
        self._releases = ReleaseDataset(filepath, Version(None, None), credentials)

    def load(self) -> list[Candidate]:
        found = [(release.version, self._predictor_of(release.version)) for release in self._published()]
        return [Candidate(version, made_with, partial(self._open, version)) for version, made_with in found]

    def save(self, data: NoReturn) -> None:
        raise DatasetError(f"{self._releases._filepath} is written by its own entry. Received: {type(data).__name__}.")

    def fingerprint(self) -> str:
        """Digest of which releases there are, and when each was completed."""
        found = [f"{release.version}\0{release.completed}" for release in self._published()]
        return hashlib.blake2b("\0".join(found).encode(), digest_size=16).hexdigest()

    def _published(self) -> list[PublishedRelease]:
        return complete_releases(self._releases._fs, str(self._releases._filepath))

    def _predictor_of(self, version: str) -> str:
        """Version of its predictor; nothing where it cannot be read."""
        try:
            content = self._releases._fs.cat_file(f"{self._path(version)}/{EXPORTS}")
            return str(json.loads(content)["predictor_version"])
        except (OSError, ValueError, LookupError, TypeError):
            return ""

    def _open(self, version: str) -> Predictor:
        filesystem, path = self._releases._fs, self._path(version)
        if versions.is_local(filesystem):
            return Predictor.load(path)
        with local_copy(filesystem, path, EXPORTS) as folder:
            return Predictor.load(folder)

    def _path(self, version: str) -> str:
        return str(self._releases._get_versioned_path(version))

    def _exists(self) -> bool:
        return True  # a first release has none before it

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._releases._filepath}
