import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn_transfer.images import (
    DecodedImages,
    ImageFormat,
    ImageListing,
    decoding,
    image_set,
    open_image_set,
    write_image_set,
)

FORMAT = ImageFormat(image_size_px=16, channels=3)


def decoded(pixels, labels, names=None):
    """Images to write, from pixels in memory (None: an image that cannot be read)."""
    names = [f"i{n:03d}" for n in range(len(labels))] if names is None else names
    table = pd.DataFrame({"id": names, "label": labels})
    listing = ImageListing(table, lambda rows: (b"broken" if pixels[row] is None else pixels[row] for row in rows))
    return DecodedImages(listing, np.arange(len(labels)), FORMAT)


def store(folder, *args):
    write_image_set(decoded(*args), folder)
    return open_image_set(folder)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (23, 16, 16, 3), np.uint8)


@pytest.fixture(scope="module")
def labels():
    return ["cat", "ant", "dog"] * 7 + ["ant", "cat"]


@pytest.fixture
def sharded(tmp_path, monkeypatch, pixels, labels):
    """A set of 23 images decoded five at a time and stored four to a shard."""
    monkeypatch.setattr(decoding, "CHUNK_IMAGES", 5)
    monkeypatch.setattr(image_set, "SHARD_BYTES", 4 * 16 * 16 * 3 + 100)
    return store(tmp_path / "set", pixels, labels)


def test_a_set_reads_back_what_was_written(tmp_path, pixels, labels):
    images = store(tmp_path / "set", pixels, labels)
    assert len(images) == 23
    assert images.class_names == ("ant", "cat", "dog")
    assert images.image_shape == (16, 16, 3)
    assert images.table["label"].tolist() == labels
    assert [images.class_names[index] for index in images.classes] == labels
    assert images.classes.dtype == np.int32
    np.testing.assert_array_equal(images.pixels(np.arange(23)), pixels)
    assert images.rejected.empty


def test_images_over_several_shards_read_back_in_any_order_with_repeats(sharded, tmp_path, pixels):
    assert len(list((tmp_path / "set").glob("pixels-*.arrow"))) >= 6
    rows = np.random.default_rng(1).integers(0, 23, 200)
    found = sharded.pixels(rows)
    np.testing.assert_array_equal(found, pixels[rows])
    assert found.dtype == np.uint8


def test_no_shard_is_larger_than_allowed(sharded, tmp_path):
    # Arrow adds a header and a footer of at most a few kilobytes to the four images.
    assert all(file.stat().st_size < 4 * 16 * 16 * 3 + 4096 for file in (tmp_path / "set").glob("pixels-*.arrow"))


def test_no_rows_give_no_pixels(sharded):
    assert sharded.pixels(np.array([], int)).shape == (0, 16, 16, 3)


def test_several_images_share_a_shard_when_they_fit(tmp_path, monkeypatch, pixels, labels):
    monkeypatch.setattr(decoding, "CHUNK_IMAGES", 5)
    images = store(tmp_path / "set", pixels, labels)
    assert len(list((tmp_path / "set").glob("pixels-*.arrow"))) == 1
    np.testing.assert_array_equal(images.pixels(np.arange(22, -1, -1)), pixels[::-1])


def test_opening_maps_the_shards_and_does_not_load_them(sharded):
    for shard in sharded.shards:
        assert not shard.flags.owndata
        assert not shard.flags.writeable


def test_pixels_that_are_handed_out_are_a_copy(sharded, pixels):
    copy = sharded.pixels(np.array([3, 4]))
    copy[:] = 0
    np.testing.assert_array_equal(sharded.pixels(np.array([3, 4])), pixels[3:5])


def test_an_unreadable_image_is_set_aside_with_its_reason(tmp_path, pixels, labels):
    damaged = list(pixels)
    damaged[7] = None
    images = store(tmp_path / "set", damaged, labels)
    assert len(images) == 22
    assert images.rejected[["id", "label", "reason"]].to_numpy().tolist() == [["i007", labels[7], "unreadable"]]
    np.testing.assert_array_equal(images.pixels(np.arange(22)), np.delete(pixels, 7, axis=0))


def test_a_set_without_a_usable_image_is_refused_with_the_first_reason(tmp_path):
    with pytest.raises(ValueError, match=r"None of the 2 images could be read\. First reason: .*unreadable"):
        store(tmp_path / "set", [None, None], ["a", "b"])


def test_an_empty_set_is_refused(tmp_path):
    images = decoded([np.zeros((16, 16, 3), np.uint8)], ["a"])
    nothing = DecodedImages(images.listing, np.array([], int), FORMAT)
    with pytest.raises(ValueError, match=r"None of the 0 images|empty"):
        write_image_set(nothing, tmp_path / "set")


def test_an_existing_folder_is_not_overwritten(tmp_path, pixels, labels):
    store(tmp_path / "set", pixels, labels)
    with pytest.raises(FileExistsError):
        store(tmp_path / "set", pixels, labels)


def test_the_fingerprint_does_not_depend_on_the_order_or_the_shards(tmp_path, sharded, pixels, labels):
    order = np.random.default_rng(2).permutation(23)
    names = [f"i{n:03d}" for n in order]
    shuffled = store(tmp_path / "shuffled", pixels[order], [labels[n] for n in order], names)
    assert shuffled.fingerprint == sharded.fingerprint


def test_the_fingerprint_changes_with_one_pixel_one_label_one_name_or_one_image(tmp_path, pixels, labels):
    one_pixel = pixels.copy()
    one_pixel[11, 3, 5, 1] ^= 1
    one_label = [*labels[:-1], "dog"]
    one_name = [f"i{n:03d}" for n in range(22)] + ["other"]
    fingerprints = [
        store(tmp_path / "same", pixels, labels).fingerprint,
        store(tmp_path / "pixel", one_pixel, labels).fingerprint,
        store(tmp_path / "label", pixels, one_label).fingerprint,
        store(tmp_path / "name", pixels, labels, one_name).fingerprint,
        store(tmp_path / "fewer", pixels[:-1], labels[:-1]).fingerprint,
    ]
    assert len(set(fingerprints)) == 5


@pytest.mark.parametrize("damage", ["shard", "table", "card"])
def test_a_set_whose_files_do_not_belong_together_is_refused(sharded, tmp_path, damage):
    folder = tmp_path / "set"
    if damage == "shard":
        (folder / "pixels-00001.arrow").unlink()
    elif damage == "table":
        pd.read_parquet(folder / "table.parquet").iloc[:-1].to_parquet(folder / "table.parquet", index=False)
    else:
        card = json.loads((folder / "set.json").read_text())
        (folder / "set.json").write_text(json.dumps(card | {"images": 99}))
    with pytest.raises(ValueError, match=r"is damaged: set\.json promises .*Run the preprocess stage again"):
        open_image_set(folder)


def test_rows_of_a_split_are_found(shapes, shape_splits):
    rows = shapes.rows(shape_splits, "validation")
    assert shape_splits.loc[rows, "split"].unique().tolist() == ["validation"]
    assert len(rows) == (shape_splits["split"] == "validation").sum()


@pytest.mark.parametrize("change", ["fewer", "other order", "other ids"])
def test_a_table_of_splits_about_other_images_is_refused(shapes, shape_splits, change):
    changed = {
        "fewer": shape_splits.iloc[:-1],
        "other order": shape_splits.iloc[::-1].reset_index(drop=True),
        "other ids": shape_splits.assign(id="x/" + shape_splits["id"]),
    }[change]
    with pytest.raises(ValueError, match="must list the 400 images of this set in its order"):
        shapes.rows(changed, "training")


@given(rows=st.lists(st.integers(0, 399), max_size=30))
def test_any_rows_are_those_of_the_files(shapes, class_folder, rows):
    from PIL import Image

    expected = [np.asarray(Image.open(class_folder / shapes.table["id"].iloc[row]))[..., None] for row in rows]
    found = shapes.pixels(np.array(rows, int))
    np.testing.assert_array_equal(found, np.array(expected, np.uint8).reshape(-1, 28, 28, 1))
