"""Networks whose tracing is worth keeping: another network of the same architecture borrows it for its own weights.

Before TensorFlow computes anything fast it traces the network, which takes seconds, as long as some hundred steps of a
small one. A search makes many fits of one architecture, and all of them are judged; so one traced network serves all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from cnn_transfer.models.surgery import copy_network

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

MOST_SPARE = 4  # the oldest goes first; each holds its weights, and the state of its optimiser

_spare: dict[str, keras.Model] = {}


@contextmanager
def traced(network: keras.Model, purpose: str, make: Callable[[], keras.Model]) -> Iterator[keras.Model]:
    """A network of the same architecture and weights for a purpose, which nobody else uses meanwhile.

    It is a former one where there is one to spare; whoever ends without an exception leaves it to others. Weights are
    set; all other state, such as that of an optimiser, is for its user to set.

    Args:
        network: Says architecture, which layers are trainable, and weights; it is left as it is.
        purpose: What else the tracing depends on, such as a loss.
        make: Makes a new one with the weights of the network.
    """
    key = f"{purpose} {architecture_of(network)}"
    model = _spare.pop(key, None)
    if model is None:
        model = make()
    else:
        model.set_weights(network.get_weights())
    yield model
    _spare[key] = model
    while len(_spare) > MOST_SPARE:
        _spare.pop(next(iter(_spare)), None)


def predict_batches(network: keras.Model, batches: tf.data.Dataset) -> np.ndarray:
    """What the network says of each image of the batches, in order: `keras.Model.predict`."""
    with traced(network, "predict", lambda: copy_network(network)) as model:
        return np.asarray(model.predict(batches, verbose=0))


def architecture_of(network: keras.Model) -> str:
    """All that a tracing of a network depends on but its weights: names and initial values do not count.

    Args:
        network: A functional model.
    """
    config = network.get_config() | {"name": ""}
    return json.dumps(_without_initialisers(config), default=str)


def _without_initialisers(part: Any) -> Any:
    if isinstance(part, dict):
        return {name: _without_initialisers(value) for name, value in part.items() if "initializer" not in str(name)}
    return [_without_initialisers(value) for value in part] if isinstance(part, list | tuple) else part
