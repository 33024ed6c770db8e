import numpy as np
import pytest

from cnn_transfer.evaluation import embedding
from cnn_transfer.evaluation.embedding import embed_images, feature_parts, penultimate_features, reference_rows


def test_features_are_what_the_last_layer_reads(digits, digit_network):
    rows = np.array([5, 3, 1100])
    features = penultimate_features(digit_network, digits, rows)
    assert features.dtype == np.float32
    kernel, bias = digit_network.layers[-1].get_weights()
    logits = features @ kernel + bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(digit_network(digits.pixels(rows)), expected, rtol=1e-3, atol=1e-6)
    parts = embed_images(digit_network, digits, rows)
    assert parts.ids.tolist() == digits.table["id"].iloc[rows].tolist()
    np.testing.assert_allclose(parts.logits.sum(axis=1), 0, atol=1e-3)
    np.testing.assert_allclose(np.diff(parts.logits + bias, axis=1), np.diff(logits, axis=1), rtol=1e-3, atol=1e-3)
    assert penultimate_features(digit_network, digits, rows[:0]).shape == (0, features.shape[1])


def test_a_network_without_a_dense_layer_is_refused(digits, digit_network):
    import keras

    pooled = keras.Model(digit_network.input, digit_network.layers[-2].output, name="headless")
    with pytest.raises(ValueError, match="must end in a dense layer"):
        penultimate_features(pooled, digits, np.array([0]))


def test_parts_are_what_the_last_layer_joins(digit_network, shapes_network):
    import keras

    parts = feature_parts(digit_network)
    joined = digit_network.layers[-2]
    assert isinstance(joined, keras.layers.Concatenate)
    assert parts == tuple(part.shape[-1] for part in joined.input)
    assert sum(parts) == digit_network.layers[-1].input.shape[-1]
    pixels = keras.Input((8, 8, 1))
    plain = keras.layers.Dense(3)(keras.layers.Flatten()(pixels))
    assert feature_parts(keras.Model(pixels, plain)) == (64,)


def test_groups_are_those_of_the_splits(shapes, shape_splits, shapes_network):
    rows = shapes.rows(shape_splits, "training")
    splits = shape_splits.assign(group="of " + shape_splits["id"].str[:5])
    names = shapes.table["id"].iloc[rows]
    assert embed_images(shapes_network, shapes, rows, splits).groups.tolist() == ("of " + names.str[:5]).tolist()
    assert embed_images(shapes_network, shapes, rows).groups is None


def test_only_a_part_of_a_large_training_set_is_compared_with(monkeypatch, shapes, shape_splits, shapes_network):
    def kept():
        return reference_rows(shapes_network, shapes, shape_splits, 0)

    width = shapes_network.layers[-1].input.shape[1]
    everything = kept()
    monkeypatch.setattr(embedding, "MOST_IMAGES", 30)
    few = kept()
    monkeypatch.setattr(embedding, "MOST_IMAGES", 60)
    more = kept()
    assert (len(everything), len(few), len(more)) == (160, 30, 60)
    assert set(few) < set(more) < set(everything)
    monkeypatch.setattr(embedding, "MOST_NUMBERS", 30 * width)
    np.testing.assert_array_equal(kept(), few)
