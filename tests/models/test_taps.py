import numpy as np
import pytest

from cnn_transfer.models import build_network
from cnn_transfer.models.taps import add_linear_head, tap_layers, tap_network, tap_widths

SHAPE = (28, 28, 1)


@pytest.fixture(scope="module")
def network():
    return build_network("compact_cnn", SHAPE, 5, seed=0)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (6, *SHAPE), np.uint8)


@pytest.mark.parametrize("architecture", ["article_cnn", "compact_cnn"])
def test_the_blocks_are_tapped_from_shallow_to_deep(architecture):
    assert tap_layers(build_network(architecture, SHAPE, 5, seed=0)) == ["block1", "block2", "block3"]


@pytest.mark.parametrize("grid", [1, 2, 3])
@pytest.mark.parametrize("taps", [["block2"], ["block1", "block3"]])
def test_features_are_the_means_over_cells_side_by_side(network, pixels, taps, grid):
    import keras

    found = tap_network(network, taps, grid).predict(pixels, verbose=0)
    assert found.shape == (6, sum(tap_widths(network, taps, grid)))
    outputs = keras.Model(network.input, [network.get_layer(name).output for name in taps]).predict(pixels, verbose=0)
    expected = []
    for output in outputs if len(taps) > 1 else [outputs]:
        side = output.shape[1]
        step = side // grid
        size = side - (grid - 1) * step
        cells = [
            output[:, row * step : row * step + size, column * step : column * step + size].mean(axis=(1, 2))
            for row in range(grid)
            for column in range(grid)
        ]
        expected.append(np.concatenate(cells, axis=1))
    np.testing.assert_allclose(found, np.concatenate(expected, axis=1), rtol=1e-4, atol=1e-5)


def test_a_grid_finer_than_the_output_is_the_output(network):
    assert tap_widths(network, ["block3"], 100) == [4 * 4 * 128]


def test_the_head_is_an_ordinary_dense_layer_on_a_flat_graph(network, pixels):
    rng = np.random.default_rng(1)
    taps = ["block1", "block2"]
    width = sum(tap_widths(network, taps, 2))
    kernel, bias = rng.normal(size=(width, 4)) / 10, rng.normal(size=4)
    model = add_linear_head(network, taps, 2, kernel, bias)
    logits = tap_network(network, taps, 2).predict(pixels, verbose=0) @ kernel + bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict(pixels, verbose=0), expected, atol=1e-5)
    names = [layer.name for layer in model.layers]
    assert "conv3" not in names  # above the deepest tap nothing is kept
    assert names[-1] == "head_probabilities"


def test_the_head_survives_saving(network, pixels, tmp_path):
    import keras

    taps = tap_layers(network)
    kernel = np.random.default_rng(1).normal(size=(sum(tap_widths(network, taps, 2)), 3)) / 10
    model = add_linear_head(network, taps, 2, kernel, np.zeros(3))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict(pixels, verbose=0), model.predict(pixels, verbose=0), atol=1e-6)
