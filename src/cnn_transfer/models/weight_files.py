"""Weights from HDF5 files into networks: every variable, or none and the names of those that do not fit.

Keras has two layouts. The old one, in which Keras Applications publishes its weights, lists layers in order, and Keras
ignores their names. The new one (`.weights.h5`, and inside `.keras`) has a path for each variable, and Keras ignores
variables that the network has not got.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnn_transfer.models.unusable import UnusableNetworkError

if TYPE_CHECKING:
    import keras

_OF_TRAINING = ("optimizer/", "compile_metrics/", "metrics/")  # a trained model's state that no prediction needs


def load_weights(network: keras.Model, path: str | Path, origin: str = "") -> None:
    """Fill a network with the weights of a file, all of them.

    Args:
        network: A built network; changed in place.
        path: HDF5 file in either layout of Keras.
        origin: What errors call the file; its path if nothing is given.

    Raises:
        UnusableNetworkError: When the file is no HDF5, or variables are missing, unexpected or of another shape; all
            are named, and the network is as it was.
    """
    import h5py

    origin = origin or str(path)
    try:
        with h5py.File(path) as file:
            old = file.get("model_weights", file)
            is_old = "layer_names" in old.attrs
            problems = _misfits_by_order(network, old) if is_old else _misfits_by_path(network, file)
    except OSError as error:
        raise UnusableNetworkError(f"{origin} holds no weights of Keras, which are HDF5 files ({error}).") from error
    if problems:
        raise UnusableNetworkError(
            f"The weights in {origin} do not fit the network {network.name}: {'; '.join(problems)}. "
            "Take the weights that were saved from this very network, without its classifier."
        )
    with tempfile.TemporaryDirectory() as folder:  # Keras tells the layouts apart by the name of the file
        link = Path(folder) / ("old.h5" if is_old else "new.weights.h5")
        link.symlink_to(Path(path).resolve())
        network.load_weights(link)


def _misfits_by_order(network: keras.Model, file: Any) -> list[str]:
    def text(name: Any) -> str:
        return name.decode() if isinstance(name, bytes) else str(name)

    stored = [
        (text(layer), [tuple(file[text(layer)][text(name)].shape) for name in file[text(layer)].attrs["weight_names"]])
        for layer in file.attrs["layer_names"]
    ]
    stored = [(layer, shapes) for layer, shapes in stored if shapes]
    needed = [(layer.name, [tuple(weight.shape) for weight in layer.weights]) for layer in network.layers]
    needed = [(layer, shapes) for layer, shapes in needed if shapes]
    if len(stored) != len(needed):
        missing = {layer for layer, _ in needed} - {layer for layer, _ in stored}
        unexpected = {layer for layer, _ in stored} - {layer for layer, _ in needed}
        counts = f"the file has {len(stored)} layers with weights, the network {len(needed)}"
        return [
            counts,
            *(f"{layer} has no weights in the file" for layer, _ in needed if layer in missing),
            *(f"{layer} is not in the network" for layer, _ in stored if layer in unexpected),
        ]
    return [
        f"{layer} needs {shapes}, the file has {others} ({other})"
        for (layer, shapes), (other, others) in zip(needed, stored, strict=True)
        if sorted(shapes) != sorted(others)
    ]


def _misfits_by_path(network: keras.Model, file: Any) -> list[str]:
    """Compare with what Keras writes for the network as it is."""
    import h5py

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "own.weights.h5"
        network.save_weights(path)
        with h5py.File(path) as own:
            needed = _variables(own)
    stored = _variables(file)
    return [
        *(f"{name} has no weights in the file" for name in needed if name not in stored),
        *(f"{name} is not in the network" for name in stored if name not in needed),
        *(
            f"{name} needs {shape}, the file has {stored[name]}"
            for name, shape in needed.items()
            if name in stored and stored[name] != shape
        ),
    ]


def _variables(file: Any) -> dict[str, tuple[int, ...]]:
    """Shape of each variable by its path in the file."""
    import h5py

    found: dict[str, tuple[int, ...]] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith(_OF_TRAINING):
            found[name] = tuple(item.shape)

    file.visititems(visit)
    return found
