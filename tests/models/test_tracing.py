import keras
import numpy as np
import pytest
import tensorflow as tf

from cnn_transfer.models import copy_network, predict_batches, reinitialise, tracing
from cnn_transfer.models.tracing import architecture_of, traced
from freezing import freeze


@pytest.fixture(autouse=True)
def spare(monkeypatch):
    monkeypatch.setattr(tracing, "_spare", {})
    return tracing._spare


@pytest.fixture
def network(tiny_network):
    return tiny_network()


@pytest.fixture
def make(network):
    """Make a copy; `made` counts them."""
    made = []

    def copy():
        made.append(copy_network(network))
        return made[-1]

    copy.made = made
    return copy


def same_weights(one, other):
    return all(np.array_equal(*pair) for pair in zip(one.get_weights(), other.get_weights(), strict=True))


def test_one_network_serves_all_of_its_architecture_with_the_weights_of_each(network, make):
    other = reinitialise(network, seed=1)
    with traced(network, "look", make) as first:
        assert same_weights(first, network)
    with traced(other, "look", make) as second:
        assert second is first
        assert same_weights(second, other)
    assert len(make.made) == 1
    assert not same_weights(network, other)


def test_a_network_in_use_is_not_given_to_anybody_else(network, make):
    with traced(network, "look", make) as first, traced(network, "look", make) as second:
        assert second is not first


def test_a_network_is_not_used_again_after_an_error(network, make, spare):
    with pytest.raises(RuntimeError, match="in the middle"), traced(network, "look", make):
        raise RuntimeError("in the middle")
    assert not spare


@pytest.mark.parametrize("change", ["purpose", "frozen", "head"])
def test_what_is_traced_otherwise_is_another_network(network, make, tiny_network, change):
    with traced(network, "look", make):
        pass
    if change == "frozen":
        freeze(network)
    other = tiny_network(n_classes=5) if change == "head" else network
    with traced(other, "judge" if change == "purpose" else "look", make):
        pass
    assert len(make.made) == 2


def test_few_networks_are_kept(network, make, spare):
    for number in range(tracing.MOST_SPARE + 3):
        with traced(network, str(number), make):
            pass
    assert len(spare) == tracing.MOST_SPARE
    assert [key.split(" ", 1)[0] for key in spare] == ["3", "4", "5", "6"]


def test_initial_values_and_names_do_not_make_an_architecture(network):
    renamed = keras.Model(network.input, network.output, name="renamed")
    assert architecture_of(renamed) == architecture_of(reinitialise(network, seed=3)) == architecture_of(network)


def test_predictions_are_those_of_each_network(network, shapes):
    pixels = shapes.pixels(np.arange(0, 400, 7))
    batches = tf.data.Dataset.from_tensor_slices(pixels).batch(16)
    for one in (network, reinitialise(network, seed=1), network):
        np.testing.assert_array_equal(predict_batches(one, batches), one.predict(batches, verbose=0))
