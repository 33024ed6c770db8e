import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odd_images import FORMATS, HEIC, bomb, chunk, encode, photograph, png, sixteen_bit_png, transparent, turned_jpeg
from PIL import Image, ImageFile
from pydantic import ValidationError

from cnn_transfer.images import ImageFormat, UnusableImageError, decode_image, decoding
from cnn_transfer.images.decoding import quiet_pillow
from cnn_transfer.images.reasons import NOTES, REASONS

GREY = ImageFormat(image_size_px=16, channels=1)
COLOUR = ImageFormat(image_size_px=16, channels=3)


def with_change(image_format, **changes):
    return ImageFormat(**image_format.model_dump() | changes)


def pixels_of(encoded, image_format, name=""):
    return decode_image(encoded, image_format, name).pixels


def reason_of(encoded, image_format=COLOUR, name=""):
    with quiet_pillow(), pytest.raises(UnusableImageError) as caught:
        decode_image(encoded, image_format, name)
    return caught.value.reason


def test_an_image_of_the_wanted_form_is_unchanged(encode_png):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    decoded = decode_image(encode_png(pixels), COLOUR)
    np.testing.assert_array_equal(decoded.pixels, pixels)
    assert decoded.pixels.dtype == np.uint8
    assert (decoded.width_px, decoded.height_px) == (16, 16)
    assert decoded.notes == []


def test_pixels_of_an_origin_without_files_are_taken_as_they_are():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    np.testing.assert_array_equal(pixels_of(pixels, COLOUR), pixels)


def test_grey_becomes_colour_by_repeating_it(encode_png):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    decoded = pixels_of(encode_png(pixels), COLOUR)
    np.testing.assert_array_equal(decoded, np.repeat(pixels[..., None], 3, axis=2))


def test_colour_becomes_grey_by_luma(encode_png):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    decoded = pixels_of(encode_png(pixels), GREY)
    luma = pixels @ np.array([0.299, 0.587, 0.114])  # ITU-R 601-2
    assert decoded.shape == (16, 16, 1)
    np.testing.assert_allclose(decoded[..., 0], luma, atol=1)


def test_shrinking_averages_instead_of_skipping(encode_png):
    checkerboard = ((np.indices((64, 64)).sum(0) % 2) * 255).astype(np.uint8)
    decoded = pixels_of(encode_png(checkerboard), GREY)
    np.testing.assert_allclose(decoded, 127.5, atol=6)


def test_an_oblong_image_is_resized_and_its_size_reported_as_width_and_height(encode_png):
    decoded = decode_image(encode_png(np.full((20, 50, 3), 77, np.uint8)), COLOUR)
    assert (decoded.width_px, decoded.height_px) == (50, 20)
    assert decoded.pixels.shape == (16, 16, 3)
    assert (decoded.pixels == 77).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("image_format", [GREY, COLOUR])
def test_every_colour_mode_of_pillow_gives_pixels_of_the_wanted_shape(mode, image_format):
    kind = "TIFF" if mode in {"CMYK", "YCbCr"} else "PNG"
    decoded = pixels_of(encode(Image.new("RGB", (20, 20), "white").convert(mode), kind), image_format)
    assert decoded.shape == image_format.shape
    assert (decoded == 255).all()


def test_photographs_of_telephones_are_read_and_turned():
    """Made by pillow-heif, which encodes: 64 x 48 px of shapes as of `photograph`, quality 90, EXIF orientation 6."""
    shapes = np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8)
    shown = Image.fromarray(shapes).resize((64, 48), Image.Resampling.BICUBIC).transpose(Image.Transpose.ROTATE_270)
    decoded = decode_image(HEIC, with_change(COLOUR, image_size_px=64), "telephone.HEIC")
    assert (decoded.width_px, decoded.height_px) == (48, 64)
    assert decoded.notes == ["orientation"]
    expected = np.asarray(shown.resize((64, 64), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(decoded.pixels - expected).mean() < 8  # colours at half the resolution; turned wrongly: 60 and more


def test_a_photograph_of_a_telephone_that_is_cut_is_not_used_although_its_decoder_draws_it():
    """Of photographs in tiles libheif draws what is there (its pull request 1616); the length is in 64 bits."""
    further = HEIC + (1).to_bytes(4, "big") + b"mdat" + (24).to_bytes(8, "big") + bytes(8)
    pixels = decode_image(HEIC, COLOUR, "").pixels
    for whole in (further, HEIC + b"no box", HEIC + b"SEFHSEFT" + bytes(9)):
        assert (decode_image(whole, COLOUR, "").pixels == pixels).all()
    for lost in range(1, 9):
        with pytest.raises(UnusableImageError, match=r"^truncated: the file ends before the data that its header"):
            decode_image(further[:-lost], COLOUR, "")


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_a_file_of_which_the_end_was_never_copied_is_not_used(kind):
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    encoded = encode(Image.fromarray(noise), kind)
    half = encoded[: len(encoded) // 2]
    with pytest.raises(UnusableImageError, match=r"^truncated: its last [\d,]+ bytes are zero, as of a file that was"):
        decode_image(half.ljust(len(encoded), b"\0"), COLOUR, "")


def test_zeros_of_metadata_at_the_end_are_no_damage():
    def box(zeros, before=0):
        return HEIC + (8 + before + zeros).to_bytes(4, "big") + b"mdat" + b"x" * before + bytes(zeros)

    pixels = decode_image(HEIC, COLOUR, "").pixels
    for padded in (box(4095), box(5000, before=400_000)):
        assert (decode_image(padded, COLOUR, "").pixels == pixels).all()
    for damaged in (box(4096), box(7000, before=400_000)):
        with pytest.raises(UnusableImageError, match="bytes are zero"):
            decode_image(damaged, COLOUR, "")


def test_without_the_extra_photographs_of_telephones_are_refused_with_what_reads_them(monkeypatch):
    monkeypatch.setattr(decoding, "FORMATS", tuple(kind for kind in decoding.FORMATS if kind != "HEIF"))
    with pytest.raises(UnusableImageError, match=r"not_an_image: HEIF is read with the extra heif: pip install"):
        decode_image(HEIC, COLOUR, "telephone.heic")


@pytest.mark.parametrize("kind", FORMATS.values())
def test_every_kind_of_file_is_decoded(kind):
    decoded = decode_image(encode(Image.new("RGB", (24, 20), (200, 30, 30)), kind), COLOUR)
    assert (decoded.width_px, decoded.height_px) == (24, 20)
    np.testing.assert_allclose(decoded.pixels[8, 8], (200, 30, 30), atol=4)


@pytest.mark.parametrize("size", [15, 1025])
def test_a_size_out_of_range_is_refused(size):
    with pytest.raises(ValidationError, match="image_size_px"):
        ImageFormat(image_size_px=size, channels=3)


@pytest.mark.parametrize("suffix", FORMATS)
@given(share=st.floats(0.05, 0.97))
def test_rejects_a_file_that_was_cut_anywhere(suffix, share):
    encoded = encode(photograph(1), FORMATS[suffix])
    assert reason_of(encoded[: int(share * len(encoded))], name=f"cut.{suffix}") in {"truncated", "damaged"}


def test_tells_a_cut_file_whose_last_box_goes_to_its_end():
    encoded = bytearray(encode(photograph(1), "JPEG2000"))
    box = encoded.index(b"jp2c")
    encoded[box - 4 : box] = bytes(4)  # its length: to the end of the file
    assert decode_image(bytes(encoded), COLOUR, "whole.jp2").notes == []
    assert reason_of(bytes(encoded[: len(encoded) // 2]), name="cut.jp2") == "truncated"


@pytest.mark.parametrize("suffix", FORMATS)
@given(data=st.data())
def test_whatever_is_wrong_with_a_file_there_is_a_documented_reason_or_a_picture(suffix, data):
    encoded = bytearray(encode(photograph(1), FORMATS[suffix]))
    for place, value in data.draw(
        st.dictionaries(st.integers(0, len(encoded) - 1), st.integers(0, 255), max_size=20)
    ).items():
        encoded[place] = value
    encoded = bytes(encoded[data.draw(st.integers(0, 8)) :])
    with quiet_pillow():
        try:
            decoded, problem = decode_image(encoded, COLOUR, f"x.{suffix}"), None
        except UnusableImageError as error:
            decoded, problem = None, error
    if problem:
        assert problem.reason in REASONS
        assert problem.detail
    else:
        assert decoded.pixels.shape == COLOUR.shape
        assert set(decoded.notes) <= set(NOTES)


@given(encoded=st.binary(max_size=60), name=st.sampled_from(["", "x.jpg", "x.txt", "x.tga"]))
def test_no_bytes_at_all_are_taken_for_an_image(encoded, name):
    assert reason_of(encoded, name=name) in {
        "empty_file",
        "not_an_image",
        "other_file",
        "damaged",
        "truncated",
        "too_small",
    }


def test_rejects_a_png_with_a_broken_chunk_between_its_pixels():
    data = zlib.compress(b"".join(b"\0" + bytes(16) for _ in range(16)))
    broken = png(16, 16, 8, 0, data[:5])[:-12] + chunk(b"\0DAT", data[5:]) + chunk(b"IEND", b"")
    assert reason_of(broken) in {"damaged", "truncated"}


def test_a_bomb_is_refused_by_its_declared_size_before_anything_is_decoded(monkeypatch):
    encoded = bomb()
    assert len(encoded) < 1_000_000
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    with quiet_pillow(), pytest.raises(UnusableImageError, match=r"30000 x 30000 px declared; most_megapixels is 100$"):
        decode_image(encoded, GREY)


def test_a_picture_as_large_as_allowed_is_decoded_and_one_row_more_is_refused():
    limit = with_change(GREY, most_megapixels=0.01)
    assert pixels_of(encode(Image.new("L", (100, 100))), limit).shape == GREY.shape
    assert reason_of(encode(Image.new("L", (100, 101))), limit) == "too_large"


def test_more_memory_than_there_is_is_a_reason(monkeypatch):
    def fail(image):
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    assert reason_of(encode(photograph(1))) == "too_large"


def test_a_side_as_short_as_allowed_is_used_and_a_shorter_one_is_refused():
    assert pixels_of(encode(Image.new("L", (8, 30))), GREY).shape == GREY.shape
    assert reason_of(encode(Image.new("L", (30, 7)))) == "too_small"
    assert pixels_of(encode(Image.new("L", (30, 1))), with_change(GREY, smallest_side_px=1)).shape == GREY.shape


def test_the_reason_of_a_rejection_is_the_same_in_every_run():
    # Two streams that live at once cannot share an address, which Pillow writes into its message.
    details = []
    for content in (encode(photograph(1), "TIFF")[:-100], encode(photograph(1), "GIF")[:-100]):
        with pytest.raises(UnusableImageError) as caught:
            decode_image(content, GREY)
        details.append(caught.value.detail)
    assert not any("0x" in detail for detail in details)


def test_sixteen_bits_of_grey_are_scaled_and_not_cut_off():
    encoded = encode(Image.fromarray(np.full((16, 16), 40_000, np.uint16)))
    np.testing.assert_allclose(pixels_of(encoded, GREY), 40_000 / 257, atol=1)
    np.testing.assert_allclose(pixels_of(encoded, COLOUR), 40_000 / 257, atol=1)


@pytest.mark.parametrize(("value", "is_refused"), [(-1, True), (65_535, False), (65_536, True)])
def test_one_pixel_beyond_sixteen_bits_is_enough_to_refuse_an_image(value, is_refused):
    values = np.zeros((16, 16), np.int32)
    values[3, 5] = value
    encoded = encode(Image.fromarray(values), "TIFF")
    if is_refused:
        assert reason_of(encoded) == "unsupported_depth"
    else:
        assert pixels_of(encoded, GREY)[3, 5] == 255


def test_large_pictures_are_converted_in_bands_to_the_same_pixels(monkeypatch):
    odd = sixteen_bit_png(0, 0, 1), encode(transparent(1)), encode(transparent(2, "L")), encode(transparent(3), "WEBP")
    whole = [pixels_of(one, COLOUR) for one in odd]
    monkeypatch.setattr("cnn_transfer.images.decoding.BAND_PX", 100)
    for one, expected in zip(odd, whole, strict=True):
        np.testing.assert_array_equal(pixels_of(one, COLOUR), expected)


def test_every_value_of_sixteen_bits_is_rounded():
    values = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    image_format = with_change(GREY, image_size_px=256)
    pixels = pixels_of(encode(Image.fromarray(values)), image_format)
    np.testing.assert_array_equal(pixels[..., 0], np.rint(values / 257))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_exif_data_says(orientation):
    upright = np.zeros((48, 64, 3), np.uint8)
    upright[:24, :32] = 255  # the corner at the upper left
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(upright)
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose that a camera with this orientation applies
    if orientation > 1:
        stored = stored.transpose(Image.Transpose(undo[orientation]))
    decoded = decode_image(encode(stored, "JPEG", exif=exif, quality=95), COLOUR)
    assert (decoded.width_px, decoded.height_px) == (64, 48)
    bright = decoded.pixels.mean(axis=2) > 128
    assert bright[:7, :7].all()
    assert not bright[9:].any()
    assert not bright[:, 9:].any()
    assert ("orientation" in decoded.notes) == (orientation > 1)


def test_width_and_height_are_those_of_the_upright_picture():
    decoded = decode_image(turned_jpeg(1, 6, width=80, height=40), COLOUR)
    assert (decoded.width_px, decoded.height_px) == (40, 80)


def test_a_large_jpeg_is_decoded_as_a_small_one_and_reported_in_its_own_size():
    large = photograph(1, 800, 600)
    decoded = decode_image(encode(large, "JPEG", quality=95), COLOUR)
    assert (decoded.width_px, decoded.height_px) == (800, 600)
    expected = np.asarray(large.resize((16, 16), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(decoded.pixels.astype(int), expected, atol=6)


@pytest.mark.parametrize("background", [0, 128, 255])
@pytest.mark.parametrize("image_format", [GREY, COLOUR])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_show_the_background(background, image_format, mode):
    clear = Image.new("RGBA", (20, 20), (200, 10, 10, 0)).convert(mode)
    pixels = pixels_of(encode(clear), with_change(image_format, background=background))
    assert (pixels == background).all()


def test_half_transparent_pixels_are_mixed_with_the_background():
    half = Image.new("RGBA", (20, 20), (200, 100, 0, 128))
    np.testing.assert_allclose(pixels_of(encode(half), with_change(COLOUR, background=0))[0, 0], (100, 50, 0), atol=2)


def test_a_transparent_colour_of_a_palette_and_of_a_png_shows_the_background():
    palette = Image.new("P", (20, 20), 0)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    keyed = encode(Image.new("RGB", (20, 20), (1, 2, 3)), transparency=(1, 2, 3))
    for encoded in (encode(palette, transparency=0), encode(palette, "GIF", transparency=0), keyed):
        decoded = decode_image(encoded, with_change(COLOUR, background=77))
        assert (decoded.pixels == 77).all()
        assert "alpha" in decoded.notes


def test_an_opaque_alpha_channel_changes_nothing():
    image = photograph(1, 16, 16)
    np.testing.assert_array_equal(pixels_of(encode(image.convert("RGBA")), COLOUR), np.asarray(image))


@pytest.mark.parametrize("image_format", [GREY, COLOUR])
@pytest.mark.parametrize("size", [(40, 20), (20, 40), (2000, 8), (8, 2000)])
def test_a_padded_picture_is_whole_between_bars_of_the_background(image_format, size):
    rule = with_change(image_format, resize="pad", background=10)
    pixels = pixels_of(encode(Image.new("RGB", size, (200, 200, 200))), rule)
    lines = pixels[..., 0] if size[0] > size[1] else pixels[..., 0].T
    bright = np.flatnonzero((lines == 200).all(axis=1))
    assert len(bright) == max(1, round(16 * min(size) / max(size)))
    assert (np.delete(lines, bright, axis=0) == 10).all()
    assert abs(bright.mean() - 7.5) <= 0.5


@pytest.mark.parametrize("image_format", [GREY, COLOUR])
def test_a_cropped_picture_is_the_square_in_its_middle(image_format):
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 18:42] = 200  # two more on each side, since neighbours are averaged at the edges
    assert (pixels_of(encode(Image.fromarray(wide)), with_change(image_format, resize="crop")) == 200).all()


def test_the_first_frame_of_an_animation_is_used():
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue", "green")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        encoded = encode(frames[0], kind, save_all=True, append_images=frames[1:])
        decoded = decode_image(encoded, COLOUR)
        np.testing.assert_allclose(decoded.pixels[8, 8], (255, 0, 0), atol=6)
        assert "first_frame" in decoded.notes


@pytest.mark.parametrize("name", ["x.jpg", "x.JPEG", "x.jfif", "x", "row 00000001", ""])
def test_a_jpeg_may_have_any_of_its_suffixes_or_none(name):
    assert decode_image(encode(photograph(1), "JPEG"), COLOUR, name).notes == []


@pytest.mark.parametrize("name", ["x.png", "x.txt", "x.jpg.bak", "x.2024"])
def test_a_suffix_of_something_else_is_noted(name):
    assert decode_image(encode(photograph(1), "JPEG"), COLOUR, name).notes == ["wrong_extension"]


def test_colours_of_printing_are_converted():
    white, red = (Image.new("CMYK", (20, 20), ink) for ink in ((0, 0, 0, 0), (0, 255, 255, 0)))
    for kind in ("JPEG", "TIFF"):
        np.testing.assert_allclose(pixels_of(encode(white, kind), COLOUR), 255, atol=2)
        np.testing.assert_allclose(pixels_of(encode(red, kind), COLOUR)[0, 0], (255, 0, 0), atol=4)


def test_a_gradient_of_transparency_keeps_the_size():
    decoded = decode_image(encode(transparent(1), "WEBP"), COLOUR)
    assert (decoded.width_px, decoded.height_px) == (64, 48)


def test_pillow_s_own_limit_comes_back_after_a_run():
    limit = Image.MAX_IMAGE_PIXELS
    with quiet_pillow():
        assert Image.MAX_IMAGE_PIXELS is None
    assert limit == Image.MAX_IMAGE_PIXELS
