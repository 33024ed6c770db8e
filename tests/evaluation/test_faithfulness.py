"""Tests of attribution maps, on maps whose worth is known."""

import json

import numpy as np
import pandas as pd
import pytest
from planted_networks import CORNER, corner_network, random_pixels
from scipy import stats

from cnn_transfer.evaluation.attribution import LogitNetwork, grad_cam, integrated_gradients, reference_images
from cnn_transfer.evaluation.faithfulness import (
    curve_areas,
    faithfulness,
    mean_faithfulness,
    random_maps,
    randomisation_check,
    rank_correlation,
)
from cnn_transfer.evaluation.intervals import student_interval

SIDE = 16


@pytest.fixture(scope="module")
def corner():
    """A network that looks at the upper left corner only, and images whose corner is bright."""
    pixels = random_pixels(24, (SIDE, SIDE, 1))
    pixels[:, :CORNER, :CORNER] = 255
    return LogitNetwork(corner_network(SIDE)), pixels, np.ones(24, int)


def map_of_corner(images):
    maps = np.zeros((images, SIDE, SIDE))
    maps[:, :CORNER, :CORNER] = 1
    return maps


class Given:
    """In the place of a network: the probability of class 1 is the mean of the pixels."""

    def probabilities(self, pixels):
        share = pixels.mean(axis=(1, 2, 3)) / 255
        return np.stack([1 - share, share], axis=1)


def test_areas_written_out():
    pixels = np.zeros((1, 2, 2, 1), np.uint8)
    pixels[0, :, :, 0] = [[255, 0], [0, 0]]
    maps = np.array([[[3.0, 2.0], [1.0, 0.0]]])
    areas = curve_areas(Given(), pixels, np.array([1]), maps, 4, np.random.default_rng(0), "black")
    # Shown after 0, 1, … of 4 pixels: 0, 1/4, 1/4, 1/4, 1/4; taken away: 1/4, 0, 0, 0, 0.
    assert areas["insertion"][0] == pytest.approx(0.25 * 3.5 / 4)
    assert areas["deletion"][0] == pytest.approx(0.25 * 0.5 / 4)


def test_map_of_what_counts_gains_and_its_opposite_loses(corner):
    network, pixels, classes = corner
    good = mean_faithfulness(faithfulness(network, pixels, classes, map_of_corner(24), steps=16, seed=0))
    bad = mean_faithfulness(faithfulness(network, pixels, classes, -map_of_corner(24), steps=16, seed=0))
    for curve in ("insertion", "deletion"):
        assert good[f"{curve}_gain_low"] > 0.1
        assert bad[f"{curve}_gain_high"] < -0.1
    assert good["insertion"] > good["insertion_random"]
    assert good["deletion"] < good["deletion_random"]


@pytest.mark.parametrize("method", [grad_cam, integrated_gradients])
def test_both_methods_gain_on_a_planted_network(corner, method):
    network, pixels, classes = corner
    pixels = np.where(pixels < 255, pixels // 4, 255).astype(np.uint8)
    figures = mean_faithfulness(faithfulness(network, pixels, classes, method(network, pixels, classes), 16, seed=1))
    assert figures["insertion_gain_low"] > 0.1
    assert figures["deletion_gain_low"] > 0.1


def test_random_maps_gain_nothing(corner):
    network, pixels, classes = corner
    pixels, classes = np.concatenate([pixels] * 4), np.concatenate([classes] * 4)
    rng = np.random.default_rng(3)
    maps = random_maps(np.tile(map_of_corner(1), (96, 1, 1)), rng)
    for drawn in (maps, rng.random(maps.shape), np.zeros_like(maps)):
        figures = mean_faithfulness(faithfulness(network, pixels, classes, drawn, steps=8, seed=2), confidence=0.999)
        for curve in ("insertion", "deletion"):
            assert figures[f"{curve}_gain_low"] < 0 < figures[f"{curve}_gain_high"]


def test_pixels_of_the_same_value_have_no_order(corner):
    """A map without structure must not win because the place that counts comes first in memory."""
    network, pixels, classes = corner
    table = faithfulness(network, pixels, classes, np.zeros((24, SIDE, SIDE)), steps=8, seed=0)
    assert abs(table["insertion_gain"].mean()) < 0.1


def test_random_maps_are_as_smooth_and_elsewhere():
    rng = np.random.default_rng(0)
    smooth = np.cumsum(np.cumsum(rng.standard_normal((40, 15, 18)), axis=1), axis=2)
    drawn = random_maps(smooth, rng)
    centred = smooth - smooth.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(np.abs(np.fft.rfft2(drawn)), np.abs(np.fft.rfft2(centred)), atol=1e-6)
    np.testing.assert_allclose(drawn.std(axis=(1, 2)), smooth.std(axis=(1, 2)))
    assert abs(rank_correlation(smooth, drawn).mean()) < 0.2


def test_the_same_seed_gives_the_same_figures(corner):
    network, pixels, classes = corner
    maps = map_of_corner(24)
    first, again, other = (faithfulness(network, pixels, classes, maps, 4, seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(other)


def test_one_image_has_a_mean_and_no_interval(corner):
    network, pixels, classes = corner
    figures = mean_faithfulness(faithfulness(network, pixels[:1], classes[:1], map_of_corner(1), 4, seed=0))
    assert figures["images"] == 1
    assert figures["insertion_gain"] > 0
    assert figures["insertion_gain_low"] is None
    json.dumps(figures, allow_nan=False)
    check = randomisation_check(network, pixels[:1], classes[:1], grad_cam, seed=0)
    assert check["passes"] is None
    assert "at least 2 images" in check["statement"]
    json.dumps(check, allow_nan=False)


def test_maps_that_do_not_fit_are_refused(corner):
    network, pixels, classes = corner
    with pytest.raises(ValueError, match=r"shape of the images, \(24, 16, 16\). Received: \(24, 8, 8\)"):
        faithfulness(network, pixels, classes, np.zeros((24, 8, 8)), 4, seed=0)
    with pytest.raises(ValueError, match="NaN or infinity in 6144 places"):
        faithfulness(network, pixels, classes, np.full((24, SIDE, SIDE), np.nan), 4, seed=0)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        faithfulness(network, pixels, classes, map_of_corner(24), 0, seed=0)


def test_randomisation_check_passes_a_method_that_depends_on_the_weights(tiny_network):
    pixels = random_pixels(16, (28, 28, 1))
    check = randomisation_check(tiny_network(), pixels, np.arange(16) % 4, integrated_gradients, seed=0)
    assert check["passes"] is True
    assert check["correlation_low"] <= check["correlation"] <= check["correlation_high"] < 0.5
    assert check["stability_low"] > 0.8
    json.dumps(check, allow_nan=False)


def edges(network, pixels, classes):
    """A picture of the image, whatever the network has learnt."""
    return np.abs(np.gradient(pixels[..., 0].astype(float), axis=1))


def test_randomisation_check_fails_a_method_that_shows_the_image(tiny_network):
    check = randomisation_check(tiny_network(), random_pixels(16, (28, 28, 1)), np.arange(16) % 4, edges, seed=0)
    assert check["passes"] is False
    assert check["correlation"] == pytest.approx(1)
    assert "FAILED" in check["statement"]
    assert "a rank correlation of 1.00 (at most 1.00, which must be below 0.50)" in check["statement"]


def test_randomisation_check_fails_a_method_whose_maps_are_noise(tiny_network):
    rng = np.random.default_rng(0)

    def noise(network, pixels, classes):
        return rng.random(pixels.shape[:3])

    check = randomisation_check(tiny_network(), random_pixels(16, (28, 28, 1)), np.arange(16) % 4, noise, seed=0)
    assert check["correlation"] < 0.1
    assert check["passes"] is False


def test_signs_that_depend_on_the_weights_and_strengths_that_do_not_are_told_apart(tiny_network):
    def signed_edges(network, pixels, classes):
        return edges(network, pixels, classes) * np.sign(integrated_gradients(network, pixels, classes))

    check = randomisation_check(tiny_network(), random_pixels(16, (28, 28, 1)), np.arange(16) % 4, signed_edges, seed=0)
    assert check["passes"] is True
    assert check["magnitude_correlation"] > 0.9
    assert "Without their signs they keep" in check["statement"]


def test_maps_that_are_the_same_everywhere_are_counted_and_left_out(tiny_network):
    def half(network, pixels, classes):
        maps = integrated_gradients(network, pixels, classes)
        maps[::2] = 0
        return maps

    check = randomisation_check(tiny_network(), random_pixels(16, (28, 28, 1)), np.arange(16) % 4, half, seed=0)
    assert (check["pairs"], check["undefined"], check["passes"]) == (48, 24, True)


def test_rank_correlation_is_spearmans():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 5, (6, 4, 5)), rng.random((6, 4, 5))
    expected = [stats.spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(rank_correlation(first, second), expected)
    first[2] = 7
    assert np.isnan(rank_correlation(first, second)[2])


def test_student_interval_is_students():
    values = np.random.default_rng(0).normal(size=12)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    interval = student_interval(values, 0.9)
    assert interval == pytest.approx((values.mean(), expected.low, expected.high))
    assert student_interval(values[:1]) is None


def test_what_is_taken_away_is_the_reference_that_is_named(corner):
    network, pixels, classes = corner
    dark = faithfulness(network, pixels, classes, map_of_corner(24), 4, seed=0, reference="black")
    blurred = faithfulness(network, pixels, classes, map_of_corner(24), 4, seed=0)
    assert not np.allclose(dark["insertion"], blurred["insertion"])
    assert (reference_images(pixels, "blurred") != pixels).any()
