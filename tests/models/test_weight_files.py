import keras
import numpy as np
import pytest

from cnn_transfer.models import load_weights


def network(*filters, kernel=3, names=None):
    """Convolutions in a row."""
    inputs = keras.Input((12, 12, 3))
    x = inputs
    for index, number in enumerate(filters):
        name = names[index] if names else f"conv{index}"
        x = keras.layers.Conv2D(number, kernel, name=name)(x)
    return keras.Model(inputs, x, name="small")


@pytest.fixture(params=["old.h5", "new.weights.h5"])
def save(request, tmp_path):
    """Save a network's weights in one of the layouts, and say where."""

    def write(model):
        path = tmp_path / request.param
        model.save_weights(path) if "weights" in path.name else model.save(path)
        return path

    return write


def test_all_weights_are_loaded(save):
    stored, other = network(4, 5), network(4, 5)
    load_weights(other, save(stored))
    for one, two in zip(stored.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_optimizer_of_a_trained_network_is_no_weight(save):
    stored = network(4)
    stored.compile("adam", "mse")
    stored.fit(np.zeros((2, 12, 12, 3)), np.zeros((2, 10, 10, 4)), verbose=0)
    other = network(4)
    load_weights(other, save(stored))
    np.testing.assert_array_equal(stored.get_weights()[0], other.get_weights()[0])


@pytest.mark.parametrize(
    ("stored", "wanted", "expected"),
    [
        ((4, 5, 6), (4, 5), ["is not in the network"]),
        ((4,), (4, 5, 6), ["has no weights in the file"] * 2),
        ((4, 7), (4, 5), ["needs", "7"]),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_changed(save, stored, wanted, expected):
    target = network(*wanted)
    before = target.get_weights()
    with pytest.raises(ValueError, match="do not fit the network small") as caught:
        load_weights(target, save(network(*stored)))
    assert all(str(caught.value).count(text) >= expected.count(text) for text in expected), caught.value
    assert "conv2" in str(caught.value) or "conv1" in str(caught.value) or "conv2d" in str(caught.value)
    for one, two in zip(target.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "weights.h5").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="holds no weights of Keras, which are HDF5 files"):
        load_weights(network(4), tmp_path / "weights.h5")
