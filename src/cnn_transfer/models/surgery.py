"""Cut a network, give it a new head, let its layers learn, give it new random weights, change its precision.

All results are flat functional graphs: no network is nested in another as a layer, so that gradients, cut points and
attribution methods reach every layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cnn_transfer.models.fused_normalisation import fused_batch_normalisation
from cnn_transfer.parameters import did_you_mean

if TYPE_CHECKING:
    import keras

HEAD_PREFIX = "head_"


def cut_layers(network: keras.Model) -> list[str]:
    """Names of the layers after which the network can be cut, from shallow to deep: outputs (n, h, w, channels).

    Before the first layer with weights there is nothing to keep, and a head is never kept.
    """
    layers = [layer for layer in network.layers if not layer.name.startswith(HEAD_PREFIX)]
    first = next((index for index, layer in enumerate(layers) if layer.weights), len(layers))
    return [layer.name for layer in layers[first:] if len(getattr(layer.output, "shape", ())) == 4]


def cut_network(network: keras.Model, layer_name: str) -> keras.Model:
    """The part of the network from its input to the output of the named layer; weights are shared, not copied.

    Raises:
        ValueError: When there is no such layer to cut after.
    """
    import keras

    allowed = cut_layers(network)
    if layer_name not in allowed:
        raise ValueError(
            f"cut_layer must be one of {', '.join(allowed)} (shallow to deep). Received: {layer_name}. "
            + did_you_mean(layer_name, allowed).strip()
        )
    return keras.Model(network.input, network.get_layer(layer_name).output, name=network.name)


def add_head(features: keras.Model, n_classes: int, seed: int, hidden_units: Sequence[int] = ()) -> keras.Model:
    """Put a classifier on a feature extractor: flatten, hidden layers if any, softmax in float32.

    Args:
        features: A network with an output of (n, h, w, channels).
        n_classes: Number of output probabilities.
        seed: Seed of the head's initial weights.
        hidden_units: Units of the ReLU layers between.

    Returns:
        One flat functional model; its head's layers are named `head_…`.
    """
    import keras

    x = keras.layers.Flatten(name=f"{HEAD_PREFIX}flatten")(features.output)
    for index, units in enumerate(hidden_units, start=1):
        initializer = keras.initializers.HeNormal(seed=1000 * seed + 100 + index)
        x = keras.layers.Dense(
            units, activation="relu", kernel_initializer=initializer, name=f"{HEAD_PREFIX}hidden{index}"
        )(x)
    outputs = keras.layers.Dense(
        n_classes,
        activation="softmax",
        dtype="float32",
        kernel_initializer=keras.initializers.GlorotUniform(seed=1000 * seed + 200),
        name=f"{HEAD_PREFIX}probabilities",
    )(x)
    return keras.Model(features.input, outputs, name=features.name)


def head_layers(network: keras.Model) -> list[keras.Layer]:
    """The layers that `add_head` made."""
    return [layer for layer in network.layers if layer.name.startswith(HEAD_PREFIX)]


def unfreeze(network: keras.Model, batch_statistics: bool) -> None:
    """Make all layers trainable; compile before the next fit.

    Args:
        network: A network whose base was frozen.
        batch_statistics: Whether batch normalisation learns too, or keeps what it learnt on the source.

    Keras runs a batch normalisation in inference mode, with its stored mean and variance, when it is not
    trainable.
    """
    import keras

    for layer in network.layers:
        layer.trainable = batch_statistics or not isinstance(layer, keras.layers.BatchNormalization)


def copy_network(network: keras.Model) -> keras.Model:
    """The same architecture with the same weights, shared with nobody; layers stay trainable or frozen as they are."""
    copy = _rebuild(network, lambda _, __: None)
    copy.set_weights(network.get_weights())
    return copy


def reinitialise(network: keras.Model, seed: int) -> keras.Model:
    """The same architecture with new random weights, everything trainable."""
    import keras

    def reseed(index: int, config: dict[str, Any]) -> None:
        for number, initialiser in enumerate(_random_initialisers(config)):
            initialiser["seed"] = 1000 * seed + index + 1_000_003 * number

    new = _rebuild(network, reseed)
    for index, layer in enumerate(new.layers):
        layer.trainable = True  # not in its configuration: that of SpatialDropout2D takes no such entry
        if isinstance(layer, keras.layers.SpectralNormalization):  # its vector has an initialiser that cannot be named
            drawn = keras.initializers.TruncatedNormal(stddev=0.02, seed=1000 * seed + index)
            layer.vector_u.assign(drawn(layer.vector_u.shape))
    return new


def _random_initialisers(part: Any) -> Iterator[dict[str, Any]]:
    """Configurations of the initialisers that draw numbers, in that of a layer and of layers nested in it."""
    if isinstance(part, dict):
        for name, value in part.items():
            if str(name).endswith("_initializer") and isinstance(value, dict) and "seed" in value["config"]:
                yield value["config"]
            else:
                yield from _random_initialisers(value)
    elif isinstance(part, list | tuple):
        for value in part:
            yield from _random_initialisers(value)


def randomise_head(network: keras.Model, seed: int) -> keras.Model:
    """A copy with new random weights in the head (Glorot and Bengio 2010) and everything else as it is."""
    import keras

    copy = copy_network(network)
    for index, layer in enumerate(head_layers(copy)):
        if isinstance(layer, keras.layers.Dense):
            kernel, bias = layer.get_weights()
            drawn = keras.initializers.GlorotUniform(seed=1000 * seed + index)(kernel.shape)
            layer.set_weights([drawn, 0 * bias])
    return copy


def with_precision(network: keras.Model, policy: str) -> keras.Model:
    """A copy of the network that computes in the given dtype policy; input scaling and output stay in float32.

    Args:
        network: Any functional model. Its weights are float32 and stay so.
        policy: `float32` or `mixed_bfloat16`.
    """
    return _computing_in(network, policy, fused=False)


def for_training(network: keras.Model, policy: str) -> keras.Model:
    """`with_precision`, with batch normalisation that trains faster: a copy to fit, and to take the weights of."""
    return _computing_in(network, policy, fused=True)


def synchronised(network: keras.Model) -> keras.Model:
    """A copy whose batch normalisation takes its statistics over the batches of all processes that train together."""

    def change(_: int, config: dict[str, Any]) -> None:
        if "synchronized" in config:
            config["synchronized"] = True

    copy = _rebuild(network, change)
    copy.set_weights(network.get_weights())
    return copy


def _computing_in(network: keras.Model, policy: str, fused: bool) -> keras.Model:
    outputs = set(network.output_names)

    def change(_: int, config: dict[str, Any]) -> None:
        keep = config["name"] in outputs or config["name"] == "rescaling"
        config["dtype"] = "float32" if keep else policy

    copy = _rebuild(network, change, fused)
    copy.set_weights(network.get_weights())
    return copy


def _rebuild(network: keras.Model, change: Callable[[int, dict[str, Any]], None], fused: bool = False) -> keras.Model:
    """Build the network again from its layers' configurations after `change(index, config)` edited each.

    Batch normalisation may be `fused` (`fused_normalisation.py`) in the new one.
    """
    import keras

    index_of = {layer.name: index for index, layer in enumerate(network.layers)}

    def clone(operation: keras.Operation) -> keras.Operation:
        config = operation.get_config()
        if operation.name in index_of:  # others are operations between layers, such as an addition: nothing to change
            change(index_of[operation.name], config)
        kind = type(operation)
        if fused and kind is keras.layers.BatchNormalization:
            kind = fused_batch_normalisation()
        return kind.from_config(config)

    return keras.models.clone_model(network, clone_function=clone)
