"""Which images to label next: against the variances written out, and on images of which it is plain."""

import numpy as np
import pytest

from cnn_transfer.transfer.active_learning import Coordinates, chance_to_belong, most_informative, penalty_of

PENALTY = 0.5


@pytest.fixture
def images():
    """(labelled, unlabelled, doubt) at random."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(6, 5)), rng.normal(size=(20, 5)), rng.uniform(0, 1, 20)


def variances(known, others):
    """Of a Gaussian process with a linear kernel and noise `PENALTY`, by the kernel's matrix."""
    gram = known @ known.T + PENALTY * np.eye(len(known))
    return np.diag(others @ others.T - others @ known.T @ np.linalg.solve(gram, known @ others.T))


def test_each_is_the_one_whose_label_lowers_the_doubtful_variance_most(images):
    labelled, unlabelled, doubt = images
    chance = np.random.default_rng(1).uniform(0.5, 1, len(unlabelled))
    found = most_informative(labelled, unlabelled, doubt, PENALTY, 5, chance)
    known, expected = labelled, []
    for _ in range(5):
        before = doubt @ variances(known, unlabelled)
        after = [doubt @ variances(np.vstack([known, image]), unlabelled) for image in unlabelled]
        lowered = chance * (before - np.array(after))
        lowered[expected] = -1
        expected.append(int(lowered.argmax()))
        known = np.vstack([known, unlabelled[expected[-1]]])
    assert found.tolist() == expected


def test_nothing_but_positions_doubts_and_chances_counts(images):
    labelled, unlabelled, doubt = images
    order = np.random.default_rng(2).permutation(len(unlabelled))
    found = most_informative(labelled, unlabelled, doubt, PENALTY, 8)
    assert order[most_informative(labelled, unlabelled[order], doubt[order], PENALTY, 8)].tolist() == found.tolist()
    assert most_informative(labelled, unlabelled, 7 * doubt, PENALTY, 8).tolist() == found.tolist()
    assert most_informative(labelled[::-1], unlabelled, doubt, PENALTY, 3).tolist() == found[:3].tolist()


def test_of_a_group_there_is_one_and_of_few_groups_all(images):
    labelled, unlabelled, doubt = images
    groups = np.arange(20) % 4
    found = most_informative(labelled, unlabelled, doubt, PENALTY, 10, groups=groups)
    assert sorted(groups[found].tolist()) == [0, 1, 2, 3]


def test_every_kind_of_image_has_its_turn_before_one_has_a_second():
    rng = np.random.default_rng(3)
    kinds = np.eye(6)[np.arange(60) % 6] + rng.normal(0, 0.05, (60, 6))
    found = most_informative(np.eye(6)[:2], kinds, np.ones(60), 0.1, 4)
    assert sorted((found % 6).tolist()) == [2, 3, 4, 5]  # two of the six are labelled already


def test_what_the_network_is_sure_of_waits():
    found = most_informative(np.empty((0, 2)), np.eye(2), np.array([0.1, 0.9]), 1.0, 2)
    assert found.tolist() == [1, 0]


def test_what_nobody_can_label_comes_last():
    found = most_informative(np.empty((0, 3)), np.eye(3), np.ones(3), 1.0, 3, np.array([0.0, 1.0, 1.0]))
    assert found[-1] == 0


def test_coordinates_keep_the_distances_along_the_directions_in_which_images_differ():
    rng = np.random.default_rng(4)
    plane = rng.normal(size=(2, 30))
    labelled, unlabelled = (rng.normal(size=(n, 2)) @ plane for n in (40, 80))
    found = Coordinates.of_images(labelled.astype(np.float32), unlabelled.astype(np.float32), [10, 20])
    points = found.of(unlabelled.astype(np.float32))
    scaled = (unlabelled - found.mean) * found.scale
    np.testing.assert_allclose(points @ points.T, scaled @ scaled.T, rtol=1e-3, atol=1e-3)
    assert found.of(labelled.astype(np.float32)).mean(axis=0) == pytest.approx(0, abs=1e-5)


def test_the_penalty_is_small_where_features_tell_the_classes():
    rng = np.random.default_rng(5)
    classes = np.arange(60) % 3
    clear = np.eye(3)[classes] + rng.normal(0, 0.02, (60, 3))
    assert penalty_of(clear, classes) < penalty_of(rng.normal(0, 0.5, (60, 3)), classes) / 10


def test_images_as_strange_as_expected_belong():
    even = (np.arange(1000) + 0.5) / 1000
    assert chance_to_belong(even, 200) == pytest.approx(1, abs=0.02)


def test_a_crowd_of_strange_images_hardly_belongs_and_the_others_do():
    own, foreign = (np.arange(700) + 0.5) / 700, np.ones(300)
    found = chance_to_belong(np.concatenate([own, foreign]), 200)
    assert found[:650].min() > 0.9
    assert found[700:].max() < 0.1


def test_chances_never_rise_with_strangeness():
    rng = np.random.default_rng(6)
    percentiles = np.sort(rng.beta(2, 1, 500))
    assert (np.diff(chance_to_belong(percentiles, 99)) <= 0).all()


@pytest.mark.parametrize("compared", [0, 1])
def test_nothing_is_doubted_where_there_was_nothing_to_compare_with(compared):
    assert chance_to_belong(np.array([0.0, 1.0, 1.0]), compared)[0] == 1
    assert chance_to_belong(np.array([]), compared).shape == (0,)
