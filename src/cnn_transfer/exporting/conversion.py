"""A predictor's network in the files of other programs.

All take `pixels` (n, height, width, channels) uint8, any n, and give `probabilities`, `logits` and `features` float32:
the calibration is part of each file, and so is what scales the pixels.
"""

from __future__ import annotations

import importlib.util
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnn_transfer.images import images_a_batch
from cnn_transfer.parameters import did_you_mean
from cnn_transfer.prediction import RUNTIMES, Predictor
from cnn_transfer.prediction.native_notes import without_native_notes
from cnn_transfer.prediction.runtimes import KerasRuntime, LiteRTInt8Runtime

if TYPE_CHECKING:
    import keras

Files = Mapping[str, bytes]  # content by path, relative to a predictor's folder
Write = Callable[["keras.Model", Path, np.ndarray], None]


@dataclass(frozen=True)
class Format:
    """A form of the network that a runtime computes.

    Attributes:
        runtime: Name of the runtime, and of the format.
        packages: That write it and compute it; the extra `export` installs them.
        write: Writes a network to a path; the pixels, (n, height, width, channels) uint8, show which values occur.
        exact: Whether it computes in float32, so that only rounding tells it from Keras.
    """

    runtime: str
    packages: tuple[str, ...]
    write: Write
    exact: bool

    @property
    def file(self) -> str:
        """Name of its file or folder."""
        return str(RUNTIMES[self.runtime].FILE)


def write_saved_model(network: keras.Model, path: Path, _: np.ndarray) -> None:
    """TensorFlow's own format, a folder; for TensorFlow Serving, C++, Java, Go."""
    network.export(str(path), format="tf_saved_model", verbose=False)


def write_onnx(network: keras.Model, path: Path, _: np.ndarray) -> None:
    """One file for ONNX Runtime, in any of its languages."""
    with warnings.catch_warnings():
        # Keras asks NumPy for names that tf2onnx needs and NumPy 2 has no more.
        warnings.filterwarnings("ignore", category=FutureWarning, module="keras")
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="tf2onnx|onnx")
        network.export(str(path), format="onnx", verbose=False)


def write_litert(network: keras.Model, path: Path, _: np.ndarray) -> None:
    """One file for LiteRT (TensorFlow Lite), in float32."""
    _write_litert(network, path)


def write_litert_int8(network: keras.Model, path: Path, pixels: np.ndarray) -> None:
    """One file for LiteRT with weights and activations of 8 bits, whose ranges the pixels show.

    Rounding shifts what a layer gives, on the average over images, too. What it shifts the logits by is measured and
    taken out of their bias (bias correction; Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and
    Bias Correction", ICCV): with EfficientNet-Lite0 10 instead of 16 of 659 digits get another class.
    """
    _write_quantized(network, path, pixels)
    quantized, exact = LiteRTInt8Runtime(path), KerasRuntime.of(network)
    shifts = [quantized(part).logits - exact(part).logits for part in _parts(pixels)]
    _write_quantized(_with_bias(network, np.concatenate(shifts).mean(axis=0)), path, pixels)


def _write_quantized(network: keras.Model, path: Path, pixels: np.ndarray) -> None:
    import tensorflow as tf

    _write_litert(
        network,
        path,
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=lambda: ([image[None]] for image in pixels),
    )


def _with_bias(network: keras.Model, shift: np.ndarray) -> keras.Model:
    """A copy whose logits are smaller by `shift` (c,)."""
    import keras

    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    kernel, bias = copy.get_layer("logits").get_weights()
    copy.get_layer("logits").set_weights([kernel, bias - shift])
    return copy


def _parts(pixels: np.ndarray) -> list[np.ndarray]:
    step = images_a_batch(pixels.shape[1:])
    return [pixels[start : start + step] for start in range(0, len(pixels), step)]


def _write_litert(network: keras.Model, path: Path, **settings: Any) -> None:
    import tensorflow as tf

    own = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}  # others need TensorFlow on the device
    with without_native_notes():  # which types it was given
        network.export(str(path), format="litert", verbose=False, target_spec=own, **settings)


FORMATS = {
    known.runtime: known
    for known in (
        Format("saved_model", ("tensorflow",), write_saved_model, exact=True),
        Format("onnx", ("onnx", "tf2onnx", "onnxruntime"), write_onnx, exact=True),
        Format("litert", ("ai_edge_litert",), write_litert, exact=True),
        Format("litert_int8", ("ai_edge_litert",), write_litert_int8, exact=False),
    )
}


def check_formats(formats: Collection[str]) -> None:
    """See, without importing them, whether the formats are known and their packages installed.

    Raises:
        ValueError: When one is unknown.
        ModuleNotFoundError: When packages are missing, saying how to install them.
    """
    for name in formats:
        if name not in FORMATS:
            raise ValueError(
                f"formats must be of {', '.join(FORMATS)}. Received: {name}. "
                + did_you_mean(name, list(FORMATS)).strip()
            )
    needed = dict.fromkeys(package for name in formats for package in FORMATS[name].packages)
    missing = [package for package in needed if importlib.util.find_spec(package) is None]
    if missing:
        of = [name for name in formats if set(FORMATS[name].packages) & set(missing)]
        raise ModuleNotFoundError(
            f"The formats {', '.join(of)} need packages that are not installed: {', '.join(missing)}. Install them: "
            "pip install 'cnn-transfer[export]', or leave those formats out: --params export.formats=[saved_model]"
        )


def export(predictor: Predictor, formats: Iterable[str], pixels: np.ndarray) -> dict[str, bytes]:
    """Write a predictor's network in other formats.

    Args:
        predictor: One that Keras computes.
        formats: Names of `FORMATS`.
        pixels: (n, height, width, channels) uint8 of training images, which set the ranges of 8-bit activations.

    Returns:
        Content of the files by their path in the predictor's folder.

    Raises:
        ValueError: When a format is unknown, or another runtime computes the network.
        ModuleNotFoundError: When a package is missing.
        RuntimeError: When a network cannot be written in a format.
    """
    wanted = list(formats)
    check_formats(wanted)
    if not isinstance(predictor.runtime, KerasRuntime):
        raise ValueError(
            "Only a predictor whose runtime is keras can be exported. Received: one with "
            f"{type(predictor.runtime).__name__}. Load it with runtime='keras'."
        )
    predictor.runtime.network(pixels[:1], training=False)  # Keras writes no network as ONNX that was never called
    files: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in wanted:
            known = FORMATS[name]
            try:
                known.write(predictor.runtime.network, folder / known.file, pixels)
            except Exception as error:  # whatever the converters raise
                raise RuntimeError(
                    f"The network {predictor.facts.card.architecture} cannot be written as {name}: {error}. Leave this "
                    "format out of export.formats, or take an architecture without the layers that are named."
                ) from error
            files |= dict(_contents(folder / known.file, folder))
    return files


def _contents(path: Path, folder: Path) -> Iterator[tuple[str, bytes]]:
    found = sorted(path.rglob("*")) if path.is_dir() else [path]
    yield from ((file.relative_to(folder).as_posix(), file.read_bytes()) for file in found if file.is_file())
