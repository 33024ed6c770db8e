"""Networks that somebody else pretrained, or an earlier run: named, checked, read.

Three kinds: `efficientnet_lite0` to `2` with ImageNet weights from packages, the networks of Keras Applications, and
any `.keras` file. Each comes out as a flat functional graph from uint8 pixels to the features of its last block.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import ValidationError, field_validator, model_validator

from cnn_transfer.models.card import ModelCard
from cnn_transfer.models.efficientnet_lite import (
    EFFICIENTNET_LITE,
    SMALLEST_PX,
    WEIGHTS_LICENCE,
    build_efficientnet_lite,
    imagenet_weights_path,
    load_imagenet_weights,
    weights_package,
)
from cnn_transfer.models.keras_applications import KERAS_APPLICATIONS, keras_applications, smallest_px
from cnn_transfer.models.keras_file import load_keras_file, read_keras_file
from cnn_transfer.models.taps import tap_layers
from cnn_transfer.models.unusable import UnusableNetworkError
from cnn_transfer.parameters import Parameters, did_you_mean

if TYPE_CHECKING:
    import keras

PRETRAINED_NETWORKS = (*EFFICIENTNET_LITE, *KERAS_APPLICATIONS)
UNKNOWN = "unknown"


class NetworkSource(Parameters):
    """Which pretrained network, and how it takes its pixels."""

    network: str  # a name, or the path of a .keras file
    weights: str | None  # path of a file of weights for a named network; None: its ImageNet weights
    pixel_range: tuple[float, float] | None  # what a .keras file takes for black and white; None: it scales by itself

    @property
    def is_file(self) -> bool:
        """Whether the network is a `.keras` file."""
        return self.network.endswith(".keras")

    @field_validator("network")
    @classmethod
    def _known(cls, network: str) -> str:
        if not network.endswith(".keras") and network not in PRETRAINED_NETWORKS:
            near = did_you_mean(network, list(PRETRAINED_NETWORKS))
            raise ValueError(
                f"must be the path of a .keras file or one of {', '.join(PRETRAINED_NETWORKS)}. {near}".strip(". ")
            )
        return network

    @model_validator(mode="after")
    def _parameters_of_its_kind(self) -> Self:
        if self.is_file and self.weights is not None:
            raise ValueError(f"weights must be null: {self.network} brings its own")
        if not self.is_file and self.pixel_range is not None:
            raise ValueError(f"pixel_range must be null: {self.network} scales its pixels as its weights need it")
        if self.pixel_range is not None and self.pixel_range[0] >= self.pixel_range[1]:
            raise ValueError("pixel_range must be [black, white] with black below white, such as [0, 1]")
        return self

    def check(self, image_shape: tuple[int, int, int]) -> None:
        """See, without TensorFlow, whether the network is there and takes the images.

        Args:
            image_shape: (height, width, channels) of the images.

        Raises:
            FileNotFoundError: When a file is missing.
            ModuleNotFoundError: When the package with the weights is not installed.
            ValueError: When the network does not take such images.
        """
        if self.is_file:
            read_keras_file(self.network).check(image_shape, self.pixel_range)
            return
        smallest = SMALLEST_PX if self.network in EFFICIENTNET_LITE else smallest_px(self.network)
        if min(image_shape[:2]) < smallest:
            raise ValueError(
                f"{self.network} needs images of at least {smallest} px. Received: {image_shape[0]}. Set image_size_px "
                f"to {smallest} or more in preprocess.source.image_format and preprocess.target.image_format."
            )
        if self.weights is not None and not Path(self.weights).is_file():
            raise FileNotFoundError(
                f"There is no file {self.weights} with weights for {self.network}. Check the path, or leave weights "
                "null for its ImageNet weights."
            )
        if self.network in EFFICIENTNET_LITE and self.weights is None:
            imagenet_weights_path(self.network)


@dataclass(frozen=True)
class ImportedNetwork:
    """A pretrained network and what is known of it.

    Attributes:
        network: From uint8 pixels to the features of its last block; a flat functional graph.
        architecture: Its name.
        origin: Where its weights come from, with their SHA-256 digest.
        trained_on: Name of the images that they were trained on.
        licence: Licence of the weights.
        card: The card that an earlier run of this project wrote for it, if there is one.
    """

    network: keras.Model
    architecture: str
    origin: str
    trained_on: str
    licence: str
    card: ModelCard | None = None


NetworkReader = Callable[[NetworkSource, tuple[int, int, int]], ImportedNetwork]


def read_network(source: NetworkSource, image_shape: tuple[int, int, int]) -> ImportedNetwork:
    """Read a pretrained network with all its weights, and cut off what is no feature.

    Args:
        source: Which network.
        image_shape: (height, width, channels) of the images that it is to take.

    Raises:
        ValueError: When the network does not take such images, or the weights do not fit.
        FileNotFoundError: When a file is missing.
        ModuleNotFoundError: When the package with the weights is not installed.
        UnusableNetworkError: When Keras has not got the weights and cannot download them, or some are not finite.
    """
    source.check(image_shape)
    card = None
    if source.is_file:
        network = load_keras_file(source.network, image_shape, source.pixel_range)
        card = _card_beside(Path(source.network))
        architecture, licence = (card.architecture, card.licence) if card else (network.name, UNKNOWN)
        origin, trained_on = source.network, card.trained_on if card else Path(source.network).stem
    elif source.network in EFFICIENTNET_LITE:
        network = build_efficientnet_lite(source.network, image_shape)
        load_imagenet_weights(network, source.weights)
        architecture, origin, trained_on, licence = (
            (source.network, weights_package(source.network), "imagenet", WEIGHTS_LICENCE)
            if source.weights is None
            else (source.network, source.weights, Path(source.weights).stem, UNKNOWN)
        )
    else:
        network = keras_applications(source.network, image_shape, source.weights or "imagenet")
        architecture, licence = source.network, UNKNOWN
        origin = source.weights or "Keras Applications"
        trained_on = Path(source.weights).stem if source.weights else "imagenet"
    features = _features(network, source.network)
    _refuse_infinite(features, source.network)
    return ImportedNetwork(features, architecture, f"{origin}, {_digest(features)}", trained_on, licence, card)


def _features(network: keras.Model, name: str) -> keras.Model:
    import keras

    taps = tap_layers(network)
    if not taps:
        raise UnusableNetworkError(
            f"{name} has no layer with an output of (height, width, channels), so that there are no features to "
            "transfer. Take a convolutional network."
        )
    return keras.Model(network.input, network.get_layer(taps[-1]).output, name=network.name)


def _refuse_infinite(network: keras.Model, name: str) -> None:
    for variable in network.weights:
        infinite = ~np.isfinite(np.asarray(variable))
        if infinite.any():
            raise UnusableNetworkError(
                f"The weights of {name} must be finite. Received NaN or infinity in {infinite.sum()} of "
                f"{infinite.size} numbers of {variable.path}. Its training has failed: take a state from before, or "
                "train it again with a lower learning rate."
            )


def _digest(network: keras.Model) -> str:
    digest = hashlib.sha256()
    for array in network.get_weights():
        digest.update(array.tobytes())
    return f"sha256 of its weights {digest.hexdigest()}"


def _card_beside(path: Path) -> ModelCard | None:
    """The card of a model that a run of this project wrote: `<stem>_card.json` beside it, or versioned as it is.

    Raises:
        UnusableNetworkError: When there is one that is not whole.
    """
    name = f"{path.stem}_card.json"
    candidates = [path.with_name(name)]
    if len(path.parents) > 2:
        candidates.append(path.parents[2] / name / path.parent.name / name)
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    if found is None:
        return None
    try:
        return ModelCard.model_validate_json(found.read_text())
    except ValidationError as error:
        raise UnusableNetworkError(
            f"The card {found} is not one of this project's: {error}. Move it away, or repair it."
        ) from error
