import pandas as pd
import pytest

from cnn_transfer.images import ImageListing, UnusableSetError, correct_labels
from cnn_transfer.images.listing import listing_table


@pytest.fixture
def listing():
    table = pd.DataFrame(
        {
            "id": ["cat/1.png", "cat/2.png", "dog/1.png", "_unlabelled/1.png"],
            "label": ["cat", "cat", "dog", None],
            "group": ["a", "b", "c", "d"],
        }
    )
    return ImageListing(listing_table(table), read=lambda rows: iter(()), name="pets", fingerprint="f")


@pytest.fixture
def correct(listing, tmp_path):
    """Apply a CSV file, given as its lines below the names of the columns."""

    def apply(*lines, columns="id,label", name="told.csv"):
        path = tmp_path / name
        path.write_text("\n".join([columns, *lines, ""]), encoding="utf-8")
        return correct_labels(listing, str(path), {})

    return apply


def test_labels_of_the_table_take_the_place_of_those_of_the_images(correct, listing):
    told = correct("cat/2.png,dog", "_unlabelled/1.png,cat", "dog/1.png,")
    labels = told.table.set_index("id")["label"]
    assert labels["cat/1.png"] == "cat"
    assert labels["cat/2.png"] == "dog"
    assert labels["_unlabelled/1.png"] == "cat"
    assert pd.isna(labels["dog/1.png"])
    pd.testing.assert_frame_equal(told.table.drop(columns="label"), listing.table.drop(columns="label"))
    assert listing.table["label"].tolist()[:3] == ["cat", "cat", "dog"]  # what was given is as it was


def test_each_change_is_noted_with_what_was_there_before(correct):
    notes = correct("cat/1.png,cat", "cat/2.png,dog", "dog/1.png,", "_unlabelled/1.png,cat").notes
    assert notes["note"].unique().tolist() == ["corrected_label"]
    assert dict(zip(notes["id"], notes["detail"], strict=True)) == {
        "cat/2.png": "was cat",
        "dog/1.png": "was dog",
        "_unlabelled/1.png": "had none",
    }
    assert notes["label"].fillna("-").tolist() == ["dog", "-", "cat"]


def test_rows_that_say_what_the_images_say_change_nothing(correct, listing):
    told = correct("cat/1.png,cat", "_unlabelled/1.png,")
    pd.testing.assert_frame_equal(told.table, listing.table)
    assert told.notes.empty


def test_other_columns_are_left_alone_and_rows_may_stand_there_twice(correct):
    told = correct(
        "cat/1.png,dog,dog,0.1,test", "cat/1.png,dog,cat,0.2,test", columns="id,label,suggested,margin,split"
    )
    assert told.table["label"].tolist()[0] == "dog"
    assert told.table["split"].isna().all()


def test_names_of_classes_are_text_whatever_they_look_like(tmp_path):
    table = listing_table(pd.DataFrame({"id": ["1", "2", "3"], "label": ["007", "NA", "1.0"]}))
    listing = ImageListing(table, read=lambda rows: iter(()))
    (tmp_path / "told.csv").write_text("id,label\n1,NA\n2,1.0\n3,007\n", encoding="utf-8")
    assert correct_labels(listing, str(tmp_path / "told.csv"), {}).table["label"].tolist() == ["NA", "1.0", "007"]


def test_parquet_is_read_as_well(listing, tmp_path):
    path = tmp_path / "told.parquet"
    pd.DataFrame({"margin": [0.3, 0.2], "id": ["cat/1.png", "dog/1.png"], "label": ["dog", None]}).to_parquet(path)
    labels = correct_labels(listing, str(path), {}).table["label"]
    assert labels[0] == "dog"
    assert pd.isna(labels[2])


@pytest.mark.parametrize(
    ("lines", "columns", "said"),
    [
        (["cat/3.png,dog", "x,cat"], "id,label", r"a label for cat/3.png and 1 more, .* Did you mean cat/2.png\?"),
        (["cat/1.png,dgo"], "id,label", r"the label dgo, .* Did you mean dog\? Classes: cat, dog\."),
        (
            ["cat/1.png,dog", "cat/2.png,", "cat/1.png,cat", "cat/2.png,dog"],
            "id,label",
            r"two labels for cat/1.png: dog and cat; cat/2.png: none and dog\. Leave one of each\.",
        ),
        (
            [f"{number},{label}" for number in range(23) for label in ("dog", "cat")],
            "id,label",
            r"; 19: dog and cat; and 3 more\. Leave",
        ),
        (
            ["cat/1.png,dog"],
            "id,lable",
            r"no column label. Did you mean lable\? Found: id, lable. Needed: id and label",
        ),
        (["cat/1.png,dog", ",cat"], "id,label", r"no id in row 2"),
    ],
)
def test_what_does_not_fit_is_named(correct, lines, columns, said):
    with pytest.raises(UnusableSetError, match=said):
        correct(*lines, columns=columns)


def test_a_missing_file_and_a_damaged_one_are_named(listing, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Labels were expected at .*none.csv, but nothing is there"):
        correct_labels(listing, str(tmp_path / "none.csv"), {})
    (tmp_path / "told.parquet").write_bytes(b"no table")
    with pytest.raises(UnusableSetError, match=r"told.parquet is damaged"):
        correct_labels(listing, str(tmp_path / "told.parquet"), {})


def test_a_folder_of_tables_is_read_as_one(listing, tmp_path):
    folder = tmp_path / "told"
    folder.mkdir()
    (folder / "first.csv").write_text("id,label\ncat/1.png,dog\n", encoding="utf-8")
    pd.DataFrame({"id": ["cat/2.png"], "label": ["dog"]}).to_parquet(folder / "second.parquet")
    (folder / "notes.txt").write_text("looked at on Monday", encoding="utf-8")
    labels = correct_labels(listing, str(folder), {}).table["label"]
    assert labels.tolist()[:3] == ["dog", "dog", "dog"]
    (folder / "third.csv").write_text("id,label\ncat/1.png,cat\n", encoding="utf-8")
    with pytest.raises(UnusableSetError, match=r"told has two labels for cat/1.png: \w+ and \w+. Leave one of each."):
        correct_labels(listing, str(folder), {})


def test_a_folder_without_tables_is_named(listing, tmp_path):
    with pytest.raises(UnusableSetError, match=r"must have tables of them, .arrow, .csv, .feather, .parquet"):
        correct_labels(listing, str(tmp_path), {})


def test_labels_that_were_asked_for_keep_their_images_in_training(correct):
    told = correct(
        "_unlabelled/1.png,cat,training_only",
        "cat/1.png,cat,training_only",  # it had this label, which nobody was to know
        "cat/2.png,dog,test",  # where it was, as suspected_labels.csv says
        "dog/1.png,,training_only",  # nobody has answered
        columns="id,label,split",
    )
    splits = told.table.set_index("id")["split"]
    assert splits[["_unlabelled/1.png", "cat/1.png"]].tolist() == ["training_only", "training_too"]
    assert splits[["cat/2.png", "dog/1.png"]].isna().all()
    assert told.table.set_index("id")["label"]["dog/1.png"] == "dog"
    assert told.notes["id"].tolist() == ["cat/2.png", "_unlabelled/1.png"]


def test_what_is_none_of_the_classes_serves_for_nothing_where_it_has_no_place(listing, tmp_path):
    given = ImageListing(listing.table.assign(split=["test", None, None, None]), listing.read)
    file, ids = tmp_path / "told.csv", ["cat/1.png", "dog/1.png", "_unlabelled/1.png"]
    file.write_text("id,label,split\n" + "".join(f"{name},,unused\n" for name in ids), encoding="utf-8")
    told = correct_labels(given, str(file), {})
    assert told.table["label"].equals(given.table["label"])
    assert told.table.set_index("id")["split"][ids].tolist() == ["test", "unused", "unused"]
    assert told.notes.set_index("id")["detail"][ids].tolist() == ["none of the classes"] * 3
    file.write_text("id,label,split\ndog/1.png,,unused\ndog/1.png,dog,training_only\n", encoding="utf-8")
    with pytest.raises(UnusableSetError, match=r"two labels for dog/1.png: none and dog"):
        correct_labels(given, str(file), {})


def test_a_given_test_image_stays_one_whatever_was_asked(listing, tmp_path):
    given = ImageListing(listing.table.assign(split=["test", "training", None, None]), listing.read)
    (tmp_path / "told.csv").write_text(
        "id,label,split\ncat/1.png,dog,training_only\ncat/2.png,cat,training_only\n", encoding="utf-8"
    )
    told = correct_labels(given, str(tmp_path / "told.csv"), {})
    assert told.table["split"].tolist()[:2] == ["test", "training_too"]


def test_a_second_round_may_answer_what_the_first_left_open(listing, tmp_path):
    folder = tmp_path / "rounds"
    folder.mkdir()
    for name, label in (("1", ""), ("2", "cat")):
        text = f"id,label,split\n_unlabelled/1.png,{label},training_only\n"
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    (folder / "._2.csv").write_bytes(b"\xff\x00")  # as macOS leaves on other disks
    told = correct_labels(listing, str(folder), {}).table.set_index("id")
    assert told.loc["_unlabelled/1.png", ["label", "split"]].tolist() == ["cat", "training_only"]
