import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cnn_transfer.images import split_examples
from cnn_transfer.transfer import Pool, PseudoLabels
from cnn_transfer.transfer.pseudo_labels import most_confident, pseudo_label


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


def test_images_get_the_labels_that_the_network_predicts(shapes, shape_splits, tiny_network):
    network = tiny_network()
    labelled = split_examples(shapes, shape_splits, "training")
    rows = shapes.rows(shape_splits, "unlabelled")
    got = pseudo_label(network, labelled, rows, kept=0.3)
    probabilities = network.predict(shapes.pixels(rows), verbose=0)
    chosen = most_confident(probabilities, 0.3)
    assert 0 < len(got) < len(rows)
    np.testing.assert_array_equal(got.rows, rows[chosen])
    np.testing.assert_array_equal(got.targets, np.eye(4)[probabilities.argmax(axis=1)[chosen]])
    np.testing.assert_array_equal(got.weights, 1)
    assert got.targets.dtype == np.float32
    joined = Pool(rows, PseudoLabels(share=0.8, kept=0.3)).added_to(labelled, network)
    np.testing.assert_array_equal(joined.rows, [*labelled.rows, *got.rows])
    assert joined.weights[len(labelled) :].sum() / joined.weights.sum() == pytest.approx(0.8)


@pytest.mark.parametrize("change", [{"share": 1.0}, {"share": -0.1}, {"kept": 0.0}, {"kept": 1.1}])
def test_an_impossible_share_is_refused(change):
    with pytest.raises(ValidationError, match=next(iter(change))):
        PseudoLabels(**{"share": 0.5, "kept": 0.9} | change)
