import inspect

import keras
import numpy as np
import pytest

from cnn_transfer.models import (
    UnusableNetworkError,
    cut_layers,
    flatten,
    reinitialise,
    tap_layers,
    with_precision,
)
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
    inputs = keras.Input(SHAPE)
    keras.layers.ReLU()(convolution()(inputs))
    x = convolution("mine")(keras.layers.ReLU()(convolution()(convolution()(inputs))))
    network = renumber(keras.Model(inputs, x))
    assert [layer.name for layer in network.layers][1:] == ["conv2d", "conv2d_1", "re_lu", "mine"]


@pytest.fixture(scope="module")
def guided():
    """What Keras's guide to transfer learning makes: augmentation, arithmetic, a frozen base, a head."""
    keras.utils.set_random_seed(0)
    base = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3))
    base.trainable = False
    inputs = keras.Input((32, 32, 3))
    x = keras.Sequential([keras.layers.RandomFlip("horizontal"), keras.layers.RandomRotation(0.1)])(inputs)
    x = base(keras.applications.mobilenet_v2.preprocess_input(x), training=False)
    x = keras.layers.Dropout(0.2)(keras.layers.GlobalAveragePooling2D()(x))
    network = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))
    rng = np.random.default_rng(0)
    network.set_weights([rng.uniform(0.5, 1, w.shape) if w.ndim == 1 else w for w in network.get_weights()])
    return network


def test_a_network_made_as_in_the_guide_can_be_worked_on(guided):
    inputs = keras.Input((32, 32, 3), dtype="uint8", name="pixels")
    result = flatten(guided, inputs, keras.layers.Rescaling(1.0, dtype="float32", name="raw")(inputs))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    expected = guided(pixels.astype("float32")).numpy()
    assert expected.std() > 0.01
    np.testing.assert_allclose(result(pixels).numpy(), expected, rtol=1e-4, atol=1e-6)
    assert not any(layer.name.startswith("random") for layer in result.layers)
    assert all(layer.trainable for layer in result.layers)
    assert len(tap_layers(result)) == 19
    np.testing.assert_allclose(with_precision(result, "mixed_bfloat16")(pixels).numpy(), expected, atol=0.1)
    assert not np.array_equal(reinitialise(result, 1)(pixels).numpy(), expected)


def test_the_layers_left_out_return_what_they_get():
    from cnn_transfer.models.flat_graph import _AUGMENTATION

    images = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype("float32")
    for name in _AUGMENTATION & set(dir(keras.layers)):
        kind = getattr(keras.layers, name)
        needed = [
            p for p in inspect.signature(kind).parameters.values() if p.default is p.empty and p.kind < p.VAR_KEYWORD
        ]
        layer = kind(*(4 if name == "RandomPosterization" else 0.2 for _ in needed))
        np.testing.assert_array_equal(layer(images, training=False), images, err_msg=name)
    assert {name for name in dir(keras.layers) if name.startswith("Random")} - _AUGMENTATION == {"RandomCrop"}


@pytest.mark.parametrize(
    "arguments", [{}, {"axis": None}, {"axis": (3, 1)}, {"axis": 3, "invert": True}, {"dtype": "float64"}], ids=str
)
def test_statistics_that_were_adapted_become_constants(images, arguments):
    normalization = keras.layers.Normalization(**arguments)
    normalization.adapt(3 + 5 * images * np.arange(1, 4))
    network = sequential("mine", convolution("first"), sequential("inner", normalization), convolution("second"))
    result = flat(network)
    for same in (result, renumber(result)):
        np.testing.assert_allclose(same(images).numpy(), network(images).numpy(), rtol=1e-5, atol=1e-6)
    inputs = keras.Input(SHAPE)
    alone = keras.Model(inputs, normalization(inputs))
    np.testing.assert_allclose(renumber(alone)(images).numpy(), alone(images).numpy(), rtol=1e-5, atol=1e-6)
    assert len(result.get_weights()) == 4  # mean, variance and count are none
    drawn = reinitialise(result, 0)
    rebuilt, original = (found.get_layer(normalization.name) for found in (drawn, result))
    np.testing.assert_array_equal(rebuilt(images), original(images))
    np.testing.assert_allclose(original(images), normalization(images), rtol=1e-5, atol=1e-6)


def test_layers_whose_configuration_says_nothing_of_training_are_taken_over(images):
    network = sequential("mine", convolution("first"), keras.layers.SpatialDropout2D(0.2), convolution("second"))
    network.trainable = False
    result = flat(network)
    np.testing.assert_allclose(result(images).numpy(), network(images).numpy(), rtol=1e-5, atol=1e-6)
    assert all(layer.trainable for layer in result.layers)


def test_layers_in_a_pipeline_are_refused_by_name():
    network = sequential("mine", keras.layers.Pipeline([keras.layers.Rescaling(2.0)], name="prepare"), convolution())
    with pytest.raises(
        UnusableNetworkError, match=r"mine has prepare, a Pipeline.* Call its layers one after the other"
    ):
        flat(network)
