import numpy as np
import pytest

from cnn_transfer.transfer.depths import STEEPNESSES, _Judge, choose_taps, draw_images, knn_accuracy, score_taps
from cnn_transfer.transfer.ridge import RELATIVE_PENALTIES, class_targets, fit_ridge_at
from cnn_transfer.transfer.standardised import Standardised, gram, standardisation


def blobs(per_class, width, seed, distance=1.0, n_classes=4):
    rng = np.random.default_rng(seed)
    classes = np.arange(n_classes).repeat(per_class)
    centres = distance * np.random.default_rng(99 + width).normal(size=(n_classes, width))
    return centres[classes] + rng.normal(size=(len(classes), width)), classes


def planted(seed=0):
    """Noise, signal, another signal, noise of a hundred times the scale."""
    rng = np.random.default_rng(seed + 50)
    (one, classes), (two, _) = blobs(60, 8, seed), blobs(60, 12, seed + 10, 0.6)
    noise = rng.normal(size=(len(classes), 40)), 100 * rng.normal(size=(len(classes), 40))
    return np.concatenate([noise[0], one, two, noise[1]], axis=1), classes, [40, 8, 12, 40]


def test_informative_taps_are_found_and_useless_ones_removed():
    kept = []
    for seed in range(10):
        features, classes, widths = planted(seed)
        choice = choose_taps(features, classes, widths, ["noise1", "one", "two", "noise2"])
        assert set(choice.names) >= {"one", "two"}
        np.testing.assert_array_equal(
            choice.columns, np.repeat(np.isin(["noise1", "one", "two", "noise2"], choice.names), widths)
        )
        kept.append(("noise1" in choice.names, "noise2" in choice.names))
    assert (np.mean(kept, axis=0) <= [0.3, 0.1]).all()  # what lies below a needed tap costs less


def test_taps_that_say_the_same_are_cut_to_the_shallowest():
    signal, classes = blobs(20, 10, 0, 0.7)
    choice = choose_taps(np.tile(signal, 3), classes, [10] * 3, ["low", "middle", "high"])
    assert choice.names == ("low",)


def test_a_deep_tap_that_is_needed_is_kept():
    signal, classes = blobs(20, 10, 0)
    noise = np.random.default_rng(50).normal(size=(80, 10))
    choice = choose_taps(np.concatenate([noise, signal], axis=1), classes, [10, 10], ["low", "high"])
    assert choice.names == ("high",)


def test_deep_taps_weigh_more_where_only_they_know_the_classes():
    noise = np.random.default_rng(0).normal(size=(6, 120, 40))
    (deep, classes), (deepest, _) = blobs(30, 40, 1, 0.25), blobs(30, 40, 2, 0.5)
    choice = choose_taps(np.concatenate([*noise, deep, deepest], axis=1), classes, [40] * 8, list("abcdefgh"))
    assert choice.names[-1] == "h"
    assert choice.weights[-1] > 1.5
    assert choice.weights.mean() == pytest.approx(1)
    assert (np.diff(choice.weights) > 0).all()
    chosen, equal = choice.evidence.query("chosen"), choice.evidence.iloc[0]
    assert chosen["loss"].item() < equal["loss"]


def test_taps_that_know_as_much_weigh_the_same():
    parts = [blobs(15, 20, seed, 0.5) for seed in range(5)]
    choice = choose_taps(np.concatenate([part for part, _ in parts], axis=1), parts[0][1], [20] * 5, list("abcde"))
    assert choice.names == tuple("abcde")
    np.testing.assert_array_equal(choice.weights, np.ones(5))


def test_deep_taps_weigh_more_where_that_is_expected_and_images_cannot_tell():
    parts = [blobs(3, 20, seed, 0.5) for seed in range(5)]
    features, classes, widths = np.concatenate([part for part, _ in parts], axis=1), parts[0][1], [20] * 5
    for steepness, share in ((0, 0.2), (2, 1 / np.exp(-np.arange(5) / 2).sum())):  # exp(2) from the first to the last
        table = choose_taps(features, classes, widths, list("abcde"), steepness=steepness).evidence
        assert table["step"].eq("weigh").sum() == len({steepness, *STEEPNESSES})
        assert table["deepest"].iloc[0] == pytest.approx(share)
        assert table.query("step == 'cut'")["deepest"].iloc[-1] == pytest.approx(share)  # of all taps


def test_what_is_expected_gives_way_to_clear_evidence():
    shallow, classes = blobs(40, 20, 0, 0.5)
    noise = np.random.default_rng(1).normal(size=(160, 80))
    features = np.concatenate([shallow, noise], axis=1)
    choice = choose_taps(features, classes, [20] * 5, list("abcde"), steepness=12)
    assert "a" in choice.names
    weighed = choice.evidence.query("step == 'weigh'")
    assert weighed["loss"].iloc[0] > weighed["loss"].min()  # the first is what was expected


def test_few_images_do_not_make_a_cut():
    cut = seeming = 0
    for seed in range(20):  # each depth knows as much as any other; what a cut seems to gain is chance
        parts = [blobs(4, 30, 10 * seed + depth, 0.35) for depth in range(6)]
        table = choose_taps(np.hstack([part for part, _ in parts]), parts[0][1], [30] * 6, list("abcdef")).evidence
        cuts, removals = table.query("step == 'cut'"), table.query("step == 'remove'")
        seeming += cuts["loss"].idxmin() < cuts.index[-1]
        cut += removals.empty or removals["n_taps"].iloc[0] < cuts["n_taps"].iloc[-1] - 1
    assert seeming >= 10
    assert cut <= 4


def test_a_depth_that_clearly_harms_is_cut_with_all_above_it():
    signal, classes = blobs(30, 20, 0, 0.5)
    noise = np.random.default_rng(1).normal(size=(120, 300))
    choice = choose_taps(np.concatenate([signal, noise], axis=1), classes, [20, 100, 100, 100], list("abcd"))
    assert choice.names == ("a",)
    assert choice.evidence.query("chosen")["step"].item() == "cut"


def test_the_evidence_has_a_row_a_candidate_and_one_is_chosen():
    features, classes, widths = planted()
    choice = choose_taps(features, classes, widths, ["a", "b", "c", "d"])
    table = choice.evidence
    weighed = len(STEEPNESSES)
    assert table["step"].tolist()[: weighed + 4] == ["weigh"] * weighed + ["cut"] * 4
    assert set(table["step"][weighed + 4 :]) == {"remove"}
    assert table.query("chosen")["taps"].tolist() == [" ".join(choice.names)]
    assert table.query("chosen")["deepest"].item() == pytest.approx(choice.weights[-1] / choice.weights.sum())
    assert table.query("step == 'cut'")["n_taps"].tolist() == [1, 2, 3, 4]
    assert (table["standard_error"] >= 0).all()
    assert choice.images == 240


def test_the_errors_are_those_of_refitting_without_each_image():
    features, classes = blobs(6, 30, 0)
    classes = classes[:20]
    features = features[:20]
    judge = _Judge(gram(features)[None], classes)
    errors = judge.at(np.array([True]), 3.0)
    targets = class_targets(classes, 4)
    for image in range(20):
        kept = np.arange(20) != image
        fit = fit_ridge_at(features[kept], targets[kept], judge.weights[kept], 3.0)
        direct = ((fit.scores(features[image]) - targets[image]) ** 2).mean() * judge.weights[image]
        assert errors.squares[image] == pytest.approx(direct, rel=1e-8)


def test_the_errors_are_those_of_refitting_without_each_group():
    features, classes = blobs(6, 30, 0)
    groups = np.random.default_rng(0).permutation(np.array([0, 0, 0, 1, 1, 2, 2, *range(3, 20)]))
    judge = _Judge(gram(features)[None], classes, groups)
    errors = judge.at(np.array([True]), 3.0)
    targets = class_targets(classes, 4)
    for image in range(24):
        kept = groups != groups[image]
        fit = fit_ridge_at(features[kept], targets[kept], judge.weights[kept], 3.0)
        direct = ((fit.scores(features[image]) - targets[image]) ** 2).mean() * judge.weights[image]
        assert errors.squares[image] == pytest.approx(direct, rel=1e-8)


def test_a_tap_that_recognises_groups_is_not_taken_for_one_that_knows_classes():
    rng = np.random.default_rng(0)
    signal, classes = blobs(20, 10, 0, 0.7)
    groups = np.arange(20).repeat(4)  # of one class each
    scene = 3 * rng.normal(size=(20, 30))[groups] + 0.1 * rng.normal(size=(80, 30))
    features, widths, names = np.concatenate([scene, signal], axis=1), [30, 10], ["scene", "signal"]
    taken_in, careful = (score_taps(features, classes, widths, names, groups=known) for known in (None, groups))
    assert taken_in["accuracy"][0] > 0.95
    assert careful["accuracy"][0] < 0.5
    assert careful["accuracy"][1] == pytest.approx(taken_in["accuracy"][1], abs=0.1)
    assert "signal" in choose_taps(features, classes, widths, names, groups=groups).names
    seen, unseen = (knn_accuracy(scene, classes, [30], groups=known) for known in (None, groups))
    assert seen > 0.95
    assert unseen < 0.5


def test_only_images_count_not_their_copies():
    features, classes, widths = planted()
    names = ["a", "b", "c", "d"]
    moved = np.stack([features, features + 5], axis=1).reshape(-1, features.shape[1])
    alone, with_copies = (
        choose_taps(features, classes, widths, names),
        choose_taps(moved, classes, widths, names, copies=2),
    )
    np.testing.assert_allclose(alone.evidence["loss"], with_copies.evidence["loss"])


def test_many_images_are_drawn_evenly_from_the_classes(monkeypatch):
    monkeypatch.setattr("cnn_transfer.transfer.depths.MOST_IMAGES", 60)
    monkeypatch.setattr("cnn_transfer.transfer.depths.ENOUGH_A_CLASS", 15)
    features, classes, widths = planted()
    rare = np.concatenate([np.flatnonzero(classes > 0), np.arange(15)])
    first, second = (choose_taps(features[rare], classes[rare], widths, list("abcd"), seed=seed) for seed in (0, 0))
    assert first.images == 60
    np.testing.assert_array_equal(first.evidence, second.evidence)


def test_of_many_classes_some_are_drawn_with_enough_images_each():
    classes = np.random.default_rng(0).permutation(np.arange(242).repeat(12))
    drawn = draw_images(classes, seed=0)
    assert 480 < len(drawn) <= 500
    assert len(np.unique(classes[drawn])) == 42
    assert np.bincount(classes[drawn])[classes[drawn]].min() >= 8  # the last one's, which fills the number up
    assert (np.diff(drawn) > 0).all()
    assert set(classes[draw_images(classes, seed=1)]) != set(classes[drawn])


def test_rare_classes_are_drawn_until_the_images_are_enough():
    classes = np.arange(203).repeat([3] * 200 + [1000] * 3)
    drawn = classes[draw_images(classes, seed=0)]
    assert len(drawn) == 500
    assert np.bincount(drawn)[np.unique(drawn)].min() == 3


def test_few_images_and_few_classes_are_drawn_all():
    few, two = np.arange(250).repeat(2), np.arange(2).repeat(1000)
    np.testing.assert_array_equal(draw_images(few, seed=0), np.arange(500))
    np.testing.assert_array_equal(np.bincount(two[draw_images(two, seed=0)]), [250, 250])


def test_neighbours_of_some_images_are_sought_among_all():
    features, classes = blobs(40, 10, 0, 0.7)
    some = np.arange(0, 160, 4)
    mean, scale = standardisation(features, [10])
    rows = Standardised(features, mean, scale)[:]
    right = []
    for image in some:
        distances = ((rows - rows[image]) ** 2).sum(axis=1)
        distances[image] = np.inf
        right.append(classes[distances.argmin()] == classes[image])
    assert knn_accuracy(features, classes, [10], neighbours=1, judged=some) == pytest.approx(np.mean(right))


def test_neighbours_agree_with_scikit_learn():
    from sklearn.model_selection import LeaveOneOut, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    features, classes = blobs(15, 10, 0, 0.7)
    mean, scale = standardisation(features, [10])
    rows = Standardised(features, mean, scale)[:]
    for neighbours in (1, 3):
        reference = cross_val_score(KNeighborsClassifier(neighbours), rows, classes, cv=LeaveOneOut()).mean()
        assert abs(knn_accuracy(features, classes, [10], neighbours=neighbours) - reference) < 0.05


def test_a_copy_is_no_neighbour_of_its_image():
    rng = np.random.default_rng(0)
    noise, classes = rng.normal(size=(100, 20)), rng.permutation(np.arange(5).repeat(20))
    assert knn_accuracy(noise.repeat(3, axis=0), classes, [20], copies=3) < 0.4


@pytest.mark.parametrize("groups", [None, np.arange(100) // 3])
def test_one_decomposition_gives_the_errors_of_every_penalty(groups):
    features, classes = blobs(25, 30, seed=0, distance=0.4)
    classes[:40] = 1  # classes of different sizes weigh the same
    judge = _Judge(np.stack([features @ features.T / (features**2).sum(axis=1).mean()]), classes, groups)
    used = np.array([True])
    best = judge.best(used)
    tried = [judge.at(used, penalty) for penalty in RELATIVE_PENALTIES[4:-3:2]]
    expected = min(tried, key=lambda errors: errors.loss)
    assert (best.penalty, best.accuracy) == (expected.penalty, expected.accuracy)
    np.testing.assert_allclose(best.squares, expected.squares, rtol=1e-9)
