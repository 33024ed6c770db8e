"""Networks from `.keras` files, whoever made them: looked at without TensorFlow, loaded without running their code.

A `.keras` file is a zip archive of `config.json` (layers and their connections), `model.weights.h5` and
`metadata.json`.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnn_transfer.models.flat_graph import flatten
from cnn_transfer.models.unusable import UnusableNetworkError
from cnn_transfer.models.weight_files import load_weights

if TYPE_CHECKING:
    import keras

_WEIGHTS = "model.weights.h5"
_REGISTERED = re.compile(r"[\w.]+>[\w.]+")  # package>name, as Keras calls functions that users registered
_SHARED_OBJECT = re.compile(rb'("shared_object_id": )(\d+)')
_BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class KerasFile:
    """What the configuration in a `.keras` file says.

    Attributes:
        path: Where it is.
        name: Name of the network.
        input_shape: (height, width, channels) of its only input; None where any size is taken.
        input_dtype: Its type, `uint8` in networks of this project, mostly `float32` elsewhere.
        normalises: Whether it has a layer that scales pixels, or takes them as bytes.
        config: Configuration of the network, without what concerns training.
    """

    path: Path
    name: str
    input_shape: tuple[int | None, int | None, int]
    input_dtype: str
    normalises: bool
    config: Mapping[str, Any]

    def check(self, image_shape: tuple[int, int, int], pixel_range: tuple[float, float] | None) -> None:
        """Refuse images that the network does not take, and pixels of which it is not known how it takes them.

        Args:
            image_shape: (height, width, channels) of the images.
            pixel_range: Numbers that stand for black and white, or None for a network that takes 0-255.

        Raises:
            ValueError: Saying what to change.
        """
        *sides, channels = self.input_shape
        if channels != image_shape[2]:
            raise ValueError(
                f"{self.path} takes images with {channels} channels. Received: {image_shape[2]}. Set channels to "
                f"{channels} in preprocess.source.image_format and preprocess.target.image_format."
            )
        if any(side not in {None, wanted} for side, wanted in zip(sides, image_shape, strict=False)):
            remedy = (
                f"Set image_size_px to {sides[0]} in preprocess.source.image_format and preprocess.target.image_format"
                if sides[0] == sides[1]
                else "Images are prepared as squares: save the network with a square input"
            )
            raise ValueError(
                f"{self.path} takes images of {sides[0]} × {sides[1]} px only. Received: {image_shape[0]} × "
                f"{image_shape[1]}. {remedy}, or save it with an input of (None, None, {channels})."
            )
        if self.input_dtype == "uint8" and pixel_range is not None:
            raise ValueError(
                f"{self.path} takes bytes, which are 0-255. Received: pixel_range {list(pixel_range)}. Leave it null."
            )
        if not self.normalises and pixel_range is None:
            raise ValueError(
                f"{self.path} has no layer that scales its pixels (Rescaling or Normalization). Say with pixel_range "
                "what it was trained on: [0, 1], [-1, 1], or [0, 255] where it takes pixels as they are."
            )


def read_keras_file(path: str | Path) -> KerasFile:
    """Read and check the configuration; no network is built and TensorFlow is not needed.

    Raises:
        FileNotFoundError: When there is no such file.
        UnusableNetworkError: When it is no `.keras` file, brings code of its own, does not take one image, or has
            layers that take channels before rows and columns.
    """
    path = Path(path)
    if path.is_dir():
        versions = sorted(path.glob(f"*/{path.name}"))
        newest = f" Name one of its versions; the newest is {versions[-1]}." if versions else ""
        raise FileNotFoundError(f"{path} is a folder, not a .keras file.{newest}")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}. Check the path; it is relative to the project's folder.")
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
            archive.getinfo(_WEIGHTS)
        if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
            raise ValueError("its config.json describes no network")
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise UnusableNetworkError(
            f"{path} is not a whole .keras file ({error}). Save the network with model.save('name.keras') in Keras 3."
        ) from error
    _refuse_code(path, config)
    config.pop("compile_config", None)
    if config.get("class_name") not in {"Functional", "Sequential"} or "layers" not in config["config"]:
        raise UnusableNetworkError(
            f"{path} holds a {config.get('class_name')}, not a functional or Sequential model with layers. Build it "
            "with keras.Model(inputs, outputs)."
        )
    shape, dtype = _input_of(path, config)
    _refuse_channels_first(path, config)
    layers = {str(value) for key, value in _entries(config) if key == "class_name"}
    normalises = dtype == "uint8" or bool(layers & {"Rescaling", "Normalization"})
    return KerasFile(path, str(config["config"].get("name", path.stem)), shape, dtype, normalises, config)


def load_keras_file(
    path: str | Path, image_shape: tuple[int, int, int], pixel_range: tuple[float, float] | None = None
) -> keras.Model:
    """The network in a file, from raw pixels, as one flat functional graph.

    Args:
        path: A `.keras` file.
        image_shape: (height, width, channels) of the images that it is to take.
        pixel_range: Numbers that the network was trained to see as black and white, such as (0, 1); a rescaling layer
            in front makes them from 0-255. None: the network scales by itself.

    Returns:
        A model from uint8 pixels to what the network returns.

    Raises:
        FileNotFoundError: When there is no such file.
        UnusableNetworkError: When the file cannot be used, or its weights do not fit its layers.
    """
    import keras

    file = read_keras_file(path)
    file.check(image_shape, pixel_range)
    try:
        network = keras.saving.deserialize_keras_object(dict(file.config), safe_mode=True)
    except Exception as error:  # whatever its layers raise
        raise UnusableNetworkError(
            f"Keras {keras.__version__} cannot build the network in {path} from its own layers: {error}. Build it with "
            "Keras's layers and functions alone, copy the weights, and save that."
        ) from error
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
        load_weights(network, archive.extract(_WEIGHTS, folder), origin=str(path))
    inputs = keras.Input(image_shape, dtype="uint8", name="pixels")
    try:
        return flatten(network, inputs, _scaled(inputs, file, pixel_range))
    except Exception as error:  # whatever its layers raise
        raise UnusableNetworkError(
            f"The network in {path} cannot take images of {image_shape[0]} × {image_shape[1]} px or be made one flat "
            f"graph: {error}"
        ) from error


def write_keras_file(network: keras.Model, path: Path) -> None:
    """Write a network so that the same network always gives the same bytes.

    What Keras's own file has of the moment is left out: the times in it, and the addresses in memory by which it names
    objects that layers share, which are numbered in the order of their first mention.
    """
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "model.keras"
        network.save(written)
        with zipfile.ZipFile(written) as saved, zipfile.ZipFile(path, "w") as new:
            for entry in saved.infolist():
                fresh = zipfile.ZipInfo(entry.filename)
                with saved.open(entry) as content, new.open(fresh, "w", force_zip64=True) as copy:
                    if entry.filename == "metadata.json":
                        copy.write(re.sub(rb'"date_saved": "[^"]*"', b'"date_saved": ""', content.read()))
                    elif entry.filename == "config.json":
                        copy.write(_numbered(content.read()))
                    else:
                        shutil.copyfileobj(content, copy, _BLOCK_BYTES)


def _numbered(config: bytes) -> bytes:
    numbers: dict[bytes, int] = {}
    return _SHARED_OBJECT.sub(lambda found: b"%b%d" % (found[1], numbers.setdefault(found[2], len(numbers))), config)


def _scaled(inputs: Any, file: KerasFile, pixel_range: tuple[float, float] | None) -> Any:
    import keras

    if file.input_dtype == "uint8":
        return inputs
    low, high = pixel_range or (0.0, 255.0)
    name = "rescaling" if (low, high) != (0.0, 255.0) else "raw"
    return keras.layers.Rescaling((high - low) / 255, offset=low, dtype="float32", name=name)(inputs)


def _refuse_code(path: Path, config: Mapping[str, Any]) -> None:
    own = set()
    for key, value in _entries({**config, "compile_config": None}):
        if isinstance(value, Mapping):
            module = str(value.get("module")).split(".", maxsplit=1)[0]
            if value.get("class_name") in {"Lambda", "__lambda__"}:
                own.add("a Lambda layer")
            elif "class_name" in value and "module" in value and module not in {"keras", "builtins"}:
                own.add(str(value.get("registered_name") or value["class_name"]))
        elif key != "name" and isinstance(value, str) and _REGISTERED.fullmatch(value):
            own.add(value)
    if own:
        raise UnusableNetworkError(
            f"{path} needs code that is not Keras's own: {', '.join(sorted(own))}. Code from a model file is not run. "
            "Build the network with Keras's layers, copy the weights, and save that."
        )


def _refuse_channels_first(path: Path, config: Mapping[str, Any]) -> None:
    """Outputs of other layers are read as (n, h, w, channels), and nothing in a shape says which axis is which."""
    settings = [value for _, value in _entries(config) if isinstance(value, Mapping)]
    turned = [str(value.get("name")) for value in settings if value.get("data_format") == "channels_first"]
    if turned:
        raise UnusableNetworkError(
            f"{path} must keep channels as the last axis in all of its layers. Received: data_format channels_first in "
            f"{', '.join(turned)}. Build the network with channels_last, copy the weights, and save that."
        )


def _entries(config: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Everything in a configuration with its key, nested networks' layers included."""
    yield key, config
    if isinstance(config, Mapping):
        for name, value in config.items():
            yield from _entries(value, str(name))
    elif isinstance(config, list):
        for value in config:
            yield from _entries(value, key)


def _input_of(path: Path, config: Mapping[str, Any]) -> tuple[tuple[int | None, int | None, int], str]:
    layers = config["config"]["layers"]
    inputs = [layer["config"] for layer in layers if layer["class_name"] == "InputLayer"]
    if not inputs and config["class_name"] == "Sequential":
        shape = config["config"].get("build_input_shape") or config.get("build_config", {}).get("input_shape")
        inputs = [{"batch_shape": shape, "dtype": "float32"}]
    shapes = [entry.get("batch_shape") for entry in inputs]
    if len(shapes) != 1 or shapes[0] is None or len(shapes[0]) != 4 or shapes[0][3] not in {1, 3}:
        raise UnusableNetworkError(
            f"{path} must take one image, (height, width, channels) with 1 or 3 channels. Received: inputs of "
            f"{', '.join(str(shape and tuple(shape[1:])) for shape in shapes)}. Save a network that takes an image."
        )
    _, height, width, channels = shapes[0]
    return (height, width, channels), str(inputs[0].get("dtype"))
