"""Draws of fewer or more labels, and the transfer at one of them."""

import numpy as np
import pandas as pd
import pytest

from cnn_transfer.images import SplitRule, UnusableSetError, assign_splits
from cnn_transfer.transfer import open_features, write_features
from cnn_transfer.transfer.label_draws import (
    digest_of,
    digest_of_draw,
    draw_labels,
    head_of_draw,
    labels_that_exist,
    most_labels,
    plan_curve_extraction,
)


def ids(draw, split, label=None):
    rows = draw["split"] == split
    return set(draw["id"][rows if label is None else rows & (draw["label"] == label)])


def grouped(sizes, test_groups=1):
    """Images of two classes in groups; the first groups of each are the test's."""
    rows = [
        {"id": f"{label}{group}-{n}", "label": label, "split": "test" if group < test_groups else "training"}
        | {"group": f"{label}{group}"}
        for label in "ab"
        for group, size in enumerate(sizes)
        for n in range(size)
    ]
    return pd.DataFrame(rows)


def test_every_class_gets_its_labels_and_the_test_images_stay(shape_splits):
    draw = draw_labels(shape_splits, labels=5, validation_ratio=0.4, seed=3)
    for label in shape_splits["label"].unique():
        assert len(ids(draw, "training", label)) == 5
        assert len(ids(draw, "validation", label)) == 2
        assert len(ids(draw, "unlabelled", label)) == 80 - 7
    assert ids(draw, "test") == ids(shape_splits, "test")


def test_fewer_labels_are_among_more_and_seeds_differ(shape_splits):
    few, more, other = (
        draw_labels(shape_splits, labels, validation_ratio=1.0, seed=seed) for labels, seed in ((5, 0), (20, 0), (5, 1))
    )
    assert ids(few, "training") < ids(more, "training")
    assert ids(few, "validation") < ids(more, "validation")
    assert len(ids(few, "training") & ids(other, "training")) < len(ids(few, "training")) / 2


def test_the_labels_of_a_run_are_drawn_again_by_its_seed(shapes):
    run = assign_splits(shapes.table, SplitRule(test_fraction=0.2, labels_per_class=10, validation_ratio=0.5), seed=7)
    draw = draw_labels(run, labels=10, validation_ratio=0.5, seed=7)
    for split in ("training", "validation", "test", "unlabelled"):
        assert ids(draw, split) == ids(run, split)


def test_images_of_a_group_on_the_test_side_are_left_out():
    splits = grouped([4, 1, 1, 1, 1])
    splits.loc[splits["id"] == "a0-3", "split"] = "unused"
    draw = draw_labels(splits, labels=2, validation_ratio=0.5, seed=0)
    assert "a0-3" not in set(draw["id"])
    sides = draw.groupby("group")["split"].nunique()
    assert (sides == 1).all()


def test_more_unlabelled_images_than_wanted_are_unused(shape_splits):
    draw = draw_labels(shape_splits, labels=5, validation_ratio=1.0, seed=0, most_unlabelled=30)
    assert len(ids(draw, "unlabelled")) == 30
    assert len(draw) == len(shape_splits)
    more = draw_labels(shape_splits, labels=6, validation_ratio=1.0, seed=0, most_unlabelled=30)
    assert len(ids(draw, "unlabelled") & ids(more, "unlabelled")) > 25  # their features are computed once


@pytest.mark.parametrize(
    ("images", "ratio", "most"), [(10, 1.0, 5), (11, 1.0, 5), (10, 0.5, 6), (2, 0.1, 1), (9, 0.1, 8)]
)
def test_most_labels_is_what_a_draw_can_give(images, ratio, most):
    splits = grouped([1] * (images + 1))
    assert most_labels(splits, ratio) == most
    draw = draw_labels(splits, most, ratio, seed=0)
    assert len(ids(draw, "training", "a")) == most
    with pytest.raises(ValueError, match="Too few images"):
        draw_labels(splits, most + 1, ratio, seed=0)


def test_one_image_of_a_class_is_too_few_for_a_curve():
    with pytest.raises(
        UnusableSetError, match=r"one image for training and one for validation in each class\. Received: 1 of"
    ):
        most_labels(grouped([1, 1]), 1.0)


def test_the_curve_ends_where_the_labels_end():
    assert labels_that_exist((5, 10, 80), 33) == (5, 10, 33)
    assert labels_that_exist((5, 40, 80), 33) == (5, 33)
    assert labels_that_exist((5, 10), 33) == (5, 10)


def test_heads_of_all_draws_are_fitted_on_one_set_of_features(shapes, shape_splits, tiny_network, head_rule, tmp_path):
    rule = head_rule(copies=2, grids=(1,), most_unlabelled=20)
    draws = [draw_labels(shape_splits, labels, 1.0, 0, rule.most_unlabelled) for labels in (3, 10)]
    extraction = plan_curve_extraction(tiny_network(), shapes, draws, rule)
    write_features(extraction, tmp_path / "features")
    features = open_features(tmp_path / "features")
    wanted = set().union(*(ids(draw, side) for draw in draws for side in ("training", "unlabelled", "test")))
    assert set(features.table["id"]) == wanted
    heads = [head_of_draw(features, draw, rule, seed=0) for draw in draws]
    assert [len(head.hits) for head in heads] == [12, 40]
    tested = shapes.table["id"].iloc[shapes.rows(draws[1], "test")]
    predicted = heads[1].probe.probabilities(features.of(tested, heads[1].taps, 1)).argmax(axis=1)
    classes = shapes.classes[shapes.rows(draws[1], "test")]
    assert (predicted == classes).mean() > 0.5


def test_digests_tell_draws_and_parts_apart(shape_splits):
    draw = draw_labels(shape_splits, labels=5, validation_ratio=1.0, seed=0)
    shuffled = draw.sample(frac=1, random_state=0)
    assert digest_of_draw(draw) == digest_of_draw(shuffled)
    for column, side in (("label", "training"), ("group", "test")):  # intervals and left-out images respect groups
        changed = draw.copy()
        changed.loc[changed.index[changed["split"] == side][0], column] = "another"
        assert digest_of_draw(draw) != digest_of_draw(changed)
    assert digest_of(a=1, b=[2.0]) == digest_of(b=[2.0], a=1) != digest_of(a=1, b=[2.5])


def test_a_draw_leaves_the_table_as_it_is(shape_splits):
    before = shape_splits.copy()
    draw_labels(shape_splits, labels=5, validation_ratio=1.0, seed=0, most_unlabelled=3)
    pd.testing.assert_frame_equal(shape_splits, before)
    assert np.array_equal(shape_splits.index, before.index)
