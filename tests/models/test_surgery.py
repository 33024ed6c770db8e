import keras
import numpy as np
import pytest

from cnn_transfer.models import (
    add_head,
    cut_layers,
    cut_network,
    head_layers,
    randomise_head,
    reinitialise,
    unfreeze,
    with_precision,
)
from freezing import freeze


@pytest.fixture
def network(tiny_network):
    return tiny_network()


@pytest.fixture(scope="module")
def pixels(shapes):
    return shapes.pixels(np.arange(0, 400, 10))


@pytest.fixture(scope="module")
def classes(shapes):
    return shapes.classes[::10]


def train(network, pixels, classes):
    network.compile("adam", "sparse_categorical_crossentropy", run_eagerly=True)  # else it is traced for a second
    network.fit(pixels, classes, batch_size=16, epochs=1, verbose=0)


def weights_of(network, head):
    return [
        weights for layer in network.layers if layer.name.startswith("head_") == head for weights in layer.get_weights()
    ]


def assert_equal(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_cut_layers_are_the_ones_with_a_picture_as_output_from_shallow_to_deep(network):
    assert cut_layers(network) == [
        "conv1", "normalisation1", "block1", "conv2", "normalisation2", "block2",
    ]  # fmt: skip


def test_a_cut_ends_at_the_named_layer_and_shares_the_weights(network):
    cut = cut_network(network, "block1")
    assert cut.layers[-1].name == "block1"
    assert cut.output_shape == (None, 13, 13, 8)
    assert cut.get_layer("conv1") is network.get_layer("conv1")


def test_a_cut_computes_what_the_network_computes_there(network, pixels):
    cut = cut_network(network, "block2")
    rest = network.get_layer("head_probabilities")
    expected = network(pixels).numpy()
    flat = cut(pixels).numpy().reshape(len(pixels), -1)
    np.testing.assert_allclose(rest(flat).numpy(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["blok2", "head_flatten", "pixels"])
def test_a_cut_after_another_layer_is_refused_with_those_that_are_allowed(network, name):
    with pytest.raises(ValueError, match=rf"cut_layer must be one of conv1, .*block2.*Received: {name}\.") as caught:
        cut_network(network, name)
    assert ("Did you mean block2?" in str(caught.value)) == (name == "blok2")


def test_a_new_head_makes_one_flat_graph_with_probabilities(network, pixels):
    moved = add_head(cut_network(network, "block2"), 7, seed=3, hidden_units=[5])
    assert not any(isinstance(layer, keras.Model) for layer in moved.layers)
    assert [layer.name for layer in head_layers(moved)] == ["head_flatten", "head_hidden1", "head_probabilities"]
    probabilities = moved(pixels).numpy()
    assert probabilities.shape == (len(pixels), 7)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_the_seed_decides_the_weights_of_a_head(network):
    features = cut_network(network, "block2")
    first, same, other = (weights_of(add_head(features, 7, seed, [5]), head=True) for seed in (3, 3, 4))
    assert_equal(first, same)
    assert not np.array_equal(first[0], other[0])


def test_training_changes_weights_and_statistics(network, pixels, classes):
    base = weights_of(network, head=False)
    train(network, pixels, classes)
    assert not any(np.array_equal(one, other) for one, other in zip(weights_of(network, head=False), base, strict=True))


def test_unfreezing_trains_all_but_the_batch_normalisations(network, pixels, classes):
    freeze(network)
    unfreeze(network, batch_statistics=False)
    before = {layer.name: layer.get_weights() for layer in network.layers}
    train(network, pixels, classes)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            assert_equal(layer.get_weights(), before[layer.name])
        elif layer.weights:
            assert not np.array_equal(layer.get_weights()[0], before[layer.name][0])


def test_unfreezing_with_batch_statistics_trains_everything(network, pixels, classes):
    freeze(network)
    unfreeze(network, batch_statistics=True)
    before = network.get_weights()
    train(network, pixels, classes)
    assert not any(np.array_equal(one, other) for one, other in zip(network.get_weights(), before, strict=True))


def test_reinitialising_gives_other_weights_by_its_seed_and_leaves_the_original(network):
    original = network.get_weights()
    first, same, other = (reinitialise(network, seed).get_weights() for seed in (7, 7, 8))
    assert_equal(first, same)
    kernels = [index for index, weights in enumerate(original) if weights.ndim > 1]
    assert len(kernels) == 3
    for index in kernels:
        assert not np.array_equal(first[index], original[index])
        assert not np.array_equal(first[index], other[index])
        np.testing.assert_allclose(first[index].std(), original[index].std(), rtol=0.5)
    assert_equal(network.get_weights(), original)


def test_reinitialised_layers_start_with_numbers_of_their_own(network):
    layers = reinitialise(network, 7).layers
    starts = [layer.kernel.numpy().ravel()[:60] for layer in layers if layer.name.startswith("conv")]
    assert abs(np.corrcoef(starts)[0, 1]) < 0.7


def test_reinitialising_does_not_depend_on_the_weights_and_forgets_statistics(network, pixels, classes):
    untrained = reinitialise(network, 7).get_weights()
    train(network, pixels, classes)
    assert_equal(reinitialise(network, 7).get_weights(), untrained)


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.SeparableConv2D(4, 3),
        keras.layers.SpectralNormalization(keras.layers.Conv2D(4, 3)),
        keras.layers.Conv2D(4, 3, bias_initializer="random_normal"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_the_seed_decides_all_that_is_drawn(layer):
    inputs = keras.Input((8, 8, 3))
    network = keras.Model(inputs, layer(inputs))
    first, same, other = (reinitialise(network, seed).get_weights() for seed in (7, 7, 8))
    assert_equal(first, same)
    drawn = [index for index, weights in enumerate(first) if weights.std() > 0]
    assert len(drawn) == 2
    for index in drawn:
        assert not np.array_equal(first[index], other[index])
    assert not np.array_equal(*(first[index].ravel()[:4] / first[index].ravel()[0] for index in drawn))


@pytest.mark.parametrize("initializer", ["zeros", "ones"])
def test_weights_that_begin_with_one_number_are_reset_to_it(initializer):
    inputs = keras.Input((8, 8, 3))
    network = keras.Model(inputs, keras.layers.Conv2D(4, 3, kernel_initializer=initializer)(inputs))
    begin = network.get_weights()
    network.set_weights([weights + 5 for weights in begin])
    assert_equal(reinitialise(network, 7).get_weights(), begin)


def test_a_layer_that_cannot_be_frozen_by_its_configuration_is_rebuilt():
    inputs = keras.Input((8, 8, 3))
    network = keras.Model(inputs, keras.layers.SpatialDropout2D(0.2)(keras.layers.Conv2D(4, 3)(inputs)))
    freeze(network)
    assert all(layer.trainable for layer in reinitialise(network, 0).layers)


def test_reinitialising_makes_everything_trainable(network):
    freeze(network)
    assert all(layer.trainable for layer in reinitialise(network, 0).layers)
    assert [layer.name for layer in network.layers if layer.trainable and layer.weights] == ["head_probabilities"]


def test_another_precision_keeps_the_weights_and_nearly_the_predictions(network, pixels):
    copy = with_precision(network, "mixed_bfloat16")
    assert copy.get_layer("conv2").compute_dtype == "bfloat16"
    assert_equal(copy.get_weights(), network.get_weights())
    assert {weights.dtype.name for weights in copy.get_weights()} == {"float32"}
    reduced, full = copy(pixels).numpy(), network(pixels).numpy()
    assert reduced.dtype == np.float32
    assert not np.array_equal(reduced, full)
    np.testing.assert_allclose(reduced, full, atol=0.05)
    np.testing.assert_allclose(reduced.sum(axis=1), 1, rtol=1e-5)


def test_there_and_back_to_float32_predicts_the_same(network, pixels):
    back = with_precision(with_precision(network, "mixed_bfloat16"), "float32")
    np.testing.assert_array_equal(back(pixels).numpy(), network(pixels).numpy())


def test_another_precision_keeps_what_is_frozen_and_is_a_copy(network, pixels, classes):
    freeze(network)
    before = network.get_weights()
    copy = with_precision(network, "float32")
    assert [weights.path for weights in copy.trainable_weights] == [
        weights.path for weights in network.trainable_weights
    ]
    train(copy, pixels, classes)
    assert_equal(network.get_weights(), before)


def test_pixels_are_scaled_in_float32_in_every_precision(network):
    assert with_precision(network, "mixed_bfloat16").get_layer("rescaling").compute_dtype == "float32"


def test_a_random_head_is_drawn_by_its_seed_on_the_same_base(network, pixels, classes):
    train(network, pixels, classes)  # so that biases are not 0
    before = network.get_weights()
    first, same, other = (randomise_head(network, seed) for seed in (3, 3, 4))
    assert_equal(weights_of(first, head=False), weights_of(network, head=False))
    assert_equal(weights_of(first, head=True), weights_of(same, head=True))
    assert not np.array_equal(weights_of(first, head=True)[0], weights_of(other, head=True)[0])
    kernel, bias = weights_of(first, head=True)
    assert abs(kernel).max() <= np.sqrt(6 / sum(kernel.shape))  # Glorot's bound
    assert kernel.std() == pytest.approx(np.sqrt(2 / sum(kernel.shape)), rel=0.1)
    assert not bias.any()
    assert_equal(network.get_weights(), before)


def test_each_layer_of_a_random_head_has_numbers_of_its_own(network):
    moved = add_head(cut_network(network, "block2"), 5, seed=3, hidden_units=[5, 5])
    drawn = randomise_head(moved, 0)
    second, third = (drawn.get_layer(name).get_weights()[0] for name in ("head_hidden2", "head_probabilities"))
    assert second.shape == third.shape
    assert not np.array_equal(second, third)
