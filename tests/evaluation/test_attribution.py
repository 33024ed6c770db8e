"""Attribution maps against written-out cases, another implementation, and networks whose reasons are known."""

import keras
import numpy as np
import pytest
from planted_networks import CORNER, corner_network, linear_network, random_pixels

from cnn_transfer.evaluation import attribution
from cnn_transfer.evaluation.attribution import (
    AttributionUnavailableError,
    LogitNetwork,
    deepest_convolution,
    grad_cam,
    integrated_gradients,
    reference_images,
)
from cnn_transfer.models import add_head, add_linear_head, flatten, reinitialise


@pytest.fixture(scope="module")
def depths_network(tiny_network):
    """A network whose head reads both of its blocks."""
    network = tiny_network(seed=3)
    widths = (9 + 4) * (8 + 16)  # means over 3 x 3 cells, ranges within 2 x 2
    rng = np.random.default_rng(0)
    return add_linear_head(network, ["block1", "block2"], 3, rng.normal(size=(widths, 4)), rng.normal(size=4))


def float_copy(network):
    """The same network from float pixels, for the implementation that needs gradients of its input."""
    copy = keras.models.clone_model(network, input_tensors=keras.Input(network.input_shape[1:], dtype="float32"))
    copy.set_weights(network.get_weights())
    return copy


def correlations(first, second):
    return [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(first, second, strict=True)]


def test_grad_cam_of_one_convolution_written_out():
    rng = np.random.default_rng(1)
    inputs = keras.Input((4, 4, 1), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255, dtype="float32")(inputs)
    convolution = keras.layers.Conv2D(2, 3, activation="relu", name="conv")
    network = add_head(keras.Model(inputs, convolution(x)), n_classes=3, seed=0)
    kernel, bias = rng.normal(size=(3, 3, 1, 2)), np.array([0.5, 0.1])
    convolution.set_weights([kernel, bias])
    dense = rng.normal(size=(2, 2, 2, 3))
    network.layers[-1].set_weights([dense.reshape(8, 3), rng.normal(size=3)])
    pixels = random_pixels(5, (4, 4, 1))
    classes = np.array([0, 1, 2, 2, 1])
    maps = grad_cam(network, pixels, classes)
    for image, label, found in zip(pixels / 255, classes, maps, strict=True):
        activations = np.zeros((2, 2, 2))
        for row in range(2):
            for column in range(2):
                patch = image[row : row + 3, column : column + 3, :, None]
                activations[row, column] = np.maximum((patch * kernel).sum(axis=(0, 1, 2)) + bias, 0)
        weights = dense[..., label].mean(axis=(0, 1))  # the gradient of a linear head is its kernel
        coarse = np.maximum((activations * weights).sum(axis=-1), 0)
        assert found[0, 0] == pytest.approx(coarse[0, 0], abs=1e-5)
        assert found[-1, -1] == pytest.approx(coarse[1, 1], abs=1e-5)
        assert found[0, 1] == pytest.approx((2 * coarse[0, 0] + coarse[0, 1]) / 3, abs=1e-5)
    assert (maps > 0).any()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tf-keras-vis, which imports an old name from scipy
@pytest.mark.parametrize("layer", ["block1", "block2", None])
def test_grad_cam_agrees_with_tf_keras_vis(depths_network, layer):
    gradcam = pytest.importorskip("tf_keras_vis.gradcam")
    from tf_keras_vis.utils.model_modifiers import ReplaceToLinear
    from tf_keras_vis.utils.scores import CategoricalScore

    pixels = random_pixels(6, (28, 28, 1))
    classes = np.array([0, 1, 2, 3, 0, 1])
    theirs = gradcam.Gradcam(float_copy(depths_network), model_modifier=ReplaceToLinear())(
        CategoricalScore(classes.tolist()),
        pixels.astype(np.float32),
        penultimate_layer=layer or "block2",
        seek_penultimate_conv_layer=False,
    )
    assert min(correlations(grad_cam(depths_network, pixels, classes, layer), theirs)) > 0.9999


def test_grad_cam_reads_the_deepest_block_unless_told(depths_network):
    pixels, classes = random_pixels(3, (28, 28, 1)), np.array([0, 1, 2])
    assert deepest_convolution(depths_network) == "block2"
    deepest = grad_cam(depths_network, pixels, classes)
    np.testing.assert_array_equal(deepest, grad_cam(depths_network, pixels, classes, "block2"))
    assert not np.allclose(deepest, grad_cam(depths_network, pixels, classes, "block1"))


def test_grad_cam_is_never_negative_and_of_the_size_of_the_image(depths_network):
    maps = grad_cam(depths_network, random_pixels(4, (28, 28, 1)), np.arange(4))
    assert maps.shape == (4, 28, 28)
    assert maps.dtype == np.float32
    assert (maps >= 0).all()


@pytest.mark.parametrize("baseline", attribution.REFERENCES)
def test_integrated_gradients_of_a_linear_network_are_weight_times_difference(baseline):
    network = linear_network()
    pixels, classes = random_pixels(4, (6, 5, 3)), np.array([0, 1, 2, 0])
    kernel = network.layers[-1].get_weights()[0].reshape(6, 5, 3, 3)
    difference = (pixels - reference_images(pixels, baseline)) / 255
    expected = np.stack([(kernel[..., c] * d).sum(axis=-1) for c, d in zip(classes, difference, strict=True)])
    for steps in (1, 7):
        found = integrated_gradients(network, pixels, classes, steps, baseline)
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("baseline", attribution.REFERENCES)
def test_integrated_gradients_add_up_to_the_rise_of_the_logit(depths_network, baseline):
    pixels, classes = random_pixels(6, (28, 28, 1)), np.array([0, 1, 2, 3, 3, 2])
    network = LogitNetwork(depths_network)
    rise = network.logits(pixels) - network.logits(reference_images(pixels, baseline))
    rise = rise[np.arange(6), classes]
    error = {
        steps: np.abs(integrated_gradients(network, pixels, classes, steps, baseline).sum(axis=(1, 2)) - rise).max()
        for steps in (4, 512)  # many: where the highest value changes its place, gradients jump
    }
    assert error[512] < 0.01 * np.abs(rise).mean()
    assert error[512] < error[4]


def test_maps_do_not_depend_on_how_many_are_made_at_once(depths_network, monkeypatch):
    pixels, classes = random_pixels(5, (28, 28, 1)), np.array([0, 1, 2, 3, 0])
    together = LogitNetwork(depths_network)
    monkeypatch.setattr(attribution, "MOST_BYTES", 1)  # one image, one step at a time
    alone = LogitNetwork(depths_network)
    assert (alone._at_once, together._at_once > 5) == (1, True)
    for method in ("grad_cam", "integrated_gradients"):
        first, second = getattr(together, method)(pixels, classes), getattr(alone, method)(pixels, classes)
        np.testing.assert_allclose(first, second, atol=1e-4)
        one = getattr(together, method)(pixels[2:3], classes[2:3])  # a single image
        np.testing.assert_allclose(first[2:3], one, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_maps_find_the_place_that_a_planted_network_looks_at(channels):
    network = corner_network(channels=channels)
    pixels = random_pixels(8, (16, 16, channels))
    pixels[:, :CORNER, :CORNER] = 250
    shares = np.abs(integrated_gradients(network, pixels, np.ones(8, int)))
    inside = shares[:, :CORNER, :CORNER].sum(axis=(1, 2))
    np.testing.assert_allclose(inside, shares.sum(axis=(1, 2)), rtol=1e-4)


def test_grad_cam_finds_the_place_that_a_planted_network_looks_at():
    pixels = random_pixels(8, (16, 16, 1)) // 4
    pixels[:, :CORNER, :CORNER] = 250
    maps = grad_cam(corner_network(), pixels, np.ones(8, int))
    assert maps[:, :CORNER, :CORNER].min() > maps[:, CORNER:, CORNER:].max() > 0


def test_network_itself_is_left_as_it_is(depths_network):
    before = depths_network.get_weights()
    pixels = random_pixels(2, (28, 28, 1))
    prediction = depths_network.predict(pixels, verbose=0)
    network = LogitNetwork(depths_network)
    trained = network.grad_cam(pixels, np.array([0, 1]))
    with network.reinitialised(seed=1) as random:
        assert not np.allclose(random.grad_cam(pixels, np.array([0, 1])), trained)
    np.testing.assert_array_equal(network.grad_cam(pixels, np.array([0, 1])), trained)
    for old, new in zip(before, depths_network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_allclose(network.probabilities(pixels), prediction, atol=1e-6)
    assert depths_network.get_layer("block1").output is not None  # no second call was added to its layers


def test_softmax_as_a_layer_of_its_own_is_left_away_too():
    network = linear_network()
    logits = keras.layers.Dense(3, name="scores")(network.layers[-2].output)
    split = keras.Model(network.input, keras.layers.Softmax()(logits))
    split.set_weights(network.get_weights())
    pixels = random_pixels(3, (6, 5, 3))
    np.testing.assert_allclose(LogitNetwork(split).logits(pixels), LogitNetwork(network).logits(pixels), atol=1e-5)


def test_pixels_are_normalised_as_the_network_was_adapted():
    pixels = random_pixels(4, (9, 9, 3))
    normalization = keras.layers.Normalization()
    normalization.adapt(pixels.astype(np.float32))
    inputs, raw = keras.Input((9, 9, 3)), keras.Input((9, 9, 3), dtype="uint8")
    theirs = keras.Model(inputs, keras.layers.Conv2D(4, 3, activation="relu")(normalization(inputs)))
    network = add_head(flatten(theirs, raw, keras.layers.Rescaling(1.0)(raw)), n_classes=3, seed=0)
    prepared = LogitNetwork(network)
    np.testing.assert_allclose(prepared.probabilities(pixels), network(pixels), rtol=1e-4)
    with prepared.reinitialised(1) as drawn:
        np.testing.assert_allclose(drawn.probabilities(pixels), reinitialise(network, 1)(pixels), rtol=1e-4)


def test_grad_cam_says_why_a_network_without_convolution_has_none():
    pixels, classes = random_pixels(2, (6, 5, 3)), np.array([0, 1])
    with pytest.raises(AttributionUnavailableError, match="weighs the activations of a convolutional layer"):
        grad_cam(linear_network(), pixels, classes)
    assert np.isfinite(integrated_gradients(linear_network(), pixels, classes)).all()  # needs none


def test_scores_that_are_not_finite_are_refused(tiny_network):
    network = tiny_network()
    network.layers[-1].set_weights([np.full_like(w, np.nan) for w in network.layers[-1].get_weights()])
    pixels, classes = random_pixels(2, (28, 28, 1)), np.array([0, 1])
    for method in (grad_cam, integrated_gradients):
        with pytest.raises(ValueError, match="NaN or infinity for 2 of 2 images"):
            method(network, pixels, classes)
    with pytest.raises(ValueError, match="logits must be finite"):
        LogitNetwork(network).logits(pixels)


def test_arguments_that_do_not_fit_are_named(depths_network):
    pixels = random_pixels(2, (28, 28, 1))
    with pytest.raises(ValueError, match=r"shape \(n, 28, 28, 1\) with at least one image. Received: \(0, 28, 28, 1\)"):
        grad_cam(depths_network, pixels[:0], np.zeros(0, int))
    with pytest.raises(ValueError, match="pixels must have the shape"):
        grad_cam(depths_network, pixels[..., 0], np.array([0, 1]))
    with pytest.raises(ValueError, match=r"one index an image, shape \(2,\)"):
        grad_cam(depths_network, pixels, np.array([0]))
    with pytest.raises(ValueError, match="indices from 0 to 3"):
        integrated_gradients(depths_network, pixels, np.array([0, 4]))
    with pytest.raises(ValueError, match="steps must be at least 1"):
        integrated_gradients(depths_network, pixels, np.array([0, 1]), steps=0)
    with pytest.raises(ValueError, match="baseline must be one of black, mean, blurred"):
        reference_images(pixels, "white")
    with pytest.raises(ValueError, match="Did you mean block2"):
        grad_cam(depths_network, pixels, np.array([0, 1]), layer="blok2")
    with pytest.raises(ValueError, match="prepared for the layer block2"):
        grad_cam(LogitNetwork(depths_network), pixels, np.array([0, 1]), layer="block1")
    with pytest.raises(ValueError, match="must end in a softmax"):
        LogitNetwork(keras.Model(depths_network.input, depths_network.get_layer("block2").output))


def test_references_take_away_what_the_image_shows():
    pixels = np.zeros((2, 16, 16, 3), np.uint8)
    pixels[0, 8, 8] = 255
    pixels[1] = [10, 20, 30]
    assert (reference_images(pixels, "black") == 0).all()
    np.testing.assert_allclose(reference_images(pixels, "mean")[1], pixels[1], atol=1e-4)
    blurred = reference_images(pixels, "blurred")
    np.testing.assert_allclose(blurred[1], pixels[1], atol=1e-3)
    assert blurred[0].max() < 20
    np.testing.assert_allclose(reference_images(pixels, "mean")[0, 0, 0], 255 / 256, rtol=1e-5)
