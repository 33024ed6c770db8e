"""Sets of several tables, in the forms in which hubs and libraries for data write them."""

import json
import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from odd_images import encode, photograph, write

from cnn_transfer.images import DecodedImages, ImageFormat, list_images, list_unlabelled

PICTURES = [encode(photograph(seed, 24, 20)) for seed in range(12)]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
NAMES = {"info": {"features": {"label": {"names": ["cat", "dog"]}, "fine": {"names": ["cat", "dog"]}}}}


def rows(first, count, label="label", labels=None, **others):
    """A table as Hugging Face `datasets` has it: structs, numbers of classes, their names in the schema."""
    images = [{"bytes": PICTURES[first + index], "path": f"{index}.png"} for index in range(count)]
    columns = {"image": pa.array(images, STRUCT), label: labels or [index % 2 for index in range(count)]}
    return pa.table(columns | others).replace_schema_metadata({"huggingface": json.dumps(NAMES)})


def put(table, file):
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        pq.write_table(table, file)
    else:
        with pa.ipc.new_stream(str(file), table.schema) as sink:
            sink.write_table(table)


def hub(folder):
    """As a hub has it: a card beside a folder of Parquet files that are named after splits."""
    put(rows(0, 4), folder / "data/train-00000-of-00002.parquet")
    put(rows(4, 4), folder / "data/train-00001-of-00002.parquet")
    put(rows(8, 3), folder / "data/test-00000-of-00001.parquet")
    write(folder / "README.md", b"# A set")
    write(folder / ".gitattributes", b"")
    return folder


def saved(folder):
    """As `save_to_disk` has it: a folder a split, of Arrow streams and JSON files."""
    put(rows(0, 4), folder / "train/data-00000-of-00002.arrow")
    put(rows(4, 4), folder / "train/data-00001-of-00002.arrow")
    put(rows(4, 4), folder / "train/cache-1a2b.arrow")
    put(rows(8, 3), folder / "test/data-00000-of-00001.arrow")
    for name in ("dataset_dict.json", "train/state.json", "test/dataset_info.json"):
        write(folder / name, b"{}")
    return folder


def decoded(listing, numbers):
    (chunk,) = DecodedImages(listing, ImageFormat(image_size_px=16, channels=3), np.asarray(numbers)).chunks()
    return chunk.pixels


@pytest.mark.parametrize("make", [hub, saved])
def test_tables_of_a_folder_are_one_set_with_the_splits_that_they_are_named_after(tmp_path, make):
    listing = list_images(make(tmp_path / "pets"))
    assert listing.name == "pets"
    table = listing.table.sort_values("id")
    assert table["split"].value_counts().to_dict() == {"training": 8, "test": 3}
    assert table["label"].tolist() == ["cat", "dog", "cat", *["cat", "dog"] * 4]
    assert table["id"].is_unique
    first = table["id"].iloc[0]
    assert first in {"data/test-00000-of-00001.parquet/0.png", "test/data-00000-of-00001.arrow/0.png"}
    flat = list_unlabelled(make(tmp_path / "again"))
    assert flat.table["id"].tolist() == listing.table["id"].tolist()


def test_a_folder_a_variant_and_a_folder_a_split_may_be_above_the_tables(tmp_path):
    put(rows(0, 4), tmp_path / "default/train/0000.parquet")
    put(rows(4, 3), tmp_path / "default/test/0000.parquet")
    table = list_images(tmp_path).table
    assert table["split"].tolist() == ["test"] * 3 + ["training"] * 4
    assert table["id"].iloc[0] == "default/test/0000.parquet/0.png"
    (tmp_path / "loop/again").mkdir(parents=True)
    (tmp_path / "loop/again/more").symlink_to(tmp_path / "loop")
    with pytest.raises(ValueError, match="No image in"):
        list_images(tmp_path / "loop")


def test_images_are_read_from_the_table_that_has_them_wherever_they_are(tmp_path):
    listing = pickle.loads(pickle.dumps(list_images(hub(tmp_path))))  # as workers on other machines get it
    whole = decoded(listing, range(11))
    order = [*range(8, 11), *range(8)]  # test comes before train
    expected = decoded(list_images(one_table(tmp_path / "one.parquet", order)), range(11))
    np.testing.assert_array_equal(whole, expected)
    np.testing.assert_array_equal(decoded(listing, [1, 2, 5, 10]), whole[[1, 2, 5, 10]])


def one_table(file, order):
    put(pa.table({"image": pa.array([PICTURES[place] for place in order]), "label": ["a"] * len(order)}), file)
    return file


def test_columns_may_have_other_names_and_a_column_of_splits_comes_before_the_name(tmp_path):
    sides = {"split": ["test", None, None], "site": [1, 2, 3]}
    put(rows(0, 3, "fine", **sides), tmp_path / "train.parquet")
    put(rows(3, 2, "fine", site=["north", "1"]), tmp_path / "more.parquet")
    with pytest.raises(ValueError, match=r"has no column label.*Found: image, fine, site"):
        list_images(tmp_path)
    listing = list_images(tmp_path, columns={"label": "fine"})
    assert listing.table.set_index("id")["split"].fillna("").to_dict() == {
        "more.parquet/0.png": "",
        "more.parquet/1.png": "",
        "train.parquet/0.png": "test",
        "train.parquet/1.png": "training",
        "train.parquet/2.png": "training",
    }
    assert listing.attributes["site"].tolist() == ["north", "1", "1", "2", "3"]
    with pytest.raises(ValueError, match=r"A pattern of names is for folders of images; .* is a folder of tables"):
        list_images(tmp_path, name_pattern="(.)")


def test_a_test_side_without_labels_is_no_obstacle_and_a_set_without_any_is(tmp_path):
    put(rows(0, 4), tmp_path / "train.parquet")
    put(rows(4, 3, labels=[-1, -1, -1]), tmp_path / "test.parquet")
    listing = list_images(tmp_path)
    assert listing.table["label"].isna().tolist() == [True] * 3 + [False] * 4
    (tmp_path / "train.parquet").unlink()
    with pytest.raises(ValueError, match="lists no labelled image"):
        list_images(tmp_path)


def test_a_table_without_images_is_set_aside_and_a_damaged_one_is_refused(tmp_path):
    hub(tmp_path)
    pd.DataFrame({"label": ["x"]}).to_parquet(tmp_path / "data/boxes.parquet")
    listing = list_images(tmp_path)
    assert listing.rejected.to_numpy().tolist()[0][0] == "data/boxes.parquet"
    assert listing.rejected["reason"].tolist() == ["other_file"]
    assert len(listing.table) == 11
    whole = tmp_path / "data/train-00000-of-00002.parquet"
    whole.write_bytes(whole.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"train-00000-of-00002.parquet is damaged"):
        list_images(tmp_path)


@pytest.mark.parametrize("table", ["notes.parquet", "cat/notes.parquet", "train/notes.parquet"])
def test_class_folders_stay_class_folders_whatever_tables_lie_among_them(tmp_path, table):
    for name in ("train/cat/1.png", "train/dog/1.png") if "train" in table else ("cat/1.png", "dog/1.png"):
        write(tmp_path / name, PICTURES[0])
    put(rows(0, 3), tmp_path / table)
    listing = list_images(tmp_path)
    assert {"cat", "dog"} == set(listing.table["label"])
    assert [name.endswith(".png") for name in listing.table["id"]].count(True) == 2


def test_a_folder_that_cannot_be_looked_into_is_left_to_the_listing(tmp_path, monkeypatch):
    hub(tmp_path)

    def refuse(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("cnn_transfer.images.shards.os.scandir", refuse)
    with pytest.raises(PermissionError):
        list_images(tmp_path)


@pytest.mark.parametrize(
    ("training", "test"),
    [
        ("mnist_train.parquet", "mnist_test.parquet"),
        ("cifar10-train-0.parquet", "cifar10-test-0.parquet"),
        ("train/data/0.parquet", "test/data/0.parquet"),
        ("Train set.parquet", "Test set.parquet"),
    ],
)
def test_any_word_of_a_name_and_any_folder_may_be_that_of_a_split(tmp_path, training, test):
    put(rows(0, 4), tmp_path / training)
    put(rows(4, 3), tmp_path / test)
    splits = list_images(tmp_path).table.set_index("id")["split"]
    assert set(splits[splits.index.str.startswith(training)]) == {"training"}
    assert set(splits[splits.index.str.startswith(test)]) == {"test"}


def test_a_name_with_words_of_two_splits_is_refused(tmp_path):
    put(rows(0, 4), tmp_path / "train-test.parquet")
    with pytest.raises(ValueError, match=r"train-test.parquet names train and test: rename it"):
        list_images(tmp_path)


def manifests(folder, **texts):
    for index in range(6):
        write(folder / f"images/{index}.png", PICTURES[index])
    for name, text in texts.items():
        write(folder / f"{name}.csv", text.encode())
    return folder / "*.csv"


def test_manifests_of_one_folder_are_one_set_with_the_splits_that_they_are_named_after(tmp_path):
    listing = list_images(
        manifests(
            tmp_path / "shapes",
            shapes_train="path,label,split\nimages/0.png,cat,\nimages/1.png,dog,validation\nimages/2.png,dog,\n",
            shapes_test="path,label,site\nimages/3.png,cat,north\nimages/1.png,dog,south\n",
            _more="path\nimages/4.png\n",
        )
    )
    assert listing.name == "shapes"
    found = listing.table.fillna("")
    assert {row[0]: row[1:3] for row in found.to_numpy().tolist()} == {
        "images/4.png": ["", ""],
        "images/3.png": ["cat", "test"],
        "images/1.png": ["dog", "test"],  # where it is in two tables
        "images/0.png": ["cat", "training"],
        "images/2.png": ["dog", "training"],
    }
    assert listing.rejected["reason"].tolist() == ["listed_twice"]
    assert listing.attributes.set_index("id")["site"].dropna().to_dict() == {
        "images/3.png": "north",
        "images/1.png": "south",
    }
    assert len(decoded(listing, range(5))) == 5
    unlabelled = list_unlabelled(tmp_path / "shapes/*test.csv")
    assert unlabelled.table["id"].tolist() == ["images/3.png", "images/1.png"]


def test_tables_of_images_of_one_folder_may_be_named_together(tmp_path):
    for name in ("train", "test", "other"):
        put(rows(0, 2), tmp_path / f"{name}.parquet")
    table = list_images(tmp_path / "t*.parquet").table
    assert table["id"].tolist() == [f"{name}.parquet/{index}.png" for name in ("test", "train") for index in (0, 1)]
    with pytest.raises(
        FileNotFoundError, match=r"were expected at .*u\*.parquet, but nothing is there\. In a path, \* stands"
    ):
        list_images(tmp_path / "u*.parquet")
    with pytest.raises(ValueError, match=r"A pattern of names is for folders of images; .* names tables"):
        list_images(tmp_path / "t*.parquet", name_pattern="(.)")


def test_columns_that_no_manifest_has_are_named(tmp_path):
    pattern = manifests(tmp_path, train="path\nimages/0.png\n", test="path,text\nimages/1.png,x\n")
    with pytest.raises(ValueError, match=r"\*.csv has no column label.*Found: path, text"):
        list_images(pattern)
