import numpy as np
import pytest
import scipy

from cnn_transfer.transfer import probe as module
from cnn_transfer.transfer.probe import calibrate, calibrate_to_mix, calibrated_loss, fit_probe, principal_components
from cnn_transfer.transfer.ridge import fit_ridge_at
from cnn_transfer.transfer.standardised import standardisation

WIDTHS = [6, 30]
UNEVEN = [[24, 12, 4], [400, 200, 70], [2000, 1000, 350]]  # images of each class
CENTRES = np.random.default_rng(7).normal(size=(3, 36))


def blobs(per_class, seed, noise=1.6):
    """Three classes around fixed centres; two taps, the second a hundred times as large."""
    rng = np.random.default_rng(seed)
    classes = np.arange(3).repeat(per_class)
    features = CENTRES[classes] + noise * rng.normal(size=(len(classes), 36))
    return features * np.repeat([1.0, 100.0], WIDTHS), classes


def accuracy(probe, features, classes):
    return (probe.probabilities(features).argmax(axis=1) == classes).mean()


def test_each_tap_has_the_same_weight_whatever_its_width_and_scale():
    features, _ = blobs(50, 0)
    mean, scale = standardisation(features, WIDTHS)
    first, second = np.split((features - mean) * scale, [6], axis=1)
    np.testing.assert_allclose([(first**2).sum(axis=1).mean(), (second**2).sum(axis=1).mean()], 1)
    np.testing.assert_allclose(((features - mean) * scale).mean(axis=0), 0, atol=1e-12)


def test_a_tap_that_weighs_next_to_nothing_has_no_say():
    features, classes = blobs(40, 0)
    new, _ = blobs(40, 1)
    weighed = fit_probe(features, classes, WIDTHS, tap_weights=np.array([2 - 1e-9, 1e-9]))
    alone = fit_probe(features[:, :6], classes, WIDTHS[:1], tap_weights=np.array([2.0]))
    np.testing.assert_allclose(
        weighed.probabilities(new), alone.probabilities(new[:, :6]), atol=0.05
    )  # other penalties
    assert not np.allclose(
        weighed.probabilities(new), fit_probe(features, classes, WIDTHS).probabilities(new), atol=0.1
    )


def test_a_feature_that_never_moved_has_no_say_on_new_images():
    features, classes = blobs(10, 0)
    features[:, 3] = 5.0
    probe = fit_probe(features, classes, WIDTHS)
    moved, _ = blobs(10, 1)
    one, other = (np.where(np.arange(36) == 3, value, moved) for value in (5.0, 5.1))
    np.testing.assert_allclose(probe.probabilities(one), probe.probabilities(other), atol=0.05)


def test_predicts_new_images_and_says_beforehand_how_well():
    features, classes = blobs(40, 0)
    probe = fit_probe(features, classes, WIDTHS)
    new, truth = blobs(300, 1)
    promised = (probe.left_out.argmax(axis=1) == classes).mean()
    assert accuracy(probe, new, truth) > 0.8
    assert abs(accuracy(probe, new, truth) - promised) < 0.1
    assert probe.evidence == {}


def test_probabilities_are_calibrated_on_left_out_images():
    features, classes = blobs(40, 0)
    new, truth = blobs(500, 1)
    probabilities = fit_probe(features, classes, WIDTHS).probabilities(new)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert abs(probabilities.max(axis=1).mean() - (probabilities.argmax(axis=1) == truth).mean()) < 0.08


def test_calibration_finds_the_temperature_of_the_scores():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(20_000, 3))
    likely = np.exp(2.5 * scores) / np.exp(2.5 * scores).sum(axis=1, keepdims=True)
    classes = (rng.random((20_000, 1)) > likely.cumsum(axis=1)).sum(axis=1)
    assert calibrate(scores, classes) == pytest.approx(2.5, rel=0.05)


@pytest.mark.parametrize(("images", "repeats"), [(10, 1), (50, 1), (50, 4)])
def test_few_images_that_are_all_right_do_not_make_a_head_certain(images, repeats):
    classes = np.tile(np.arange(images) % 5, repeats)
    factor = calibrate(np.eye(5)[classes], classes, repeats)
    sure = np.exp(factor) / (np.exp(factor) + 4)
    assert sure == pytest.approx(1 - 0.8 / (images + 1), abs=1e-3)  # a fifth of the doubt is of the class itself
    found, _ = calibrate_to_mix(np.eye(5)[classes], classes, repeats)
    assert found == factor


def test_the_loss_of_certainty_is_not_nothing():
    classes = np.arange(50) % 5
    scores = np.eye(5)[classes]
    losses = [calibrated_loss(factor * scores, classes) for factor in (4.0, calibrate(scores, classes), 20.0)]
    assert min(losses) == losses[1] > 0.05


def normal_scores(counts, seed):
    """Log likelihoods, up to a constant, of points of three normal classes, so many of each."""
    classes = np.arange(3).repeat(counts)
    points = np.random.default_rng(seed).normal(size=len(classes)) + 1.5 * classes
    return -0.5 * (points[:, None] - 1.5 * np.arange(3)) ** 2, classes


def test_the_calibration_finds_how_much_more_probable_a_frequent_class_is():
    scores, classes = normal_scores([8000, 1500, 500], 0)
    factor, shift = calibrate_to_mix(0.5 * scores, classes)
    assert factor == pytest.approx(2, rel=0.1)  # Bayes' rule: log likelihood and log share
    np.testing.assert_allclose(shift, np.log([2.4, 0.45, 0.15]), rtol=0.1)
    known, shift = calibrate_to_mix(scores + np.log([0.8, 0.15, 0.05]), classes)
    assert known == pytest.approx(1, rel=0.1)
    np.testing.assert_allclose(shift, 0, atol=0.1)


def test_uneven_classes_that_are_all_right_are_not_certain_either():
    classes = np.arange(3).repeat([30, 15, 5])
    factor, shift = calibrate_to_mix(np.eye(3)[classes], classes)
    likely = np.exp(factor * np.eye(3) + shift)
    sure = (likely / likely.sum(axis=1, keepdims=True)).diagonal()
    assert sure.min() > 0.9
    assert sure.max() < 0.999


def test_classes_of_equal_size_are_not_shifted():
    scores, classes = normal_scores([50, 50, 50], 0)
    factor, shift = calibrate_to_mix(scores, classes)
    assert factor == calibrate(scores, classes)
    np.testing.assert_array_equal(shift, 0)


def test_probabilities_are_those_of_the_mix_of_classes():
    features, classes = blobs(400, 0, noise=4)
    new, truth = blobs(2000, 1, noise=4)

    def mix(classes):
        """Half of the images are of the first class, a thirtieth of the last."""
        place = np.arange(len(classes)) % (len(classes) // 3)
        return place < (len(classes) / 3 * np.array([1, 0.4, 0.05]))[classes]

    few, many = mix(classes), mix(truth)
    probe = fit_probe(features[few], classes[few], WIDTHS)
    found, shares = probe.probabilities(new[many]), np.bincount(truth[many]) / many.sum()
    np.testing.assert_allclose(found.mean(axis=0), shares, atol=0.02)
    assert accuracy(probe, new[many], truth[many]) > shares.max() + 0.03
    assert (probe.left_out.argmax(axis=1) == classes[few]).mean() > shares.max() + 0.03


def test_unlabelled_images_help_when_labels_are_few():
    gains = []
    for seed in range(5):
        features, classes = blobs(4, seed)
        new, truth = blobs(300, 100 + seed)
        pool, _ = blobs(200, 200 + seed)
        alone, helped = fit_probe(features, classes, WIDTHS), fit_probe(features, classes, WIDTHS, pool)
        assert helped.evidence["unlabelled"] == 600
        gains.append(accuracy(helped, new, truth) - accuracy(alone, new, truth))
    assert np.mean(gains) > 0.03


@pytest.mark.parametrize("copies", [1, 2])
def test_an_unlabelled_image_is_judged_as_by_the_head_without_it_and_its_group(monkeypatch, copies):
    fitted = {}

    def spy(rows, classes, weights, course, train=module.self_train):
        found = train(rows, classes, weights, course)
        fitted["head"] = (rows, course.pool, *found)  # the last call fits the head, after those of the folds
        return found

    monkeypatch.setattr(module, "self_train", spy)
    features, classes = blobs(6, 2)
    rows = features.repeat(copies, axis=0) + 0.1 * np.random.default_rng(1).normal(size=(18 * copies, 36))
    pool, _ = blobs(20, 102)
    own = np.r_[0, 0, 100 + np.arange(58)]  # the first two are of the group of the first labelled image
    probe = fit_probe(rows, classes, WIDTHS, pool, copies=copies, groups=np.arange(18), unlabelled_groups=own, seed=1)
    assert probe.evidence["accepted"]
    near, known, fit, labels, weights = fitted["head"]
    scores = fit.scores(known)
    logits = pool @ probe.kernel + probe.bias
    centred = [part - part.mean(axis=1, keepdims=True) for part in (logits, scores)]
    temperature = (centred[0] * centred[1]).sum() / (centred[1] ** 2).sum()  # classes of one size have no shift
    both = np.concatenate([near, known])
    groups = np.r_[np.arange(18).repeat(copies), own]
    assert probe.unlabelled.shape == (60, 3)
    for image in (0, 1, 2, 59):
        kept = groups != own[image]
        without = fit_ridge_at(both[kept], labels[kept], weights[kept], fit.penalty)
        expected = scipy.special.softmax(temperature * without.scores(known[[image]]), axis=1)
        np.testing.assert_allclose(probe.unlabelled[[image]], expected, atol=1e-6)


def test_a_head_that_learnt_from_no_unlabelled_image_says_nothing_of_them():
    features, classes = blobs(1, 0)
    assert fit_probe(features, classes, WIDTHS).unlabelled.shape == (0, 3)
    assert fit_probe(features, classes, WIDTHS, blobs(50, 1)[0]).unlabelled.shape == (0, 3)  # not accepted


@pytest.mark.parametrize("class_shares", ["labelled", "estimated", "free"])
def test_a_pool_of_another_mix_or_of_no_class_hurts_little(class_shares):
    differences = []
    for seed in range(5):
        features, classes = blobs(8, seed)
        new, truth = blobs(300, 100 + seed)
        mostly_one = blobs(200, 200 + seed)[0][:260]
        strangers = 4 * np.random.default_rng(seed).normal(size=(100, 36)) * np.repeat([1.0, 100.0], WIDTHS)
        pool = np.concatenate([mostly_one, strangers])
        alone = fit_probe(features, classes, WIDTHS)
        helped = fit_probe(features, classes, WIDTHS, pool, class_shares=class_shares)
        differences.append(accuracy(helped, new, truth) - accuracy(alone, new, truth))
    assert np.mean(differences) > -0.02


@pytest.mark.parametrize(("kept", "gain"), [((300, 300, 300), -0.01), ((300, 30, 30), 0.05)])
def test_estimated_shares_lose_little_on_even_pools_and_gain_much_on_uneven_ones(kept, gain):
    gains = []
    for seed in range(8):
        features, classes = blobs(5, seed)
        new, truth = blobs(300, 100 + seed)
        images, of_images = blobs(300, 200 + seed)
        pool = np.concatenate([images[of_images == label][:number] for label, number in enumerate(kept)])
        right = [
            fit_probe(features, classes, WIDTHS, pool, class_shares=shares).probabilities(new).argmax(axis=1) == truth
            for shares in ("estimated", "labelled")
        ]
        gains.append(np.average(right[0].astype(int) - right[1], weights=np.array(kept)[truth]))
    assert np.mean(gains) > gain


def test_unlabelled_images_help_where_classes_are_uneven_on_both_sides():
    def drawn(per_class, seed):
        features, classes = blobs(max(per_class), seed, noise=2)
        kept = np.arange(len(classes)) % max(per_class) < np.array(per_class)[classes]
        return features[kept], classes[kept]

    (features, classes), (pool, _), (new, truth) = (drawn(n, seed) for seed, n in enumerate(UNEVEN))
    alone, helped = fit_probe(features, classes, WIDTHS), fit_probe(features, classes, WIDTHS, pool)
    assert helped.evidence["accepted"]
    assert accuracy(helped, new, truth) > accuracy(alone, new, truth) + 0.02
    found = helped.probabilities(new).mean(axis=0)
    np.testing.assert_allclose(found, np.bincount(truth) / len(truth), atol=0.06)


def test_images_of_no_class_do_not_harm():
    losses = []
    for seed in range(8):
        features, classes = blobs(10, seed, noise=0.8)
        new, truth = blobs(200, 100 + seed, noise=0.8)
        noise = np.random.default_rng(seed).normal(size=(300, 36)) * np.repeat([1.0, 100.0], WIDTHS)
        alone, helped = fit_probe(features, classes, WIDTHS), fit_probe(features, classes, WIDTHS, noise)
        if not helped.evidence["accepted"]:
            np.testing.assert_array_equal(helped.kernel, alone.kernel)
        losses.append(accuracy(alone, new, truth) - accuracy(helped, new, truth))
    assert np.mean(losses) < 0.01


def test_self_training_is_accepted_only_when_something_is_better_and_nothing_clearly_worse():
    for seed in range(6):
        features, classes = blobs(5, seed)
        evidence = fit_probe(features, classes, WIDTHS, blobs(60, 100 + seed, noise=1.6 + seed)[0]).evidence
        more_right = evidence["accuracy"] - evidence["accuracy_before"]
        worse = more_right <= -max(evidence["accuracy_error"], 1e-9) or evidence["gain"] <= -evidence["gain_error"]
        assert evidence["accepted"] == (not worse and (more_right > 1e-9 or evidence["gain"] > 0))
        assert evidence["gain"] == pytest.approx(evidence["loss_before"] - evidence["loss"])


def test_components_are_orthonormal_and_lose_nothing_when_there_are_enough(monkeypatch):
    features, _ = blobs(5, 0)
    pool, _ = blobs(3, 1)
    monkeypatch.setattr(module, "COMPONENTS", 30)
    components = principal_components(features, pool)
    assert components.shape == (36, 24)  # as many as images
    np.testing.assert_allclose(components.T @ components, np.eye(24), atol=1e-8)
    np.testing.assert_allclose(pool @ components @ components.T, pool, atol=1e-6)
    monkeypatch.setattr(module, "COMPONENTS", 10)
    assert principal_components(features, pool).shape == (36, 10)


@pytest.mark.parametrize("copies", [1, 2])
def test_many_images_with_many_features_are_fitted_in_components_and_lose_little(monkeypatch, copies):
    features, classes = blobs(100, 0)
    rows = features.repeat(copies, axis=0) + 0.1 * np.random.default_rng(1).normal(size=(300 * copies, 36))
    new, truth = blobs(300, 1)

    def fitted(components):
        monkeypatch.setattr(module, "MOST_EXACT", 30)
        monkeypatch.setattr(module, "MANY_COMPONENTS", components)
        return fit_probe(rows, classes, WIDTHS, copies=copies)

    exact = fit_probe(rows, classes, WIDTHS, copies=copies)
    same, fewer, too_few = fitted(200), fitted(24), fitted(2)  # of 36, all of them; most; not enough
    np.testing.assert_allclose(same.probabilities(new), exact.probabilities(new), atol=1e-6)
    np.testing.assert_allclose(same.left_out, exact.left_out, atol=1e-6)
    assert accuracy(fewer, new, truth) > accuracy(exact, new, truth) - 0.05
    assert accuracy(too_few, new, truth) < accuracy(exact, new, truth) - 0.05
    promised = (fewer.left_out.argmax(axis=1) == classes).mean()
    assert abs(accuracy(fewer, new, truth) - promised) < 0.08


def test_unlabelled_images_help_in_fewer_components_than_features(monkeypatch):
    gains = []
    for seed in range(5):
        features, classes = blobs(4, seed)
        new, truth = blobs(300, 100 + seed)
        pool, _ = blobs(200, 200 + seed)
        monkeypatch.setattr(module, "COMPONENTS", 512)
        alone = fit_probe(features, classes, WIDTHS)
        monkeypatch.setattr(module, "COMPONENTS", 25)
        helped = fit_probe(features, classes, WIDTHS, pool)
        gains.append(accuracy(helped, new, truth) - accuracy(alone, new, truth))
    assert np.mean(gains) > 0.03


def test_memory_mapped_single_precision_gives_the_same_head(tmp_path):
    features, classes = blobs(20, 0)
    pool, _ = blobs(20, 1)
    for name, array in (("features", features), ("pool", pool)):
        np.save(tmp_path / f"{name}.npy", array.astype(np.float32))
    mapped = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("features", "pool")]
    probe, same = fit_probe(mapped[0], classes, WIDTHS, mapped[1]), fit_probe(features, classes, WIDTHS, pool)
    np.testing.assert_allclose(probe.probabilities(pool), same.probabilities(pool), atol=1e-4)


def test_one_label_a_class_is_fitted_and_self_training_not_judged():
    features, classes = blobs(1, 0)
    probe = fit_probe(features, classes, WIDTHS, blobs(50, 1)[0])
    assert probe.evidence == {"unlabelled": 150, "folds": 0, "accepted": False}
    assert np.isfinite(probe.kernel).all()


def test_copies_of_an_image_are_left_out_with_it():
    features, classes = blobs(10, 0)
    doubled = fit_probe(features.repeat(2, axis=0), classes, WIDTHS, copies=2)
    assert (doubled.left_out.argmax(axis=1) == classes).mean() < 1  # a copy that stayed would give the answer away


def test_an_image_counts_the_same_however_often_it_is_copied():
    (features, classes), (unlabelled, _) = blobs(20, 0), blobs(60, 1)
    once, thrice = (
        fit_probe(features.repeat(copies, axis=0), classes, WIDTHS, unlabelled, copies) for copies in (1, 3)
    )
    assert once.evidence["accepted"]
    assert thrice.evidence == pytest.approx(once.evidence)
    np.testing.assert_allclose(thrice.kernel, once.kernel, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(thrice.out_of_sample, once.out_of_sample, rtol=1e-5)


@pytest.mark.parametrize("classes", [[0, 0, 0], [0, 2, 2]])
def test_a_missing_class_is_refused(classes):
    with pytest.raises(ValueError, match="at least two indices from 0 on, each with an image"):
        fit_probe(blobs(1, 0)[0], np.array(classes), WIDTHS)


def test_images_of_a_group_are_left_out_together():
    rng = np.random.default_rng(0)
    classes, groups = np.arange(3).repeat(12), np.arange(9).repeat(4)
    features = rng.normal(size=(9, 36))[groups] + 0.1 * rng.normal(size=(36, 36))  # says the group, and no class
    flattered, honest = (fit_probe(features, classes, WIDTHS, groups=known) for known in (None, groups))
    right = [(probe.left_out.argmax(axis=1) == classes).mean() for probe in (flattered, honest)]
    assert right[0] == 1
    assert right[1] < 0.6


def test_without_a_pool_what_is_said_of_left_out_images_is_said_by_the_head_itself():
    features, classes = blobs(10, 0)
    probe = fit_probe(features, classes, WIDTHS)
    np.testing.assert_array_equal(probe.out_of_sample, probe.left_out)


def test_a_self_trained_head_is_judged_by_folds_that_were_trained_so():
    features, classes = blobs(5, 3)
    pool, _ = blobs(300, 1)
    probe = fit_probe(features, classes, WIDTHS, pool)
    assert probe.evidence["accepted"]
    new, truth = blobs(1000, 2)
    values = probe.out_of_sample
    np.testing.assert_allclose(values.sum(axis=1), 1)
    assert abs((values.argmax(axis=1) == classes).mean() - accuracy(probe, new, truth)) < 0.15
    sure = probe.probabilities(new).max(axis=1).mean()
    assert abs(values.max(axis=1).mean() - sure) < 0.1  # as sure as the head is of new images
    assert values.max(axis=1).mean() > probe.left_out.max(axis=1).mean()


def test_folds_hold_whole_groups_and_as_many_of_each_class():
    classes = np.arange(3).repeat(10)
    groups = 7 * (np.arange(30) // 2)
    folds = module._folds(classes, groups, 5, np.random.default_rng(0))
    assert [len(set(folds[groups == group])) for group in set(groups)] == [1] * 15
    assert all(np.bincount(folds[classes == c], minlength=5).tolist() == [2] * 5 for c in range(3))
    unlabelled = blobs(20, 1)[0]
    features, classes = blobs(4, 0)
    evidence = fit_probe(features, classes, WIDTHS, unlabelled, groups=np.arange(12) // 2).evidence
    assert evidence["folds"] == 2  # groups of a class
    assert fit_probe(features, classes, WIDTHS, unlabelled, groups=np.arange(12) // 4).evidence["folds"] == 0
