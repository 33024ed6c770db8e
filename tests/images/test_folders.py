import builtins
import errno
import os
import resource

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odd_images import encode, photograph, write

from cnn_transfer.images import DecodedImages, ImageFormat, UnusableSetError, list_images, list_unlabelled
from cnn_transfer.images.folders import _printable

FORMAT = ImageFormat(image_size_px=16, channels=3)
PICTURE = encode(photograph(1))


@pytest.fixture
def make(tmp_path):
    """Write files with a picture in each, below a folder of their own."""

    def write_all(*names):
        for name in names:
            write(tmp_path / "set" / name, PICTURE)
        return tmp_path / "set"

    return write_all


def rejected(listing):
    return dict(zip(listing.rejected["id"], listing.rejected["reason"], strict=True))


def labels(listing):
    return dict(zip(listing.table["id"], listing.table["label"], strict=True))


def splits(listing):
    return dict(zip(listing.table["id"], listing.table["split"], strict=True))


def decode(listing):
    return list(DecodedImages(listing, FORMAT, np.arange(len(listing.table))).chunks())


def test_class_folders_are_listed_by_name_of_class_and_file_at_any_depth(make):
    folder = make("dog/b.png", "dog/a.JPG", "cat/deep/er/1.webp", "beside.png")
    listing = list_images(folder)
    assert labels(listing) == {"cat/deep/er/1.webp": "cat", "dog/a.JPG": "dog", "dog/b.png": "dog"}
    assert listing.table["id"].is_monotonic_increasing
    assert list(listing.read(np.array([0, 2]))) == [str(folder / "cat/deep/er/1.webp"), str(folder / "dog/b.png")]
    assert rejected(listing) == {"beside.png": "stray_file"}
    assert listing.table["split"].isna().all()
    assert listing.name == "set"


@pytest.mark.parametrize(
    ("name", "side"), [("val", "validation"), ("valid", "validation"), ("VALIDATION", "validation")]
)
def test_folders_above_the_classes_are_sides(make, name, side):
    listing = list_images(make("train/cat/1.png", f"{name}/cat/1.png", "test/cat/1.png", "train/dog/x/2.png"))
    assert splits(listing) == {
        "train/cat/1.png": "training",
        "train/dog/x/2.png": "training",
        f"{name}/cat/1.png": side,
        "test/cat/1.png": "test",
    }
    assert set(listing.table["label"]) == {"cat", "dog"}


def test_sides_may_lack_validation_or_test(make):
    assert set(splits(list_images(make("train/cat/1.png", "test/cat/1.png"))).values()) == {"training", "test"}


def test_a_class_may_be_called_train_among_others(make):
    listing = list_images(make("train/1.png", "tram/1.png", "bus/1.png"))
    assert labels(listing) == {"train/1.png": "train", "tram/1.png": "tram", "bus/1.png": "bus"}
    assert listing.table["split"].isna().all()


@pytest.mark.parametrize(("sides", "other"), [(["test", "train"], "cat"), (["train", "val"], "extra")])
def test_sides_mixed_with_other_folders_are_refused(make, sides, other):
    folder = make(*(f"{name}/cat/1.png" for name in [*sides, other]))
    message = rf"mixes folders of splits \({', '.join(sides)}\) with other folders \({other}\)"
    with pytest.raises(ValueError, match=message):
        list_images(folder)


def test_sides_without_training_are_refused(make):
    with pytest.raises(ValueError, match=r"has the splits test, val but no train folder"):
        list_images(make("val/cat/1.png", "test/cat/1.png"))


def test_files_beside_sides_and_beside_classes_are_stray(make):
    listing = list_images(make("train/cat/1.png", "train/dog/1.png", "labels.csv", "train/notes.png", "test"))
    assert rejected(listing) == {"labels.csv": "other_file", "train/notes.png": "stray_file", "test": "stray_file"}
    assert len(listing.table) == 2


def test_images_in_a_folder_for_unlabelled_ones_have_no_label_and_are_no_class(make):
    listing = list_images(make("cat/1.png", "dog/1.png", "_unlabelled/1.png", "_unlabelled/deep/2.png"))
    assert listing.table.loc[listing.table["label"].isna(), "id"].tolist() == [
        "_unlabelled/1.png",
        "_unlabelled/deep/2.png",
    ]


def test_a_folder_for_unlabelled_ones_may_stand_beside_and_within_the_sides(make):
    listing = list_images(make("train/cat/1.png", "test/cat/1.png", "_unlabelled/1.png", "train/_unlabelled/2.png"))
    unlabelled = listing.table[listing.table["label"].isna()].set_index("id")["split"]
    assert unlabelled.index.tolist() == ["_unlabelled/1.png", "train/_unlabelled/2.png"]
    assert unlabelled.fillna("").tolist() == ["", "training"]


@pytest.mark.parametrize("names", [(), ("1.png",), ("_unlabelled/1.png",), (".cat/1.png",), ("train/1.png",)])
def test_a_folder_without_an_image_in_a_class_folder_is_refused_with_an_example(make, tmp_path, names):
    (tmp_path / "set").mkdir()
    with pytest.raises(ValueError, match=r"No image in .*Expected one folder a class.*/cat/1\.png"):
        list_images(make(*names) if names else tmp_path / "set")


def test_images_without_folders_are_counted_and_a_table_beside_them_is_named(make):
    told = (
        r"lies in a class folder: 2 lie beside each other, such as 0\.png.* If gt\.csv says .*, give .*/gt\.csv instead"
    )
    with pytest.raises(ValueError, match=told):
        list_images(make("0.png", "1.png", "gt.csv", ".hidden.png"))


def test_empty_class_folders_are_noted_and_folders_that_hold_something_are_not(make):
    folder = make("cat/1.png", "dog/1.png", "system/Thumbs.db")
    (folder / "cat/empty").mkdir()
    (folder / "bird").mkdir()
    (folder / "fish/deep/er").mkdir(parents=True)
    (folder / "_unlabelled").mkdir()
    notes = list_images(folder).notes
    assert notes[["id", "label", "note"]].to_numpy().tolist() == [
        ["bird", "bird", "empty_class"],
        ["fish", "fish", "empty_class"],
    ]


def test_an_empty_class_on_one_side_is_noted_with_its_side(make):
    folder = make("train/cat/1.png", "train/dog/1.png", "test/cat/1.png")
    (folder / "test/dog").mkdir()
    (folder / "val").mkdir()
    assert list_images(folder).notes[["id", "label"]].to_numpy().tolist() == [["test/dog", "dog"]]


def test_names_that_differ_by_case_white_space_or_composition_are_suspicious(make):
    folder = make(
        "Cat/1.png",
        "cat/1.png",
        "big  dog/1.png",
        "Big dog /1.png",
        "caf\u00e9/1.png",
        "cafe\u0301/1.png",
        "bird/1.png",
    )
    notes = list_images(folder).notes
    assert set(notes["note"]) == {"similar_labels"}
    assert set(notes["label"]) == {"Cat", "cat", "big  dog", "Big dog ", "caf\u00e9", "cafe\u0301"}
    assert set(notes["detail"][notes["label"].str.lower() == "cat"]) == {"'Cat', 'cat'"}


def test_hidden_and_system_entries_are_set_aside_as_one_each(make):
    listing = list_images(make("cat/1.png", ".git/a/b.png", "__MACOSX/cat/1.png", "cat/.x/1.png", "cat/THUMBS.DB"))
    assert rejected(listing) == {
        ".git": "hidden_file",
        "__MACOSX": "system_file",
        "cat/.x": "hidden_file",
        "cat/THUMBS.DB": "system_file",
    }


def test_names_that_are_not_utf_8_are_told_from_names_that_look_like_them(make):
    folder = make("cat/\udcff.png", "cat/\\xff.png", "cat/\\\\xff.png", "cat/new\nline.png")
    listing = list_images(folder)
    assert set(listing.table["id"]) == {"cat/\\xff.png", "cat/\\\\xff.png", "cat/\\\\\\\\xff.png", "cat/new\nline.png"}
    listing.table["id"].str.encode("utf-8")
    (chunk,) = decode(listing)
    assert len(chunk.table) == 4


@given(names=st.lists(st.binary(min_size=1, max_size=6), unique=True, max_size=6))
def test_no_two_names_are_printed_alike(names):
    assert len({_printable(os.fsdecode(name)) for name in names}) == len(names)


def test_links_to_files_and_folders_within_the_set_are_followed(make):
    folder = make("cat/1.png", "dog/1.png")
    (folder / "cat/link.png").symlink_to("1.png")
    (folder / "puma").symlink_to("cat", target_is_directory=True)
    listing = list_images(folder)
    assert labels(listing) == {
        "cat/1.png": "cat",
        "cat/link.png": "cat",
        "dog/1.png": "dog",
        "puma/1.png": "puma",
        "puma/link.png": "puma",
    }


def test_links_that_leave_the_folder_are_followed_on_request_only(make, tmp_path):
    folder = make("cat/1.png", "dog/1.png")
    write(tmp_path / "other/1.png", PICTURE)
    (folder / "bird").symlink_to(tmp_path / "other", target_is_directory=True)
    (folder / "cat/2.png").symlink_to(tmp_path / "other/1.png")
    listing = list_images(folder)
    assert rejected(listing) == {"bird": "link_outside", "cat/2.png": "link_outside"}
    assert str(tmp_path / "other") in listing.rejected["detail"].iloc[0]
    assert listing.rejected["label"].tolist() == ["bird", "cat"]  # a class is missing, and is noted as empty
    followed = list_images(folder, follow_links=True)
    assert rejected(followed) == {}
    assert labels(followed)["bird/1.png"] == "bird"


def test_a_set_that_is_itself_reached_by_a_link_is_listed(make, tmp_path):
    folder = make("cat/1.png", "dog/1.png")
    (folder / "cat/2.png").symlink_to(folder / "dog/1.png")
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    pd.testing.assert_frame_equal(list_images(tmp_path / "link").table, list_images(folder).table)


@pytest.mark.parametrize("follow_links", [True, False])
def test_links_in_a_circle_end(make, follow_links):
    folder = make("cat/1.png", "dog/1.png")
    (folder / "cat/up").symlink_to("..")
    (folder / "cat/dog").symlink_to("../dog")
    (folder / "dog/cat").symlink_to("../cat")
    (folder / "cat/above").symlink_to("../..")
    (folder / "cat/round.png").symlink_to("round.png")
    listing = list_images(folder, follow_links)
    loops = {name for name, reason in rejected(listing).items() if reason == "link_loop"}
    assert {"cat/up", "cat/above", "cat/dog/cat", "dog/cat/dog"} <= loops
    assert rejected(listing)["cat/round.png"] == "broken_link"
    assert labels(listing)["cat/dog/1.png"] == "cat"
    assert len(listing.table) == 4


def test_a_pipe_is_set_aside_and_never_opened(make):
    folder = make("cat/1.png", "dog/1.png")
    os.mkfifo(folder / "cat/pipe.png")
    listing = list_images(folder)
    assert rejected(listing) == {"cat/pipe.png": "unreadable"}
    decode(listing)


def test_a_folder_named_like_an_image_is_a_folder(make):
    assert labels(list_images(make("cat/a.png/1.png", "dog/1.png"))) == {"cat/a.png/1.png": "cat", "dog/1.png": "dog"}


def close(monkeypatch, name):
    """Refuse to open folders of that name: root may read everything, whatever their permissions are."""
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith(name):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)


def test_a_folder_that_cannot_be_opened_is_set_aside_with_its_class(make, monkeypatch):
    folder = make("cat/1.png", "dog/1.png", "dog/closed/2.png", "closed/3.png")
    close(monkeypatch, "closed")
    listing = list_images(folder)
    assert rejected(listing) == {"closed": "unreadable", "dog/closed": "unreadable"}
    assert listing.rejected["detail"].tolist() == ["Permission denied"] * 2
    assert listing.rejected["label"].tolist() == ["closed", "dog"]


@pytest.mark.parametrize("name", ["test", "validation", "train"])
def test_a_given_split_that_cannot_be_opened_is_not_drawn_anew(name, make, monkeypatch):
    sides = [f"{side}/{label}/1.png" for side in ("train", "validation", "test") for label in ("cat", "dog")]
    folder = make(*sides)
    close(monkeypatch, name)
    with pytest.raises(
        UnusableSetError, match=f"The split {name} of .* but cannot be looked into: unreadable, Permission denied"
    ):
        list_images(folder)


def test_a_given_split_that_is_a_link_out_or_to_nothing_is_not_drawn_anew(make, tmp_path):
    folder = make("train/cat/1.png", "train/dog/1.png")
    write(tmp_path / "other/cat/1.png", PICTURE)
    (folder / "test").symlink_to(tmp_path / "other", target_is_directory=True)
    with pytest.raises(
        UnusableSetError, match=r"The split test of .* link_outside, leads to .* set follow_links: true"
    ):
        list_images(folder)
    assert list_images(folder, follow_links=True).table["split"].tolist() == ["test", "training", "training"]

    (folder / "test").unlink()
    (folder / "test").symlink_to(tmp_path / "nowhere", target_is_directory=True)
    with pytest.raises(UnusableSetError, match=r"The split test of .* broken_link, leads to .*; or take it away"):
        list_images(folder)


def test_a_class_that_is_called_like_a_split_and_cannot_be_opened_is_set_aside(make, monkeypatch):
    folder = make("cat/1.png", "dog/1.png", "test/1.png")
    close(monkeypatch, "test")
    assert rejected(list_images(folder)) == {"test": "unreadable"}


def test_of_images_without_labels_too_what_is_set_aside_is_told(make):
    folder = make("1.png", "day/.2.png")
    (folder / "empty").mkdir()
    listing = list_unlabelled(folder)
    assert listing.table["id"].tolist() == ["1.png"]
    assert rejected(listing) == {"day/.2.png": "hidden_file"}


def test_a_set_that_cannot_be_opened_is_an_error(make, monkeypatch):
    folder = make("cat/1.png")

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError):
        list_images(folder)


def test_a_file_that_cannot_be_read_is_set_aside(make):
    # /proc/self/mem is a regular file that nobody, not even root, can read at its start: a real error of the system
    folder = make("cat/1.png", "dog/1.png")
    (folder / "cat/2.png").symlink_to("/proc/self/mem")
    (chunk,) = decode(list_images(folder, follow_links=True))
    assert chunk.rejected[["id", "reason", "detail"]].to_numpy().tolist() == [
        ["cat/2.png", "no_answer", os.strerror(errno.EIO)]
    ]


def test_a_file_without_permission_is_set_aside(make, monkeypatch):
    folder = make("cat/1.png", "dog/1.png")
    opened = builtins.open

    def refuse(file, *args, **options):
        if str(file).endswith("cat/1.png"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(file, *args, **options)

    monkeypatch.setattr(builtins, "open", refuse)
    (chunk,) = decode(list_images(folder))
    assert chunk.rejected[["id", "reason", "detail"]].to_numpy().tolist() == [
        ["cat/1.png", "unreadable", "Permission denied"]
    ]


def test_a_file_that_vanished_after_listing_is_set_aside(make):
    folder = make("cat/1.png", "cat/2.png", "dog/1.png")
    listing = list_images(folder)
    (folder / "cat/2.png").unlink()
    (chunk,) = decode(listing)
    assert chunk.table["id"].tolist() == ["cat/1.png", "dog/1.png"]
    assert chunk.rejected[["id", "label", "reason"]].to_numpy().tolist() == [["cat/2.png", "cat", "missing_file"]]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_too_many_open_files_stop_the_run_since_no_image_is_to_blame(make, monkeypatch, number):
    listing = list_images(make("cat/1.png", "dog/1.png"))

    def refuse(file, *args, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(builtins, "open", refuse)
    with pytest.raises(OSError, match=os.strerror(number)):
        decode(listing)


def test_hundreds_of_folders_are_listed_with_few_open_files(tmp_path):
    for index in range(300):
        write(tmp_path / f"set/class{index % 3}/{index}/1.png", PICTURE)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, before[1]))
    try:
        chunks = decode(list_images(tmp_path / "set"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert sum(len(chunk.table) for chunk in chunks) == 300


def test_a_pattern_reads_classes_from_names_where_they_have_no_folders(make):
    folder = make(
        "cat.1.png", "cat.2.png", "dog.1.png", "deep/dog.2.png", "IMG_1.png", "_unlabelled/dog.3.png", "list.csv"
    )
    listing = list_images(folder, name_pattern=r"(cat|dog)\.\d")
    assert listing.table["label"].isna().sum() == 1
    assert {name: label for name, label in labels(listing).items() if not name.startswith("_")} == {
        "cat.1.png": "cat",
        "cat.2.png": "cat",
        "deep/dog.2.png": "dog",
        "dog.1.png": "dog",
    }
    assert rejected(listing) == {"IMG_1.png": "stray_file", "list.csv": "other_file"}
    assert listing.rejected["detail"].unique().tolist() == [r"(cat|dog)\.\d does not match it"]
    assert listing.notes.empty


def test_a_pattern_may_say_sides_and_groups_too(make):
    folder = make("p1/Train_cat_1.png", "p1/Train_dog_2.png", "p2/test_cat_3.png")
    listing = list_images(folder, name_pattern=r"(?P<group>p\d)/(?P<split>\w+?)_(?P<label>\w+)_")
    assert labels(listing) == {"p1/Train_cat_1.png": "cat", "p1/Train_dog_2.png": "dog", "p2/test_cat_3.png": "cat"}
    assert list(splits(listing).values()) == ["training", "training", "test"]
    assert listing.table["group"].tolist() == ["p1", "p1", "p2"]
    with pytest.raises(ValueError, match=r"finds no split in p1/Train_cat_1.png: 'p1'. Allowed: train, training"):
        list_images(folder, name_pattern=r"(?P<split>p\d)/\w+?_(?P<label>\w+)_")


def test_folders_of_sides_stay_sides_where_names_tell_the_class(make):
    folder = make("train/cat.1.png", "train/dog.1.png", "test/cat.2.png", "test/_unlabelled/1.png")
    listing = list_images(folder, name_pattern=r"/([a-z]+)\.\d")
    table = listing.table.fillna("")
    assert table[["label", "split"]].to_numpy().tolist() == [
        ["", "test"], ["cat", "test"], ["cat", "training"], ["dog", "training"],
    ]  # fmt: skip
    beside = make("other/cat.3.png")  # is no side, and then none is
    assert list_images(beside, name_pattern=r"/([a-z]+)\.\d").table["split"].isna().all()


def test_a_name_of_which_the_pattern_leaves_the_class_out_is_set_aside(make):
    listing = list_images(make("cat1.png", "1.png"), name_pattern=r"([a-z]+)?\d\.png")
    assert labels(listing) == {"cat1.png": "cat"}
    assert rejected(listing) == {"1.png": "stray_file"}


def test_a_pattern_that_matches_nothing_is_an_error_with_a_name_as_it_is(make):
    folder = make("cat.1.png", "dog.1.png")
    with pytest.raises(ValueError, match=r"has a name that \^\(bird\) matches. Found: 2 others, such as cat.1.png."):
        list_images(folder, name_pattern="^(bird)")
    with pytest.raises(ValueError, match=r"say how: target_name_pattern='\^\(\[a-z\]\+\)'"):
        list_images(folder)
    with pytest.raises(ValueError, match="Found: no other"):
        list_images(make("../none/notes.txt").parent / "none", name_pattern="^(bird)")


def test_names_of_columns_are_for_tables(make):
    with pytest.raises(ValueError, match=r"Names of columns are for tables; .*set is a folder"):
        list_images(make("cat/1.png"), columns={"label": "dx"})


def test_folders_called_like_splits_in_other_words_are_no_classes(tmp_path):
    for side in ("training_set", "test_set"):
        for name in ("cat", "dog"):
            write(tmp_path / side / name / "1.png", PICTURE)
    with pytest.raises(
        ValueError, match=r"folders test_set, training_set of .* are called like splits.* Rename them to"
    ):
        list_images(tmp_path)
    listing = list_images(tmp_path, name_pattern="^([^/]+)/")
    assert set(listing.table["label"]) == {"test_set", "training_set"}


def test_classes_may_be_called_like_splits_where_they_have_no_folders(tmp_path):
    for name in ("train_station", "test_tube"):
        write(tmp_path / name / "1.png", PICTURE)
    assert set(list_images(tmp_path).table["label"]) == {"train_station", "test_tube"}


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (["archive/cat/1.png", "archive/dog/1.png"], "If they are the folders in it, give .*/archive instead"),
        (["images/1.png", "labels.csv"], "If labels.csv says which they are, give .*/labels.csv instead"),
        (
            ["train/food/milk/1.png", "test/food/tea/old/1.png"],
            r"say so: target_name_pattern='\(\[\^/\]\+\)/\[\^/\]\+\$'",
        ),
    ],
)
def test_one_folder_alone_is_told_with_what_to_give_instead(tmp_path, files, told):
    for name in files:
        write(tmp_path / name, PICTURE)
    with pytest.raises(ValueError, match=f"is one folder only, .*, and a classifier needs at least two.* {told}"):
        list_images(tmp_path)
