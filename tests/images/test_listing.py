import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn_transfer.images import ImageListing, list_images

IMAGE_STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture
def write_parquet(tmp_path):
    """Write a Parquet file in the form of Hugging Face datasets: names, encoded images, labels."""

    def write(names, encoded, labels, row_group_size=None):
        images = [{"bytes": image, "path": name} for name, image in zip(names, encoded, strict=True)]
        table = pa.table({"image": pa.array(images, IMAGE_STRUCT), "label": pa.array(labels)})
        pq.write_table(table, tmp_path / "images.parquet", row_group_size=row_group_size)
        return tmp_path / "images.parquet"

    return write


def test_ids_of_a_class_folder_do_not_depend_on_where_it_lies(tmp_path):
    for place in ("here", "there/deeper"):
        (tmp_path / place / "cat").mkdir(parents=True)
        (tmp_path / place / "cat" / "1.png").write_bytes(b"")
    here, there = list_images(tmp_path / "here"), list_images(tmp_path / "there/deeper")
    pd.testing.assert_frame_equal(here.table, there.table)


def test_lists_a_parquet_file_in_its_own_order(write_parquet):
    listing = list_images(write_parquet(["z", "a", "m"], [b"0", b"1", b"2"], ["cat", "dog", "cat"]))
    assert listing.table["id"].tolist() == ["z", "a", "m"]
    assert listing.table["label"].tolist() == ["cat", "dog", "cat"]


def test_whole_numbers_as_labels_become_names(write_parquet):
    listing = list_images(write_parquet(["a", "b"], [b"0", b"1"], [7, 11]))
    assert listing.table["label"].tolist() == ["7", "11"]


def test_a_path_with_nothing_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.parquet, but nothing is there"):
        list_images(tmp_path / "nowhere.parquet")


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "images.tar").write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"must be a folder of class folders or of tables, or a file .*\.parquet.*images\.tar"
    ):
        list_images(tmp_path / "images.tar")


def test_a_folder_without_class_folders_is_refused_with_an_example(tmp_path):
    (tmp_path / "1.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"No image in .*Expected one folder a class.*/cat/1\.png"):
        list_images(tmp_path)


def listing_of(labels):
    table = pd.DataFrame({"id": [f"i{n}" for n in range(len(labels))], "label": labels})
    return ImageListing(table, lambda rows: iter(()))


@given(
    labels=st.lists(st.sampled_from("abc"), min_size=1, max_size=40), most=st.integers(1, 12), seed=st.integers(0, 9)
)
def test_a_sample_takes_as_many_of_each_class_as_there_are_up_to_the_limit(labels, most, seed):
    listing = listing_of(labels)
    rows = listing.sample(most, seed)
    assert (np.diff(rows) > 0).all()
    taken = listing.table["label"].iloc[rows].value_counts().to_dict()
    assert taken == {name: min(most, labels.count(name)) for name in set(labels)}


def test_a_sample_without_a_limit_is_everything():
    assert listing_of(list("abcab")).sample(None, 3).tolist() == [0, 1, 2, 3, 4]


def test_a_sample_is_drawn_by_its_seed():
    listing = listing_of(["a"] * 50 + ["b"] * 50)
    assert listing.sample(5, 1).tolist() == listing.sample(5, 1).tolist()
    assert listing.sample(5, 1).tolist() != listing.sample(5, 2).tolist()


def test_a_sample_does_not_change_when_labels_in_it_are_asked_for():
    listing = listing_of(["a", "b"] * 20)
    drawn = listing.sample(5, 0).tolist()
    asked = ["training_too" if row in drawn[::2] else None for row in range(40)]
    assert ImageListing(listing.table.assign(split=asked), listing.read).sample(5, 0).tolist() == drawn
