import re
from collections import Counter
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from odd_images import encode, photograph
from pydantic import ValidationError

from cnn_transfer.images import (
    CheckRule,
    DecodedImages,
    ImageFormat,
    ImageListing,
    ImageSet,
    NearDuplicates,
    SplitRule,
    Workers,
    assign_splits,
    check_image_set,
    check_share,
    open_image_set,
    preparation,
    write_image_set,
)
from cnn_transfer.images.duplicates import connected, perceptual_hashes
from cnn_transfer.images.listing import LISTING_COLUMNS
from cnn_transfer.images.reasons import UnusableSetError, note_table, rejected_table

FORMAT = ImageFormat(image_size_px=16, channels=3)
NEAR = NearDuplicates(most_bits=4, least_correlation=0.98, compared_px=None, mirrored=False)
SPLIT = SplitRule(test_fraction=0.2, labels_per_class=None, validation_ratio=0.5)


def rule(**changes):
    usual = {"group_pattern": None, "near_duplicates": None, "small_classes": "error", "most_set_aside": 0.2}
    return CheckRule(**usual | changes)


@lru_cache
def picture(number, near=False):
    """Pixels of one of many pictures, or of a nearly equal one."""
    pixels = np.asarray(photograph(number, 16, 16))
    return np.clip(pixels.astype(int) + 3, 0, 255).astype(np.uint8) if near else pixels


def image_set(rows, rejected=(), notes=()):
    """A set of (id, label, split, group, picture), the last one a number or pixels."""
    table = pd.DataFrame([row[:4] for row in rows], columns=LISTING_COLUMNS).astype("str")
    pixels = np.stack([picture(row[4]) if isinstance(row[4], int) else row[4] for row in rows])
    table["notes"] = ""
    table[["width_px", "height_px"]] = 16
    table["pixel_digest"] = [image.tobytes().hex() for image in pixels]
    table["perceptual_hash"] = perceptual_hashes(pixels)
    names = tuple(sorted(table["label"].dropna().unique()))
    return ImageSet(table, rejected_table(rejected), names, (16, 16, 3), "", (pixels,), "", note_table(notes))


def verdicts(checked):
    """Reason by id; empty for what is used."""
    reasons = zip(checked.rejected["id"], checked.rejected["reason"], strict=True)
    return dict.fromkeys(checked.table["id"], "") | dict(reasons)


def groups(checked):
    """Sets of ids that stay together."""
    return {frozenset(ids) for _, ids in checked.table.groupby("group")["id"] if len(ids) > 1}


def check(rows, split_rule=SPLIT, **changes):
    return check_image_set(image_set(rows), rule(**changes), split_rule)


def test_a_set_without_a_fault_is_used_whole_in_its_order():
    checked = check([("b", "x", None, None, 1), ("a", "y", None, None, 2), ("c", None, None, None, 3)])
    assert checked.table["id"].tolist() == ["b", "a", "c"]
    assert checked.rejected.empty
    assert checked.notes.empty
    assert checked.table["group"].is_unique


def test_of_exact_copies_the_first_by_name_is_used():
    checked = check([("c", "x", None, None, 1), ("a", "x", None, None, 1), ("b", "x", None, None, 1)])
    assert verdicts(checked) == {"a": "", "b": "duplicate", "c": "duplicate"}
    assert set(checked.rejected["detail"]) == {"same pixels as a"}


def test_a_copy_with_a_label_is_used_before_one_without():
    assert verdicts(check([("a", None, None, None, 1), ("b", "x", None, None, 1)])) == {"a": "duplicate", "b": ""}


def test_one_picture_under_two_labels_is_set_aside_everywhere_and_listed():
    rows = [
        ("a", "x", "test", None, 1),
        ("b", "y", "training", None, 1),
        ("c", None, None, None, 1),
        ("d", "x", None, None, 2),
    ]
    checked = check(rows)
    assert verdicts(checked) == dict.fromkeys("abc", "conflicting_labels") | {"d": ""}
    assert set(checked.rejected["detail"]) == {"x, y: a, b, c"}


def test_a_conflict_of_many_images_names_some():
    rows = [(f"{n}", "xy"[n % 2], None, None, 1) for n in range(9)]
    assert set(check(rows).rejected["detail"]) == {"x, y: 0, 1, 2, 3, 4 and 4 more"}


@pytest.mark.parametrize(
    ("sides", "reasons"),
    [
        (("training", "test"), ("leak", "")),
        (("validation", "test"), ("leak", "")),
        (("training", "validation"), ("leak", "")),
        ((None, "test"), ("duplicate", "")),
        (("training", "training"), ("", "duplicate")),
        (("test", "test"), ("", "duplicate")),
    ],
)
def test_a_picture_on_two_sides_stays_on_the_side_that_judges(sides, reasons):
    rows = [(name, "x", side, None, 1) for name, side in zip("ab", sides, strict=True)]
    assert verdicts(check(rows)) == dict(zip("ab", reasons, strict=True))


def test_a_nearly_equal_picture_on_two_sides_is_a_leak():
    rows = [
        ("a", "x", "training", None, 1),
        ("b", "x", "test", None, picture(1, near=True)),
        ("c", "x", "test", None, 2),
    ]
    checked = check(rows, near_duplicates=NEAR)
    assert verdicts(checked) == {"a": "leak", "b": "", "c": ""}
    assert "test side" in checked.rejected["detail"].iloc[0]
    assert verdicts(check(rows)) == dict.fromkeys("abc", "")


def test_a_group_on_two_sides_loses_its_images_on_the_side_that_is_judged():
    rows = [
        ("a", "x", "training", "p1", 1), ("b", "x", "validation", "p1", 2), ("c", "x", "test", "p1", 3),
        ("d", "x", "training", "p2", 4), ("e", None, None, "p1", 5), ("f", "x", "validation", "p3", 6),
    ]  # fmt: skip
    assert verdicts(check(rows)) == {"a": "leak", "b": "leak", "c": "", "d": "", "e": "leak", "f": ""}


def test_without_given_sides_groups_are_no_leaks():
    assert set(verdicts(check([("a", "x", None, "p1", 1), ("b", "y", None, "p1", 2)])).values()) == {""}


def test_an_unlabelled_test_image_is_set_aside():
    rows = [("a", None, "test", None, 1), ("b", None, "validation", None, 2), ("c", "x", "test", None, 3)]
    assert verdicts(check(rows)) == {"a": "unlabelled_test", "b": "", "c": ""}


def test_a_copy_of_an_unlabelled_test_image_is_used():
    assert verdicts(check([("a", None, "test", None, 1), ("b", "x", "training", None, 1)])) == {
        "a": "unlabelled_test",
        "b": "",
    }


def test_a_pattern_groups_images_by_a_part_of_their_name_and_given_groups_go_first():
    rows = [(f"x/patient{n // 2}_{n}.png", "x", None, "other" if n == 5 else None, n) for n in range(6)] + [
        ("x/nobody.png", "x", None, None, 7),
        ("y/z.png", "y", None, "other", 8),
    ]
    checked = check(rows, group_pattern=r"(patient\d+)_")
    assert groups(checked) == {
        frozenset({"x/patient0_0.png", "x/patient0_1.png"}),
        frozenset({"x/patient1_2.png", "x/patient1_3.png"}),
        frozenset({"x/patient2_5.png", "y/z.png"}),
    }


def test_near_copies_join_the_groups_of_both():
    rows = [("a", "x", None, "p1", 1), ("b", "x", None, "p2", picture(1, near=True)), ("c", "x", None, "p1", 2),
            ("d", "x", None, "p2", 3), ("e", "x", None, None, 4)]  # fmt: skip
    assert groups(check(rows, near_duplicates=NEAR)) == {frozenset("abcd")}
    assert groups(check(rows)) == {frozenset("ac"), frozenset("bd")}


def films(number, sides=(None,), labels="xy", first=0):
    """Rows of films of a class each, whose three frames are mirrored or turned, so that they are no near copies."""
    rows = []
    for film in range(first, first + number):
        for frame in range(3):
            turned = (picture(film), picture(film)[:, ::-1], picture(film)[::-1])[frame]
            label, side = labels[film % len(labels)], sides[frame % len(sides)]
            rows.append((f"{label}/film{film}_{frame}.png", label, side, None, turned))
    return rows


def test_series_that_names_and_pixels_show_stay_together():
    rows = films(20)
    checked = check(rows, group_pattern="auto", near_duplicates=NEAR)
    assert groups(checked) == {frozenset(row[0] for row in rows[3 * film : 3 * film + 3]) for film in range(20)}
    (found,) = checked.describe()["series"]
    assert (found["images"], found["series"], found["kept_together"], found["held_out_seen"]) == (60, 20, True, 0)
    assert found["example"] == "film0 of x (x/film0_0.png, x/film0_1.png and 1 more)"
    splits = assign_splits(checked.table, SPLIT, seed=0)
    assert (splits.groupby("group")["split"].nunique() == 1).all()
    untold = check(rows, near_duplicates=NEAR)
    assert not groups(untold)
    assert untold.describe()["series"] == []


def test_series_with_images_of_several_classes_stay_together():
    rows = [(row[0][2:], "xyx"[number % 3], *row[2:]) for number, row in enumerate(films(20))]
    checked = check(rows, group_pattern="auto")
    (found,) = checked.describe()["series"]
    assert (found["series"], found["across_classes"], found["kept_together"]) == (20, True, True)
    assert groups(checked) == {frozenset(row[0] for row in rows[3 * film : 3 * film + 3]) for film in range(20)}
    assert (assign_splits(checked.table, SPLIT, seed=0).groupby("group")["split"].nunique() == 1).all()


def test_series_by_name_and_by_order_are_both_kept_together():
    named = films(20)
    both = named + [(f"x/{number:03}.png", "x", *row[2:]) for number, row in enumerate(films(20, first=20))]
    checked = check(both, group_pattern="auto")
    by_name, by_order = checked.describe()["series"]
    assert by_name["images"] == 60
    assert by_order["pattern"] is None
    assert by_order["images"] > 30
    assert by_name["kept_together"]
    assert by_order["kept_together"]
    assert {frozenset(row[0] for row in named[3 * film : 3 * film + 3]) for film in range(20)} < groups(checked)


def test_series_do_not_take_images_from_the_given_sides_and_are_counted_there():
    rows = films(20, sides=("train", "train", "test"))
    checked = check(rows, group_pattern="auto")
    assert checked.rejected.empty
    assert checked.series[0]["held_out_seen"] == 20
    assert groups(checked) == {frozenset(row[0] for row in rows[3 * film : 3 * film + 2]) for film in range(20)}


def test_images_that_leak_by_near_copies_are_set_aside_without_their_series():
    rows = films(20, sides=("train", "train", "test"))
    rows.append(("x/film0_9.png", "x", "train", None, rows[2][4] ^ 1))
    rows.append(("x/copy.png", "x", "train", None, rows[6][4] ^ 1))
    checked = check(rows, group_pattern="auto", near_duplicates=NEAR)
    assert checked.rejected["id"].tolist() == ["x/film0_9.png"]
    assert checked.rejected["reason"].tolist() == ["leak"]
    assert frozenset({"x/film0_0.png", "x/film0_1.png"}) in groups(checked)
    assert frozenset({"x/film2_0.png", "x/film2_1.png", "x/copy.png"}) in groups(checked), "other copies stay"


def test_series_are_not_kept_together_where_a_class_would_have_too_few_of_them():
    checked = check(films(20) + films(2, labels="z", first=20), group_pattern="auto")
    assert not checked.series[0]["kept_together"]
    assert not groups(checked)
    assign_splits(checked.table, SPLIT, seed=0)


def test_given_groups_come_before_series():
    rows = [(*row[:3], "mine", row[4]) if number < 6 else row for number, row in enumerate(films(20))]
    checked = check(rows, group_pattern="auto")
    assert checked.table["group"].iloc[:6].unique().tolist() == ["group mine"]
    assert checked.series[0]["images"] == 54
    all_given = check([(*row[:3], row[0], row[4]) for row in films(20)], group_pattern="auto")
    assert all_given.series == ()


def numbered(rows):
    return [(f"{row[1]}/{number:03}.png", *row[1:]) for number, row in enumerate(rows)]


def test_images_that_follow_one_another_and_are_alike_stay_together():
    checked = check(numbered(films(20)), group_pattern="auto")
    (found,) = checked.describe()["series"]
    assert found["pattern"] is None
    assert found["nearest"] > 0.5
    assert re.match(r"[xy]/(\d+).png, [xy]/(\d+).png", found["example"])
    assert found["kept_together"]
    of_film = checked.table["id"].str.extract(r"(\d+)")[0].astype(int) // 3
    pairs = of_film.groupby(checked.table["group"]).agg(["size", "nunique"])
    assert (pairs["size"] > 1).sum() > 10
    assert pairs["nunique"].max() <= 3  # nearly all are of one film


def test_given_sides_are_kept_where_images_that_follow_one_another_are_alike():
    rows = numbered(films(20, sides=("train", "train", "test")))
    checked = check(rows, group_pattern="auto")
    assert checked.rejected.empty
    assert checked.series[0]["held_out_seen"] > 5
    side = checked.table["split"].where(checked.table["split"] == "test", "")
    assert (side.groupby(checked.table["group"]).nunique() == 1).all()


def test_images_that_are_alike_are_counted_where_no_group_says_so():
    rows = [
        ("a", "x", None, "p1", 1),
        ("b", "x", None, "p1", picture(1, near=True)),
        ("c", "x", None, None, 2),
        ("d", "x", None, "p2", picture(2, near=True)),
        ("e", "x", None, None, 3),
        ("f", "x", None, None, 3),  # an exact copy, which is set aside
    ]
    assert check(rows, near_duplicates=NEAR).describe()["alike"] == 2
    assert check(rows, near_duplicates=NEAR, group_pattern="([cd])").describe()["alike"] == 2  # d is of p2
    ungrouped = [(name, label, side, None, shown) for name, label, side, _, shown in rows]
    assert check(ungrouped, near_duplicates=NEAR).alike == 4
    assert check(rows).alike == 0


def test_an_exact_copy_that_is_set_aside_still_joins_its_group():
    rows = [("a", "x", None, None, 1), ("b", "x", None, "p1", 1), ("c", "x", None, "p1", 2), ("d", "x", None, "p2", 3)]
    checked = check(rows)
    assert verdicts(checked)["b"] == "duplicate"
    assert groups(checked) == {frozenset("ac")}


def test_the_group_of_a_training_picture_that_is_a_test_picture_leaks_with_it():
    rows = [
        ("a", "x", "test", None, 1),
        ("b", "x", "training", "p1", 1),
        ("c", "x", "training", "p1", 2),
        ("d", "x", "training", None, 3),
    ]
    assert verdicts(check(rows)) == {"a": "", "b": "leak", "c": "leak", "d": ""}


def test_a_class_too_small_to_be_split_is_set_aside_on_request():
    rows = [(f"{label}{n}", label, None, None, 10 * index + n) for index, label in enumerate("xyz") for n in range(8)]
    rows = rows[:-7]
    checked = check(rows, small_classes="set_aside")
    assert {name for name, reason in verdicts(checked).items() if reason} == {"z0"}
    assert checked.rejected["reason"].unique().tolist() == ["small_class"]
    assert "1 image, needed 2" in checked.rejected["detail"].iloc[0]
    assert checked.notes.empty
    assert set(assign_splits(checked.table, SPLIT, 0)["label"]) == {"x", "y"}
    everything = check(rows)
    with pytest.raises(ValueError, match=r"Too few images in z: 1 image, needed 2"):
        assign_splits(everything.table, SPLIT, 0)


def test_a_class_becomes_small_by_the_checks():
    rows = [(f"{label}{n}", label, None, None, 10 * index + n) for index, label in enumerate("xyz") for n in range(8)]
    rows[16:] = [(f"z{n}", "z", None, None, 20) for n in range(8)]
    checked = check(rows, small_classes="set_aside")
    assert Counter(verdicts(checked).values()) == {"": 16, "duplicate": 7, "small_class": 1}


def test_near_copies_are_noted_and_those_of_two_labels_first():
    rows = [("a", "x", None, None, 1), ("c", "x", None, None, 2), ("e", None, None, None, 3)]
    copies = [("b", "x", 1), ("d", "y", 2), ("f", "x", 3)]
    rows += [(name, label, None, None, picture(number, near=True)) for name, label, number in copies]
    notes = check(rows, near_duplicates=NEAR).notes
    assert notes.to_numpy().tolist() == [
        ["c", "x", "near_duplicate_other_label", "d (y)"],
        ["a", "x", "near_duplicate", "b"],
        ["e", notes["label"].iloc[2], "near_duplicate", "f"],
    ]


def test_a_class_of_which_nothing_is_used_is_noted_once():
    images = image_set(
        [("a", "x", None, None, 1), ("b", "y", None, None, 1), ("c", "x", None, None, 2)],
        rejected=[
            ("z/1", "z", "truncated", ""),
            ("z/2", "z", "empty_file", ""),
            ("x/1", "x", "damaged", ""),
            ("s", None, "stray_file", ""),
        ],
        notes=[("w", "w", "empty_class", "an empty folder")],
    )
    notes = check_image_set(images, rule(), SPLIT).notes
    assert notes[["label", "note", "detail"]].to_numpy().tolist() == [
        ["w", "empty_class", "an empty folder"],
        ["y", "empty_class", "all conflicting_labels"],
        ["z", "empty_class", "all empty_file, truncated"],
    ]


def test_counts_are_of_images_and_files_that_were_never_meant_are_no_fault():
    images = image_set(
        [(f"{n}", "x", None, None, min(n, 6)) for n in range(8)],
        rejected=[("a", "x", "hidden_file", ""), ("b", "x", "not_sampled", ""), ("c", "x", "truncated", "")],
    )
    described = check_image_set(images, rule(), SPLIT).describe()
    assert described["listed"] == 11
    assert described["used"] == 7
    assert described["classes"] == 1
    assert described["set_aside"] == {"hidden_file": 1, "not_sampled": 1, "truncated": 1, "duplicate": 1}
    assert described["share_set_aside"] == pytest.approx(2 / 9)
    assert described["examples"] == {
        "hidden_file": "a",
        "not_sampled": "b",
        "truncated": "c",
        "duplicate": "7 (same pixels as 6)",
    }


def test_a_run_stops_above_the_share_and_not_at_it():
    intake = {
        "share_set_aside": 0.25,
        "set_aside": {"hidden_file": 9, "truncated": 3, "duplicate": 1},
        "examples": {"truncated": "a/1.png (half of it)", "hidden_file": "a/.b", "duplicate": "c"},
    }
    check_share(intake, 0.25)
    with pytest.raises(ValueError, match=r"25\.0% of the images.*\(20%\) allows: 9 hidden_file, 3 truncated") as error:
        check_share(intake, 0.2)
    assert " An example of truncated: a/1.png (half of it). " in str(error.value)
    assert "could not be read" not in str(error.value)
    silent = intake | {"set_aside": {"unreadable": 3}, "examples": {"unreadable": "a/1.png (no answer)"}}
    with pytest.raises(UnusableSetError, match=r"\(no answer\)\. A new run tries those that could not be read again\."):
        check_share(silent, 0.2)


def test_a_set_of_which_nothing_is_left_is_described_and_stopped(tmp_path):
    table = pd.DataFrame({"id": ["a", "b"], "label": ["x", "y"]})
    listing = ImageListing(table, lambda rows: (b"" for _ in rows))
    write_image_set(DecodedImages(listing, FORMAT, np.arange(2)), tmp_path / "set")
    checked = check_image_set(
        open_image_set(tmp_path / "set"), rule(near_duplicates=NEAR, small_classes="set_aside"), SPLIT
    )
    assert len(checked.table) == 0
    with pytest.raises(ValueError, match=r"100\.0% of the images were set aside.*2 empty_file"):
        check_share(checked.describe(), 0.99)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"group_pattern": "(["}, "not a regular expression"),
        ({"group_pattern": "patient"}, "needs a group in parentheses, such as .*, or is 'auto' or null"),
        ({"most_set_aside": 1.1}, "most_set_aside"),
        ({"small_classes": "ignore"}, "small_classes"),
        ({"near_duplicates": {"most_bits": 17, "least_correlation": 0.9}}, "most_bits"),
    ],
)
def test_an_impossible_rule_is_refused(bad, message):
    with pytest.raises(ValidationError, match=message):
        rule(**bad)


# Mixtures of everything, through files, decoding, checks and splits.


@lru_cache
def encoded(number, form):
    image = photograph(number, 24, 20)
    match form:
        case "png":
            return encode(image)
        case "bmp":
            return encode(image, "BMP")
        case "near":
            return encode(image, "JPEG", quality=90)
        case "torn":
            return encode(image)[:90]
        case "empty":
            return b""
    raise ValueError(form)


ODD_IMAGES = st.lists(
    st.tuples(
        st.integers(0, 15),
        st.sampled_from(["png", "png", "bmp", "near", "near", "torn", "empty"]),
        st.sampled_from(["a", "b", "c", None]),
        st.sampled_from([None, None, "training", "validation", "test"]),
        st.sampled_from([None, None, "g1", "g2", "g3"]),
    ),
    max_size=25,
)


def mixture(odd, given_sides):
    """Eight whole images of each of three classes that stand alone, and odd ones; without given sides unless wanted."""
    sides = ["training"] * 4 + ["validation"] * 2 + ["test"] * 2 if given_sides else [None] * 8
    rows = [
        (f"{label}/{n}.png", label, sides[n], None, encoded(100 + 10 * index + n, "png"))
        for index, label in enumerate("abc")
        for n in range(8)
    ]
    for n, (number, form, label, side, group) in enumerate(odd):
        rows.append((f"odd/{n}.{form}", label, side if given_sides else None, group, encoded(number, form)))
    return rows


def take_in(rows, folder, threads=None):
    table = pd.DataFrame([row[:4] for row in rows], columns=LISTING_COLUMNS).astype("str")
    listing = ImageListing(table, lambda wanted: (rows[row][4] for row in wanted))
    workers = Workers(engine="threads", workers=threads)
    write_image_set(DecodedImages(listing, FORMAT, np.arange(len(rows)), workers), folder)
    return open_image_set(folder)


def pictures_on_sides(odd, checked, splits):
    """The sides on which each component of pictures, copies and given groups is used."""
    side = splits.set_index("id")["split"].replace({"unlabelled": "training"})
    reasons = verdicts(checked)
    number = {f"odd/{n}.{form}": (picture_number, group) for n, (picture_number, form, _, _, group) in enumerate(odd)}
    nodes = {name: index for index, name in enumerate(reasons)}
    marks = {}
    for name, (picture_number, group) in number.items():
        if reasons[name] in {"", "duplicate", "leak"}:  # what is set aside still shows what belongs together
            marks.setdefault(("picture", picture_number), []).append(nodes[name])
            marks.setdefault(("group", group), []).append(nodes[name])
    marks.pop(("group", None), None)
    pairs = [(members[0], other) for members in marks.values() for other in members[1:]]
    component = connected(np.array(pairs, int).reshape(-1, 2), len(nodes))
    shown = pd.DataFrame({"component": component, "side": [side.get(name) for name in nodes]}).dropna()
    return shown[shown["side"] != "unused"].groupby("component")["side"].agg(set)


@pytest.mark.slow
@settings(max_examples=40)
@given(
    odd=ODD_IMAGES,
    given_sides=st.booleans(),
    labels_per_class=st.sampled_from([None, 1, 2]),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_nothing_is_lost_and_nothing_leaks(odd, given_sides, labels_per_class, seed, data):
    rows = mixture(odd, given_sides)
    split_rule = SplitRule(test_fraction=0.25, labels_per_class=labels_per_class, validation_ratio=0.5)
    check_rule = rule(near_duplicates=NEAR, small_classes="set_aside", most_set_aside=1)
    with pytest.MonkeyPatch.context() as monkeypatch, TemporaryDirectory() as folder:
        monkeypatch.setattr(preparation, "MOST_CHUNK_IMAGES", 10)
        images = take_in(rows, Path(folder, "one"), threads=1)
        shuffled = take_in(data.draw(st.permutations(rows)), Path(folder, "other"), threads=3)
        assert shuffled.fingerprint == images.fingerprint
        checked = check_image_set(images, check_rule, split_rule)
        again = check_image_set(shuffled, check_rule, split_rule)
    listed = Counter(row[0] for row in rows)
    assert Counter([*checked.table["id"], *checked.rejected["id"]]) == listed
    assert verdicts(again) == verdicts(checked)
    assert checked.describe()["listed"] == len(rows)

    splits = assign_splits(checked.table, split_rule, seed)
    assert splits["id"].tolist() == checked.table["id"].tolist()
    reshuffled = assign_splits(again.table, split_rule, seed).set_index("id").loc[splits["id"]].reset_index()
    pd.testing.assert_frame_equal(reshuffled, splits)

    side = splits["split"].replace({"unlabelled": "training"})
    used = side[side != "unused"]
    assert (used.groupby(checked.table["group"]).nunique() <= 1).all()
    assert (pictures_on_sides(odd, checked, splits).map(len) <= 1).all()

    given_test = {row[0] for row in rows if row[2] == "test"}
    assert given_test.isdisjoint(checked.rejected["id"][checked.rejected["reason"] == "leak"])
    assert set(splits["split"][splits["id"].isin(given_test)]) <= {"test"}
    is_labelled, where = checked.table["label"].notna(), checked.table["split"]
    for name in ("test", "validation"):
        if given_sides:
            assert ((splits["split"] == name) == (is_labelled & (where == name))).all()
        assert (splits["split"][is_labelled & (where == name)] == name).all()
    assert (splits["split"][~is_labelled].isin(["unlabelled", "unused"])).all()
    counts = splits[splits["split"] == "training"]["label"].value_counts()
    assert set(counts.index) == set("abc")
    if labels_per_class is not None:
        assert (counts <= labels_per_class).all()
    event(f"set aside: {min(5, len(checked.rejected))}")
