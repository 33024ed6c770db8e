import functools
import importlib
import inspect
import re

import keras
import numpy as np
import pytest

from cnn_transfer.models import (
    UnusableNetworkError,
    add_head,
    copy_network,
    cut_layers,
    cut_network,
    keras_applications,
    reinitialise,
    with_precision,
)
from cnn_transfer.models.keras_applications import PREPROCESSING, _preprocessed, smallest_px

NAMES = [name for names in PREPROCESSING.values() for name in names]
DEEPEST = {"VGG16": "block3_pool", "MobileNetV3Small": "expanded_conv_3_project_bn"}  # all that is above repeats
FAST = {"caffe": "VGG16", "tf": "MobileNet", "torch": "DenseNet121", "inside": "MobileNetV3Small"}


def module_of(name):
    return importlib.import_module(getattr(keras.applications, name).__module__)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def built():
    """Build one of Keras's networks with random weights for colour images, each but once."""
    return functools.cache(lambda name: keras_applications(name, (64, 64, 3), None))


@pytest.fixture(scope="module", params=["caffe", "tf", pytest.param("torch", marks=pytest.mark.slow), "inside"])
def example(request, tmp_path_factory):
    """Keras's own network of each mode with weights of its own, and those as a file."""
    keras.utils.set_random_seed(0)
    name = FAST[request.param]
    original = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(64, 64, 3))
    path = tmp_path_factory.mktemp("weights") / f"{name}.h5"  # the old form, in which Keras publishes its weights
    original.save(path)
    return name, original, path


def test_knows_every_network_of_keras_but_those_that_nest_others():
    public = {name for name in dir(keras.applications) if name[0].isupper()}
    assert {name for name in public if not name.startswith("ConvNeXt")} == set(NAMES)
    assert len(NAMES) == len(set(NAMES))


@pytest.mark.parametrize("mode", PREPROCESSING)
def test_each_network_gets_the_preprocessing_of_its_module(mode, pixels):
    inputs = keras.Input((64, 64, 3), dtype="uint8")
    inside = keras.Model(inputs, _preprocessed(inputs, mode))(pixels).numpy()
    assert inside.dtype == np.float32
    for name in PREPROCESSING[mode]:
        expected = module_of(name).preprocess_input(pixels.astype("float32"))
        np.testing.assert_allclose(inside, expected, atol=1e-4, err_msg=name)


def test_computes_what_keras_computes_on_preprocessed_pixels_with_weights_from_a_file(example, pixels):
    name, original, path = example
    network = keras_applications(name, (64, 64, 3), path)
    expected = original(module_of(name).preprocess_input(pixels.astype("float32"))).numpy()
    assert expected.std() > 0
    np.testing.assert_allclose(network(pixels).numpy(), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("layout", ["efficientnet.h5", "efficientnet.weights.h5"])
def test_weights_that_keras_publishes_are_the_same_network_from_a_file(layout, pixels, tmp_path, monkeypatch):
    def tiny(**arguments):
        return efficientnet.EfficientNet(0.1, 0.1, 64, blocks_args=block, weights_name="b0", **arguments)

    efficientnet = module_of("EfficientNetB0")
    block = efficientnet.DEFAULT_BLOCKS_ARGS[:1]
    path = tmp_path / layout
    monkeypatch.setattr(keras.applications, "EfficientNetB0", tiny)
    monkeypatch.setattr(efficientnet.file_utils, "get_file", lambda *_, **__: path)
    original = tiny(include_top=False, weights=None, input_shape=(64, 64, 3))
    mean, deviation = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    original.get_layer(index=2).set_weights([mean, deviation, np.array(0)])  # as in the published weights
    (original.save_weights if ".weights." in layout else original.save)(path)
    expected = keras_applications("EfficientNetB0", (64, 64, 3))(pixels).numpy()
    network = keras_applications("EfficientNetB0", (64, 64, 3), path)
    np.testing.assert_allclose(network(pixels).numpy(), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["efficientnet.h5", "efficientnet.weights.h5"])
def test_statistics_of_pixels_that_lie_in_the_weights_are_kept_in_every_copy(pixels, tmp_path, layout):
    original = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(64, 64, 3))
    normalization = original.get_layer(index=2)
    normalization.adapt_mean.assign([0.485, 0.456, 0.406])
    normalization.adapt_variance.assign([0.052, 0.05, 0.051])
    normalization.finalize_state()
    (original.save_weights if ".weights." in layout else original.save)(tmp_path / layout)
    expected = original(pixels.astype("float32")).numpy()
    network = keras_applications("EfficientNetB0", (64, 64, 3), tmp_path / layout)
    for copy in (network, copy_network(network), with_precision(network, "float32")):
        np.testing.assert_allclose(copy(pixels).numpy(), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    with pytest.raises(UnusableNetworkError, match="do not fit the network efficientnetb1"):
        keras_applications("EfficientNetB1", (64, 64, 3), tmp_path / layout)


@pytest.mark.parametrize("name", [FAST["caffe"], FAST["inside"]])  # both have operations that are no layers
def test_is_one_flat_graph_that_surgery_can_work_on(name, built, pixels, tmp_path):
    whole = built(name)
    assert not any(isinstance(layer, keras.Model) for layer in whole.layers)
    assert whole.input.dtype == "uint8"
    assert len(cut_layers(whole)) > 10
    network = cut_network(whole, DEEPEST[name])
    classifier = add_head(network, 3, seed=0)
    expected = classifier(pixels).numpy()
    np.testing.assert_allclose(copy_network(classifier)(pixels).numpy(), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(with_precision(classifier, "mixed_bfloat16")(pixels).numpy(), expected, atol=0.1)
    first, same = (reinitialise(network, 1)(pixels).numpy() for _ in range(2))
    np.testing.assert_array_equal(first, same)
    classifier.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(pixels).numpy(), expected, rtol=1e-4, atol=1e-6)


def test_a_grey_image_is_seen_as_the_same_in_three_channels(built, pixels):
    grey, colour = keras_applications("VGG16", (64, 64, 1), None), built("VGG16")
    grey.set_weights(colour.get_weights())
    expected = colour(np.repeat(pixels[..., :1], 3, axis=-1)).numpy()
    np.testing.assert_allclose(grey(pixels[..., :1]).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"Received: Resnet50\. Did you mean ResNet50\? Known: ResNet50, "):
        keras_applications("Resnet50", (64, 64, 3), None)


def test_other_channels_and_missing_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must have 1 or 3 channels"):
        keras_applications("VGG16", (64, 64, 4), None)
    with pytest.raises(FileNotFoundError, match=r"path of a weights file\. Received: .*none\.h5, where no file is"):
        keras_applications("VGG16", (64, 64, 3), tmp_path / "none.h5")


def test_weights_that_cannot_be_downloaded_are_an_error_with_remedies(monkeypatch):
    def fail(*_, **__):
        raise Exception("URL fetch failure on somewhere: None -- no network")

    monkeypatch.setattr(module_of("VGG16").file_utils, "get_file", fail)
    with pytest.raises(UnusableNetworkError, match=r"VGG16 are not in Keras's cache .*no network.*efficientnet_lite0"):
        keras_applications("VGG16", (64, 64, 3))
    with pytest.raises(ValueError, match=r"VGG16 needs images of at least 32 px"):
        keras_applications("VGG16", (16, 16, 3))


def test_the_smallest_image_of_each_network_is_that_of_its_module():
    for name in NAMES:
        stated = set(re.findall(r"min_size=(\d+)", inspect.getsource(module_of(name)))) or {"32"}
        assert stated == {str(smallest_px(name))}, name


def test_names_do_not_depend_on_what_was_built_before(built):
    first, second = built("MobileNetV3Small"), keras_applications("MobileNetV3Small", (32, 32, 3), None)
    assert [layer.name for layer in first.layers] == [layer.name for layer in second.layers]


def test_weights_of_another_network_are_refused_with_the_layers_that_do_not_fit(example):
    name, _, path = example
    other = "VGG19" if name == "VGG16" else "VGG16"
    missing = "block5_conv4" if name == "VGG16" else "block1_conv1"
    with pytest.raises(ValueError, match=f"do not fit the network {other.lower()}: .*{missing} has no weights in"):
        keras_applications(other, (64, 64, 3), path)
