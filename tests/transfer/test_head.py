import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from cnn_transfer.transfer import choose_head, depth_table, head_weights
from cnn_transfer.transfer import features as stored_features
from cnn_transfer.transfer.depths import knn_accuracy
from cnn_transfer.transfer.groups import mean_and_error
from cnn_transfer.transfer.head import MOST_COPIES, choose_grid, labelled, pool_of
from cnn_transfer.transfer.probe import fit_probe

ONE_STRONG_TAP = {("low", 1): 0.0, ("middle", 1): 0.8, ("high", 1): 0.0}


@pytest.fixture(scope="module")
def features(planted_features):
    return planted_features(ONE_STRONG_TAP)


@pytest.fixture(scope="module")
def head(features, planted_splits, head_rule):
    return choose_head(features, planted_splits, head_rule(), seed=0)


def assert_same_head(one, other):
    assert (one.taps, one.grid, one.permuted, one.neighbours) == (
        other.taps,
        other.grid,
        other.permuted,
        other.neighbours,
    )
    np.testing.assert_allclose(one.probe.kernel, other.probe.kernel, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(one.hits, other.hits)
    pd.testing.assert_frame_equal(one.steps, other.steps)
    pd.testing.assert_frame_equal(one.alone, other.alone)


def test_the_tap_that_knows_the_classes_is_read(head):
    assert head.taps[-1] == "middle"
    assert head.accuracy > 0.8
    assert head.alone.set_index("tap")["accuracy"].idxmax() == "middle"
    assert head.steps["chosen"].sum() == 1
    assert head.neighbours > 0.6


def test_features_that_are_read_where_they_lie_give_the_same_head(
    features, planted_splits, head_rule, head, monkeypatch
):
    monkeypatch.setattr(stored_features, "MOST_IN_MEMORY", 0)
    assert_same_head(head, choose_head(features, planted_splits, head_rule(), seed=0))


def test_deep_taps_are_tried_first_with_the_weight_that_is_expected_of_them(features, planted_splits, head_rule):
    rule = head_rule(depth_steepness=2.0)
    expected, nothing = (
        choose_head(features, planted_splits, one, seed=0).steps["deepest"].iloc[0]
        for one in (rule, rule.of_random_weights())
    )
    assert expected == pytest.approx(1 / (1 + np.exp(-1) + np.exp(-2)))
    assert nothing == pytest.approx(1 / 3)


def test_the_taps_asked_for_are_read_from_shallow_to_deep(features, planted_splits, head_rule):
    asked = choose_head(features, planted_splits, head_rule(taps=("high", "low")), seed=0)
    assert asked.taps == ("low", "high")
    assert asked.probe.kernel.shape == (24, 4)
    assert asked.steps["taps"][asked.steps["chosen"]].tolist() == ["low high"]
    assert asked.alone["tap"].tolist() == ["low", "middle", "high"]  # what the others know is still said


def test_an_unknown_tap_is_refused_with_the_nearest_name(features, planted_splits, head_rule):
    with pytest.raises(
        ValueError, match=r"taps must be among low, middle, high .*Received: midle\. Did you mean middle\?$"
    ):
        choose_head(features, planted_splits, head_rule(taps=("midle", "low")), seed=0)


@pytest.mark.parametrize(("finer", "expected"), [(0.05, 1), (0.6, 3)])
def test_cells_are_finer_only_where_that_pays(planted_features, planted_splits, head_rule, finer, expected):
    features = planted_features({("low", 1): 0.3, ("low", 3): finer})
    head = choose_head(features, planted_splits, head_rule(grids=(3, 1)), seed=0)
    assert head.grid == expected
    assert set(head.steps["grid"]) == {1, 3}
    assert head.steps["grid"][head.steps["chosen"]].tolist() == [expected]
    assert len(head.probe.kernel) == 12 * expected**2


def test_of_equal_cells_the_coarser_are_taken(planted_features, planted_splits, head_rule):
    features = planted_features({("low", 1): 0.5, ("low", 2): 0.0}, width=8)
    (columns,) = features.columns(["low"], 1)
    same = np.concatenate(5 * [features.values[:, columns]], axis=1)
    head = choose_head(dataclasses.replace(features, values=same), planted_splits, head_rule(grids=(1, 2)), seed=0)
    assert head.grid == 1


def test_copies_belong_to_their_image(planted_features, planted_splits, head_rule):
    features = planted_features(ONE_STRONG_TAP, copies=2)
    head = choose_head(features, planted_splits, head_rule(copies=2), seed=0)
    assert head.hits.shape == (100,)
    assert head.probe.left_out.shape == (100, 4)
    noise = choose_head(planted_features({("low", 1): 0.0}, copies=2), planted_splits, head_rule(copies=2), seed=0)
    assert noise.accuracy < 0.4  # copies that stayed while their image is left out would give it away
    assert noise.neighbours < 0.4


@pytest.mark.parametrize("seed", range(4))
def test_permuted_labels_get_no_more_than_chance(features, planted_splits, head_rule, seed):
    assert choose_head(features, planted_splits, head_rule(), seed).permuted < 0.25 + 2 * np.sqrt(0.25 * 0.75 / 100)


def test_the_same_seed_gives_the_same_head(head, features, planted_splits, head_rule):
    assert_same_head(choose_head(features, planted_splits, head_rule(), seed=0), head)


def test_the_order_of_rows_on_disk_and_of_the_unlabelled_images_means_nothing(
    head, features, planted_splits, head_rule
):
    order = np.random.default_rng(0).permutation(len(features.table))
    moved = dataclasses.replace(
        features, table=features.table.iloc[order].reset_index(drop=True), values=features.values[order]
    )
    assert_same_head(choose_head(moved, planted_splits, head_rule(), seed=0), head)
    unlabelled = planted_splits["split"] == "unlabelled"
    later = pd.concat([planted_splits[~unlabelled], planted_splits[unlabelled].iloc[::-1]])
    assert_same_head(choose_head(features, later, head_rule(), seed=0), head)
    assert pool_of(features, later).tolist() == pool_of(features, planted_splits).tolist()


def test_the_pool_has_no_order_by_class(features, planted_splits):
    by_class = planted_splits.sort_values("label")
    labels = planted_splits.set_index("id")["label"].loc[pool_of(features, by_class)]
    assert (labels.to_numpy()[1:] != labels.to_numpy()[:-1]).mean() > 0.5


def test_only_training_and_unlabelled_images_are_read_and_no_label_of_the_latter(
    head, features, planted_splits, head_rule
):
    assert not set(features.table["id"]) & set(
        planted_splits["id"][planted_splits["split"].isin(["test", "validation"])]
    )
    lies = planted_splits.assign(label=planted_splits["label"].where(planted_splits["split"] == "training", "blob"))
    assert_same_head(choose_head(features, lies, head_rule(), seed=0), head)
    alone = planted_splits[planted_splits["split"].isin(["training", "unlabelled"])]
    assert_same_head(choose_head(features, alone, head_rule(), seed=0), head)


def test_unlabelled_images_without_features_are_left_out(features, planted_splits, head_rule):
    drawn = features.table["id"].isin(planted_splits["id"][planted_splits["split"] == "training"])
    fewer = dataclasses.replace(
        features, table=features.table[drawn].reset_index(drop=True), values=features.values[drawn.to_numpy()]
    )
    head = choose_head(fewer, planted_splits, head_rule(), seed=0)
    assert head.probe.evidence == {}
    assert head.describe()["self_training"] == {}
    assert head.unlabelled == (planted_splits["split"] == "unlabelled").sum() > 0


def test_unlabelled_images_that_were_learnt_from_are_named_and_judged_without_their_group(
    features, planted_splits, head_rule
):
    head = choose_head(features, planted_splits, head_rule(), seed=0)
    pool = tuple(pool_of(features, planted_splits))
    assert head.learnt_unlabelled == (pool if head.probe.evidence["accepted"] else ())
    assert len(head.probe.unlabelled) == len(head.learnt_unlabelled)
    one = planted_splits.assign(group=planted_splits["id"].where(~planted_splits["id"].isin(pool), "one"))
    both = choose_head(features, one, head_rule(), seed=0)
    np.testing.assert_array_equal(both.probe.kernel, head.probe.kernel)
    assert head.learnt_unlabelled == both.learnt_unlabelled == pool
    assert not np.allclose(head.probe.unlabelled, both.probe.unlabelled, atol=1e-4)


def test_the_accuracy_is_that_of_all_images_whatever_their_classes(features, planted_splits, head_rule):
    rare = planted_splits[(planted_splits["label"] != "row") | (planted_splits["id"].str[-5] > "4")]
    _, classes, _ = labelled(rare)
    assert len(set(np.bincount(classes))) > 1
    uneven = choose_head(features, rare, head_rule(), seed=0)
    assert uneven.accuracy == pytest.approx((uneven.probe.left_out.argmax(axis=1) == classes).mean())
    assert uneven.describe()["accuracy"] == uneven.accuracy


def test_a_gain_is_that_of_pairs_of_images(head, features, planted_splits, head_rule):
    noise = choose_head(features, planted_splits, head_rule(taps=("low",)), seed=0)
    gain, error = head.gain_over(noise)
    assert gain == pytest.approx(head.accuracy - noise.accuracy)
    assert gain > 1.96 * error > 0
    assert noise.gain_over(head) == pytest.approx((-gain, error))
    assert head.gain_over(head) == (0, 0)
    pairs = head.hits.astype(int) - noise.hits
    assert error == pytest.approx(np.std(pairs, ddof=1) / 10)


def test_the_figures_of_the_plan_are_plain_numbers(head):
    figures = head.describe()
    assert figures["accuracy"] == head.accuracy
    assert 0 < figures["standard_error"] < 0.1
    assert figures["loss"] == head.probe.path["error"].min()
    assert all(
        isinstance(figures[name], float) for name in ("accuracy", "loss", "nearest_neighbours", "permuted_labels")
    )


@pytest.mark.parametrize("kept", [["blob"], []])
def test_fewer_than_two_classes_are_refused(features, planted_splits, head_rule, kept):
    few = planted_splits[planted_splits["label"].isin(kept) | (planted_splits["split"] != "training")]
    with pytest.raises(
        ValueError, match=rf"at least two classes\. Received: {25 * len(kept)} images of {(kept or ['none'])[0]}\."
    ):
        choose_head(features, few, head_rule(), seed=0)


def test_a_rule_whose_copies_would_have_two_labels_is_refused(head_rule, augmentation):
    for name in ("mixup_alpha", "cutmix_alpha"):
        with pytest.raises(ValidationError, match="a copy keeps the label of its image"):
            head_rule(augmentation=augmentation(**{name: 0.2}))


def test_what_only_images_of_one_group_have_in_common_is_no_knowledge(planted_features, planted_splits, head_rule):
    noise = planted_features({("low", 1): 0.0, ("high", 1): 0.0}, seed=4)
    series = (planted_splits.groupby(["split", "label"]).cumcount() // 5).astype(str)
    splits = planted_splits.assign(group=planted_splits["split"] + planted_splits["label"] + series)
    group = pd.Series(pd.factorize(splits["group"])[0], splits["id"]).loc[noise.table["id"]]
    alike = 2 * np.random.default_rng(4).normal(size=(group.max() + 1, noise.values.shape[1]))[group]
    features = dataclasses.replace(noise, values=(noise.values + alike).astype(np.float32))
    head = choose_head(features, splits, head_rule(), seed=0)
    said = [head.accuracy, head.neighbours, *head.alone["accuracy"], *head.steps["accuracy"]]
    assert max(said) < 0.5, "chance is 0.25; if the others of its group are there, an image is recognised"
    error = mean_and_error(head.hits.astype(float), head.groups)[1]
    assert head.describe()["standard_error"] == error > 1.2 * np.std(head.hits) / 10
    everything = dataclasses.replace(head, hits=np.ones(100, bool))
    assert everything.gain_over(head)[1] == pytest.approx(error)


def test_a_head_is_fitted_with_all_that_was_chosen_and_asked_for(planted_features, planted_splits, head_rule):
    features = planted_features({("low", 1): 0.15, ("high", 1): 0.6}, copies=1)
    rule = head_rule(depth_steepness=2.0, copies=1, class_shares="labelled")
    head = choose_head(features, planted_splits, rule, seed=3)
    assert np.ptp(head.tap_weights) > 0
    ids, classes, _ = labelled(planted_splits)
    rows, pool = (
        features.of(ids, head.taps, 1, copies=True),
        features.of(pool_of(features, planted_splits), head.taps, 1),
    )
    probe = fit_probe(rows, classes, [12, 12], pool, 2, "labelled", seed=3, tap_weights=head.tap_weights)
    np.testing.assert_allclose(head.probe.kernel, probe.kernel)
    assert head.probe.evidence == pytest.approx(probe.evidence)
    assert head.neighbours == knn_accuracy(rows, classes, [12, 12], 2, weights=head.tap_weights)


@pytest.mark.parametrize(("worse_by", "expected"), [(0.2, 1), (0.3, 2)])  # standard errors of the difference
def test_the_fewest_cells_are_taken_that_are_as_good_within_a_quarter_of_an_error(worse_by, expected):
    difference = np.resize([-1.0, 1.0], 100)
    errors = {4: 2.0 + 0 * difference, 2: 1.0 + 0 * difference}
    errors[1] = errors[2] + difference + worse_by * mean_and_error(difference)[1]
    choices = {grid: SimpleNamespace(errors=own, groups=None) for grid, own in errors.items()}
    grid, best = choose_grid(choices)
    assert (grid, best) == (expected, choices[2])
    same = {grid: SimpleNamespace(errors=1 + 1e-12 * (grid == 1) + 0 * difference, groups=None) for grid in (2, 1)}
    assert choose_grid(same)[0] == 1, "but for rounding"


def test_many_images_get_fewer_copies(head_rule):
    rule = head_rule(copies=8)
    assert rule.copies_of(0) == rule.copies_of(200) == 8
    assert rule.copies_of(MOST_COPIES // 2) == 2
    assert rule.copies_of(MOST_COPIES + 1) == 0


def test_the_table_of_depths_says_what_each_knows_with_and_without_random_weights(
    head, planted_features, planted_splits, head_rule
):
    table = depth_table(head, None)
    assert table["tap"].tolist() == ["low", "middle", "high"]
    assert table["used"].tolist() == [name in head.taps for name in table["tap"]]
    assert table["random_accuracy"].isna().all()
    random = choose_head(planted_features(dict.fromkeys(ONE_STRONG_TAP, 0.0)), planted_splits, head_rule(), seed=0)
    both = depth_table(head, random).set_index("tap")
    assert both["accuracy"]["middle"] > both["random_accuracy"]["middle"] + 0.3


def test_the_weights_as_a_table_have_the_bias_below_the_features(head):
    table = head_weights(head, ["a", "b", "c", "d"])
    assert table.columns.tolist() == ["a", "b", "c", "d"]
    assert (table.dtypes == np.float32).all()
    np.testing.assert_allclose(table.to_numpy()[:-1], head.probe.kernel, rtol=1e-6)
    np.testing.assert_allclose(table.to_numpy()[-1], head.probe.bias, rtol=1e-6)
