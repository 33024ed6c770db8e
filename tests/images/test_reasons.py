"""Every code that may stand in a table is documented, and some image made by the tests gets it."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from odd_images import make_folder, make_manifest, make_split_folder

from cnn_transfer.images import (
    CheckRule,
    DecodedImages,
    ImageFormat,
    NearDuplicates,
    SplitRule,
    check_image_set,
    correct_labels,
    list_images,
    open_image_set,
    write_image_set,
)
from cnn_transfer.images.reasons import EXPECTED_REASONS, NOTES, REASONS, note_table, rejected_table

CHECK = CheckRule(
    group_pattern=None,
    near_duplicates=NearDuplicates(most_bits=4, least_correlation=0.98, compared_px=None, mirrored=False),
    small_classes="set_aside",
    most_set_aside=0.2,
)
SPLIT = SplitRule(test_fraction=0.2, labels_per_class=None, validation_ratio=0.5)
SET_NOTES = {"near_duplicate", "near_duplicate_other_label", "similar_labels", "empty_class"}


def take_in(location, folder, channels=3, most=None, labels=None, follow_links=False):
    """List, decode and check images."""
    listing = list_images(location, follow_links=follow_links)
    if labels:
        listing = correct_labels(listing, str(labels), {})
    image_format = ImageFormat(image_size_px=32, channels=channels)
    write_image_set(DecodedImages(listing, image_format, listing.sample(most, seed=0)), folder)
    return check_image_set(open_image_set(folder), CHECK, SPLIT)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """What must become of each file of three sets, and what becomes of it, in colour and in grey."""
    root = tmp_path_factory.mktemp("corpus")
    sets = {"folder": (root / "folder", make_folder(root / "folder"))}
    sets["splits"] = (root / "splits", make_split_folder(root / "splits"))
    sets["manifest"] = make_manifest(root / "manifest")
    return {
        (name, channels): (expected, take_in(location, root / f"{name} {channels}", channels))
        for name, (location, expected) in sets.items()
        for channels in (1, 3)
    }


ALL = [(name, channels) for name in ("folder", "splits", "manifest") for channels in (1, 3)]


@pytest.mark.parametrize("which", ALL)
def test_every_file_is_used_or_set_aside_for_the_expected_reason(corpus, which):
    expected, found = corpus[which]
    reasons = dict.fromkeys(found.table["id"], "") | dict(
        zip(found.rejected["id"], found.rejected["reason"], strict=True)
    )
    if which[0] == "manifest":  # three rows name paths that stand there twice
        assert reasons.pop("images/both.png") == "conflicting_labels"
        twice = found.rejected[found.rejected["reason"] == "listed_twice"]
        assert twice["id"].tolist() == ["images/2000.png"]
        assert reasons.pop("images/2000.png") == "listed_twice"
        expected = {name: become for name, become in expected.items() if name != "images/2000.png"}
    assert reasons == {name: become.reason for name, become in expected.items()}


@pytest.mark.parametrize("which", ALL)
def test_every_file_is_in_one_table_once(corpus, which):
    expected, found = corpus[which]
    listed = Counter([*found.table["id"], *found.rejected["id"]])
    twice = {"images/both.png": 2, "images/2000.png": 2} if which[0] == "manifest" else {}
    assert listed == Counter(dict.fromkeys(expected, 1) | twice)
    assert found.describe()["listed"] == sum(listed.values())


@pytest.mark.parametrize("which", ALL)
def test_every_used_file_has_the_expected_notes(corpus, which):
    expected, found = corpus[which]
    notes = found.notes[~found.notes["note"].isin(SET_NOTES)].groupby("id")["note"].agg(set).to_dict()
    for name, become in expected.items():
        if become.reason:
            assert name not in notes, name
            continue
        colours = {"grey_to_colour"} if become.grey and which[1] == 3 else set()
        colours |= {"colour_to_grey"} if not become.grey and which[1] == 1 else set()
        assert notes.get(name, set()) == become.notes | colours, name


def test_each_documented_code_is_met_and_each_code_that_is_met_is_documented(corpus, tmp_path):
    make_split_folder(tmp_path / "images")
    sampled = take_in(tmp_path / "images", tmp_path / "sampled", most=3)
    (tmp_path / "told.csv").write_text("id,label\ntrain/cat/1000.png,dog\n", encoding="utf-8")
    corrected = take_in(tmp_path / "images", tmp_path / "corrected", labels=tmp_path / "told.csv")
    assert corrected.table.set_index("id")["label"]["train/cat/1000.png"] == "dog"
    (tmp_path / "images/train/cat/silent.png").symlink_to("/proc/self/mem")  # EIO, whoever reads it
    silent = take_in(tmp_path / "images", tmp_path / "silent", follow_links=True)
    results = [found for _, found in corpus.values()] + [sampled, corrected, silent]
    assert {reason for found in results for reason in found.rejected["reason"]} == set(REASONS)
    assert {note for found in results for note in found.notes["note"]} == set(NOTES)


def test_notes_on_the_set_name_what_is_suspicious(corpus):
    notes = corpus["folder", 3][1].notes
    near = notes[notes["note"] == "near_duplicate"]
    assert near[["id", "detail"]].to_numpy().tolist() == [["dog/601.png", "dog/compressed.jpg"]]
    other = notes[notes["note"] == "near_duplicate_other_label"]
    assert other[["id", "detail"]].to_numpy().tolist() == [["cat/nearly a dog.jpg", "dog/602.png (dog)"]]
    assert set(notes["label"][notes["note"] == "similar_labels"]) == {"Dog ", "dog"}
    assert corpus["folder", 3][1].describe()["similar_labels"] == ["'Dog ', 'dog'"]
    empty = notes[notes["note"] == "empty_class"].set_index("label")["detail"].to_dict()
    assert empty == {
        "bird": "an empty folder",
        "fish": "an empty folder",
        "outside": "all link_outside",
        "system only": "all system_file",
        "torn only": "all truncated",
    }


def test_every_explanation_is_a_short_line():
    for code, text in (REASONS | NOTES).items():
        assert code.isidentifier()
        assert 10 <= len(text) < 120
    assert set(EXPECTED_REASONS) < set(REASONS)
    assert not set(REASONS) & set(NOTES)


def test_tables_are_strings_even_without_a_row():
    for table in (rejected_table([]), note_table([]), rejected_table([("a", None, "damaged", "")])):
        assert all(isinstance(kind, pd.StringDtype) for kind in table.dtypes)
    assert np.array_equal(rejected_table([("a", None, "damaged", "")])["label"].isna(), [True])
