import keras
import numpy as np
import pytest

from cnn_transfer.models import ARCHITECTURES, build_network, cut_layers


@pytest.fixture(scope="module", params=sorted(ARCHITECTURES))
def architecture(request):
    return request.param


@pytest.fixture(scope="module")
def network(architecture):
    return build_network(architecture, (28, 28, 3), 5, seed=0)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (6, 28, 28, 3), np.uint8)


def test_takes_uint8_images_and_returns_float32_probabilities(network, pixels):
    assert network.input.dtype == "uint8"
    probabilities = network(pixels).numpy()
    assert probabilities.shape == (6, 5)
    assert probabilities.dtype == np.float32
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert len(np.unique(probabilities, axis=0)) == 6


def test_normalises_the_pixels_inside(network):
    values = np.array([0, 255], np.uint8)[:, None, None, None] * np.ones((1, 28, 28, 3), np.uint8)
    rescaled = keras.Model(network.input, network.get_layer("rescaling").output)(values).numpy()
    np.testing.assert_allclose([rescaled.min(), rescaled.max()], [-1, 1], atol=1e-6)


def test_is_one_flat_graph(network):
    assert not any(isinstance(layer, keras.Model) for layer in network.layers)


def test_can_be_cut_after_its_blocks_from_shallow_to_deep(network):
    blocks = [name for name in cut_layers(network) if name.startswith("block")]
    assert blocks == [f"block{number}" for number in range(1, len(blocks) + 1)]
    assert len(blocks) >= 2


def test_a_convolution_before_a_normalisation_has_no_bias(network):
    normalised = any(isinstance(layer, keras.layers.BatchNormalization) for layer in network.layers)
    convolutions = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
    assert convolutions
    assert all(layer.use_bias != normalised for layer in convolutions)


def test_the_seed_decides_every_initial_weight(architecture, network):
    same = build_network(architecture, (28, 28, 3), 5, seed=0)
    other = build_network(architecture, (28, 28, 3), 5, seed=1)
    for mine, equal, different in zip(network.get_weights(), same.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, equal)
        if len(np.unique(mine)) > 1:  # not those that start as zeros or ones
            assert not np.array_equal(mine, different)


def test_no_two_layers_start_with_the_same_numbers(network):
    starts = [layer.kernel.numpy().ravel()[:60] for layer in network.layers if hasattr(layer, "kernel")]
    alike = np.corrcoef(starts) - np.eye(len(starts))
    assert abs(alike).max() < 0.7


@pytest.mark.parametrize(
    ("side", "blocks"), [(28, [14, 7, 4]), (64, [32, 16, 8]), (65, [17, 9, 5, 3]), (160, [40, 20, 10, 5])]
)
def test_large_images_are_quartered_at_once_and_go_through_one_block_more(side, blocks):
    network = build_network("compact_cnn", (side, side, 3), 5, seed=0)
    sides = [network.get_layer(f"block{number}").output.shape[1] for number in range(1, len(blocks) + 1)]
    assert sides == blocks
    assert "block5" not in {layer.name for layer in network.layers}


def test_an_unknown_architecture_is_refused_with_the_nearest_name():
    with pytest.raises(
        ValueError, match=r"must be one of article_cnn, .*Received: artcle_cnn\. Did you mean article_cnn"
    ):
        build_network("artcle_cnn", (28, 28, 1), 3, 0)
