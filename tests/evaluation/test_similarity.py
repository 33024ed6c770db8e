"""CKA against its other formula and its known properties; what a changed block does to the depths."""

import json

import numpy as np
import pytest
from planted_networks import linear_network, random_pixels

from cnn_transfer.evaluation.similarity import _cka, _gram, draw_similarity, map_similarity, similarity_by_depth
from cnn_transfer.models import copy_network


def u_centred(gram):
    """Székely and Rizzo 2014, definition 2."""
    n = len(gram)
    np.fill_diagonal(gram, 0)
    rows = gram.sum(axis=1)
    centred = gram - rows[:, None] / (n - 2) - rows[None] / (n - 2) + rows.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(centred, 0)
    return centred


def cka(x, y):
    return _cka(_gram(x), _gram(y))


def test_cka_agrees_with_the_product_of_centred_matrices():
    rng = np.random.default_rng(0)
    x, y = rng.normal(3, 1, (9, 4)), rng.normal(size=(9, 6))
    y[:, :4] += x
    a, b = u_centred(x @ x.T), u_centred(y @ y.T)
    expected = (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
    assert cka(x, y) == pytest.approx(expected)


def test_cka_is_one_for_the_same_up_to_rotation_scale_and_shift():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 8))
    rotation = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    assert cka(x, 5 * x @ rotation + 100) == pytest.approx(1)
    assert cka(x, x @ np.diag([9.0, 1, 1, 1, 1, 1, 1, 1])) < 0.9


def test_cka_of_unrelated_representations_is_zero_on_average_with_more_features_than_images():
    rng = np.random.default_rng(0)
    found = [cka(rng.normal(size=(20, 300)), rng.normal(size=(20, 300))) for _ in range(200)]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(200)


def test_cka_is_symmetric():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(12, 5)), rng.normal(size=(12, 7))
    assert cka(x, y) == pytest.approx(cka(y, x))


def changed(network, layer):
    other = copy_network(network)
    weights = other.get_layer(layer).get_weights()
    rng = np.random.default_rng(0)
    other.get_layer(layer).set_weights([w + rng.normal(scale=np.abs(w).mean() + 0.1, size=w.shape) for w in weights])
    return other


def test_depths_above_a_changed_layer_differ_and_those_below_do_not(tiny_network):
    network = tiny_network(normalised=False)
    table = similarity_by_depth(network, changed(network, "conv2"), random_pixels(40, (28, 28, 1)))
    assert table["layer"].tolist() == ["block1", "block2"]
    assert table["depth"].tolist() == [1, 2]
    assert table.loc[0, ["cka", "cka_low", "cka_high"]].tolist() == pytest.approx([1, 1, 1])
    assert table.loc[1, "cka"] < 0.99
    assert table.loc[1, "cka_low"] < table.loc[1, "cka"] < table.loc[1, "cka_high"] <= 1


def test_interval_narrows_with_more_images(tiny_network):
    network = tiny_network(normalised=False)
    other = changed(network, "conv1")
    few, many = (similarity_by_depth(network, other, random_pixels(n, (28, 28, 1))) for n in (20, 320))
    assert ((many["cka_high"] - many["cka_low"]) < 0.6 * (few["cka_high"] - few["cka_low"])).all()


def test_depths_can_be_named_and_a_dead_one_has_no_value(tiny_network):
    network, dead = tiny_network(normalised=False), tiny_network(normalised=False)
    dead.get_layer("conv2").set_weights([0 * w for w in dead.get_layer("conv2").get_weights()])
    table = similarity_by_depth(network, dead, random_pixels(20, (28, 28, 1)), ["block2"])
    assert table[["cka", "cka_low", "cka_high"]].isna().all(axis=None)
    assert draw_similarity(table).axes


def test_networks_that_cannot_be_compared_are_refused(tiny_network):
    network, pixels = tiny_network(normalised=False), random_pixels(8, (28, 28, 1))
    with pytest.raises(ValueError, match=r"at least 5 images. Received: 4"):
        similarity_by_depth(network, network, pixels[:4])
    with pytest.raises(ValueError, match="blocks of the same names"):
        similarity_by_depth(network, linear_network((28, 28, 1)), pixels)
    broken = tiny_network(normalised=False)
    broken.get_layer("conv1").set_weights([np.nan * w for w in broken.get_layer("conv1").get_weights()])
    with pytest.raises(ValueError, match="NaN or infinity for 8 of 8 images"):
        similarity_by_depth(network, broken, pixels)


def test_map_similarity_is_one_for_equal_maps_and_zero_for_unrelated_ones():
    rng = np.random.default_rng(0)
    maps = rng.random((50, 8, 8))
    assert map_similarity(maps, 2 * maps + 1)["correlation"] == pytest.approx(1)
    found = map_similarity(maps, rng.random((50, 8, 8)))
    assert found["correlation_low"] < 0 < found["correlation_high"]
    assert found["correlation_high"] < 0.1
    json.dumps(found, allow_nan=False)


def test_map_similarity_says_what_it_left_out():
    maps = np.random.default_rng(0).random((4, 8, 8))
    flat = maps.copy()
    flat[:2] = 1
    found = map_similarity(maps, flat)
    assert (found["images"], found["undefined"], found["correlation"]) == (4, 2, pytest.approx(1))
    assert "2 of 4 images have a map without structure" in found["statement"]
    nothing = map_similarity(maps, np.zeros_like(maps))
    assert nothing["correlation"] is None
    assert "Fewer than 2 images" in nothing["statement"]
    with pytest.raises(ValueError, match="same images"):
        map_similarity(maps, maps[:2])


def test_drawing_shows_every_depth(tiny_network):
    network = tiny_network(normalised=False)
    table = similarity_by_depth(network, changed(network, "conv2"), random_pixels(20, (28, 28, 1)))
    axes = draw_similarity(table).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["block1", "block2"]
    assert "1.00" in [text.get_text() for text in axes.texts]
