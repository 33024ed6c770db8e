import numpy as np
import pytest
from sklearn.linear_model import Ridge as SklearnRidge

from cnn_transfer.transfer import ridge
from cnn_transfer.transfer.ridge import class_targets, class_weights, fit_ridge, fit_ridge_at

SHAPES = [(40, 100, 1), (60, 15, 1), (40, 100, 4), (60, 15, 4)]  # rows, features, copies: more features, more rows


def problem(rows, width, copies, seed=0):
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 3, rows // copies)
    features = rng.normal(size=(rows, width)) + classes.repeat(copies)[:, None] * 0.3
    weights = rng.uniform(0.5, 2, rows // copies).repeat(copies)
    return features, class_targets(classes, 3).repeat(copies, axis=0), weights


@pytest.mark.parametrize(("rows", "width", "copies"), SHAPES)
def test_is_the_ridge_of_scikit_learn(rows, width, copies):
    features, targets, weights = problem(rows, width, copies)
    fit = fit_ridge(features, targets, weights, copies)
    reference = SklearnRidge(alpha=fit.penalty).fit(features, targets, sample_weight=weights)
    np.testing.assert_allclose(fit.kernel, reference.coef_.T, atol=1e-9)
    np.testing.assert_allclose(fit.intercept, reference.intercept_, atol=1e-9)
    at = fit_ridge_at(features, targets, weights, fit.penalty)
    np.testing.assert_allclose(at.scores(features), reference.predict(features), atol=1e-9)


@pytest.mark.parametrize(("rows", "width", "copies"), SHAPES)
def test_left_out_scores_are_those_of_fits_without_the_image_and_its_copies(rows, width, copies):
    features, targets, weights = problem(rows, width, copies)
    fit = fit_ridge(features, targets, weights, copies)
    for image in range(rows // copies):
        kept = np.arange(rows) // copies != image
        without = fit_ridge_at(features[kept], targets[kept], weights[kept], fit.penalty)
        np.testing.assert_allclose(fit.left_out[image], without.scores(features[image * copies]), atol=1e-9)


@pytest.mark.parametrize("sizes", [(1, 2, 3, 4), (1, 1, 8), (7, 9)])  # beyond the eigenvalues, too
@pytest.mark.parametrize(("rows", "width", "copies"), [*SHAPES, (80, 6, 4)])
def test_left_out_scores_are_those_of_fits_without_the_group(rows, width, copies, sizes):
    features, targets, weights = problem(rows, width, copies)
    images = rows // copies
    groups = np.random.default_rng(1).permutation(np.resize(np.arange(len(sizes)).repeat(sizes), images))
    fit = fit_ridge(features, targets, weights, copies, groups=groups)
    for image in range(images):
        kept = (groups != groups[image]).repeat(copies)
        without = fit_ridge_at(features[kept], targets[kept], weights[kept], fit.penalty)
        np.testing.assert_allclose(fit.left_out[image], without.scores(features[image * copies]), atol=1e-8)


def test_groups_of_one_image_change_nothing():
    features, targets, weights = problem(40, 100, 4)
    alone, grouped = (fit_ridge(features, targets, weights, 4, groups=groups) for groups in (None, np.arange(10)[::-1]))
    np.testing.assert_allclose(grouped.left_out, alone.left_out)
    np.testing.assert_allclose(grouped.kernel, alone.kernel)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([5] * 10, "All 10 labelled training images are of one group"),
        ([0, 1], "groups must hold one number an image. Expected 10, received 2"),
    ],
)
def test_groups_that_cannot_be_left_out_are_refused(groups, message):
    features, targets, weights = problem(10, 4, 1)
    with pytest.raises(ValueError, match=message):
        fit_ridge(features, targets, weights, groups=np.array(groups))


def test_the_penalty_with_the_smallest_error_out_of_sample_is_kept():
    features, targets, weights = problem(60, 100, 1)
    fit = fit_ridge(features, targets, weights, penalties=np.array([1e-3, 1.0, 1e3, 1e6]))
    errors = [
        (weights[:, None] * (fit_ridge(features, targets, weights, penalties=np.array([p])).left_out - targets) ** 2)
        for p in fit.path["penalty"]
    ]
    np.testing.assert_allclose(fit.path["error"], [e.sum() / 3 / weights.sum() for e in errors])
    assert fit.penalty == fit.path["penalty"][fit.path["error"].argmin()]


@pytest.mark.parametrize(("rows", "width", "copies"), SHAPES)
def test_figures_of_a_penalty_are_means_over_images_by_their_weights(rows, width, copies):
    features, targets, weights = problem(rows, width, copies)
    fit = fit_ridge(features, targets, weights, copies)
    centred = np.sqrt(weights)[:, None] * (features - np.average(features, axis=0, weights=weights))
    penalties = ridge.RELATIVE_PENALTIES * (centred**2).sum() / min(rows, width)
    np.testing.assert_allclose(fit.path["penalty"], penalties)
    row, own, wanted = fit.path.loc[fit.path["error"].idxmin()], weights[::copies], targets[::copies]
    assert row["error"] == pytest.approx(np.average(((fit.left_out - wanted) ** 2).mean(axis=1), weights=own))
    right = fit.left_out.argmax(axis=1) == wanted.argmax(axis=1)
    assert row["accuracy"] == pytest.approx(np.average(right, weights=own))


def test_a_rare_class_weighs_more_but_less_than_a_frequent_one():
    classes = np.repeat([0, 1, 3], [64, 16, 1])  # no image of class 2 was drawn
    weights = class_weights(classes)
    assert weights.mean() == pytest.approx(1)
    np.testing.assert_allclose(weights[[0, 64, 80]] / weights[80], [1 / 8, 1 / 4, 1])
    np.testing.assert_array_equal(class_weights(np.arange(210) % 10), np.ones(210))  # to the last bit


@pytest.mark.parametrize("width", [30, 2000])
def test_permuted_labels_are_not_learnt_out_of_sample(width):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, width))
    fit = fit_ridge(features, class_targets(rng.permutation(np.repeat(np.arange(10), 20)), 10))
    assert fit.path["accuracy"].max() < 0.2  # chance is .1; without the intercept's share it would be 1


def test_a_constant_feature_and_one_twice_do_no_harm():
    features, targets, weights = problem(60, 5, 1)
    odd = np.concatenate([features, np.ones((60, 1)), features[:, :1]], axis=1)
    assert np.isfinite(fit_ridge(odd, targets, weights).kernel).all()


def test_memory_mapped_single_precision_is_enough(tmp_path):
    features, targets, _ = problem(60, 15, 1)
    np.save(tmp_path / "features.npy", features.astype(np.float32))
    fit = fit_ridge(np.load(tmp_path / "features.npy", mmap_mode="r"), targets)
    np.testing.assert_allclose(fit.kernel, fit_ridge(features, targets).kernel, atol=1e-4)


def test_single_precision_gives_the_head_of_double_precision():
    rng = np.random.default_rng(0)
    classes = np.arange(5).repeat(12)
    for width in (40, 300):
        features = rng.normal(size=(60, width)) + 3 * rng.normal(size=(5, width))[classes]
        exact = fit_ridge(features, class_targets(classes, 5))
        single = fit_ridge(features.astype(np.float32), class_targets(classes, 5))
        np.testing.assert_allclose(single.kernel, exact.kernel, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(single.left_out, exact.left_out, atol=1e-3)


@pytest.mark.parametrize("width", [20, 300])
def test_few_images_with_copies_are_left_out_as_exactly_in_single_precision(width):
    rng = np.random.default_rng(0)
    classes = np.arange(2).repeat(5)
    images = (rng.normal(size=(10, width)) + 3 * rng.normal(size=(2, width))[classes]).repeat(9, axis=0)
    features = ((images + 0.02 * rng.normal(size=images.shape)) / np.arange(1, width + 1) ** 1.5).astype(np.float32)
    targets = class_targets(classes, 2).repeat(9, axis=0)
    single, exact = (fit_ridge(part, targets, copies=9) for part in (features, features.astype(float)))
    np.testing.assert_allclose(single.path, exact.path, rtol=1e-5)
    np.testing.assert_allclose(single.left_out, exact.left_out, atol=1e-5)
    np.testing.assert_allclose(single.kernel, exact.kernel, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("width", [20, 300])
def test_many_rows_keep_their_precision(width, monkeypatch):
    classes = np.arange(5).repeat(60)
    features = (np.random.default_rng(0).normal(size=(300, width)) + classes[:, None]).astype(np.float32)
    few = fit_ridge(features, class_targets(classes, 5))
    monkeypatch.setattr(ridge, "MOST_DOUBLE_ROWS", 299)
    many = fit_ridge(features, class_targets(classes, 5))
    assert not np.array_equal(many.kernel, few.kernel)
    np.testing.assert_allclose(many.kernel, few.kernel, rtol=1e-2, atol=1e-4)


def test_whole_numbers_give_the_head_of_the_same_numbers_with_fractions():
    classes = np.arange(5).repeat(12)
    features = np.random.default_rng(0).integers(0, 9, (60, 40)) + classes[:, None]
    whole, fractions = (fit_ridge(kind, class_targets(classes, 5)) for kind in (features, features.astype(float)))
    np.testing.assert_allclose(whole.kernel, fractions.kernel)
    np.testing.assert_allclose(whole.scores(features), fractions.scores(features.astype(float)))
