"""What the run of a chosen predictor worked with, whatever run reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, cast

from kedro.io import AbstractDataset, AbstractVersionedDataset
from kedro.io.core import DatasetError, VersionNotFoundError

from cnn_transfer.datasets import versions
from cnn_transfer.datasets.predictor_dataset import ChosenPredictorDataset


class OfModelDataset(AbstractDataset[NoReturn, Any]):
    """Read-only: another versioned entry, in the version that has the name of the chosen predictor's.

    Args:
        dataset: The entry as the catalog has it, `type` and `filepath`.
        predictor: `filepath` and `model_version` of the chosen predictor, see `ChosenPredictorDataset`.
        metadata: For Kedro's plugins.
    """

    def __init__(
        self,
        dataset: dict[str, Any],
        predictor: dict[str, Any],
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self.metadata = metadata
        self._entry = {**dataset, "versioned": True}
        self._chosen = ChosenPredictorDataset(**predictor)

    def keep_to(self, used: Callable[[], str | None]) -> None:
        """See `ChosenPredictorDataset`."""
        self._chosen.keep_to(used)

    def load(self) -> Any:
        self._chosen.check_kept()
        return self._of_version().load()

    def save(self, data: NoReturn) -> None:
        raise DatasetError(f"{self._entry['filepath']} is written by its own entry. Received: {type(data).__name__}.")

    def fingerprint(self) -> str:
        """Digest of the version's content."""
        return versions.digest(self._of_version(), self._chosen.version())

    def identity(self) -> dict[str, Any]:
        """What was chosen, whatever is there."""
        return self._chosen.identity()

    def check(self) -> None:
        """See whether the version is there.

        Raises:
            VersionNotFoundError: When it is not, with those that are.
        """
        version = self._chosen.version()
        if not versions.exists(self._of_version(), version):
            raise VersionNotFoundError(versions.missing_version(self._of_version(), version))

    def _of_version(self) -> AbstractVersionedDataset[Any, Any]:
        version = self._chosen.version()
        found = AbstractDataset.from_config("of_model", self._entry, load_version=version, save_version=version)
        return cast("AbstractVersionedDataset[Any, Any]", found)  # others do not take a version

    def _exists(self) -> bool:
        try:
            self.check()
        except VersionNotFoundError:
            return False
        return True

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._entry["filepath"], "model_version": self._chosen._model_version or "newest"}
