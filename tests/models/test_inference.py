import numpy as np
import pytest

from cnn_transfer.models import build_network, frozen, inference

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 28, 28, 1), np.uint8)


@pytest.fixture
def network():
    """With statistics that batch normalisation has not at the start."""
    network = build_network("compact_cnn", (28, 28, 1), 4, seed=0)
    rng = np.random.default_rng(1)
    network.set_weights([weight + rng.uniform(0.05, 0.1, weight.shape) for weight in network.get_weights()])
    return network


def variables_read(call):
    operations = {operation.type for operation in call.get_concrete_function().graph.get_operations()}
    assert "Conv2D" in operations
    return "ReadVariableOp" in operations


def test_computes_the_same_with_weights_that_are_constants(network):
    call = frozen(network)
    np.testing.assert_allclose(call(PIXELS), network(PIXELS, training=False), rtol=1e-4, atol=1e-5)
    assert not variables_read(call)


def test_keeps_the_weights_that_the_network_had(network):
    before, call = network(PIXELS, training=False), frozen(network)
    network.set_weights([0 * weight for weight in network.get_weights()])
    np.testing.assert_allclose(call(PIXELS), before, rtol=1e-4, atol=1e-5)


def test_weights_that_are_too_large_for_a_graph_stay_variables(network, monkeypatch):
    monkeypatch.setattr(inference, "MOST_CONSTANT_BYTES", 1000)
    call = frozen(network)
    np.testing.assert_allclose(call(PIXELS), network(PIXELS, training=False), rtol=1e-6)
    assert variables_read(call)


def test_any_number_of_images_is_traced_once(network):
    call = frozen(network)
    assert [call(PIXELS[:count]).shape[0] for count in (1, 3, 6)] == [1, 3, 6]
    assert call.experimental_get_tracing_count() == 1
