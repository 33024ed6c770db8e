"""What computes a predictor's network: Keras, or another program's runtime on an exported file.

All take pixels (n, height, width, channels) uint8 and give `Outputs`; which one computes makes no difference to what is
done with them. Each may be called from several threads.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from cnn_transfer.models import frozen
from cnn_transfer.models.keras_file import read_keras_file
from cnn_transfer.parameters import did_you_mean
from cnn_transfer.prediction.calibrated_network import OUTPUTS
from cnn_transfer.prediction.native_notes import without_native_notes

# Of pixels computed at once, 13 photographs of 224 px: more is not faster, and ONNX Runtime keeps 14 MB for each.
MOST_BYTES = 2 * 2**20


class Outputs(NamedTuple):
    """What a network says of n images.

    Attributes:
        probabilities: (n, c) float32, calibrated.
        logits: (n, c) float32, whose softmax the probabilities are.
        features: (n, d) float32, what its last dense layer reads.
    """

    probabilities: np.ndarray
    logits: np.ndarray
    features: np.ndarray


class Runtime(Protocol):
    """Computes one network."""

    def __call__(self, pixels: np.ndarray, /) -> Outputs:
        """Compute (n, height, width, channels) uint8, n at least 1."""


class KerasRuntime:
    """Keras with TensorFlow, on `model.keras`."""

    FILE: ClassVar[str] = "model.keras"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        import keras

        del threads  # TensorFlow's are set for the whole process
        read_keras_file(path)  # refuses code of others, with its names
        self._start(keras.models.load_model(path, compile=False, safe_mode=True))

    @classmethod
    def of(cls, network: Any) -> KerasRuntime:
        """The runtime of a network in memory, see `calibrated_network`."""
        runtime = cls.__new__(cls)
        runtime._start(network)
        return runtime

    def _start(self, network: Any) -> None:
        self.network, self._call = network, frozen(network)

    def __call__(self, pixels: np.ndarray) -> Outputs:
        """See `Runtime`."""
        found = self._call(pixels)
        return Outputs(*(found[name].numpy() for name in OUTPUTS))


class SavedModelRuntime:
    """TensorFlow alone, on the folder `saved_model`."""

    FILE: ClassVar[str] = "saved_model"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        import tensorflow as tf

        del threads
        self._model = tf.saved_model.load(str(path))
        self._call = self._model.signatures["serving_default"]

    def __call__(self, pixels: np.ndarray) -> Outputs:
        """See `Runtime`."""
        import tensorflow as tf

        found = self._call(pixels=tf.constant(pixels))
        return Outputs(*(found[name].numpy() for name in OUTPUTS))


class OnnxRuntime:
    """ONNX Runtime, on `model.onnx`; neither Keras nor TensorFlow is imported."""

    FILE: ClassVar[str] = "model.onnx"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, pixels: np.ndarray) -> Outputs:
        """See `Runtime`."""
        return Outputs(*self._session.run(list(OUTPUTS), {"pixels": pixels}))


class LiteRTRuntime:
    """LiteRT (formerly TensorFlow Lite), on `model.tflite`."""

    FILE: ClassVar[str] = "model.tflite"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        from ai_edge_litert.interpreter import Interpreter

        with without_native_notes():  # which delegate it makes, the first time with the first image
            self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
            self._runner: Any = self._interpreter.get_signature_runner()
            pixels = self._runner.get_input_details()["pixels"]
            self._runner(pixels=np.zeros(pixels["shape"], pixels["dtype"]))
        self._lock = threading.Lock()  # an interpreter has one set of buffers

    def __call__(self, pixels: np.ndarray) -> Outputs:
        """See `Runtime`."""
        with self._lock:
            found = self._runner(pixels=pixels)
            return Outputs(*(np.array(found[name]) for name in OUTPUTS))


class LiteRTInt8Runtime(LiteRTRuntime):
    """LiteRT with weights and activations of 8 bits, on `model_int8.tflite`."""

    FILE: ClassVar[str] = "model_int8.tflite"


RUNTIMES: dict[str, type[Any]] = {
    "keras": KerasRuntime,
    "saved_model": SavedModelRuntime,
    "onnx": OnnxRuntime,
    "litert": LiteRTRuntime,
    "litert_int8": LiteRTInt8Runtime,
}
_PACKAGES = {"onnxruntime": "export", "ai_edge_litert": "export"}


def open_runtime(folder: Path, name: str, threads: int | None = None) -> Runtime:
    """The runtime of a predictor's folder.

    Args:
        folder: The folder.
        name: One of `RUNTIMES`.
        threads: That compute one batch; None: one a core.

    Raises:
        ValueError: When there is no such runtime, or the file needs code that is not its own, or is damaged.
        FileNotFoundError: When the folder has no file for it.
        ModuleNotFoundError: When its package is not installed.
    """
    if name not in RUNTIMES:
        raise ValueError(
            f"runtime must be one of {', '.join(RUNTIMES)}. Received: {name}. "
            + did_you_mean(name, list(RUNTIMES)).strip()
        )
    kind = RUNTIMES[name]
    path = folder / kind.FILE
    if not path.exists():
        there = [other for other, known in RUNTIMES.items() if (folder / known.FILE).exists()]
        raise FileNotFoundError(
            f"{folder} has no {kind.FILE}, which the runtime {name} needs. It has the files of: "
            f"{', '.join(there) or 'none'}. Exports are made by: kedro run --pipelines export"
        )
    try:
        runtime: Runtime = kind(path, threads)
    except ModuleNotFoundError as error:
        package = str(error.name).split(".", maxsplit=1)[0]
        raise ModuleNotFoundError(
            f"The runtime {name} needs the package {package}, which is not installed: "
            f"pip install 'cnn-transfer[{_PACKAGES.get(package, 'export')}]'"
        ) from error
    except Exception as error:  # each library raises what it likes
        if kind is KerasRuntime:  # whose file says what is wrong with it
            raise
        raise ValueError(
            f"{path} cannot be opened by the runtime {name}: {str(error).partition(chr(10))[0][:300]}. It is damaged, "
            "or of another version of the runtime. Take another release, or make it again: kedro run --pipelines export"
        ) from error
    return runtime
