"""The states of unfinished fits, and the results of finished ones, so that a process that was killed goes on.

A checkpoint is one file a fit, `<key>.npz`, where the key is a digest of all that the fit depends on: a fit finds its
own state or none. It holds plain arrays, never code. On a disk it is written under a temporary name and renamed, so
that a half-written one is never read.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import math
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cnn_transfer.images import Augmentation, Examples

if TYPE_CHECKING:
    import keras

    from cnn_transfer.training.schedule import Optimisation

LOGGER = logging.getLogger(__name__)

StoppedBy = Literal["length", "patience", "not_finite"]

WRITING_SHARE = 0.05  # of the time of a fit, at most
UNREADABLE = (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile)


@dataclass(frozen=True)
class FitState:
    """All that a fit needs to go on as if nothing had happened.

    Attributes:
        rows: Of its log.
        best_weights: The network's weights at its best validation.
        best_loss: The loss of that validation.
        improved: Whether a validation was better than the start.
        waited: Validations since the best one.
        stopped_by: What ended it, or `length`.
        epoch: Validations that are done.
        finished: Whether there is nothing left to do.
        variables: All variables of the network, the states of its random generators too; empty when finished.
        optimizer: All variables of the optimiser; empty when finished.
    """

    rows: list[list[Any]]
    best_weights: list[np.ndarray]
    best_loss: float
    improved: bool = False
    waited: int = 0
    stopped_by: StoppedBy = "length"
    epoch: int = 0
    finished: bool = False
    variables: list[np.ndarray] = field(default_factory=list)
    optimizer: list[np.ndarray] = field(default_factory=list)


SCALARS = ("rows", "best_loss", "improved", "waited", "stopped_by", "epoch", "finished")
ARRAYS = ("best_weights", "variables", "optimizer")


class Checkpoints:
    """A folder with one file a fit.

    Writing takes at most 5% of the time: after a write of w seconds, the next one is due 19 w seconds later. The newest
    state is in memory all the while; `flush` writes it.

    Args:
        folder: Path of the folder in the file system; it need not exist.
        filesystem: Any of fsspec's, one that makes folders by itself; None: the local one.
    """

    def __init__(self, folder: str | Path, filesystem: Any = None) -> None:
        import fsspec

        self._fs = filesystem or fsspec.filesystem("file", auto_mkdir=True)
        self._folder = str(folder).rstrip("/")
        self._newest: tuple[str, FitState] | None = None  # that is not written yet
        self._due = -math.inf
        self._warned = False

    def __repr__(self) -> str:
        return f"Checkpoints({self._folder!r})"

    def read(self, key: str) -> FitState | None:
        """The state of a fit; None when there is none, or, with a logged warning, none that can be read."""
        path = self._path(key)
        try:
            content = self._fs.cat_file(path)
        except FileNotFoundError:
            return None
        try:
            return _unpack(content)
        except UNREADABLE as error:
            LOGGER.warning("The checkpoint %s cannot be read (%s). Its fit starts anew.", path, error)
            return None

    def write(self, key: str, state: FitState) -> None:
        """Keep the state of a fit in the place of an earlier one; at once when the fit is finished or a write is due.

        A fit goes on without its checkpoint: where writing fails, there is one logged warning.
        """
        self._newest = key, state
        if state.finished or time.monotonic() >= self._due:
            self.flush()

    def flush(self) -> None:
        """Write the newest state, if it is not written yet."""
        if self._newest is None:
            return
        key, state = self._newest
        start = time.monotonic()
        try:
            self._write(self._path(key), _pack(state))
        except Exception as error:  # whatever the file system raises
            if not self._warned:
                LOGGER.warning("No checkpoint can be written to %s: %s. Training goes on without.", self._folder, error)
            self._warned = True
        end = time.monotonic()
        self._due = end + (end - start) * (1 / WRITING_SHARE - 1)
        self._newest = None

    def clear(self) -> None:
        """Delete all states."""
        self._newest = None
        for file in self._fs.find(self._folder):  # `rm` takes brackets in a path for a pattern
            self._fs.rm_file(file)
        if _is_local(self._fs) and self._fs.exists(self._folder):  # a store has no folders
            self._fs.rmdir(self._folder)

    def _path(self, key: str) -> str:
        return f"{self._folder}/{key}.npz"

    def _write(self, path: str, content: bytes) -> None:
        if not _is_local(self._fs):  # an object is there when all of it is
            self._fs.pipe_file(path, content)
            return
        partial = f"{self._folder}/.partial-{path.rsplit('/', 1)[1]}"
        try:
            self._fs.pipe_file(partial, content)
            self._fs.mv(partial, path)
        except BaseException:
            with contextlib.suppress(Exception):  # what went wrong is told already
                if self._fs.exists(partial):
                    self._fs.rm(partial)
            raise


class NoCheckpoints(Checkpoints):
    """For fits that start anew each time."""

    def __init__(self) -> None:
        super().__init__("")

    def read(self, key: str) -> None:
        """Nothing."""

    def write(self, key: str, state: FitState) -> None:
        """Keep nothing."""

    def clear(self) -> None:
        """There is nothing to delete."""


def key_of_fit(
    network: keras.Model, training: Examples, validation: Examples, optimisation: Optimisation,
    augmentation: Augmentation, precision: str, seed: int, phase: str,
) -> str:  # fmt: skip
    """Digest of all that the result of a fit depends on: its arguments, this package and the libraries below it."""
    digest = hashlib.blake2b(digest_size=16)
    for text in (
        _code(),
        network.to_json(),
        *_texts(training),
        *_texts(validation),
        optimisation.model_dump_json(),
        augmentation.model_dump_json(),
        f"{precision} {seed} {phase}",
    ):
        digest.update(f"{len(text)} {text}".encode())
    for values in network.get_weights():
        digest.update(values.tobytes())
    for examples in (training, validation):
        for part in (examples.targets, examples.weights):
            digest.update(part.tobytes())
    return digest.hexdigest()


def _texts(examples: Examples) -> Iterator[str]:
    images = examples.images
    yield images.fingerprint
    yield json.dumps([images.class_names, images.image_shape])
    yield "\0".join(images.table["id"].iloc[examples.rows])  # row numbers may differ from set to set, names do not


@cache
def _code() -> str:
    """The versions of the libraries, and the source of the packages that a fit is made of."""
    import keras
    import tensorflow as tf

    package = Path(__file__).parents[1]
    sources = sorted(file for name in ("images", "models", "training") for file in (package / name).glob("*.py"))
    return "\0".join([keras.__version__, tf.__version__, *(file.read_text() for file in sources)])


def _is_local(filesystem: Any) -> bool:
    from fsspec.implementations.local import LocalFileSystem

    return isinstance(filesystem, LocalFileSystem)


def _pack(state: FitState) -> bytes:
    scalars = {name: getattr(state, name) for name in SCALARS}
    counts = {name: len(getattr(state, name)) for name in ARRAYS}
    arrays = {f"{name}/{index}": value for name in ARRAYS for index, value in enumerate(getattr(state, name))}
    stream = io.BytesIO()
    np.savez(stream, header=np.array(json.dumps({**scalars, "counts": counts})), **arrays)
    return stream.getvalue()


def _unpack(content: bytes) -> FitState:
    """Every byte is checked: the format has a checksum for each array."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        parts: dict[str, Any] = json.loads(str(file["header"]))
        counts = parts.pop("counts")
        parts |= {name: [file[f"{name}/{index}"] for index in range(counts[name])] for name in ARRAYS}
    return FitState(**parts)
