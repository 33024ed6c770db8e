import errno
import json
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_images import encode, photograph, write

from cnn_transfer.images import (
    DecodedImages,
    ImageFormat,
    ImageListing,
    NoRoomError,
    Workers,
    decoding,
    image_set,
    list_images,
    open_image_set,
    preparation,
    write_image_set,
)

FORMAT = ImageFormat(image_size_px=16, channels=3)
PICTURES = [encode(photograph(seed, 24, 20)) for seed in range(11)]


def decoded(pixels, labels, names=None):
    """Images to write, from pixels in memory (None: an image that cannot be read)."""
    names = [f"i{n:03d}" for n in range(len(labels))] if names is None else names
    table = pd.DataFrame({"id": names, "label": labels})
    listing = ImageListing(table, lambda rows: (b"broken" if pixels[row] is None else pixels[row] for row in rows))
    return DecodedImages(listing, FORMAT, np.arange(len(labels)))


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
    monkeypatch.setattr(preparation, "MOST_CHUNK_IMAGES", 5)
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
    monkeypatch.setattr(preparation, "MOST_CHUNK_IMAGES", 5)
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
    assert images.rejected[["id", "label", "reason"]].to_numpy().tolist() == [["i007", labels[7], "not_an_image"]]
    np.testing.assert_array_equal(images.pixels(np.arange(22)), np.delete(pixels, 7, axis=0))


def test_a_set_without_a_usable_image_is_written_and_says_why(tmp_path):
    images = store(tmp_path / "set", [None, None], ["a", "b"])
    assert len(images) == 0
    assert images.class_names == ()
    assert images.rejected["reason"].tolist() == ["not_an_image"] * 2
    assert images.pixels(np.array([], int)).shape == (0, 16, 16, 3)


def test_images_that_were_not_sampled_are_set_aside_as_such(tmp_path, pixels, labels):
    everything = decoded(pixels, labels)
    write_image_set(DecodedImages(everything.listing, FORMAT, np.array([0, 2, 22])), tmp_path / "set")
    images = open_image_set(tmp_path / "set")
    assert images.table["id"].tolist() == ["i000", "i002", "i022"]
    assert images.rejected["reason"].tolist() == ["not_sampled"] * 20
    assert sorted([*images.table["id"], *images.rejected["id"]]) == [f"i{n:03d}" for n in range(23)]


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


def test_rows_of_a_split_are_found_by_id_whatever_the_order_of_the_table(shapes, shape_splits):
    shuffled = shape_splits.sample(frac=1, random_state=0)
    rows = shapes.rows(shuffled, "training")
    wanted = shuffled["id"][shuffled["split"] == "training"].tolist()
    assert shapes.table["id"].iloc[rows].tolist() == wanted


def test_a_table_of_splits_may_leave_images_out(shapes, shape_splits):
    rows = shapes.rows(shape_splits.iloc[:30], "training")
    np.testing.assert_array_equal(rows, np.flatnonzero(shape_splits["split"].iloc[:30] == "training"))


def test_a_table_of_splits_about_other_images_is_refused(shapes, shape_splits):
    changed = shape_splits.assign(id=shape_splits["id"].where(shape_splits.index != 7, "x.png"), split="training")
    with pytest.raises(ValueError, match=r"must be about this set\. 1 of its 400 training images .* such as x\.png"):
        shapes.rows(changed, "training")


def test_a_class_without_training_images_is_no_class_of_the_splits(shapes, shape_splits):
    fewer = shapes.used_in(shape_splits[shape_splits["label"] != "column"])
    assert fewer.class_names == ("blob", "diagonal", "row")
    named = shapes.table["label"].isin(fewer.class_names)
    assert [fewer.class_names[index] for index in fewer.classes[named]] == shapes.table["label"][named].tolist()


@given(rows=st.lists(st.integers(0, 399), max_size=30))
def test_any_rows_are_those_of_the_files(shapes, class_folder, rows):
    from PIL import Image

    expected = [np.asarray(Image.open(class_folder / shapes.table["id"].iloc[row]))[..., None] for row in rows]
    found = shapes.pixels(np.array(rows, int))
    np.testing.assert_array_equal(found, np.array(expected, np.uint8).reshape(-1, 28, 28, 1))


class Content:
    """Encoded images by name that a test may change, and the decodings that they cost."""

    def __init__(self, monkeypatch):
        self.images = {}
        self.decoded = 0
        decode = preparation.decode_image

        def count(*args):
            self.decoded += 1
            return decode(*args)

        monkeypatch.setattr(preparation, "decode_image", count)

    def write(self, folder, earlier=None, threads=None, image_format=FORMAT):
        """Write the images as a set; returns it and how many were decoded for it."""
        names = list(self.images)
        table = pd.DataFrame({"id": names, "label": [name[0] for name in names]})
        listing = ImageListing(table, lambda rows: (self.images[names[row]] for row in rows), "set")
        before = self.decoded
        workers = Workers(engine="threads", workers=threads)
        write_image_set(DecodedImages(listing, image_format, np.arange(len(names)), workers), folder, earlier)
        return open_image_set(folder), self.decoded - before


@pytest.fixture
def content(monkeypatch):
    """Thirty images, two of them copies and one torn, decoded seven at a time and stored ten to a shard."""
    monkeypatch.setattr(preparation, "MOST_CHUNK_IMAGES", 7)
    monkeypatch.setattr(image_set, "SHARD_BYTES", 10 * 16 * 16 * 3)
    content = Content(monkeypatch)
    content.images = {f"{'abc'[n % 3]}{n:02d}.png": encode(photograph(n, 24, 20)) for n in range(30)}
    content.images["a04 copy.png"] = content.images["b04.png"]
    content.images["b05 copy.png"] = content.images["c05.png"]
    content.images["c06 torn.png"] = content.images["a06.png"][:100]
    return content


def assert_same(images, other):
    assert images.fingerprint == other.fingerprint
    assert images.class_names == other.class_names
    pd.testing.assert_frame_equal(images.table, other.table)
    pd.testing.assert_frame_equal(images.rejected, other.rejected)
    np.testing.assert_array_equal(images.pixels(np.arange(len(images))), other.pixels(np.arange(len(other))))


def files(folder):
    return [(file.name, file.stat().st_ino) for file in sorted(folder.glob("pixels-*.arrow"))]


def test_a_second_run_over_the_same_images_decodes_none_and_takes_no_room(tmp_path, content):
    first, decoded_first = content.write(tmp_path / "1")
    second, decoded_second = content.write(tmp_path / "2", tmp_path / "1")
    assert decoded_first == len(content.images)
    assert decoded_second == 1  # the torn one, of which nothing is kept
    assert_same(second, first)
    assert files(tmp_path / "2") == files(tmp_path / "1")
    assert json.loads((tmp_path / "2/written.json").read_text())["decoded"] == 0


def test_a_second_set_outlives_the_first(tmp_path, content):
    first, _ = content.write(tmp_path / "1")
    expected = first.pixels(np.arange(len(first)))
    content.write(tmp_path / "2", tmp_path / "1")
    shutil.rmtree(tmp_path / "1")
    np.testing.assert_array_equal(open_image_set(tmp_path / "2").pixels(np.arange(len(first))), expected)


def test_files_are_copied_where_they_cannot_have_two_names(tmp_path, content, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    first, _ = content.write(tmp_path / "1")
    monkeypatch.setattr(os, "link", refuse)
    second, _ = content.write(tmp_path / "2", tmp_path / "1")
    assert_same(second, first)


CHANGES = {
    "one changed": lambda images: images | {"b13.png": encode(photograph(99, 24, 20))},
    "one new at the end": lambda images: images | {"z.png": encode(photograph(99, 24, 20))},
    "one new at the start": lambda images: {"0.png": encode(photograph(99, 24, 20))} | images,
    "one removed": lambda images: {name: image for name, image in images.items() if name != "b13.png"},
    "the last removed": lambda images: dict(list(images.items())[:-3]),
    "one torn": lambda images: images | {"b13.png": images["b13.png"][:100]},
    "one mended": lambda images: images | {"c06 torn.png": encode(photograph(98, 24, 20))},
    "one renamed": lambda images: {("c13.png" if name == "b13.png" else name): image for name, image in images.items()},
    "two exchanged": lambda images: images | {"b13.png": images["a00.png"], "a00.png": images["b13.png"]},
    "another order": lambda images: dict(reversed(images.items())),
    "all new": lambda images: {f"a{n}.png": encode(photograph(200 + n, 24, 20)) for n in range(9)},
    "none left": lambda images: {},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_only_what_changed_is_decoded_and_the_set_is_that_of_a_fresh_run(tmp_path, content, change):
    before = dict(content.images)
    content.write(tmp_path / "1")
    content.images = change(before)
    second, decoded = content.write(tmp_path / "2", tmp_path / "1")
    fresh, _ = content.write(tmp_path / "fresh")
    assert_same(second, fresh)
    torn = before["c06 torn.png"]
    new = [image for image in content.images.values() if image not in before.values() or image == torn]
    assert decoded == len(new)


@settings(max_examples=30)
@given(
    first=st.lists(st.integers(0, 12), max_size=20),
    second=st.lists(st.integers(0, 12), max_size=20),
    shard_images=st.integers(1, 9),
    chunk_images=st.integers(1, 9),
)
def test_any_set_may_follow_any_other(first, second, shard_images, chunk_images):
    images = [*PICTURES, b"torn", PICTURES[3]]
    with pytest.MonkeyPatch.context() as monkeypatch, TemporaryDirectory() as folder:
        monkeypatch.setattr(preparation, "MOST_CHUNK_IMAGES", chunk_images)
        monkeypatch.setattr(image_set, "SHARD_BYTES", shard_images * 16 * 16 * 3)
        monkeypatch.setattr(image_set, "MOST_COPIED", 3)
        content = Content(monkeypatch)
        content.images = {f"a{n}": images[number] for n, number in enumerate(first)}
        content.write(Path(folder, "1"))
        content.images = {f"a{n}": images[number] for n, number in enumerate(second)}
        found, decoded = content.write(Path(folder, "2"), Path(folder, "1"))
        fresh, _ = content.write(Path(folder, "fresh"))
        assert_same(found, fresh)
        known = {images[number] for number in first} - {b"torn"}
        assert decoded == sum(images[number] not in known for number in second)


class Folder:
    """The images as files in class folders, and the readings and decodings that sets of them cost."""

    def __init__(self, folder, content, monkeypatch):
        self.folder, self._content, self.read = folder, content, 0
        read = decoding._read_local

        def count(*args):
            self.read += 1
            return read(*args)

        monkeypatch.setattr(decoding, "_read_local", count)
        for name, image in content.images.items():
            write(folder / name[0] / name, image)

    def prepare(self, target, earlier=None):
        """Write a set; returns how many files were read and how many images decoded for it."""
        listing = list_images(self.folder)
        before = self.read, self._content.decoded
        write_image_set(DecodedImages(listing, FORMAT, np.arange(len(listing.table))), target, earlier)
        return self.read - before[0], self._content.decoded - before[1]


@pytest.fixture
def image_files(tmp_path, content, monkeypatch):
    return Folder(tmp_path / "images", content, monkeypatch)


def replace_and_keep_times(file):
    stamp = file.stat()
    image = encode(photograph(77, 24, 20))
    file.write_bytes(image.ljust(stamp.st_size, b"\0"))
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


def test_another_time_of_modification_alone_changes_nothing(tmp_path, image_files):
    image_files.prepare(tmp_path / "1")
    for file in image_files.folder.rglob("*.png"):
        os.utime(file, (0, 0))
    assert image_files.prepare(tmp_path / "2", tmp_path / "1") == (33, 1)  # the torn one is tried again


def test_files_that_have_settled_are_not_even_read_again(tmp_path, image_files, monkeypatch):
    monkeypatch.setattr(decoding, "UNSETTLED_NS", 0)
    image_files.prepare(tmp_path / "1")
    assert image_files.prepare(tmp_path / "2", tmp_path / "1") == (1, 1)  # the torn one is tried again
    assert_same(open_image_set(tmp_path / "2"), open_image_set(tmp_path / "1"))
    renamed = image_files.folder / "a/a00.png"
    renamed.rename(renamed.with_suffix(".jpg"))
    assert image_files.prepare(tmp_path / "3", tmp_path / "2") == (2, 2)
    assert "wrong_extension" in open_image_set(tmp_path / "3").table.set_index("id").loc["a/a00.jpg", "notes"]


@pytest.mark.parametrize("unsettled_ns", [0, 2 * 10**9])
def test_another_content_is_noticed_though_size_and_time_of_modification_are_kept(
    tmp_path, image_files, monkeypatch, unsettled_ns
):
    monkeypatch.setattr(decoding, "UNSETTLED_NS", unsettled_ns)
    image_files.prepare(tmp_path / "1")
    replace_and_keep_times(image_files.folder / "a/a00.png")
    assert image_files.prepare(tmp_path / "2", tmp_path / "1")[1] == 2
    one, two = (open_image_set(tmp_path / name).table.set_index("id")["content_digest"] for name in "12")
    assert one[one != two].index.tolist() == ["a/a00.png"]


@pytest.mark.parametrize("change", [{"image_size_px": 17}, {"channels": 1}, {"background": 7}, {"resize": "crop"}])
def test_images_of_another_format_are_decoded_anew(tmp_path, content, change):
    content.write(tmp_path / "1")
    other = ImageFormat(**FORMAT.model_dump() | change)
    _, decoded = content.write(tmp_path / "2", tmp_path / "1", image_format=other)
    assert decoded == len(content.images)


@pytest.mark.parametrize("damage", ["pixels-00001.arrow", "table.parquet", "set.json", "everything"])
def test_a_damaged_earlier_set_is_no_help_and_no_harm(tmp_path, content, damage):
    fresh, decoded_first = content.write(tmp_path / "1")
    if damage == "everything":
        shutil.rmtree(tmp_path / "1")
    else:
        (tmp_path / "1" / damage).write_bytes(b"damaged")
    second, decoded = content.write(tmp_path / "2", tmp_path / "1")
    assert decoded == decoded_first
    assert second.fingerprint == fresh.fingerprint


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_set_does_not_depend_on_the_number_of_workers(tmp_path, content, threads):
    one, _ = content.write(tmp_path / "one", threads=1)
    other, _ = content.write(tmp_path / "other", threads=threads)
    assert_same(other, one)


def test_too_little_room_is_an_error_before_anything_is_decoded(tmp_path, content, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(NoRoomError, match=r"Not enough room for 33 images of \(16, 16, 3\).*Lower image_size_px"):
        content.write(tmp_path / "1")
    assert content.decoded == 0


def test_unlabelled_images_have_no_class(tmp_path):
    images = store(tmp_path / "set", np.zeros((3, 16, 16, 3), np.uint8), ["b", None, "a"])
    assert images.class_names == ("a", "b")
    assert images.classes.tolist() == [1, -1, 0]


def test_rows_of_images_are_in_their_order_and_unknown_ones_are_named(shapes):
    ids = shapes.table["id"]
    assert shapes.rows_of([ids[5], ids[0], ids[5]]).tolist() == [5, 0, 5]
    assert shapes.rows_of([]).tolist() == []
    with pytest.raises(ValueError, match="1 of 2 are not in it, such as nobody"):
        shapes.rows_of([ids[0], "nobody"])
