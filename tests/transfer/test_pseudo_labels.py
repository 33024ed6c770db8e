import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cnn_transfer.images import split_examples
from cnn_transfer.models import add_linear_head, copy_network
from cnn_transfer.transfer import Pool, PseudoLabels, build_pool
from cnn_transfer.transfer.pseudo_labels import most_confident


def softmax(scores):
    return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)


@given(seed=st.integers(0, 1000), images=st.integers(1, 60), kept=st.floats(0.01, 1))
def test_of_each_predicted_class_the_most_confident_share_is_kept(seed, images, kept):
    probabilities = softmax(np.random.default_rng(seed).normal(size=(images, 4)))
    chosen = most_confident(probabilities, kept)
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    for index in np.unique(predicted):
        own = predicted == index
        assert chosen[own].sum() == max(1, round(kept * own.sum()))
        assert confidence[own & chosen].min() >= confidence[own & ~chosen].max(initial=0)


def test_a_class_that_is_predicted_with_little_confidence_is_not_crowded_out():
    easy, hard = np.tile([0.99, 0.01], (10, 1)), np.tile([0.45, 0.55], (4, 1))
    chosen = most_confident(np.concatenate([easy, hard]), 0.5)
    assert (chosen[:10].sum(), chosen[10:].sum()) == (5, 2)


def test_of_equally_confident_images_the_first_are_kept():
    assert most_confident(np.tile([0.7, 0.3], (6, 1)), 0.5).tolist() == [True] * 3 + [False] * 3


def test_all_are_kept_when_asked_for():
    assert most_confident(softmax(np.random.default_rng(0).normal(size=(50, 3))), 1.0).all()


@pytest.fixture
def pool(shapes, shape_splits):
    rows = shapes.rows(shape_splits, "unlabelled")
    predicted = softmax(np.random.default_rng(0).normal(size=(len(rows), 4)))
    return Pool(rows, predicted, PseudoLabels(share=0.8, kept=0.3))


def test_images_get_the_labels_that_the_head_predicts(pool, shapes, shape_splits):
    labelled = split_examples(shapes, shape_splits, "training")
    joined = pool.added_to(labelled)
    chosen = most_confident(pool.predicted, 0.3)
    assert 0 < chosen.sum() < len(chosen)
    n = len(labelled)
    np.testing.assert_array_equal(joined.rows, [*labelled.rows, *pool.rows[chosen]])
    np.testing.assert_array_equal(joined.targets[:n], labelled.targets)
    np.testing.assert_array_equal(joined.targets[n:], np.eye(4)[pool.predicted.argmax(axis=1)[chosen]])
    assert joined.targets.dtype == np.float32
    assert joined.weights[n:].sum() / joined.weights.sum() == pytest.approx(0.8)
    assert len(np.unique(joined.weights[n:])) == 1


def test_images_get_the_labels_that_a_network_predicts(pool, shapes, shape_splits, shapes_network):
    labelled = split_examples(shapes, shape_splits, "training")
    joined = pool.added_to(labelled, shapes_network)
    probabilities = shapes_network.predict(shapes.pixels(pool.rows), verbose=0)
    chosen = most_confident(probabilities, 0.3)
    np.testing.assert_array_equal(joined.rows[len(labelled) :], pool.rows[chosen])
    np.testing.assert_array_equal(joined.targets[len(labelled) :], np.eye(4)[probabilities.argmax(axis=1)[chosen]])


def test_the_head_says_of_the_features_what_the_network_says_of_the_images(
    shapes, shape_splits, tiny_network, network_features
):
    network, taps = tiny_network(), ("block1", "block2")
    features, rng = network_features(network), np.random.default_rng(0)
    kernel = rng.normal(size=(sum(features.widths_of(taps, 2)), 4)).astype(np.float32)
    migrated = add_linear_head(copy_network(network), taps, 2, kernel, rng.normal(size=4).astype(np.float32))
    pool = build_pool(migrated, taps, 2, features, shapes, shape_splits, PseudoLabels(share=0.8, kept=0.3))
    assert len(set(pool.rows)) == 40  # of 80 there are features
    assert set(pool.rows) < set(shapes.rows(shape_splits, "unlabelled"))
    assert set(shapes.table["id"].iloc[pool.rows]) <= set(features.table["id"])
    np.testing.assert_allclose(pool.predicted, migrated.predict(shapes.pixels(pool.rows), verbose=0), atol=1e-4)


@pytest.mark.parametrize("change", [{"share": 1.0}, {"share": -0.1}, {"kept": 0.0}, {"kept": 1.1}])
def test_an_impossible_share_is_refused(change):
    with pytest.raises(ValidationError, match=next(iter(change))):
        PseudoLabels(**{"share": 0.5, "kept": 0.9} | change)
