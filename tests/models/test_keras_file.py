import json
import subprocess
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from cnn_transfer.models import (
    UnusableNetworkError,
    copy_network,
    keras_file,
    load_keras_file,
    predict_batches,
    reinitialise,
    tap_layers,
    with_precision,
    write_keras_file,
)
from cnn_transfer.models.keras_file import read_keras_file
from cnn_transfer.models.surgery import synchronised

SHAPE = (20, 20, 3)


@keras.saving.register_keras_serializable(package="theirs")
class TheirLayer(keras.layers.Layer):
    def call(self, x):
        return 2 * x


@keras.saving.register_keras_serializable(package="theirs")
def their_activation(x):
    return x


def build(*layers, shape=SHAPE, dtype="float32"):
    return keras.Sequential(
        [keras.Input(shape, dtype=dtype), *layers, keras.layers.Conv2D(4, 3, name="conv")], name="mine"
    )


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (2, *SHAPE), np.uint8)


@pytest.fixture
def save(tmp_path):
    def write(network):
        network.save(tmp_path / "mine.keras")
        return tmp_path / "mine.keras"

    return write


@pytest.mark.parametrize("low_high", [(0, 1), (-1, 1), (0, 255)])
def test_a_network_that_does_not_scale_gets_raw_pixels_in_its_own_range(save, pixels, low_high):
    network = build()
    result = load_keras_file(save(network), SHAPE, low_high)
    low, high = low_high
    expected = network(pixels / 255 * (high - low) + low).numpy()
    np.testing.assert_allclose(result(pixels).numpy(), expected, rtol=1e-4, atol=1e-3)
    assert result.input.dtype == "uint8"
    assert not any(isinstance(layer, keras.Model) for layer in result.layers)


def test_a_network_that_scales_gets_pixels_as_they_are(save, pixels):
    network = build(keras.layers.Rescaling(1 / 255))
    result = load_keras_file(save(network), SHAPE)
    np.testing.assert_allclose(result(pixels).numpy(), network(pixels.astype("float32")).numpy(), rtol=1e-5, atol=1e-6)


def test_a_network_that_was_adapted_to_its_images_computes_the_same_in_every_copy(save, pixels, tmp_path):
    normalization = keras.layers.Normalization()
    normalization.adapt(pixels.astype("float32"))
    network = build(normalization)
    expected = network(pixels.astype("float32")).numpy()
    loaded = load_keras_file(save(network), SHAPE)
    write_keras_file(loaded, tmp_path / "again.keras")
    batches = tf.data.Dataset.from_tensors(pixels)
    same = {
        "loaded": loaded(pixels),
        "copied": copy_network(loaded)(pixels),
        "traced": predict_batches(loaded, batches),
        "traced before": predict_batches(loaded, batches),
        "saved": keras.models.load_model(tmp_path / "again.keras")(pixels),
        "cast": with_precision(with_precision(loaded, "mixed_bfloat16"), "float32")(pixels),
        "synchronised": synchronised(loaded)(pixels),
    }
    for name, outputs in same.items():
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(with_precision(loaded, "mixed_bfloat16")(pixels), expected, atol=0.1)
    drawn = reinitialise(loaded, 0)
    assert not np.allclose(drawn(pixels), expected, atol=0.1)
    np.testing.assert_array_equal(drawn.get_layer(normalization.name).mean, normalization.mean)


def test_a_network_of_this_project_comes_back_as_it_was(save, tiny_network):
    network = tiny_network()
    result = load_keras_file(save(network), (28, 28, 1))
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), np.uint8)
    np.testing.assert_array_equal(result(images).numpy(), network(images).numpy())
    assert [layer.name for layer in result.layers] == [layer.name for layer in network.layers]
    assert tap_layers(result) == ["block1", "block2"]


def test_an_input_of_any_size_is_built_for_the_images(save, pixels):
    network = build(keras.layers.Rescaling(1 / 255), shape=(None, None, 3))
    result = load_keras_file(save(network), SHAPE)
    assert result.output_shape == (None, 18, 18, 4)
    np.testing.assert_allclose(result(pixels).numpy(), network(pixels.astype("float32")).numpy(), rtol=1e-5, atol=1e-6)


def test_images_too_small_for_the_network_are_refused(save):
    network = build(keras.layers.Rescaling(1 / 255), keras.layers.MaxPooling2D(9), shape=(None, None, 3))
    with pytest.raises(ValueError, match="cannot take images of 16 × 16 px"):
        load_keras_file(save(network), (16, 16, 3))


def test_whatever_stops_the_flat_graph_is_told_as_an_unusable_network(save, monkeypatch):
    def fail(*_):
        raise TypeError("unexpected keyword argument")

    monkeypatch.setattr(keras_file, "flatten", fail)
    with pytest.raises(
        UnusableNetworkError, match=r"mine\.keras cannot .* one flat graph: unexpected keyword argument"
    ):
        load_keras_file(save(build(keras.layers.Rescaling(1 / 255))), SHAPE)


def test_a_trained_network_is_read_without_its_training(save, pixels):
    network = build(keras.layers.Rescaling(1 / 255))
    network.compile(keras.optimizers.Adam(), loss=their_activation)
    assert load_keras_file(save(network), SHAPE).output_shape == (None, 18, 18, 4)


@pytest.mark.parametrize(
    ("network", "arguments", "expected"),
    [
        (build, {}, "no layer that scales its pixels .* Say with pixel_range"),
        (
            lambda: build(dtype="uint8"),
            {"pixel_range": (0, 1)},
            r"takes bytes, .* pixel_range \[0, 1\]\. Leave it null",
        ),
        (build, {"image_shape": (20, 20, 1)}, "takes images with 3 channels. Received: 1. Set channels to 3"),
        (
            build,
            {"image_shape": (32, 32, 3)},
            r"20 × 20 px only\. Received: 32 × 32\. Set image_size_px to 20 .*input of \(None, None, 3\)",
        ),
        (lambda: build(shape=(20, 30, 3)), {}, "20 × 30 px only.*Images are prepared as squares"),
        (lambda: build(shape=(20, 20, 4)), {}, r"1 or 3 channels\. Received: inputs of \(20, 20, 4\)"),
        (lambda: build(TheirLayer()), {}, "not Keras's own: theirs>TheirLayer. Code from a model file is not run"),
        (
            lambda: build(
                keras.layers.Rescaling(1 / 255),
                keras.layers.Permute((3, 1, 2)),
                keras.Sequential(
                    [keras.Input((3, 20, 20)), keras.layers.Conv2D(4, 3, data_format="channels_first", name="turned")]
                ),
                keras.layers.Permute((2, 3, 1)),
            ),
            {},
            r"channels as the last axis .* Received: data_format channels_first in turned\. Build .* channels_last",
        ),
        (lambda: build(keras.layers.Lambda(lambda x: x + 1)), {}, "not Keras's own: a Lambda layer"),
        (
            lambda: build(keras.Sequential([keras.Input(SHAPE), keras.layers.Activation(their_activation)])),
            {},
            "theirs>their_activation",
        ),
    ],
)
def test_what_cannot_be_imported_is_refused_with_the_remedy(save, network, arguments, expected):
    with pytest.raises(ValueError, match=expected):
        load_keras_file(save(network()), **{"image_shape": SHAPE} | arguments)


def test_a_network_with_two_inputs_is_refused(save):
    inputs = [keras.Input(SHAPE), keras.Input((3,))]
    network = keras.Model(inputs, [keras.layers.Conv2D(2, 3)(inputs[0]), keras.layers.Dense(1)(inputs[1])])
    with pytest.raises(ValueError, match=r"must take one image, .*inputs of \(20, 20, 3\), \(3,\)"):
        read_keras_file(save(network))


def test_files_that_are_none_are_refused_with_the_remedy(tmp_path, save):
    with pytest.raises(FileNotFoundError, match=r"There is no file .*none\.keras"):
        read_keras_file(tmp_path / "none.keras")
    whole = save(build()).read_bytes()
    for content in (b"", b"not a zip archive", whole[: len(whole) // 2]):
        (tmp_path / "bad.keras").write_bytes(content)
        with pytest.raises(ValueError, match=r"not a whole \.keras file .*model\.save"):
            read_keras_file(tmp_path / "bad.keras")


def without(path, name):
    """The same archive without one of its files."""
    with zipfile.ZipFile(path) as archive:
        parts = {entry: archive.read(entry) for entry in archive.namelist() if entry != name}
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in parts.items():
            archive.writestr(entry, content)
    return path


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_an_archive_without_its_configuration_or_weights_is_refused_before_a_network_is_built(save, name):
    with pytest.raises(UnusableNetworkError, match=rf"not a whole \.keras file .*{name}.*model\.save"):
        read_keras_file(without(save(build()), name))


def with_configuration(path, config):
    """The same archive with another configuration."""
    with zipfile.ZipFile(without(path, "config.json"), "a") as archive:
        archive.writestr("config.json", json.dumps(config))
    return path


@pytest.mark.parametrize(
    "config", [{"class_name": "Model", "config": {"layers": []}}, {"class_name": "Functional", "config": {}}]
)
def test_a_model_that_is_no_graph_of_layers_is_refused(save, config):
    with pytest.raises(
        UnusableNetworkError, match=rf"holds a {config['class_name']}, not a functional or Sequential model with layers"
    ):
        read_keras_file(with_configuration(save(build()), config))


@pytest.mark.parametrize("config", [None, [], {"class_name": "Functional"}])
def test_a_configuration_of_no_network_is_refused(save, config):
    with pytest.raises(UnusableNetworkError, match=r"not a whole \.keras file \(its config\.json describes no network"):
        read_keras_file(with_configuration(save(build()), config))


def test_a_folder_of_versions_is_refused_with_its_newest_file(tmp_path, save):
    content = save(build()).read_bytes()
    for version in ("2026-01-01", "2026-01-02"):
        file = tmp_path / "model.keras" / version / "model.keras"
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
    with pytest.raises(FileNotFoundError, match=r"is a folder.* the newest is .*2026-01-02/model\.keras"):
        read_keras_file(tmp_path / "model.keras")


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape"])
def test_weights_that_do_not_fit_the_layers_in_the_file_are_named(save, tmp_path, change):
    path = save(build(keras.layers.Rescaling(1 / 255)))
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
    with h5py.File(tmp_path / "model.weights.h5", "a") as file:
        bias = file["layers/conv2d/vars/1"]
        if change == "unexpected":
            file["layers/conv2d_7/vars/0"] = np.zeros(3)
        else:
            del file["layers/conv2d/vars/1"]
            if change == "shape":
                file["layers/conv2d/vars/1"] = np.zeros(9)
        del bias
    bad = tmp_path / "bad.keras"
    with zipfile.ZipFile(bad, "w") as archive:
        for name in ("config.json", "metadata.json", "model.weights.h5"):
            archive.write(tmp_path / name, name)
    expected = {
        "missing": "layers/conv2d/vars/1 has no weights in the file",
        "unexpected": "layers/conv2d_7/vars/0 is not in the network",
        "shape": r"layers/conv2d/vars/1 needs \(4,\), the file has \(9,\)",
    }
    with pytest.raises(ValueError, match=rf"bad\.keras do not fit the network mine: {expected[change]}"):
        load_keras_file(bad, SHAPE)


def test_a_class_that_names_a_module_is_never_imported(save, tmp_path):
    path = save(build(keras.layers.Rescaling(1 / 255)))
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    config["config"]["layers"][1] |= {"module": "antigravity", "class_name": "Rescaling"}
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match="not Keras's own: Rescaling"):
        load_keras_file(path, SHAPE)
    assert "antigravity" not in sys.modules


def test_looking_at_a_file_needs_no_tensorflow(save):
    code = f"""
import sys
from cnn_transfer.models import keras_file
from cnn_transfer.models.keras_file import read_keras_file
read_keras_file({str(save(build()))!r}).check({SHAPE}, (0, 1))
print("tensorflow" in sys.modules or "keras" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
