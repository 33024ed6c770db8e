import io
import struct
import zlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError

from cnn_transfer.images import DecodedImages, ImageFormat, ImageListing, decode_image, decoding, list_images

GREY = ImageFormat(image_size_px=16, channels=1)
COLOUR = ImageFormat(image_size_px=16, channels=3)


def encode(image, kind="PNG"):
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width, height, *data_chunks):
    """A grey PNG file from its parts; whether they fit together is the caller's affair."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(data_chunks) + chunk(b"IEND", b"")


def decode_all(encoded, image_format=GREY):
    """The one chunk that a list of encoded images decodes into."""
    table = pd.DataFrame({"id": [f"i{n}" for n in range(len(encoded))], "label": "a"})
    listing = ImageListing(table, lambda rows: (encoded[row] for row in rows))
    return next(iter(DecodedImages(listing, np.arange(len(encoded)), image_format)))


def test_an_image_of_the_wanted_form_is_unchanged(encode_png):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    decoded, size = decode_image(encode_png(pixels), COLOUR)
    np.testing.assert_array_equal(decoded, pixels)
    assert decoded.dtype == np.uint8
    assert size == (16, 16)


def test_pixels_of_an_origin_without_files_are_taken_as_they_are():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    np.testing.assert_array_equal(decode_image(pixels, COLOUR)[0], pixels)


def test_grey_becomes_colour_by_repeating_it(encode_png):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    decoded, _ = decode_image(encode_png(pixels), COLOUR)
    np.testing.assert_array_equal(decoded, np.repeat(pixels[..., None], 3, axis=2))


def test_colour_becomes_grey_by_luma(encode_png):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    decoded, _ = decode_image(encode_png(pixels), GREY)
    luma = pixels @ np.array([0.299, 0.587, 0.114])  # ITU-R 601-2
    assert decoded.shape == (16, 16, 1)
    np.testing.assert_allclose(decoded[..., 0], luma, atol=1)


def test_shrinking_averages_instead_of_skipping(encode_png):
    checkerboard = ((np.indices((64, 64)).sum(0) % 2) * 255).astype(np.uint8)
    decoded, _ = decode_image(encode_png(checkerboard), GREY)
    np.testing.assert_allclose(decoded, 127.5, atol=6)


def test_an_oblong_image_is_resized_and_its_size_reported_as_width_and_height(encode_png):
    decoded, size = decode_image(encode_png(np.full((20, 50, 3), 77, np.uint8)), COLOUR)
    assert size == (50, 20)
    assert decoded.shape == (16, 16, 3)
    assert (decoded == 77).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("image_format", [GREY, COLOUR])
def test_every_colour_mode_of_pillow_gives_pixels_of_the_wanted_shape(mode, image_format):
    kind = "TIFF" if mode in {"CMYK", "YCbCr"} else "PNG"
    decoded, _ = decode_image(encode(Image.new("RGB", (20, 20), "white").convert(mode), kind), image_format)
    assert decoded.shape == image_format.shape
    assert (decoded == 255).all()


@pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP"])
def test_every_kind_of_file_is_decoded(kind):
    decoded, size = decode_image(encode(Image.new("RGB", (24, 20), (200, 30, 30)), kind), COLOUR)
    assert size == (24, 20)
    np.testing.assert_allclose(decoded[8, 8], (200, 30, 30), atol=4)


@pytest.mark.parametrize("size", [15, 1025])
def test_a_size_out_of_range_is_refused(size):
    with pytest.raises(ValidationError, match="image_size_px"):
        ImageFormat(image_size_px=size, channels=3)


def test_rejects_truncated_png_and_names_it_while_the_others_are_kept(tmp_path, encode_png):
    rng = np.random.default_rng(0)
    (tmp_path / "cat").mkdir()
    for name in "abcd":
        (tmp_path / "cat" / f"{name}.png").write_bytes(encode_png(rng.integers(0, 256, (20, 24), np.uint8)))
    whole = (tmp_path / "cat" / "b.png").read_bytes()
    (tmp_path / "cat" / "b.png").write_bytes(whole[: len(whole) // 2])
    listing = list_images(tmp_path)
    ((used, pixels, rejected),) = DecodedImages(listing, np.arange(4), GREY)
    assert used["id"].tolist() == ["cat/a.png", "cat/c.png", "cat/d.png"]
    assert used[["width_px", "height_px"]].to_numpy().tolist() == [[24, 20]] * 3
    assert rejected[["id", "label", "reason"]].to_numpy().tolist() == [["cat/b.png", "cat", "unreadable"]]
    assert "truncated" in rejected["detail"].iloc[0]
    expected, _ = decode_image((tmp_path / "cat" / "c.png").read_bytes(), GREY)
    np.testing.assert_array_equal(pixels[1], expected)


@pytest.mark.parametrize("content", [b"", b"no image at all", None])
def test_rejects_what_is_no_image(content, encode_png):
    used, pixels, rejected = decode_all([content, encode_png(np.zeros((16, 16), np.uint8))])
    assert rejected["id"].tolist() == ["i0"]
    assert rejected["reason"].tolist() == ["unreadable"]
    assert used["id"].tolist() == ["i1"]
    assert len(pixels) == 1


def test_a_chunk_without_a_usable_image_has_empty_pixels_of_the_right_shape():
    used, pixels, rejected = decode_all([b"", b""], COLOUR)
    assert (len(used), len(rejected)) == (0, 2)
    assert pixels.shape == (0, 16, 16, 3)


def test_images_are_decoded_in_chunks_in_order(monkeypatch, encode_png):
    monkeypatch.setattr(decoding, "CHUNK_IMAGES", 3)
    encoded = [encode_png(np.full((16, 16), value, np.uint8)) for value in range(8)]
    table = pd.DataFrame({"id": [f"i{n}" for n in range(8)], "label": "a"})
    listing = ImageListing(table, lambda rows: (encoded[row] for row in rows))
    chunks = list(DecodedImages(listing, np.array([0, 1, 2, 3, 5, 6, 7]), GREY))
    assert [len(pixels) for _, pixels, _ in chunks] == [3, 3, 1]
    assert np.concatenate([pixels for _, pixels, _ in chunks])[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 5, 6, 7]
    assert [name for used, _, _ in chunks for name in used["id"]] == ["i0", "i1", "i2", "i3", "i5", "i6", "i7"]


def test_rejects_a_png_with_a_broken_chunk_between_its_pixels(encode_png):
    data = zlib.compress(b"".join(b"\0" + bytes(16) for _ in range(16)))
    broken = png(16, 16, chunk(b"IDAT", data[:5]), chunk(b"\0DAT", data[5:]))
    _, _, rejected = decode_all([broken, encode_png(np.zeros((16, 16), np.uint8))])
    assert rejected["id"].tolist() == ["i0"]


def test_rejects_an_image_that_claims_to_be_too_large_to_decode(encode_png):
    _, _, rejected = decode_all([png(30_000, 30_000), encode_png(np.zeros((16, 16), np.uint8))])
    assert rejected["id"].tolist() == ["i0"]


def test_rejects_a_file_that_vanished_after_listing_and_keeps_the_rest(tmp_path, encode_png):
    (tmp_path / "cat").mkdir()
    for name in "abc":
        (tmp_path / "cat" / f"{name}.png").write_bytes(encode_png(np.zeros((16, 16), np.uint8)))
    listing = list_images(tmp_path)
    (tmp_path / "cat" / "b.png").unlink()
    ((used, _, rejected),) = DecodedImages(listing, np.arange(3), GREY)
    assert used["id"].tolist() == ["cat/a.png", "cat/c.png"]
    assert rejected["id"].tolist() == ["cat/b.png"]


def test_the_reason_of_a_rejection_is_the_same_in_every_run():
    # Two streams that live at once cannot share an address, which Pillow writes into its message.
    details = {decode_all([content])[2]["detail"].iloc[0] for content in (b"no image", b"nor this")}
    assert not any("0x" in detail for detail in details)


def test_sixteen_bits_of_grey_are_scaled_and_not_cut_off():
    encoded = encode(Image.fromarray(np.full((16, 16), 40_000, np.uint16)))
    grey, _ = decode_image(encoded, GREY)
    colour, _ = decode_image(encoded, COLOUR)
    np.testing.assert_allclose(grey, 40_000 / 257, atol=1)
    np.testing.assert_allclose(colour, 40_000 / 257, atol=1)
