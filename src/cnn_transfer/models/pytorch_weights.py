"""Weights out of PyTorch checkpoints, read without PyTorch and without running what a checkpoint says.

A checkpoint written by `torch.save(model.state_dict(), path)` is a pickle that describes tensors, and their raw bytes.
Since PyTorch 1.6 both lie in a zip archive (`data.pkl`, `data/<key>`); before, pickles and bytes followed one another
in one file. Both forms are read. A pickle can name any function to be called on loading; here it may name an ordered
dictionary, the types of storages and the two functions that make tensors, which all but the first are replaced by
stand-ins. Anything else is refused.

Out come {name: array}, float32, float64, float16, integers or booleans as in the file, bfloat16 as float32, in
PyTorch's layout: convolutions (out, in, height, width), dense layers (out, in).
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from math import prod
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from cnn_transfer.models.unusable import UnusableNetworkError

Array = np.ndarray[Any, np.dtype[Any]]

_DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",  # the upper half of a float32; numpy has no such type
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_ZIP_START = b"PK\x03\x04"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # MAGIC_NUMBER in torch/serialization.py
_LEGACY_PROTOCOL = 1001
_REMEDY = "Expected what torch.save(model.state_dict(), path) writes: a mapping of names to tensors."


class _StorageType(NamedTuple):
    name: str


class _Storage(NamedTuple):
    type: _StorageType
    key: str
    length: int

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(_DTYPES[self.type.name])

    @property
    def n_bytes(self) -> int:
        return self.length * self.dtype.itemsize


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_pytorch_weights(path: str | Path) -> dict[str, Array]:
    """Read all tensors of a PyTorch checkpoint.

    Args:
        path: File that `torch.save(model.state_dict(), path)` wrote, with any version of PyTorch since 0.4.

    Returns:
        The tensors by name, in the file's order, each an array of its own.

    Raises:
        UnusableNetworkError: When the file is no such checkpoint, is damaged, or its pickle names anything that reading
            weights does not need. Nothing in it has been called then.
    """
    path = Path(path)
    with path.open("rb") as file:
        try:
            is_zip = file.read(4) == _ZIP_START
            file.seek(0)
            content, storages = _read_zip(file) if is_zip else _read_legacy(file)
            return {name: _array(name, tensor, storages) for name, tensor in _tensors(content).items()}
        except Exception as error:  # a damaged archive or pickle can end in any exception
            known = isinstance(error, _CheckpointError)
            reason = error if known else f"it is damaged ({type(error).__name__}: {error})."
            raise UnusableNetworkError(f"{path} is not a readable PyTorch checkpoint: {reason} {_REMEDY}") from error


class _CheckpointError(Exception):
    """What is wrong with the content of a checkpoint."""


class _RestrictedUnpickler(pickle.Unpickler):
    """An unpickler that knows stand-ins for the few names that a mapping of tensors needs, and no others."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}
        self._allowed: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            # Partial, since a pickle can set attributes of a function that it gets, and must not reach ours.
            ("torch._utils", "_rebuild_tensor_v2"): partial(_rebuild_tensor),
            ("torch._utils", "_rebuild_parameter"): partial(_rebuild_parameter),
        }

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _DTYPES:
            return _StorageType(name)
        try:
            return self._allowed[module, name]
        except KeyError:
            raise _CheckpointError(
                f"its pickle asks for {module}.{name}, which weights do not need; nothing was run."
            ) from None

    def persistent_load(self, pid: Any) -> _Storage:
        match pid:
            case ("storage", _StorageType() as kind, str(key), str(), int(length), *view) if length >= 0:
                if any(part is not None for part in view):
                    raise _CheckpointError(
                        f"storage {key} is a view of another one, as only PyTorch before 0.4 wrote it."
                    )
                storage = _Storage(kind, key, length)
                if self.storages.setdefault(key, storage) != storage:
                    raise _CheckpointError(f"it describes storage {key} in two ways.")
                return storage
        raise _CheckpointError(f"its pickle refers to {pid!r} where a storage of numbers was expected.")


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    tensor = _Tensor(storage, offset, shape, strides)
    if (
        not isinstance(storage, _Storage)
        or len(shape) != len(strides)
        or not all(isinstance(number, int) and number >= 0 for number in (offset, *shape, *strides))
    ):
        raise _CheckpointError(f"its pickle describes an impossible tensor: {tensor}.")
    return tensor


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


def _read_zip(file: IO[bytes]) -> tuple[Any, dict[str, Array]]:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        root = next((name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")), None)
        if root is None:
            raise _CheckpointError(f"a zip archive without data.pkl, but with {', '.join(names[:3]) or 'nothing'}.")
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise _CheckpointError("its bytes are in big-endian order. Save it again on a little-endian machine.")
        with archive.open(f"{root}data.pkl") as pickled:
            unpickler = _RestrictedUnpickler(pickled)
            content = unpickler.load()

        def read(storage: _Storage) -> bytes:
            name = f"{root}data/{storage.key}"
            size = archive.getinfo(name).file_size if name in names else 0
            if size != storage.n_bytes:
                raise _CheckpointError(f"{name} has {size} bytes instead of {storage.n_bytes}.")
            return archive.read(name)

        return content, _read_storages(unpickler.storages.values(), read)


def _read_legacy(file: IO[bytes]) -> tuple[Any, dict[str, Array]]:
    """Five pickles (magic number, version, machine, content, keys of the storages), then length and bytes of each."""
    is_pickle = file.read(1) == pickle.PROTO
    file.seek(0)
    if not is_pickle or _RestrictedUnpickler(file).load() != _LEGACY_MAGIC:
        raise _CheckpointError("it is neither a zip archive nor in the format before PyTorch 1.6.")
    version, machine = _RestrictedUnpickler(file).load(), _RestrictedUnpickler(file).load()
    if version != _LEGACY_PROTOCOL or not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise _CheckpointError(f"version {version} on {machine} instead of {_LEGACY_PROTOCOL} in little-endian order.")
    unpickler = _RestrictedUnpickler(file)
    content = unpickler.load()
    keys = _RestrictedUnpickler(file).load()
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(unpickler.storages):
        raise _CheckpointError(f"it lists the storages {keys!r}, but its tensors use {sorted(unpickler.storages)}.")

    def read(storage: _Storage) -> bytes:
        length = int.from_bytes(file.read(8), "little")
        raw = file.read(storage.n_bytes)
        if length != storage.length or len(raw) != storage.n_bytes:
            raise _CheckpointError(
                f"storage {storage.key} has {len(raw)} bytes and length {length} instead of {storage.n_bytes} and "
                f"{storage.length}; the file may be cut off."
            )
        return raw

    return content, _read_storages([unpickler.storages[key] for key in keys], read)


def _read_storages(storages: Iterable[_Storage], read: Callable[[_Storage], bytes]) -> dict[str, Array]:
    return {storage.key: np.frombuffer(read(storage), storage.dtype) for storage in storages}


def _tensors(content: Any) -> dict[str, _Tensor]:
    if not isinstance(content, dict):
        raise _CheckpointError(f"it holds a {type(content).__name__}.")
    for name, value in content.items():
        if isinstance(value, dict):
            raise _CheckpointError(f"{name} is a mapping itself; if it holds the weights, save that mapping alone.")
        if not isinstance(name, str) or not isinstance(value, _Tensor):
            raise _CheckpointError(f"{name!r} is a {type(value).__name__}.")
    return content


def _array(name: str, tensor: _Tensor, storages: dict[str, Array]) -> Array:
    storage, offset, shape, strides = tensor
    numbers = storages[storage.key]
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if prod(shape) > len(numbers) or (prod(shape) > 0 and last >= len(numbers)):
        raise _CheckpointError(
            f"{name} of shape {shape}, strides {strides} and offset {offset} reaches beyond its {len(numbers)} numbers."
        )
    byte_strides = [stride * numbers.itemsize for stride in strides]
    array = np.array(np.lib.stride_tricks.as_strided(numbers[offset:], shape, byte_strides), order="C")
    if storage.type.name == "BFloat16Storage":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array
