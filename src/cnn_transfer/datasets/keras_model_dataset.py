"""Keras models in the `.keras` format, loaded in safe mode; the same network is always stored as the same bytes.

Kedro's TensorFlowModelDataset imports TensorFlow with its module, which every `kedro catalog` command would pay for.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cnn_transfer.datasets.atomic import AtomicSave
from cnn_transfer.datasets.versions import VersionedFile
from cnn_transfer.models import write_keras_file

if TYPE_CHECKING:
    import keras


class _KerasModelFile(VersionedFile["keras.Model", "keras.Model"]):
    SUFFIX = ".keras"

    def load(self) -> keras.Model:
        import keras

        with tempfile.TemporaryDirectory() as folder:
            local = str(Path(folder) / "model.keras")
            self._fs.get_file(str(self._get_load_path()), local)
            return keras.models.load_model(local, compile=False, safe_mode=True)

    def save(self, data: keras.Model) -> None:
        write_keras_file(data, Path(self._get_save_path()))  # a local path, which AtomicSave gives


class KerasModelDataset(AtomicSave, _KerasModelFile):
    """A Keras model; no optimiser state crosses it, and custom code in a file is refused.

    Args:
        filepath: Any fsspec address that ends in `.keras`.
        version: Kedro's version.
        credentials: For the file system.
        metadata: For Kedro's plugins.
    """
