"""Sets in archives, read where they are: what is listed, what is refused, and what tells that nothing has changed."""

import io
import pickle
import struct
import zipfile

import fsspec
import numpy as np
import pytest
from PIL import Image

from cnn_transfer.images import (
    DecodedImages,
    ImageFormat,
    Workers,
    fingerprint_of,
    list_images,
    list_unlabelled,
    locations,
    open_image_set,
    write_image_set,
)
from cnn_transfer.images.decoding import read_encoded
from cnn_transfer.images.locations import address_of, open_archive


def picture(grey):
    stream = io.BytesIO()
    Image.new("L", (24, 24), grey).save(stream, "BMP")  # as many bytes whatever it shows
    return stream.getvalue()


SET = {
    f"{label}/{number}.bmp": picture(10 * number + level)
    for label, level in (("cat", 3), ("dog", 6))
    for number in range(5)
}


@pytest.fixture
def packed(tmp_path):
    def pack(files, name="pets.zip", above=""):
        path = tmp_path / name
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file, content in files.items():
                archive.writestr(f"{above}{file}", content)
        return path

    return pack


def contents(listing):
    return [bytes(one) for one in read_encoded(listing.read(np.arange(len(listing.table))))]


@pytest.mark.parametrize("above", ["", "animals/"])
def test_an_archive_is_the_folder_in_it(packed, above):
    listing = list_images(packed(SET | {"__MACOSX/cat/._1.bmp": b"\0\5"}, above=above))
    assert listing.table["id"].tolist() == list(SET)
    assert listing.table["label"].tolist() == ["cat"] * 5 + ["dog"] * 5
    assert contents(listing) == list(SET.values())
    assert listing.rejected["reason"].tolist() == ["system_file"]
    assert listing.name == (above.rstrip("/") or "pets")


def test_what_a_packer_adds_beside_the_folder_does_not_count(packed):
    files = {f"animals/{name}": content for name, content in SET.items()} | {
        "__MACOSX/animals/._cat": b"",
        ".DS_Store": b"",
    }
    assert list_images(packed(files)).table["id"].tolist() == list(SET)


def test_given_splits_stay_where_they_are_the_only_folder(packed):
    listing = list_images(packed(SET, above="train/"))
    assert set(listing.table["split"]) == {"training"}


def test_new_images_and_a_manifest_in_an_archive(packed):
    assert list_unlabelled(packed(SET)).table["id"].tolist() == list(SET)
    rows = "path,label\n" + "\n".join(f"{name},{name[:3]}" for name in SET)
    packed(SET | {"labels.csv": rows.encode()}, "with a table.zip")
    folder = packed(SET).parent
    listing = list_images(f"zip://labels.csv::{folder}/with a table.zip")
    assert contents(listing) == list(SET.values())


def test_a_table_beside_one_folder_is_named_by_an_address_that_opens_it(packed):
    path = packed({f"images/{name[4:]}": content for name, content in SET.items()} | {"labels.csv": b"path,label\n"})
    with pytest.raises(ValueError, match=f"give zip://labels.csv::{path} instead"):
        list_images(path)


def test_what_lies_deeper_is_named_by_an_address_that_opens_it(packed):
    path = packed(SET, above="a/b/")
    with pytest.raises(
        ValueError, match=f"In zip://a::{path} is one folder only, b, .* give zip://a/b::{path} instead"
    ):
        list_images(path)
    assert list_images(f"zip://a/b::{path}").table["id"].tolist() == list(SET)


def test_an_archive_with_other_images_of_the_same_size_has_changed(packed):
    before = fingerprint_of(packed(SET), {})
    assert fingerprint_of(packed(SET), {}) == before
    assert fingerprint_of(packed(SET | {"cat/1.bmp": picture(200)}), {}) != before


@pytest.mark.parametrize("content", [b"", b"PK\3\4 and no more", b"<html>Log in first</html>"])
def test_what_is_no_archive_is_told(tmp_path, content):
    (tmp_path / "pets.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"pets\.zip must be a zip archive, .* downloaded or copied to its end\?"):
        list_images(tmp_path / "pets.zip")


def test_a_folder_may_be_called_like_an_archive(tmp_path):
    for name, content in SET.items():
        (tmp_path / "pets.zip" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pets.zip" / name).write_bytes(content)
    assert list_images(tmp_path / "pets.zip").table["id"].tolist() == list(SET)


def test_damaged_encrypted_and_huge_files_are_set_aside_and_the_others_used(packed, tmp_path, monkeypatch):
    path = packed(SET)
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        places = {info.filename: info.header_offset for info in archive.infolist()}
    begin = places["cat/2.bmp"] + 30 + len("cat/2.bmp")
    raw[begin + 5 : begin + 25] = bytes(20)
    for place in (
        places["dog/1.bmp"] + 6,
        raw.rindex(b"dog/1.bmp") - 46 + 8,
    ):  # flags, before the file and in the index
        struct.pack_into("<H", raw, place, 1)
    path.write_bytes(raw)
    decoded = DecodedImages(list_images(path), ImageFormat(image_size_px=24, channels=1), np.arange(10))
    write_image_set(decoded, tmp_path / "set")
    images = open_image_set(tmp_path / "set")
    reasons = images.rejected.set_index("id")["reason"].to_dict()
    assert reasons == {"cat/2.bmp": "unreadable", "dog/1.bmp": "unreadable"}
    details = images.rejected.set_index("id")["detail"]
    assert "encrypted" in details["dog/1.bmp"]
    assert len(images) == 8
    monkeypatch.setattr(locations, "MOST_BYTES", 100)
    detail = next(read_encoded(list_images(path).read(np.array([0])))).args
    assert "bytes unpacked; at most 100 are read from an archive" in str(detail)


def test_workers_elsewhere_open_the_archive_again(packed):
    listing = pickle.loads(pickle.dumps(list_images(packed(SET))))
    assert contents(listing) == list(SET.values())


def test_addresses_are_what_opens_the_same_place(packed):
    path = str(packed(SET))
    local, memory = fsspec.filesystem("file"), fsspec.filesystem("memory")
    memory.pipe_file("/pets.zip", packed(SET).read_bytes())
    assert address_of(local, path) == path
    assert address_of(memory, "/pets.zip") == "memory:///pets.zip"
    for filesystem, place in ((local, path), (memory, "/pets.zip")):
        address = address_of(open_archive(filesystem, place), "cat")
        inside, folder = fsspec.core.url_to_fs(address)
        assert sorted(inside.find(folder)) == [name for name in SET if name.startswith("cat")]


def test_many_threads_make_the_set_that_a_folder_makes(packed, tmp_path):
    files = {f"{label}/{number}.bmp": picture(number % 256) for label in ("cat", "dog") for number in range(300)}
    for name, content in files.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(content)
    sets = []
    for place, name in ((tmp_path / "folder", "one"), (packed(files), "other")):
        workers = Workers(engine="threads", workers=8)
        write_image_set(
            DecodedImages(list_images(place), ImageFormat(image_size_px=24, channels=1), np.arange(600), workers),
            tmp_path / name,
        )
        sets.append(open_image_set(tmp_path / name))
    assert sets[0].fingerprint == sets[1].fingerprint
    assert len(sets[1]) == 600
