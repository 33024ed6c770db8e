import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from odd_images import encode, photograph

from cnn_transfer.images import DecodedImages, ImageFormat, ImageListing, Workers, preparation
from cnn_transfer.images.preparation import IMAGE_COLUMNS

FORMAT = ImageFormat(image_size_px=16, channels=1)


def listing_of(encoded):
    table = pd.DataFrame({"id": [f"i{n}" for n in range(len(encoded))], "label": "a"})
    return ImageListing(table, lambda rows: (encoded[row] for row in rows))


def chunks_of(encoded, rows=None, threads=None, image_format=FORMAT):
    rows = np.arange(len(encoded)) if rows is None else np.asarray(rows)
    workers = Workers(engine="threads", workers=threads)
    return list(DecodedImages(listing_of(encoded), image_format, rows, workers).chunks())


@pytest.fixture
def grey_levels(encode_png):
    """Eight images, each of one grey level."""
    return [encode_png(np.full((16, 16), value, np.uint8)) for value in range(8)]


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_images_are_decoded_in_chunks_in_order(monkeypatch, grey_levels, threads):
    monkeypatch.setattr(preparation, "MOST_CHUNK_IMAGES", 3)
    chunks = chunks_of(grey_levels, [0, 1, 2, 3, 5, 6, 7], threads)
    assert [len(chunk.pixels) for chunk in chunks] == [3, 3, 1]
    assert np.concatenate([chunk.pixels for chunk in chunks])[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 5, 6, 7]
    assert [name for chunk in chunks for name in chunk.table["id"]] == ["i0", "i1", "i2", "i3", "i5", "i6", "i7"]


def test_small_images_are_decoded_by_one_thread_and_others_by_one_a_core(monkeypatch, encode_png, tmp_path):
    pools = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, threads):
            pools.append(threads)
            super().__init__(threads)

    monkeypatch.setattr(preparation, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(preparation.os, "cpu_count", lambda: 3)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    small, large = encode_png(np.zeros((16, 16), np.uint8)), encode_png(noise)
    assert len(small) < preparation.SMALL_BYTES < len(large)
    (tmp_path / "small.png").write_bytes(small)
    (tmp_path / "large.png").write_bytes(large)
    for images in ([small], [tmp_path / "small.png"], [noise[..., None]], [small, large, small, small, small]):
        chunks_of(images)
    for images in ([large], [str(tmp_path / "large.png")], [tmp_path / "none.png"], [large, large, small]):
        chunks_of(images)
    assert pools == [1] * 4 + [3] * 4
    chunks_of([small], threads=2)
    assert pools[-1] == 2


def test_a_chunk_holds_no_more_pixels_than_allowed(monkeypatch, grey_levels):
    monkeypatch.setattr(preparation, "CHUNK_BYTES", 2 * 16 * 16)
    assert [len(chunk.pixels) for chunk in chunks_of(grey_levels)] == [2, 2, 2, 2]
    monkeypatch.setattr(preparation, "CHUNK_BYTES", 1)
    assert [len(chunk.pixels) for chunk in chunks_of(grey_levels)] == [1] * 8


def test_reading_stays_a_few_chunks_ahead_of_writing(monkeypatch, grey_levels):
    monkeypatch.setattr(preparation, "MOST_CHUNK_IMAGES", 1)
    encoded, read = grey_levels * 20, []

    def count(rows):
        for row in rows:
            read.append(row)
            yield encoded[row]

    table = pd.DataFrame({"id": [f"i{n}" for n in range(160)], "label": "a"})
    workers = Workers(engine="threads", workers=2)
    chunks = DecodedImages(ImageListing(table, count), FORMAT, np.arange(160), workers).chunks()
    for number in range(5):
        next(chunks)
        assert len(read) <= number + 2 + 3
    chunks.close()


def test_no_thread_is_left_when_a_run_ends_or_is_given_up(monkeypatch, grey_levels):
    monkeypatch.setattr(preparation, "MOST_CHUNK_IMAGES", 1)
    before = threading.active_count()
    chunks_of(grey_levels)
    chunks = DecodedImages(listing_of(grey_levels), FORMAT, np.arange(8)).chunks()
    next(chunks)
    chunks.close()
    assert threading.active_count() == before


def test_a_table_has_the_columns_of_a_set_with_one_type_each_whatever_was_usable(monkeypatch, grey_levels):
    monkeypatch.setattr(preparation, "MOST_CHUNK_IMAGES", 2)
    mixed, torn, whole = chunks_of([grey_levels[0], b"", b"", b"", *grey_levels[:2]])
    for chunk in (mixed, torn, whole):
        assert chunk.table.columns.tolist() == [*IMAGE_COLUMNS, "stored_row"]
        assert chunk.pixels.dtype == np.uint8
        assert chunk.pixels.shape[1:] == FORMAT.shape
    for other in (mixed, torn):
        pd.testing.assert_series_equal(other.table.dtypes, whole.table.dtypes)
    assert len(torn.table) == 0
    assert torn.rejected["id"].tolist() == ["i2", "i3"]


def test_rejects_truncated_png_and_names_it_while_the_others_are_kept():
    encoded = [encode(photograph(seed, 24, 20)) for seed in range(4)]
    encoded[1] = encoded[1][: len(encoded[1]) // 2]
    (chunk,) = chunks_of(encoded)
    assert chunk.table["id"].tolist() == ["i0", "i2", "i3"]
    assert chunk.table[["width_px", "height_px"]].to_numpy().tolist() == [[24, 20]] * 3
    assert chunk.rejected[["id", "label", "reason"]].to_numpy().tolist() == [["i1", "a", "truncated"]]
    np.testing.assert_array_equal(chunk.pixels[1:], chunks_of(encoded[2:])[0].pixels)


def test_digests_are_equal_for_equal_content_and_for_equal_pixels(encode_png):
    pixels = np.asarray(photograph(1, 16, 16, "L"))
    encoded = [encode_png(pixels), encode_png(pixels), encode(photograph(1, 16, 16, "L"), "BMP"), encode(photograph(2))]
    (chunk,) = chunks_of(encoded)
    content, shown = chunk.table["content_digest"], chunk.table["pixel_digest"]
    assert content[0] == content[1] != content[2]
    assert shown[0] == shown[1] == shown[2] != shown[3]


def test_the_same_content_under_another_suffix_is_another_content():
    encoded = encode(photograph(1))
    table = pd.DataFrame({"id": ["a.png", "b.PNG", "c.jpg"], "label": "a"})
    listing = ImageListing(table, lambda rows: (encoded for _ in rows))
    (chunk,) = DecodedImages(listing, FORMAT, np.arange(3)).chunks()
    assert chunk.table["content_digest"].nunique() == 2
    assert chunk.table["notes"].tolist() == ["colour_to_grey"] * 2 + ["wrong_extension colour_to_grey"]


def test_what_is_left_out_is_set_aside_before_anything_is_decoded(grey_levels):
    images = DecodedImages(listing_of(grey_levels), FORMAT, np.array([1, 3]))
    assert len(images) == 2
    assert images.set_aside[["id", "reason"]].to_numpy().tolist() == [
        [f"i{n}", "not_sampled"] for n in (0, 2, 4, 5, 6, 7)
    ]


def test_nothing_to_decode_gives_no_chunk(grey_levels):
    assert chunks_of(grey_levels, np.array([], int)) == []


def test_an_error_of_the_reader_stops_the_run(grey_levels):
    def fail(rows):
        yield grey_levels[0]
        raise RuntimeError("the drive is gone")

    images = DecodedImages(ImageListing(listing_of(grey_levels).table, fail), FORMAT, np.arange(8))
    with pytest.raises(RuntimeError, match="the drive is gone"):
        list(images.chunks())
