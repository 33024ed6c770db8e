"""Images on an S3 server that is read over HTTP: every form of input, and what networks do to it."""

import errno
import io
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs
from odd_images import encode
from PIL import Image

from cnn_transfer.datasets import RawImagesDataset
from cnn_transfer.images import (
    DecodedImages,
    ImageFormat,
    ImageListing,
    NoAnswerError,
    list_images,
    open_image_set,
    write_image_set,
)
from cnn_transfer.images.listing import RemoteFile
from cnn_transfer.images.locations import S3_ATTEMPTS
from cnn_transfer.images.preparation import Workers
from proxies import cutting_proxy

ONE = Workers(engine="threads", workers=1)


@pytest.fixture
def s3(bucket):
    return s3fs.S3FileSystem()


def picture(seed, side=24):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8))


def class_folders(root, images=6):
    """Two classes of PNG files."""
    for number, label in enumerate(("cat", "dog")):
        (root / label).mkdir(parents=True)
        for index in range(images):
            picture(100 * number + index).save(root / label / f"{index}.png")
    return root


def prepare(listing, folder):
    image_format = ImageFormat(image_size_px=16, channels=3)
    write_image_set(DecodedImages(listing, image_format, np.arange(len(listing.table))), folder)
    return open_image_set(folder)


def assert_same_set(address, local, tmp_path):
    """What is read from the address is what is read from the local path; returns it."""
    one, other = prepare(list_images(address), tmp_path / "remote"), prepare(list_images(local), tmp_path / "local")
    assert one.fingerprint == other.fingerprint
    pd.testing.assert_frame_equal(one.table, other.table)
    pd.testing.assert_frame_equal(one.rejected, other.rejected)
    return one


def test_class_folders_with_what_is_no_image_in_them(s3, bucket, tmp_path):
    photos = class_folders(tmp_path / "photos")
    (photos / "cat/sub folder").mkdir()
    picture(7).save(photos / "cat/sub folder/ü [1], 100% = #1?.png")
    (photos / "cat/.hidden.png").write_bytes(b"")
    (photos / "cat/Thumbs.db").write_bytes(b"thumbs")
    (photos / "dog/cut.png").write_bytes((photos / "dog/0.png").read_bytes()[:500])
    (photos / "dog/empty.png").write_bytes(b"")
    (photos / "dog/notes.txt").write_bytes(b"a dog")
    picture(8).save(photos / "stray.png")
    s3.put(str(photos), f"{bucket}/photos", recursive=True)
    images = assert_same_set(f"s3://{bucket}/photos", photos, tmp_path)
    assert len(images) == 13
    assert "cat/sub folder/ü [1], 100% = #1?.png" in set(images.table["id"])
    assert dict(zip(images.rejected["id"], images.rejected["reason"], strict=True)) == {
        "cat/.hidden.png": "hidden_file",
        "cat/Thumbs.db": "system_file",
        "dog/cut.png": "truncated",
        "dog/empty.png": "empty_file",
        "dog/notes.txt": "other_file",
        "stray.png": "stray_file",
    }


def test_given_splits_and_unlabelled_images_in_a_whole_bucket(s3, bucket, tmp_path):
    photos = tmp_path / "photos"
    for split in ("train", "val", "test"):
        class_folders(photos / split, images=2)
    (photos / "_unlabelled").mkdir()
    picture(9).save(photos / "_unlabelled/1.png")
    s3.put(f"{photos}/", bucket, recursive=True)
    images = assert_same_set(f"s3://{bucket}", photos, tmp_path)
    assert images.table["split"].value_counts().to_dict() == {"training": 4, "validation": 4, "test": 4}
    assert images.table["id"][images.table["label"].isna()].tolist() == ["_unlabelled/1.png"]


def test_folders_made_in_a_console_are_no_images(s3, bucket, tmp_path):
    photos = class_folders(tmp_path / "photos")
    s3.put(str(photos), f"{bucket}/photos", recursive=True)
    for marker in ("photos/", "photos/cat/", "photos/bird/"):  # empty objects, by which consoles show folders
        s3.call_s3("put_object", Bucket=bucket, Key=marker, Body=b"")
    assert_same_set(f"s3://{bucket}/photos/", photos, tmp_path)


def test_a_manifest_with_relative_paths_and_addresses(s3, bucket, tmp_path):
    photos = class_folders(tmp_path / "photos")
    rows = [(f"{label}/{index}.png", label) for label in ("cat", "dog") for index in range(6)]
    rows += [("./cat/../cat/gone.png", "cat"), ("cat/0.png", "dog"), ("dog/1.png", "dog")]
    pd.DataFrame(rows, columns=["path", "label"]).to_csv(photos / "photos.csv", index=False)
    s3.put(str(photos), f"{bucket}/photos", recursive=True)
    images = assert_same_set(f"s3://{bucket}/photos/photos.csv", photos / "photos.csv", tmp_path)
    assert images.rejected["reason"].value_counts().to_dict() == {
        "conflicting_labels": 2,
        "listed_twice": 1,
        "missing_file": 1,
    }
    addresses = pd.DataFrame({"path": [f"s3://{bucket}/photos/{path}" for path, _ in rows[2:8]], "label": "cat"})
    addresses.to_csv(tmp_path / "local.csv", index=False)
    assert len(prepare(list_images(tmp_path / "local.csv"), tmp_path / "by_address")) == 6


def test_a_folder_of_tables_that_are_named_after_splits(s3, bucket, tmp_path):
    folder = tmp_path / "set"
    (folder / "data").mkdir(parents=True)
    for first, name in enumerate(("train-0-of-2", "train-1-of-2", "test-0-of-1")):
        images = [encode(picture(6 * first + index)) for index in range(6)]
        pq.write_table(pa.table({"image": images, "label": ["cat", "dog"] * 3}), folder / f"data/{name}.parquet")
    (folder / "README.md").write_text("# A set", encoding="utf-8")
    s3.put(str(folder), f"{bucket}/set", recursive=True)
    for marker in ("set/", "set/data/"):
        s3.call_s3("put_object", Bucket=bucket, Key=marker, Body=b"")
    images = assert_same_set(f"s3://{bucket}/set", folder, tmp_path)
    assert images.table["split"].value_counts().to_dict() == {"training": 12, "test": 6}


def test_files_that_a_manifest_names_in_part_are_looked_for(s3, bucket, tmp_path):
    photos = class_folders(tmp_path / "photos")
    rows = [(f"{index}", label) for label in ("cat", "dog") for index in range(6)] + [("gone", "cat")]
    pd.DataFrame(rows, columns=["key", "dx"]).to_csv(photos / "photos.csv", index=False)
    s3.put(str(photos), f"{bucket}/photos", recursive=True)
    columns = {"file": "./{dx}*/**/{key}.*", "label": "dx"}
    listed = [
        list_images(path, columns=columns) for path in (f"s3://{bucket}/photos/photos.csv", photos / "photos.csv")
    ]
    one, other = (prepare(listing, tmp_path / name) for listing, name in zip(listed, ("s3", "local"), strict=True))
    assert one.fingerprint == other.fingerprint
    assert one.table["id"].tolist() == [f"{label}/{key}.png" for key, label in rows[:-1]]
    assert one.rejected[["id", "reason"]].to_numpy().tolist() == [["cat*/**/gone.*", "missing_file"]]


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_table_with_the_images_in_it(s3, bucket, tmp_path, suffix):
    files = sorted(class_folders(tmp_path / "photos").glob("*/*.png"))
    frame = pd.DataFrame(
        {"image": [file.read_bytes() for file in files], "label": [file.parent.name for file in files]}
    )
    frame.loc[3, "image"] = b"damaged"
    write = frame.to_feather if suffix == "arrow" else frame.to_parquet
    write(tmp_path / f"photos.{suffix}")
    s3.put(str(tmp_path / f"photos.{suffix}"), f"{bucket}/photos.{suffix}")
    images = assert_same_set(f"s3://{bucket}/photos.{suffix}", tmp_path / f"photos.{suffix}", tmp_path)
    assert (len(images), images.rejected["id"].tolist()) == (11, ["row 00000003"])


@pytest.mark.parametrize("address", ["s3://{bucket}-none/photos", "s3://{bucket}/none", "s3://{bucket}/none.csv"])
def test_an_address_with_nothing_there_is_named(bucket, address):
    address = address.format(bucket=bucket)
    with pytest.raises(FileNotFoundError, match=f"Images were expected at {address}, but nothing is there"):
        list_images(address)
    assert not RawImagesDataset(address).exists()


def test_credentials_and_arguments_of_the_catalog_entry(s3, bucket, tmp_path, monkeypatch, s3_server):
    photos = class_folders(tmp_path / "photos")
    rows = [(f"s3://{bucket}/photos/cat/{index}.png", "cat") for index in range(6)]
    pd.DataFrame(rows, columns=["path", "label"]).to_csv(photos / "photos.csv", index=False)
    s3.put(str(photos), f"{bucket}/photos", recursive=True)
    for name in s3_server:
        monkeypatch.delenv(name)
    entry = {
        "credentials": {"key": "somebody else", "secret": "secret"},
        "fs_args": {"endpoint_url": s3_server["AWS_ENDPOINT_URL"], "client_kwargs": {"region_name": "us-east-1"}},
    }
    folder = RawImagesDataset(f"s3://{bucket}/photos", **entry)
    assert folder.exists()
    assert len(prepare(folder.load(), tmp_path / "folder")) == 12
    assert "secret" not in str(folder)
    manifest = RawImagesDataset(f"s3://{bucket}/photos/photos.csv", **entry)
    assert len(prepare(manifest.load(), tmp_path / "manifest")) == 6


def test_what_was_added_after_an_earlier_listing_is_listed(s3, bucket, tmp_path):
    s3.put(str(class_folders(tmp_path / "photos")), f"{bucket}/photos", recursive=True)
    before = list_images(f"s3://{bucket}/photos")
    s3.call_s3("put_object", Bucket=bucket, Key="photos/cat/new.png", Body=b"")  # past the memory of fsspec
    assert len(list_images(f"s3://{bucket}/photos").table) == len(before.table) + 1


def test_objects_removed_after_the_listing_are_set_aside(s3, bucket, tmp_path):
    s3.put(str(class_folders(tmp_path / "photos")), f"{bucket}/photos", recursive=True)
    listing = list_images(f"s3://{bucket}/photos")
    s3.call_s3("delete_object", Bucket=bucket, Key="photos/cat/3.png")
    images = prepare(listing, tmp_path / "set")
    assert len(images) == 11
    assert images.rejected[["id", "reason"]].to_numpy().tolist() == [["cat/3.png", "missing_file"]]


def test_objects_whose_reading_breaks_off_are_set_aside(s3, bucket, tmp_path, s3_server):
    s3.put(str(class_folders(tmp_path / "photos")), f"{bucket}/photos", recursive=True)
    with cutting_proxy(s3_server["AWS_ENDPOINT_URL"], b"/photos/dog/4.png") as endpoint:
        images = prepare(list_images(f"s3://{bucket}/photos", endpoint_url=endpoint), tmp_path / "set")
    assert len(images) == 11
    (broken,) = images.rejected.to_dict("records")
    assert (broken["id"], broken["reason"]) == ("dog/4.png", "no_answer")
    assert "Incomplete" in broken["detail"] or "payload" in broken["detail"]


@pytest.mark.parametrize("images", [5, 6])  # a class: no more than may be set aside, and more
def test_a_server_that_went_away_ends_the_preparation(s3, bucket, tmp_path, s3_server, images):
    s3.put(str(class_folders(tmp_path / "photos", images)), f"{bucket}/photos", recursive=True)
    options = {"config_kwargs": {"retries": {"max_attempts": 0}}}
    with cutting_proxy(s3_server["AWS_ENDPOINT_URL"]) as endpoint:
        listing = list_images(f"s3://{bucket}/photos", endpoint_url=endpoint, **options)
    with pytest.raises(NoAnswerError, match=r"^\d+ images could not be read since .* of dog/\d\.png: .*endpoint URL"):
        prepare(listing, tmp_path / "set")
    assert not (tmp_path / "set/set.json").exists()


def test_an_object_is_asked_for_few_times(s3, bucket, tmp_path, s3_server):
    s3.put(str(class_folders(tmp_path / "photos")), f"{bucket}/photos", recursive=True)
    proxy = cutting_proxy(s3_server["AWS_ENDPOINT_URL"], b"/photos/dog/4.png", share=0)
    with proxy as endpoint:
        options = {"config_kwargs": {"retries": {"total_max_attempts": 1}}, "endpoint_url": endpoint}
        images = prepare(list_images(f"s3://{bucket}/photos", **options), tmp_path / "set")
    assert images.rejected["reason"].tolist() == ["no_answer"]
    assert S3_ATTEMPTS <= proxy.asked <= 2 * S3_ATTEMPTS**2  # aiohttp asks again where a connection was closed


class Store:
    """Answers for each object with what it is told to."""

    def __init__(self, answers):
        self.answers, self.asked = answers, 0

    def cat_ranges(self, paths, starts, ends, on_error):
        assert (starts, ends, on_error) == (None, None, "return")
        self.asked += len(paths)
        return [self.answers(int(path)) for path in paths]


def on(store, images):
    table = pd.DataFrame({"id": [f"{number}" for number in range(images)], "label": "a"})
    return ImageListing(table, lambda rows: (RemoteFile(store, f"{row}") for row in rows))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EBUSY, "Slow Down"), "no_answer"),
        (OSError(errno.EREMOTEIO, "Internal Error"), "no_answer"),
        (TimeoutError("read"), "no_answer"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "no_answer"),
        (type("ClientPayloadError", (Exception,), {})("cut"), "no_answer"),
        (FileNotFoundError("gone"), "missing_file"),
        (PermissionError("Access Denied"), "unreadable"),
        (OSError(errno.ENAMETOOLONG, "Key too long"), "unreadable"),
        (zipfile.BadZipFile("Bad CRC-32"), "unreadable"),
        (RuntimeError("File is encrypted"), "unreadable"),
    ],
)
def test_silence_is_told_from_answers(tmp_path, error, reason):
    encoded = io.BytesIO()
    picture(0).save(encoded, "PNG")
    store = Store(lambda number: error if number == 3 else encoded.getvalue())
    images = prepare(on(store, 12), tmp_path / "set")
    assert images.rejected[["id", "reason"]].to_numpy().tolist() == [["3", reason]]


def test_few_of_many_may_get_no_answer_and_no_more(tmp_path):
    encoded = io.BytesIO()
    picture(0).save(encoded, "PNG")
    silent = OSError(errno.EBUSY, "Slow Down")
    few = Store(lambda number: silent if number % 100 == 99 else encoded.getvalue())
    assert len(prepare(on(few, 2000), tmp_path / "few").rejected) == 20
    more = Store(lambda number: silent if number % 100 == 99 or number == 1998 else encoded.getvalue())
    with pytest.raises(NoAnswerError, match=r"21 images could not be read .*; of 1999: Slow Down\. Give the same comm"):
        prepare(on(more, 2000), tmp_path / "more")


def test_a_store_that_is_silent_is_not_asked_for_every_image(tmp_path):
    store = Store(lambda number: OSError(errno.EBUSY, "Slow Down"))
    listing = on(store, 2000)
    with pytest.raises(NoAnswerError, match="64 images could not be read"):
        list(DecodedImages(listing, ImageFormat(image_size_px=16, channels=3), np.arange(2000), ONE).chunks())
    assert store.asked == 64
