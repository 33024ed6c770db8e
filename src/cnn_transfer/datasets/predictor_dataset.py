"""Predictors as versioned folders, and the one of all versions that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset, Version
from kedro.io.core import DatasetError, VersionNotFoundError

from cnn_transfer.datasets import versions
from cnn_transfer.datasets.cache import local_copy
from cnn_transfer.datasets.local_folder import LocalFolder
from cnn_transfer.prediction import Predictor, check_predictor


class PredictorDataset(LocalFolder[Predictor, Predictor]):
    """A folder that holds a predictor.

    Args:
        filepath: Folder, on this machine or on a store.
        version: Kedro's version.
        credentials: For the file system.
        metadata: For Kedro's plugins.
    """

    LAST_FILE = "predictor.json"

    def _open(self, folder: Path) -> Predictor:
        return Predictor.load(folder)

    def _write(self, data: Predictor, folder: Path) -> None:
        data.save(folder)


class ChosenPredictorDataset(AbstractDataset[NoReturn, Predictor]):
    """Read-only: one version of the predictors that another entry writes, whatever run it is of.

    It stays the same while a process lasts, and in a run that goes on (`keep_to`), though a newer one may come.

    Args:
        filepath: That of the versioned entry, local or an address.
        model_version: Its version; None: the newest.
        credentials: For the file system.
        metadata: For Kedro's plugins.
    """

    def __init__(
        self,
        filepath: str,
        model_version: str | int | None = None,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self.metadata = metadata
        self._model_version = None if model_version is None else str(model_version)
        self._versioned = PredictorDataset(filepath, Version(None, None), credentials)
        self._newest: str | None = None
        self._used: Callable[[], str | None] = lambda: None

    def keep_to(self, used: Callable[[], str | None]) -> None:
        """Take the newest predictor for the one that the run has begun with.

        Args:
            used: Asked for the digest of the predictor that the run has made something with; None: nothing yet.
        """
        self._used = used

    def check_kept(self) -> None:
        """See whether what is read is what the run has begun with.

        Raises:
            VersionNotFoundError: When that was deleted.
        """
        if self._model_version is None and self._used() not in {None, self.fingerprint()}:
            raise VersionNotFoundError(
                f"The predictor that this run has begun with is not in {self._versioned._filepath} any more, and a run "
                "keeps to one. Give this run another id (TRANSFER_RUN_ID), or none."
            )

    def load(self) -> Predictor:
        self.check_kept()
        with self._folder() as folder:
            return replace(Predictor.load(folder), version=self.version())

    def check(self) -> None:
        """See, without TensorFlow, whether the predictor is there and can be used.

        Raises:
            VersionNotFoundError: When the version is not there, with those that are.
            ValueError: When it is damaged, of another form, or its network brings code of its own.
        """
        with self._folder() as folder:
            check_predictor(folder)

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        """On this machine."""
        filesystem, path = self._versioned._fs, self._path()
        if versions.is_local(filesystem):
            yield Path(path)
            return
        with local_copy(filesystem, path, PredictorDataset.LAST_FILE) as folder:
            yield folder

    def save(self, data: NoReturn) -> None:
        raise DatasetError(f"{self._versioned._filepath} is written by its own entry. Received: {type(data).__name__}.")

    def fingerprint(self) -> str:
        """Digest of the predictor's content."""
        return versions.digest(self._versioned, self.version())

    def identity(self) -> dict[str, Any]:
        """What was chosen, whatever is there: another version may be the newest when a finished run is repeated."""
        return {"model_version": self._model_version}

    def version(self) -> str:
        """Name of the version that is read.

        Raises:
            VersionNotFoundError: When it is not there, with those that are.
        """
        if self._newest is not None:
            return self._newest
        there = versions.find_versions(self._versioned._fs, self._versioned._filepath, PredictorDataset.LAST_FILE)
        if self._model_version is None and there:
            used = self._used()
            alike = (version for version in there if versions.digest(self._versioned, version) == used)
            self._newest = next(alike, there[0]) if used else there[0]
            return self._newest
        if self._model_version in there:
            return str(self._model_version)
        raise VersionNotFoundError(versions.missing_version(self._versioned, self._model_version or ""))

    def _path(self) -> str:
        return str(self._versioned._get_versioned_path(self.version()))

    def _exists(self) -> bool:
        try:
            return bool(self.version())
        except VersionNotFoundError:
            return False

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._versioned._filepath, "model_version": self._model_version or "newest"}
