"""Exports as versioned folders: the files by themselves, the release that they become part of, and the one before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset, Version
from kedro.io.core import DatasetError

from cnn_transfer.datasets import versions
from cnn_transfer.datasets.cache import local_copy
from cnn_transfer.datasets.local_folder import LocalFolder
from cnn_transfer.datasets.predictor_dataset import ChosenPredictorDataset
from cnn_transfer.exporting import Champion, Files, Release, read_files, write_files, write_release
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


class ChampionDataset(AbstractDataset[NoReturn, Champion]):
    """Read-only: the newest release of another predictor than the chosen one, which is there to be compared with.

    One that cannot be opened is not served either: then the newest that can, as the service does. When none can, the
    champion says why.

    Args:
        filepath: That of the versioned entry of releases, local or an address.
        predictor: `filepath` and `model_version` of the chosen predictor, see `ChosenPredictorDataset`.
        credentials: For the file system.
        metadata: For Kedro's plugins.
    """

    def __init__(
        self,
        filepath: str,
        predictor: dict[str, Any],
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self.metadata = metadata
        self._releases = ReleaseDataset(filepath, Version(None, None), credentials)
        self._chosen = ChosenPredictorDataset(**predictor)

    def load(self) -> Champion:
        problems = []
        for release in self._candidates():
            try:
                with self._folder(release) as folder:
                    return Champion(release.version, Predictor.load(folder))
            except (OSError, ValueError, ModuleNotFoundError) as error:
                problems.append(Champion(release.version, None, str(error)))
        return problems[0] if problems else Champion()

    def save(self, data: NoReturn) -> None:
        raise DatasetError(f"{self._releases._filepath} is written by its own entry. Received: {type(data).__name__}.")

    def fingerprint(self) -> str:
        """Digest of the releases that may be the champion: of their names and of the content of the newest."""
        found = [release.version for release in self._candidates()]
        content = versions.digest(self._releases, found[0]) if found else ""
        return hashlib.blake2b("\0".join([content, *found]).encode(), digest_size=16).hexdigest()

    def _candidates(self) -> list[PublishedRelease]:
        """Releases of other predictors, the newest first."""
        filesystem, chosen = self._releases._fs, self._chosen.version()
        found = complete_releases(filesystem, str(self._releases._filepath))
        return [release for release in found if self._predictor_of(release) != chosen]

    def _predictor_of(self, release: PublishedRelease) -> str:
        """Version of its predictor; nothing where it cannot be read."""
        filesystem, path = self._releases._fs, self._path(release)
        try:
            return str(json.loads(filesystem.cat_file(f"{path}/{EXPORTS}"))["predictor_version"])
        except (OSError, ValueError, LookupError, TypeError):
            return ""

    @contextmanager
    def _folder(self, release: PublishedRelease) -> Iterator[Path]:
        """On this machine."""
        filesystem, path = self._releases._fs, self._path(release)
        if versions.is_local(filesystem):
            yield Path(path)
            return
        with local_copy(filesystem, path, EXPORTS) as folder:
            yield folder

    def _path(self, release: PublishedRelease) -> str:
        return str(self._releases._get_versioned_path(release.version))

    def _exists(self) -> bool:
        return True  # a first release has none before it, which is an answer

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._releases._filepath}
