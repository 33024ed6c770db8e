import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cnn_transfer.images import ImageSet, SplitRule, assign_splits, count_splits


def image_set(class_sizes):
    """A set that has a table only: splitting reads nothing else."""
    labels = [name for name, size in class_sizes.items() for _ in range(size)]
    table = pd.DataFrame({"id": [f"{name}/{n}" for n, name in enumerate(labels)], "label": labels})
    return ImageSet(table, pd.DataFrame(), tuple(sorted(class_sizes)), (16, 16, 1), "", ())


def chosen(splits, split):
    return set(splits.loc[splits["split"] == split, "id"])


sizes = st.dictionaries(st.sampled_from("abcdef"), st.integers(4, 60), min_size=2)
rules = st.builds(
    SplitRule,
    test_fraction=st.floats(0, 0.5),
    labels_per_class=st.none(),
    validation_ratio=st.floats(0.05, 1),
)


@given(class_sizes=sizes, rule=rules, seed=st.integers(0, 1000))
def test_each_image_of_the_set_is_in_one_split_in_the_order_of_the_set(class_sizes, rule, seed):
    images = image_set(class_sizes)
    splits = assign_splits(images, rule, seed)
    assert splits.columns.tolist() == ["id", "label", "split"]
    pd.testing.assert_frame_equal(splits[["id", "label"]], images.table)
    assert set(splits["split"]) <= {"training", "validation", "test"}


@given(class_sizes=sizes, rule=rules, seed=st.integers(0, 1000))
def test_every_class_gets_the_counts_of_the_rule(class_sizes, rule, seed):
    counts = count_splits(assign_splits(image_set(class_sizes), rule, seed)).set_index("label")
    for name, size in class_sizes.items():
        test, training, validation = rule.counts(size)
        assert counts.loc[name, ["test", "training", "validation"]].tolist() == [test, training, validation]
        assert counts.loc[name, "total"] == size
        assert min(training, validation) >= 1
        assert abs(test - rule.test_fraction * size) <= 0.5
        assert abs(validation - rule.validation_ratio * training) <= 2


@given(
    class_sizes=st.dictionaries(st.sampled_from("abcd"), st.integers(60, 90), min_size=2),
    few=st.integers(1, 20),
    more=st.integers(0, 10),
    ratio=st.floats(0.1, 0.5),
    seed=st.integers(0, 1000),
)
def test_fewer_labels_are_a_subset_of_more_labels_and_the_test_images_stay(class_sizes, few, more, ratio, seed):
    images = image_set(class_sizes)
    small, large = (
        assign_splits(images, SplitRule(test_fraction=0.2, labels_per_class=labels, validation_ratio=ratio), seed)
        for labels in (few, few + more)
    )
    assert chosen(small, "training") <= chosen(large, "training")
    assert chosen(small, "validation") <= chosen(large, "validation")
    assert chosen(small, "test") == chosen(large, "test")
    assert chosen(small, "training").isdisjoint(chosen(large, "validation"))
    assert chosen(small, "validation").isdisjoint(chosen(large, "training"))
    assert chosen(small, "unlabelled") >= chosen(large, "unlabelled")


def test_the_test_images_do_not_depend_on_whether_labels_are_limited():
    images = image_set({"a": 50, "b": 70})
    limited = assign_splits(images, SplitRule(test_fraction=0.3, labels_per_class=5, validation_ratio=0.4), 3)
    everything = assign_splits(images, SplitRule(test_fraction=0.3, labels_per_class=None, validation_ratio=0.4), 3)
    assert chosen(limited, "test") == chosen(everything, "test")
    assert chosen(limited, "training") <= chosen(everything, "training")


@given(class_sizes=sizes, rule=rules, seed=st.integers(0, 1000), order_seed=st.integers(0, 1000))
def test_the_split_of_an_image_does_not_depend_on_the_order_of_the_rows(class_sizes, rule, seed, order_seed):
    images = image_set(class_sizes)
    table = images.table.sample(frac=1, random_state=order_seed).reset_index(drop=True)
    shuffled = ImageSet(table, images.rejected, images.class_names, images.image_shape, "", ())
    first, second = assign_splits(images, rule, seed), assign_splits(shuffled, rule, seed)
    assert dict(zip(first["id"], first["split"], strict=True)) == dict(zip(second["id"], second["split"], strict=True))


def test_the_seed_decides_the_split():
    images, rule = (
        image_set({"a": 40, "b": 40}),
        SplitRule(test_fraction=0.25, labels_per_class=None, validation_ratio=0.5),
    )
    pd.testing.assert_frame_equal(assign_splits(images, rule, 5), assign_splits(images, rule, 5))
    assert chosen(assign_splits(images, rule, 5), "test") != chosen(assign_splits(images, rule, 6), "test")


def test_images_beyond_the_labelled_ones_are_unlabelled():
    rule = SplitRule(test_fraction=0.1, labels_per_class=10, validation_ratio=0.5)
    counts = count_splits(assign_splits(image_set({"a": 40, "b": 30}), rule, 0))
    assert counts.to_numpy().tolist() == [["a", 10, 5, 4, 21, 40], ["b", 10, 5, 3, 12, 30]]
    assert counts.columns.tolist() == ["label", "training", "validation", "test", "unlabelled", "total"]


def test_every_class_with_too_few_images_is_named_with_its_counts():
    rule = SplitRule(test_fraction=0.2, labels_per_class=10, validation_ratio=0.5)
    with pytest.raises(ValueError, match="Too few images") as caught:
        assign_splits(image_set({"plenty": 40, "few": 10, "fewer": 3}), rule, 0)
    message = str(caught.value)
    assert "few: 10 images, needed 17 (10 training + 5 validation + 2 test)" in message
    assert "fewer: 3 images, needed 16 (10 training + 5 validation + 1 test)" in message
    assert "plenty" not in message
    assert "Lower labels_per_class (now 10)" in message


def test_just_enough_images_are_enough():
    rule = SplitRule(test_fraction=0, labels_per_class=4, validation_ratio=0.5)
    counts = count_splits(assign_splits(image_set({"a": 6, "b": 6}), rule, 0))
    assert counts["unlabelled"].tolist() == [0, 0]


def test_one_class_alone_is_refused():
    with pytest.raises(ValueError, match=r"at least two classes\. Found: a\."):
        assign_splits(image_set({"a": 40}), SplitRule(test_fraction=0, labels_per_class=1, validation_ratio=1), 0)


@pytest.mark.parametrize(
    "bad", [{"test_fraction": 1}, {"test_fraction": -0.1}, {"labels_per_class": 0}, {"validation_ratio": 0}]
)
def test_an_impossible_rule_is_refused(bad):
    with pytest.raises(ValidationError, match=next(iter(bad))):
        SplitRule(**{"test_fraction": 0.2, "labels_per_class": 5, "validation_ratio": 0.5} | bad)


def test_splits_are_spread_over_the_set():
    splits = assign_splits(
        image_set({"a": 300, "b": 300}), SplitRule(test_fraction=0.5, labels_per_class=None, validation_ratio=0.5), 0
    )
    positions = np.flatnonzero(splits["split"].to_numpy()[:300] == "test")
    assert 120 < positions.mean() < 180
