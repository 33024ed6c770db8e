import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cnn_transfer.images import SplitRule, assign_splits, check_test_images, count_splits


def table_of(class_sizes):
    """Images that stand alone."""
    labels = [name for name, size in class_sizes.items() for _ in range(size)]
    return pd.DataFrame({"id": [f"{name}/{n}" for n, name in enumerate(labels)], "label": labels})


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
    images = table_of(class_sizes)
    splits = assign_splits(images, rule, seed)
    assert splits.columns.tolist() == ["id", "label", "split", "group"]
    pd.testing.assert_frame_equal(splits[["id", "label"]], images)
    assert set(splits["split"]) <= {"training", "validation", "test"}


@given(class_sizes=sizes, rule=rules, seed=st.integers(0, 1000))
def test_every_class_gets_the_counts_of_the_rule(class_sizes, rule, seed):
    counts = count_splits(assign_splits(table_of(class_sizes), rule, seed)).set_index("label")
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
    images = table_of(class_sizes)
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


@pytest.mark.parametrize("seed", range(3))
def test_of_large_groups_fewer_validation_images_are_a_subset_of_more(seed):
    images = table_of({"a": 60, "b": 60})
    images["group"] = [f"group {n // 5}" for n in range(120)]
    few, more = (
        assign_splits(images, SplitRule(test_fraction=0.2, labels_per_class=labels, validation_ratio=0.5), seed)
        for labels in (8, 16)
    )
    assert count_splits(few)[["validation", "unused"]].to_numpy().tolist() == [[4, 1]] * 2  # of one group of 5
    assert count_splits(more)[["validation", "unused"]].to_numpy().tolist() == [[8, 2]] * 2  # of two
    assert chosen(few, "validation") < chosen(more, "validation")


def test_the_test_images_do_not_depend_on_whether_labels_are_limited():
    images = table_of({"a": 50, "b": 70})
    limited = assign_splits(images, SplitRule(test_fraction=0.3, labels_per_class=5, validation_ratio=0.4), 3)
    everything = assign_splits(images, SplitRule(test_fraction=0.3, labels_per_class=None, validation_ratio=0.4), 3)
    assert chosen(limited, "test") == chosen(everything, "test")
    assert chosen(limited, "training") <= chosen(everything, "training")


@given(class_sizes=sizes, rule=rules, seed=st.integers(0, 1000), order_seed=st.integers(0, 1000))
def test_the_split_of_an_image_does_not_depend_on_the_order_of_the_rows(class_sizes, rule, seed, order_seed):
    images = table_of(class_sizes)
    shuffled = images.sample(frac=1, random_state=order_seed).reset_index(drop=True)
    first, second = assign_splits(images, rule, seed), assign_splits(shuffled, rule, seed)
    assert dict(zip(first["id"], first["split"], strict=True)) == dict(zip(second["id"], second["split"], strict=True))


def test_the_seed_decides_the_split():
    images, rule = (
        table_of({"a": 40, "b": 40}),
        SplitRule(test_fraction=0.25, labels_per_class=None, validation_ratio=0.5),
    )
    pd.testing.assert_frame_equal(assign_splits(images, rule, 5), assign_splits(images, rule, 5))
    assert chosen(assign_splits(images, rule, 5), "test") != chosen(assign_splits(images, rule, 6), "test")


def test_images_beyond_the_labelled_ones_are_unlabelled():
    rule = SplitRule(test_fraction=0.1, labels_per_class=10, validation_ratio=0.5)
    counts = count_splits(assign_splits(table_of({"a": 40, "b": 30}), rule, 0))
    assert counts.to_numpy().tolist() == [["a", 10, 5, 4, 21, 0, 40], ["b", 10, 5, 3, 12, 0, 30]]
    assert counts.columns.tolist() == ["label", "training", "validation", "test", "unlabelled", "unused", "total"]


def test_every_class_with_too_few_images_is_named_with_its_counts():
    rule = SplitRule(test_fraction=0.2, labels_per_class=10, validation_ratio=0.5)
    with pytest.raises(ValueError, match="Too few images") as caught:
        assign_splits(table_of({"plenty": 40, "few": 10, "fewer": 3}), rule, 0)
    message = str(caught.value)
    assert "few: 10 images, needed 17 (10 training + 5 validation + 2 test)" in message
    assert "fewer: 3 images, needed 16 (10 training + 5 validation + 1 test)" in message
    assert "plenty" not in message
    assert "Lower labels_per_class (now 10)" in message


def test_just_enough_images_are_enough():
    rule = SplitRule(test_fraction=0, labels_per_class=4, validation_ratio=0.5)
    counts = count_splits(assign_splits(table_of({"a": 6, "b": 6}), rule, 0))
    assert counts["unlabelled"].tolist() == [0, 0]


def test_one_class_alone_is_refused():
    with pytest.raises(ValueError, match=r"at least two classes\. Found: a\."):
        assign_splits(table_of({"a": 40}), SplitRule(test_fraction=0, labels_per_class=1, validation_ratio=1), 0)


@pytest.mark.parametrize(
    "bad", [{"test_fraction": 1}, {"test_fraction": -0.1}, {"labels_per_class": 0}, {"validation_ratio": -0.1}]
)
def test_an_impossible_rule_is_refused(bad):
    with pytest.raises(ValidationError, match=next(iter(bad))):
        SplitRule(**{"test_fraction": 0.2, "labels_per_class": 5, "validation_ratio": 0.5} | bad)


def test_splits_are_spread_over_the_set():
    splits = assign_splits(
        table_of({"a": 300, "b": 300}), SplitRule(test_fraction=0.5, labels_per_class=None, validation_ratio=0.5), 0
    )
    positions = np.flatnonzero(splits["split"].to_numpy()[:300] == "test")
    assert 120 < positions.mean() < 180


def sides_of(splits):
    return dict(zip(splits["id"], splits["split"], strict=True))


@given(
    sizes_before=st.dictionaries(st.sampled_from("abc"), st.integers(30, 80), min_size=2),
    added=st.integers(1, 8),
    test_fraction=st.floats(0.05, 0.4),
    labels_per_class=st.one_of(st.none(), st.integers(1, 6)),
    seed=st.integers(0, 1000),
)
def test_a_few_more_images_change_a_few_sides(sizes_before, added, test_fraction, labels_per_class, seed):
    rule = SplitRule(test_fraction=test_fraction, labels_per_class=labels_per_class, validation_ratio=0.5)
    before = table_of(sizes_before)
    grown = min(sizes_before)
    new = pd.DataFrame({"id": [f"new/{n}" for n in range(added)], "label": grown})
    old_sides = assign_splits(before, rule, seed)
    new_sides = assign_splits(pd.concat([before, new], ignore_index=True), rule, seed).set_index("id")
    for label in sizes_before:
        images = old_sides[old_sides["label"] == label].set_index("id")["split"]
        later = new_sides["split"].loc[images.index]
        if label != grown:
            pd.testing.assert_series_equal(later, images)
            continue
        assert ((images == "test") & (later != "test")).sum() <= added
        assert ((images != "test") & (later == "test")).sum() <= added
        if labels_per_class is not None:
            assert ((images == "training") & (later != "training")).sum() <= 2 * added
            assert ((images == "validation") & (later != "validation")).sum() <= added


grouped_images = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from([None, *(f"g{n}" for n in range(12))])), min_size=0, max_size=60
)


@given(
    images=grouped_images,
    test_fraction=st.floats(0.1, 0.4),
    labels_per_class=st.one_of(st.none(), st.integers(1, 5)),
    unlabelled=st.integers(0, 12),
    seed=st.integers(0, 1000),
)
def test_a_group_stays_on_one_side(images, test_fraction, labels_per_class, unlabelled, seed):
    images = (
        [(label, None) for label in "ab" for _ in range(12)] + images + [(None, f"g{n}") for n in range(unlabelled)]
    )
    table = pd.DataFrame(images, columns=["label", "group"])
    table["id"] = [f"i{n}" for n in range(len(table))]
    rule = SplitRule(test_fraction=test_fraction, labels_per_class=labels_per_class, validation_ratio=0.5)
    splits = assign_splits(table, rule, seed)
    side = splits["split"].replace({"unlabelled": "training"})
    shown = side[(side != "unused") & table["group"].notna()]
    assert (shown.groupby(table["group"]).nunique() <= 1).all()
    unused = splits["split"] == "unused"
    held_out = set(table["group"][splits["split"].isin(["validation", "test"])].dropna())
    assert set(table["group"][unused]) <= held_out
    assert splits["split"][table["label"].isna()].isin(["unlabelled", "unused"]).all()
    for label in "ab":
        wanted = round(test_fraction * (table["label"] == label).sum())
        found = ((splits["split"] == "test") & (table["label"] == label)).sum()
        assert (
            abs(found - wanted) <= table.groupby("group").size().max()
            if table["group"].notna().any()
            else found == wanted
        )


def test_images_of_patients_are_divided_by_patient():
    table = pd.DataFrame({"id": [f"i{n}" for n in range(200)], "label": [*"ab"] * 100})
    table["group"] = [f"patient{n // 5}" for n in range(200)]
    splits = assign_splits(table, SplitRule(test_fraction=0.3, labels_per_class=None, validation_ratio=0.5), 0)
    assert (splits.groupby(table["group"])["split"].nunique() == 1).all()
    counts = count_splits(splits).set_index("label")["test"]
    assert counts.between(25, 35).all()


def given_table():
    return pd.DataFrame(
        {
            "id": [f"i{n}" for n in range(60)],
            "label": [*"ab"] * 30,
            "split": ["training"] * 40 + ["test"] * 20,
        }
    )


def test_a_given_test_side_is_kept_and_validation_is_drawn_from_training():
    table = given_table()
    splits = assign_splits(table, SplitRule(test_fraction=0.9, labels_per_class=None, validation_ratio=0.25), 0)
    assert (splits["split"] == "test").tolist() == (table["split"] == "test").tolist()
    assert count_splits(splits)[["training", "validation", "test"]].to_numpy().tolist() == [[16, 4, 10]] * 2


def test_a_given_validation_side_is_kept_and_test_is_drawn_from_the_rest():
    table = given_table().replace({"split": {"test": "validation"}})
    splits = assign_splits(table, SplitRule(test_fraction=0.25, labels_per_class=5, validation_ratio=0.1), 0)
    assert (splits["split"] == "validation").tolist() == (table["split"] == "validation").tolist()
    columns = ["training", "validation", "test", "unlabelled"]
    assert count_splits(splits)[columns].to_numpy().tolist() == [[5, 10, 5, 10]] * 2


def test_given_sides_that_are_complete_are_kept_whatever_the_seed():
    table = given_table()
    table.loc[30:39, "split"] = "validation"
    rule = SplitRule(test_fraction=0.5, labels_per_class=None, validation_ratio=1)
    for seed in range(3):
        assert assign_splits(table, rule, seed)["split"].tolist() == table["split"].tolist()


def test_the_class_that_a_given_side_lacks_is_named():
    table = given_table()
    table.loc[(table["split"] == "test") & (table["label"] == "b"), "label"] = "a"
    helps = "Give test images of each class, or none at all: then they are drawn, or set small_classes to set_aside."
    with pytest.raises(ValueError, match=rf"^Too few images in b: no image in the given test split\. {helps}$"):
        assign_splits(table, SplitRule(test_fraction=0.2, labels_per_class=None, validation_ratio=0.5), 0)
    table = given_table()
    table.loc[(table["split"] == "training") & (table["label"] == "b"), "label"] = "a"
    with pytest.raises(
        ValueError, match=r"Too few images in b: 0 images, needed 2 .*\. Lower validation_ratio \(0.5\)"
    ):
        assign_splits(table, SplitRule(test_fraction=0.2, labels_per_class=None, validation_ratio=0.5), 0)


def test_classes_that_lack_the_same_are_named_together_and_not_all_of_many():
    table = pd.DataFrame({"id": [f"{i}" for i in range(17)], "label": [f"class {i:02}" for i in range(17)]})
    names = ", ".join(f"class {i:02}" for i in range(5))
    needed = r"1 image, needed 2 \(1 training \+ 1 validation \+ 0 test\)"
    helps = r"Lower validation_ratio \(0.25\) or test_fraction \(0.2\), add images"  # none would be left to set aside
    with pytest.raises(ValueError, match=rf"^Too few images in {names} and 12 more: {needed}\. {helps}\.$"):
        assign_splits(table, SplitRule(test_fraction=0.2, labels_per_class=None, validation_ratio=0.25), 0)


@pytest.mark.parametrize(
    ("images", "fraction", "ratio", "helps"),
    [
        (2, 0.2, 0.25, "Label 3 images of each class, or set validation_ratio to 0 and raise test_fraction above 0.25"),
        (2, 0.2, 0, "Label 3 images of each class, or raise test_fraction above 0.25"),
        (1, 0.2, 0, "Label 3 images of each class"),
        (20, 0.02, 0.5, "Label 26 images of each class, or raise test_fraction above 0.025"),
    ],
)
def test_labels_too_few_for_any_test_image_are_refused_with_what_helps(images, fraction, ratio, helps):
    def labelled(number):
        return pd.DataFrame({"id": [f"{i}" for i in range(2 * number)], "label": ["a", "b"] * number})

    rule = SplitRule(test_fraction=fraction, labels_per_class=None, validation_ratio=ratio)
    with pytest.raises(
        ValueError, match=rf"^No image is left to test on: the largest class has {images} .*\. {helps}\.$"
    ):
        check_test_images(assign_splits(labelled(images), rule, 0), rule)
    enough = assign_splits(labelled(int(helps.split()[1])), rule, 0)
    assert "test" in set(enough["split"])
    if "above" in helps:
        raised = rule.model_copy(
            update={
                "test_fraction": float(helps.split()[-1]) + 0.01,
                "validation_ratio": 0 if "to 0" in helps else ratio,
            }
        )
        assert "test" in set(assign_splits(labelled(images), raised, 0)["split"])


@pytest.mark.parametrize("groups", [1, 2])
def test_classes_in_too_few_groups_are_named(groups):
    table = table_of({"a": 30, "b": 30})
    table["group"] = [*table["id"][:30], *(f"group {n % groups}" for n in range(30))]
    with pytest.raises(ValueError, match=rf"b: {groups} groups?, needed 3, since a group stays on one side"):
        assign_splits(table, SplitRule(test_fraction=0.2, labels_per_class=None, validation_ratio=0.5), 0)


def test_groups_that_leave_a_class_nothing_to_train_on_are_an_error():
    table = table_of({"a": 4, "b": 4})
    table["group"] = ["g3", "g1", "g0", "g0", "g1", "g2", "g1", "g3"]
    with pytest.raises(ValueError, match=r"No training image is left for a, b: their groups are too large"):
        assign_splits(table, SplitRule(test_fraction=0.3, labels_per_class=None, validation_ratio=1), 0)


def test_a_class_whose_groups_are_all_too_large_gives_the_smallest_one_to_each_side():
    table = table_of({"a": 18, "b": 40})
    table["group"] = [*np.repeat(["six", "five", "seven"], [6, 5, 7]), *table["id"][18:]]
    splits = assign_splits(table, SplitRule(test_fraction=0.1, labels_per_class=None, validation_ratio=0.2), 0)
    assert sides_of(splits[:18].assign(id=splits["group"])) == {
        "five": "test",
        "six": "validation",
        "seven": "training",
    }


def test_unlabelled_images_that_show_what_is_held_out_are_unused():
    table = given_table()
    table["group"] = table["id"]
    extra = pd.DataFrame({"id": ["u1", "u2"], "label": [None, None], "split": [None, None], "group": ["i59", "i0"]})
    splits = assign_splits(
        pd.concat([table, extra], ignore_index=True),
        SplitRule(test_fraction=0.2, labels_per_class=None, validation_ratio=0.1),
        0,
    )
    assert sides_of(splits)["u1"] == "unused"
    assert sides_of(splits)["u2"] == ("unused" if sides_of(splits)["i0"] == "validation" else "unlabelled")


def test_unlabelled_images_are_counted_in_a_row_of_their_own():
    table = pd.concat([table_of({"a": 10, "b": 10}), pd.DataFrame({"id": ["u"], "label": [None]})], ignore_index=True)
    counts = count_splits(
        assign_splits(table, SplitRule(test_fraction=0.2, labels_per_class=None, validation_ratio=0.5), 0)
    )
    assert counts["label"].tolist() == ["(unlabelled)", "a", "b"]
    assert counts["unlabelled"].tolist() == [1, 0, 0]


@pytest.mark.parametrize("labels", [None, 4])
def test_without_validation_every_label_serves_for_training(labels):
    table = pd.DataFrame({"id": [f"{n:03d}" for n in range(40)], "label": ["a", "b"] * 20})
    rule = SplitRule(test_fraction=0.2, labels_per_class=labels, validation_ratio=0)
    counts = count_splits(assign_splits(table, rule, 0))
    assert counts["validation"].tolist() == [0, 0]
    assert counts["training"].tolist() == [labels or 16] * 2
    assert counts["test"].tolist() == [4, 4]


@given(
    class_sizes=st.dictionaries(st.sampled_from("abcd"), st.integers(30, 60), min_size=2),
    labels=st.one_of(st.none(), st.integers(2, 8)),
    asked=st.integers(1, 20),
    seed=st.integers(0, 1000),
)
def test_labels_that_were_asked_for_join_the_training_and_change_nothing_else(class_sizes, labels, asked, seed):
    images = table_of(class_sizes)
    nameless = images.assign(id="new/" + images["id"], label=None).head(25)
    rule = SplitRule(test_fraction=0.2, labels_per_class=labels, validation_ratio=0.5)
    before = assign_splits(pd.concat([images, nameless]), rule, seed)
    given = nameless.assign(label="a" if "a" in class_sizes else min(class_sizes), split="training_only").head(asked)
    after = assign_splits(pd.concat([images, given, nameless[asked:]]), rule, seed)
    assert chosen(after, "training") == chosen(before, "training") | set(given["id"])
    for split in ("validation", "test"):
        assert chosen(after, split) == chosen(before, split)
    assert chosen(after, "unlabelled") == chosen(before, "unlabelled") - set(given["id"])


@pytest.mark.parametrize("labels", [None, 4])
def test_what_is_none_of_the_classes_is_not_among_the_unlabelled_and_changes_nothing_else(labels):
    images = table_of({"a": 20, "b": 20})
    images = pd.concat([images, images.assign(id="new/" + images["id"], label=None)[:9]], ignore_index=True)
    rule = SplitRule(test_fraction=0.2, labels_per_class=labels, validation_ratio=0.5)
    before = assign_splits(images, rule, 0)
    after = assign_splits(images.assign(split="unused"), rule, 0)
    expected = before["split"].mask(before["split"] == "unlabelled", "unused")
    assert after["split"].tolist() == expected.tolist()
    assert (before["split"] == "unlabelled").sum() >= 9


def test_what_was_asked_for_is_not_used_where_one_of_its_group_is_held_out():
    images = table_of({"a": 10, "b": 10})
    images["group"] = "group of " + images["id"]
    rule = SplitRule(test_fraction=0.3, labels_per_class=2, validation_ratio=0.5)
    before = assign_splits(images, rule, 0)
    beside = {side: before["group"][before["split"] == side].iloc[0] for side in ("test", "validation", "training")}
    asked = pd.DataFrame({"id": list(beside), "label": "a", "split": "training_only", "group": beside.values()})
    after = assign_splits(pd.concat([images, asked], ignore_index=True), rule, 0)
    assert after["split"].tolist() == [*before["split"], "unused", "unused", "training"]


@given(
    class_sizes=st.dictionaries(st.sampled_from("abcd"), st.integers(30, 60), min_size=2),
    labels=st.integers(2, 8),
    asked=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_labels_beyond_the_wanted_number_that_were_asked_for_join_the_training(class_sizes, labels, asked, seed):
    images = table_of(class_sizes)
    rule = SplitRule(test_fraction=0.2, labels_per_class=labels, validation_ratio=0.5)
    before = assign_splits(images, rule, seed)
    told = before["id"][before["split"] == "unlabelled"].iloc[::3].head(asked)
    images["split"] = images["id"].isin(told).map({True: "training_too", False: None})
    after = assign_splits(images, rule, seed)
    expected = before["split"].mask(before["id"].isin(told), "training")
    pd.testing.assert_series_equal(after["split"], expected)
