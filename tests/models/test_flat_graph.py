import keras
import numpy as np
import pytest

from cnn_transfer.models import cut_layers, flatten, keras_applications, tap_layers
from cnn_transfer.models.flat_graph import renumber

SHAPE = (16, 16, 3)


def sequential(name, *layers):
    return keras.Sequential([keras.Input(SHAPE), *layers], name=name)


def convolution(name=None, filters=3):
    return keras.layers.Conv2D(filters, 3, padding="same", name=name)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(size=(3, *SHAPE)).astype("float32")


@pytest.fixture(scope="module")
def nested():
    """A classifier on a network on a Sequential base, with layers of the same name on all three storeys."""
    base = sequential("base", convolution("conv"), keras.layers.BatchNormalization(name="norm"), keras.layers.ReLU())
    inputs = keras.Input(SHAPE)
    middle = keras.Model(inputs, keras.ops.tanh(convolution("conv")(base(inputs, training=False))), name="middle")
    inputs = keras.Input(SHAPE, name="photo")
    x = middle(convolution("conv")(inputs))
    outputs = keras.layers.Dense(2, name="classes")(keras.layers.Flatten()(x))
    network = keras.Model(inputs, outputs, name="outer")
    rng = np.random.default_rng(1)
    network.set_weights([rng.uniform(0.1, 1, weights.shape) for weights in network.get_weights()])
    return network


def flat(network):
    inputs = keras.Input(SHAPE)
    return flatten(network, inputs, inputs)


def test_a_network_on_networks_becomes_one_graph_that_computes_the_same(nested, images):
    result = flat(nested)
    assert not any(isinstance(layer, keras.Model) for layer in result.layers)
    np.testing.assert_allclose(result(images).numpy(), nested(images).numpy(), rtol=1e-5, atol=1e-6)
    names = [layer.name for layer in result.layers if layer.weights]
    assert names == ["conv", "base_conv", "norm", "middle_conv", "classes"]
    assert {type(operation).__name__ for operation in result.operations} == {
        "InputLayer", "Conv2D", "BatchNormalization", "ReLU", "Tanh", "Flatten", "Dense",
    }  # fmt: skip
    assert tap_layers(result)[-1] in cut_layers(result)


def test_the_flat_network_has_weights_of_its_own(nested):
    before = nested.get_weights()
    result = flat(nested)
    result.set_weights([0 * weights for weights in result.get_weights()])
    for one, other in zip(nested.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_batch_statistics_of_a_base_called_in_inference_mode_can_be_learnt(nested, images):
    result = flat(nested)
    before = result.get_layer("norm").moving_mean.numpy()
    result(images, training=True)
    assert not np.array_equal(result.get_layer("norm").moving_mean.numpy(), before)


def test_the_flat_network_survives_saving_and_flattening_again(nested, images, tmp_path):
    result = flat(nested)
    result.save(tmp_path / "flat.keras")
    again = flat(keras.models.load_model(tmp_path / "flat.keras"))
    assert [layer.name for layer in again.layers][1:] == [layer.name for layer in result.layers][1:]
    np.testing.assert_array_equal(again(images).numpy(), result(images).numpy())


def test_a_sequential_network_becomes_functional(images):
    network = sequential("chain", convolution("first"), sequential("inner", convolution("second")))
    result = flat(network)
    assert [layer.name for layer in result.layers][1:] == ["first", "second"]
    np.testing.assert_allclose(result(images).numpy(), network(images).numpy(), rtol=1e-5, atol=1e-6)


def test_a_layer_that_is_used_twice_is_refused_by_name():
    inputs = keras.Input(SHAPE)
    shared = convolution("shared")
    network = keras.Model(inputs, shared(shared(inputs)), name="twice")
    with pytest.raises(ValueError, match="twice uses shared more than once"):
        flat(network)


def test_names_made_up_by_keras_count_from_the_beginning():
    keras_applications("MobileNetV3Small", (32, 32, 3), None)
    inputs = keras.Input(SHAPE)
    x = convolution("mine")(keras.layers.ReLU()(convolution()(convolution()(inputs))))
    network = renumber(keras.Model(inputs, x))
    assert [layer.name for layer in network.layers][1:] == ["conv2d", "conv2d_1", "re_lu", "mine"]
