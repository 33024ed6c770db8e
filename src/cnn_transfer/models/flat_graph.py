"""Networks that were built on networks, made into one flat functional graph.

Transfer learning in Keras's guides calls a base like a layer. Cuts, taps and gradients do not reach into it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cnn_transfer.models.surgery import copy_network
from cnn_transfer.models.unusable import UnusableNetworkError

if TYPE_CHECKING:
    import keras

# Keras's layers that return what they get when a network predicts; RandomCrop is none of them.
_AUGMENTATION = frozenset({
    "AugMix", "CutMix", "MixUp", "RandAugment", "RandomBrightness", "RandomColorDegeneration", "RandomColorJitter",
    "RandomContrast", "RandomElasticTransform", "RandomErasing", "RandomFlip", "RandomGaussianBlur", "RandomGrayscale",
    "RandomHue", "RandomInvert", "RandomPerspective", "RandomPosterization", "RandomRotation", "RandomSaturation",
    "RandomSharpness", "RandomShear", "RandomTranslation", "RandomZoom",
})  # fmt: skip


def flatten(network: keras.Model, inputs: Any, x: Any) -> keras.Model:
    """The same computation on another input, as one flat functional graph with the same weights, shared with nobody.

    Layers keep their names; where two have the same, the inner one's is preceded by that of its network. Layers that
    change pictures in training only are left out, since a run has its own augmentation. Statistics that a
    `Normalization` was adapted to become constants. Whether a nested network was called in training or inference mode
    is not kept, and everything is trainable.

    Args:
        network: A functional or Sequential model with one input, with others nested as layers to any depth.
        inputs: Input of the result, from `keras.Input`.
        x: What takes the place of the network's input, computed from `inputs`.

    Raises:
        UnusableNetworkError: When a layer is used more than once, so that it has no single output, or is a `Pipeline`.
    """
    import keras

    before = keras.Model(inputs, x)
    copies: list[tuple[Any, Any]] = []
    flat = _flat_clone(network, {operation.name for operation in before.operations}, copies)
    _hand_over_weights(copies)
    # Each layer is now called twice, on its clone's input and on x; another copy has the second call alone.
    joined = copy_network(keras.Model(inputs, keras.Function.call(flat, x), name=network.name))
    shared = [entry["name"] for entry in joined.get_config()["layers"] if len(entry["inbound_nodes"]) > 1]
    if shared:
        raise UnusableNetworkError(
            f"{network.name} uses {', '.join(shared)} more than once, so that there is no single place to cut after. "
            "Take a network that uses each layer once."
        )
    return joined


def renumber(network: keras.Model) -> keras.Model:
    """A copy in which names that Keras made up count from the beginning (`add`, `add_1`), not from earlier networks.

    Statistics that a `Normalization` was adapted to become constants, as in `flatten`.
    """
    import keras

    used: set[str] = set()
    copies: list[tuple[Any, Any]] = []

    def clone(operation: keras.Operation) -> keras.Operation:
        config = _configuration(operation)
        kind = _snake_case(type(operation).__name__)
        name = kind if re.fullmatch(rf"{kind}(_\d+)?", operation.name) else operation.name
        config["name"] = _unused(name, used)
        copy = operation.__class__.from_config(config)
        if isinstance(operation, keras.Layer):
            copies.append((operation, copy))
        return copy

    renumbered = keras.models.clone_model(network, clone_function=clone)
    _hand_over_weights(copies)
    return renumbered


def _flat_clone(network: keras.Model, used: set[str], copies: list[tuple[Any, Any]]) -> keras.Model:
    import keras

    if isinstance(network, keras.Sequential):
        network = keras.Model(network.inputs[0], network.outputs[0], name=network.name)

    def clone(operation: Any) -> Any:
        if isinstance(operation, keras.Model):
            return _flat_clone(operation, used, copies)
        if isinstance(operation, keras.layers.Pipeline):
            raise UnusableNetworkError(
                f"{network.name} has {operation.name}, a Pipeline, whose layers are out of reach. Call its layers one "
                "after the other instead."
            )
        config = _configuration(operation)
        if operation.name in used:
            config["name"] = f"{network.name}_{operation.name}"
        if "name" in config:
            config["name"] = _unused(config["name"], used)
        copy = operation.__class__.from_config(config)
        if isinstance(operation, keras.Layer):
            copy.trainable = True
            copies.append((operation, copy))
        return copy

    def call(operation: Any, *arguments: Any, training: Any = None, **keywords: Any) -> Any:  # noqa: ARG001
        if isinstance(operation, keras.Model):
            return keras.Function.call(operation, *arguments)  # its layers on the arguments, without a node of its own
        if type(operation).__name__ in _AUGMENTATION:
            return arguments[0]
        return operation(*arguments, **keywords)

    return keras.models.clone_model(network, clone_function=clone, call_function=call)


def _configuration(operation: Any) -> dict[str, Any]:
    """What an operation is made from again, with the statistics that a `Normalization` was adapted to as constants.

    Keras keeps these as weights, but computes with them only after `adapt` or loading a file: where `set_weights` gives
    them to a copy, it computes with mean 0 and variance 1. And new random weights must not reset them.
    """
    import keras

    config: dict[str, Any] = operation.get_config()
    if isinstance(operation, keras.layers.Normalization) and operation.input_mean is None:
        config["mean"], config["variance"] = (
            np.asarray(statistic).tolist() for statistic in (operation.adapt_mean, operation.adapt_variance)
        )
    return config


def _hand_over_weights(copies: Sequence[tuple[Any, Any]]) -> None:
    """Give each copy of a layer the weights of its original, unless what they say is in its configuration."""
    for original, copy in copies:
        if copy.weights:
            copy.set_weights(original.get_weights())


def _unused(name: str, used: set[str]) -> str:
    """The name, numbered where it is taken; taken from now on."""
    candidate, number = name, 0
    while candidate in used:
        number += 1
        candidate = f"{name}_{number}"
    used.add(candidate)
    return candidate


def _snake_case(name: str) -> str:
    """As Keras makes names of layers from their classes: `BatchNormalization` → `batch_normalization`."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
