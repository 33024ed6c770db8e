import functools

import numpy as np
import pytest

from cnn_transfer.models import build_network, cut_layers, keras_applications
from cnn_transfer.models.taps import add_linear_head, tap_layers, tap_network, tap_widths

SHAPE = (28, 28, 1)
RESNET50 = {2: 3, 3: 4, 4: 6, 5: 3}  # blocks a stage
# Where the stride or the width changes, nothing is added to.
BLOCKS_OF_MOBILENET_V2 = [
    f"block_{number}_project_BN" if number in {1, 3, 6, 10, 13, 16} else f"block_{number}_add"
    for number in range(1, 17)
]


@pytest.fixture(scope="module")
def of_keras():
    """Build one of Keras's networks, each but once."""
    return functools.cache(lambda name: keras_applications(name, (32, 32, 3), None))


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
def test_features_are_means_over_cells_and_ranges_within_coarser_ones(network, pixels, taps, grid):
    import keras

    found = tap_network(network, taps, grid)(pixels)
    outputs = keras.Model(network.input, [network.get_layer(name).output for name in taps])(pixels)
    expected = []
    for output in map(np.asarray, outputs if len(taps) > 1 else [outputs]):
        expected += [cell.mean(axis=(1, 2)) for cell in cells_of(output, grid)]
        expected += [np.ptp(cell, axis=(1, 2)) for cell in cells_of(output, min(grid, 2))]
    assert found.shape == (6, sum(tap_widths(network, taps, grid)))
    np.testing.assert_allclose(found, np.concatenate(expected, axis=1), rtol=1e-4, atol=1e-5)


def cells_of(output, grid):
    side = output.shape[1]
    step = side // grid
    size = side - (grid - 1) * step
    starts = [number * step for number in range(grid)]
    return [output[:, row : row + size, column : column + size] for row in starts for column in starts]


def test_a_grid_finer_than_the_output_is_the_output_and_its_ranges(network):
    assert network.get_layer("block3").output.shape == (None, 4, 4, 128)
    assert tap_widths(network, ["block3"], 100) == [(4 * 4 + 2 * 2) * 128]


def test_single_positions_have_no_range():
    import keras

    inputs = keras.Input((2, 2, 3), name="two")
    network = keras.Model(inputs, keras.layers.ReLU(name="tap")(inputs))
    assert [tap_widths(network, ["tap"], grid) for grid in (1, 2, 3)] == [[2 * 3], [4 * 3], [4 * 3]]
    picture = np.arange(12, dtype=np.float32).reshape(1, 2, 2, 3)
    np.testing.assert_array_equal(tap_network(network, ["tap"], 2)(picture), picture.reshape(1, -1))


def test_the_same_graph_has_the_same_names_however_often_it_was_built(network):
    taps = tap_layers(network)
    assert tap_network(network, taps, 3).to_json() == tap_network(network, taps, 3).to_json()


def test_the_head_is_an_ordinary_dense_layer_on_a_flat_graph(network, pixels):
    rng = np.random.default_rng(1)
    taps = ["block1", "block2"]
    width = sum(tap_widths(network, taps, 2))
    kernel, bias = rng.normal(size=(width, 4)) / 10, rng.normal(size=4)
    model = add_linear_head(network, taps, 2, kernel, bias)
    logits = tap_network(network, taps, 2)(pixels) @ kernel + bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model(pixels), expected, atol=1e-5)
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
    np.testing.assert_allclose(again(pixels), model(pixels), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "MobileNetV2",
            ["Conv1_relu", "expanded_conv_project_BN", *BLOCKS_OF_MOBILENET_V2, "out_relu"],
        ),
        pytest.param(
            "ResNet50",
            ["pool1_pool", *(f"conv{n}_block{b}_out" for n, count in RESNET50.items() for b in range(1, count + 1))],
            marks=pytest.mark.slow,
        ),
        ("VGG16", [f"block{number}_pool" for number in range(1, 6)]),
        ("MobileNet", ["conv1_relu", *(f"conv_pw_{number}_relu" for number in range(1, 14))]),
    ],
)
def test_networks_of_keras_are_tapped_at_the_end_of_each_block(of_keras, name, expected):
    assert tap_layers(of_keras(name)) == expected


def test_of_very_many_places_every_so_manieth_is_tapped_and_the_deepest_always():
    import keras

    inputs = keras.Input((4, 4, 2))
    x = keras.layers.Conv2D(2, 1, name="first")(inputs)
    for number in range(1, 50):
        x = keras.layers.Add(name=f"sum{number}")([x, keras.layers.Conv2D(2, 1, name=f"inner{number}")(x)])
    taps = tap_layers(keras.Model(inputs, x))
    assert (len(taps), taps[0], taps[-1]) == (20, "first", "sum49")
    steps = np.diff([0, *(int(name.removeprefix("sum")) for name in taps[1:])])
    assert set(steps) == {2, 3}


@pytest.mark.slow
def test_of_very_many_blocks_every_so_manieth_is_tapped_and_the_deepest_always(of_keras):
    network = of_keras("DenseNet121")
    taps = tap_layers(network)
    assert (len(taps), taps[0], taps[-1]) == (20, "pool1", "relu")
    order = [layer.name for layer in network.layers]
    assert taps == sorted(taps, key=order.index)
    assert [sum(name.startswith(f"conv{stage}_") for name in taps) for stage in (2, 3, 4, 5)] == [1, 3, 7, 4]


@pytest.fixture(scope="module")
def skipping():
    """A network without telling names: two residual blocks, one plain convolution, and a head."""
    import keras

    inputs = keras.Input((16, 16, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255, dtype="float32")(inputs)
    x = keras.layers.Conv2D(4, 3, padding="same", name="first")(x)
    x = keras.layers.ReLU(name="first_relu")(x)
    for number in (1, 2):
        branch = keras.layers.Conv2D(4, 3, padding="same", name=f"inner{number}")(x)
        x = keras.layers.Add(name=f"sum{number}")([x, branch])
    x = keras.layers.Dropout(0.5, name="dropout")(keras.layers.Conv2D(6, 3, name="last")(x))
    x = keras.layers.Permute((3, 1, 2), name="channels_first")(x)
    x = keras.layers.Dense(3, name="top")(keras.layers.Flatten()(x))
    return keras.Model(inputs, x)


def test_blocks_are_found_in_the_graph_where_names_tell_nothing(skipping):
    assert tap_layers(skipping) == ["first_relu", "sum1", "sum2", "last"]


def test_every_tap_can_be_cut_after(skipping, of_keras):
    for network in (skipping, of_keras("MobileNetV2")):
        assert set(tap_layers(network)) <= set(cut_layers(network))


def test_a_skip_connection_over_everything_leaves_the_places_where_branches_meet():
    import keras

    inputs = keras.Input((16, 16, 3), dtype="uint8")
    pixels = x = keras.layers.Rescaling(1 / 255, dtype="float32")(inputs)
    for number in range(1, 6):
        x = keras.layers.Conv2D(4, 3, padding="same", name=f"inner{number}")(x)
        x = keras.layers.Concatenate(name=f"meet{number}")([x, pixels])
    assert tap_layers(keras.Model(inputs, x)) == [f"meet{number}" for number in range(1, 6)]


def test_a_name_by_chance_hides_no_deeper_block():
    import keras

    inputs = keras.Input((16, 16, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255, dtype="float32")(inputs)
    for name in ("block1", "second", "third"):
        x = keras.layers.Conv2D(4, 3, name=name)(x)
    assert tap_layers(keras.Model(inputs, x)) == ["block1", "second", "third"]


def test_a_head_on_all_taps_changes_none_of_them(skipping):
    taps = tap_layers(skipping)
    width = sum(tap_widths(skipping, taps, 2))
    model = add_linear_head(skipping, taps, 2, np.zeros((width, 3)), np.zeros(3))
    assert tap_layers(model) == taps
