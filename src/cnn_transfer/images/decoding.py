"""From one encoded image to uint8 pixels of one size, or the reason why it cannot be used.

What is done to odd images is in `reasons.NOTES`, what is refused in `reasons.REASONS`; nothing is guessed.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import time
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby, islice
from os.path import splitext
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import PIL
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import Field

from cnn_transfer.images.listing import Encoded, RemoteFile
from cnn_transfer.parameters import Parameters

try:
    import pi_heif  # the extra heif
except ImportError:
    pi_heif = None
else:
    pi_heif.register_heif_opener()

# Pixels that another version decoded are not taken over. Raise the number when the same file gives others, or none.
DECODER = f"2, Pillow {PIL.__version__}" + (f", pi-heif {pi_heif.__version__}" if pi_heif else "")

# Pillow reads more, but some of it runs other programs (EPS), decodes before the size can be checked (ICO) or has no
# business in a set of photographs.
WITHOUT_EXTRA = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "TGA")  # asked in this order
FORMATS = (*WITHOUT_EXTRA, "HEIF") if pi_heif else WITHOUT_EXTRA
SUFFIXES = {
    ".avif": "AVIF", ".bmp": "BMP", ".gif": "GIF", ".heic": "HEIF", ".heif": "HEIF", ".hif": "HEIF", ".jfif": "JPEG",
    ".jp2": "JPEG2000", ".jpe": "JPEG", ".jpeg": "JPEG", ".jpg": "JPEG", ".pgm": "PPM", ".png": "PNG", ".pnm": "PPM",
    ".ppm": "PPM", ".tga": "TGA", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP",
}  # fmt: skip
# How files of known formats begin: what begins so and cannot be opened is damaged, not something else.
SIGNATURE = re.compile(
    rb"\xff\xd8\xff|\x89PNG|GIF8|BM.{4}\0\0\0\0|RIFF.{4}WEBP|II\*\0|MM\0\*|.{4}jP  |.{4}ftypavi[fs]", re.DOTALL
)
HEIF = re.compile(rb"^.{4}ftyp(heic|heix|hevc|mif1|msf1)", re.DOTALL)
BOXES = {b"ftyp", b"meta", b"mdat", b"moov", b"jP  ", b"jp2h", b"jp2c"}  # without which there is no image
FEWEST_ZEROS = 4096
EXIF_ORIENTATION = 0x0112
UNSETTLED_NS = 2 * 10**9  # no file system counts time in longer steps
BAND_PX = 2**20  # converted at once, of images that become several times as large on the way
# What a store says of an object, or an archive on it of a member; whatever else it raises says that it does not answer.
ANSWERS = (
    FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ValueError, RuntimeError, EOFError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
REFUSALS = {errno.EINVAL, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOSYS, errno.EPERM}
# What a disk raises that is broken, or behind a network that is.
SILENCES = {
    errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EIO,
    errno.ENETDOWN, errno.ENETUNREACH, errno.ENODEV, errno.ENOTCONN, errno.ENXIO, errno.ESTALE, errno.ETIMEDOUT,
}  # fmt: skip
REMOTE_READS = 16  # at once and thread: most of the time of a small object is waiting for its first byte


class ImageFormat(Parameters):
    """The size and colour in which images are stored and enter the network, and what becomes of odd ones."""

    image_size_px: int = Field(ge=16, le=1024)
    channels: Literal[1, 3]
    resize: Literal["stretch", "crop", "pad"] = "stretch"  # crop: the middle square; pad: with the background
    background: int = Field(default=255, ge=0, le=255)  # grey level under transparent pixels and beside padded images
    smallest_side_px: int = Field(default=8, ge=1, le=1024)  # shorter sides are refused
    most_megapixels: float = Field(default=100, gt=0, le=10_000)  # more declared pixels are refused before decoding

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return (self.image_size_px, self.image_size_px, self.channels)


class Decoded(NamedTuple):
    """One usable image.

    Attributes:
        pixels: (height, width, channels) uint8 in the wanted format.
        width_px: Width before resizing, as the image is to be looked at.
        height_px: Height, likewise.
        notes: Codes of `reasons.NOTES`.
    """

    pixels: np.ndarray
    width_px: int
    height_px: int
    notes: list[str]

    @property
    def pixel_digest(self) -> str:
        """Digest of the pixels; images whose pixels are the same have the same."""
        return hashlib.blake2b(self.pixels.data, digest_size=16).hexdigest()


class UnusableImageError(ValueError):
    """An image cannot be used; `reason` is a code of `reasons.REASONS`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Let our own limit on declared pixels stand for Pillow's, and its warnings about odd files be our notes."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def is_image(encoded: bytes) -> bool:
    """Whether it begins as files of images do; whether it can be read is another question."""
    return bool(SIGNATURE.match(encoded) or HEIF.match(encoded))


def read_encoded(images: Iterable[Encoded]) -> Iterator[bytes | np.ndarray | UnusableImageError]:
    """Read images that are files, remote ones several at once; what cannot be read is replaced by the reason."""
    for filesystem, group in groupby(images, lambda image: getattr(image, "filesystem", None)):
        if filesystem is None:
            yield from map(_read_local, group)
            continue
        paths = (image.path for image in group if isinstance(image, RemoteFile))
        while part := list(islice(paths, REMOTE_READS)):
            contents = filesystem.cat_ranges(part, None, None, on_error="return")
            yield from (_why_not_fetched(found) if isinstance(found, Exception) else found for found in contents)


def file_state(image: Encoded) -> str:
    """What tells a local file from what it was before without reading it, as git does; empty when that is not certain.

    A time of modification can be set at will; the time of the last change of the file's record cannot. Files that were
    changed within the last seconds have no state, since another change would leave the same times.
    """
    if not isinstance(image, str | Path):
        return ""
    try:
        status = os.stat(image)
    except (OSError, ValueError):  # reading it will tell
        return ""
    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < UNSETTLED_NS:
        return ""
    suffix = splitext(image)[1].lower()  # the notes depend on it
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {suffix}"


def _read_local(image: Any) -> Any:
    if not isinstance(image, str | Path):
        return image
    try:
        with open(image, "rb", buffering=0) as stream:
            return stream.readall()
    except ValueError as error:  # a null character in the name, as of a damaged manifest
        return _why_unread(error, is_answer=True)
    except OSError as error:
        if error.errno in {errno.EMFILE, errno.ENFILE}:  # too many open files: the machine is to blame, not the image
            raise
        return _why_unread(error, error.errno not in SILENCES)


def _why_not_fetched(error: Exception) -> UnusableImageError:
    """Networks fail in more ways than `OSError` covers: what a store raises that is no answer is the lack of one."""
    number = getattr(error, "errno", None)
    is_answer = isinstance(error, ANSWERS) or (number is not None and number in REFUSALS)
    return _why_unread(error, is_answer and not isinstance(error, ConnectionError | TimeoutError))


def _why_unread(error: Exception, is_answer: bool) -> UnusableImageError:
    """The reason, in the words of the system; of what was no answer another attempt may get one."""
    reason = "missing_file" if isinstance(error, FileNotFoundError) else "unreadable" if is_answer else "no_answer"
    detail = getattr(error, "strerror", None) or " ".join(f"{type(error).__name__} {error}".split())
    return UnusableImageError(reason, type(error).__name__ if reason == "missing_file" else detail[:200])


def decode_image(encoded: bytes | np.ndarray, image_format: ImageFormat, name: str = "") -> Decoded:
    """Decode, turn, convert and resize one image.

    Args:
        encoded: The encoded image, or pixels (height, width, channels) uint8.
        image_format: Size and colour of the result, and what is refused.
        name: Its name, of which the suffix is compared with the content.

    Raises:
        UnusableImageError: With the reason why the image cannot be used.
    """
    if isinstance(encoded, np.ndarray):
        image = Image.fromarray(encoded.squeeze(axis=-1) if encoded.shape[-1] == 1 else encoded)
        return _finish(image, image.size, image_format, [])
    notes: list[str] = []
    try:
        image = _open(encoded, name, notes)
        _check_size(image.size, image_format)
        if image.format == "PNG":
            image.load()  # looking for EXIF data does so as well, and Pillow tells of damage only once
        orientation = _orientation(image, notes)
        size = image.size[::-1] if orientation >= 5 else image.size  # those that exchange width and height
        if image.format in {"JPEG", "MPO"}:  # decodes at 1/2, 1/4 or 1/8 when no side gets shorter than wanted
            image.draft(image.mode, (image_format.image_size_px,) * 2)
        image.load()
        if orientation > 1:
            image = ImageOps.exif_transpose(image)
        return _finish(image, size, image_format, notes)
    except UnusableImageError:
        raise
    except MemoryError as error:
        raise UnusableImageError("too_large", "not enough memory to decode it; lower most_megapixels") from error
    except Exception as error:  # damaged files make Pillow's plugins raise whatever their code happens to meet
        text = re.sub(r" <_io\.\w+ object at \w+>", "", " ".join(str(error).split())) or type(error).__name__
        cut = re.search("truncated|end of file|EOF|not enough|only got", text, re.I) or _is_cut(encoded)
        raise UnusableImageError("truncated" if cut else "damaged", text[:200]) from error


def _open(encoded: bytes, name: str, notes: list[str]) -> Image.Image:
    if not encoded:
        raise UnusableImageError("empty_file", "0 bytes")
    suffix = splitext(name)[1].lower()
    try:
        image = Image.open(io.BytesIO(encoded), formats=FORMATS)
    except UnidentifiedImageError as error:
        if HEIF.match(encoded) and "HEIF" not in FORMATS:
            advice = "HEIF is read with the extra heif: pip install 'cnn-transfer[heif]'"
            raise UnusableImageError("not_an_image", advice) from error
        if is_image(encoded):
            reason = "truncated" if _is_cut(encoded) else "damaged"
            raise UnusableImageError(reason, "begins like an image, but its header is broken") from error
        reason = "not_an_image" if suffix in SUFFIXES or not suffix else "other_file"
        raise UnusableImageError(reason, f"begins with {encoded[:8]!r}") from error
    if image.format == "HEIF" and _is_cut(encoded):  # its decoder draws what it lacks as nothing
        raise UnusableImageError("truncated", "the file ends before the data that its header promises")
    if image.format in {"AVIF", "HEIF", "WEBP"} and (zeros := _zeros_at_end(encoded)):  # likewise
        raise UnusableImageError(
            "truncated", f"its last {zeros:,} bytes are zero, as of a file that was copied in part"
        )
    expected = SUFFIXES.get(suffix)
    if suffix and expected != image.format and {expected, image.format} != {"JPEG", "MPO"}:
        notes.append("wrong_extension")
    if image.format in {"AVIF", "GIF", "HEIF", "PNG", "TIFF", "WEBP"} and getattr(image, "is_animated", False):
        notes.append("first_frame")
    if any(";16" in str(tile.args) for tile in getattr(image, "tile", [])):
        notes.append("sixteen_bit")
    return image


def _zeros_at_end(encoded: bytes) -> int:
    """How many, where they are more than metadata is padded with: compressed pixels have no such run."""
    if not encoded.endswith(bytes(FEWEST_ZEROS)):
        return 0
    zeros = len(encoded) - len(encoded.rstrip(b"\0"))
    return zeros if zeros > len(encoded) / 64 else 0


def _is_cut(encoded: bytes) -> bool:
    """Whether less is there than the header promises, in the formats whose decoders do not tell."""
    if encoded.startswith(b"RIFF"):
        return int.from_bytes(encoded[4:8], "little") + 8 > len(encoded)
    if encoded.startswith((b"II", b"MM")):
        order: Literal["little", "big"] = "little" if encoded.startswith(b"II") else "big"
        directory = int.from_bytes(encoded[4:8], order)
        entries = int.from_bytes(encoded[directory : directory + 2], order)
        return directory + 2 + 12 * entries + 4 > len(encoded)
    start = 0
    while encoded[4:8] in {b"ftyp", b"jP  "} and start < len(encoded):  # boxes of ISO base media files
        length, name = int.from_bytes(encoded[start : start + 4], "big"), encoded[start + 4 : start + 8]
        if length == 1:  # written in full behind the name, as by telephones
            length = int.from_bytes(encoded[start + 8 : start + 16], "big")
        if length < 8:  # 0: to the end of the file, where JPEG 2000 has a marker
            return length == 0 and name == b"jp2c" and not encoded.endswith(b"\xff\xd9")
        start += length
        if start > len(encoded):  # what some cameras append is no box
            return name in BOXES
    return False


def _check_size(size: tuple[int, int], image_format: ImageFormat) -> None:
    width, height = size
    if width * height > image_format.most_megapixels * 1e6:
        raise UnusableImageError(
            "too_large", f"{width} x {height} px declared; most_megapixels is {image_format.most_megapixels:g}"
        )
    if min(width, height) < image_format.smallest_side_px:
        raise UnusableImageError(
            "too_small", f"{width} x {height} px; smallest_side_px is {image_format.smallest_side_px}"
        )


def _orientation(image: Image.Image, notes: list[str]) -> int:
    """The orientation of the EXIF standard, 1 to 8; 1 is upright."""
    if image.format == "PNG" and not image.info:  # it takes 0.05 of the time of a small image to find none
        return 1
    try:
        if block := image.info.get("exif"):  # Pillow may have met the damage when it opened the file, and kept silent
            Image.Exif().load(block)
        orientation = int(image.getexif().get(EXIF_ORIENTATION, 1))
    except Exception:  # a damaged block raises whatever its parser meets; the image may be whole
        notes.append("damaged_exif")
        return 1
    turned = image.info.get("original_orientation")  # of HEIF, which is turned when it is opened
    if 2 <= (turned or orientation) <= 8:
        notes.append("orientation")
    return orientation if 2 <= orientation <= 8 else 1


def _finish(image: Image.Image, size: tuple[int, int], image_format: ImageFormat, notes: list[str]) -> Decoded:
    """Convert and resize what was decoded."""
    notes += {"P": ["palette"], "1": ["one_bit"], "CMYK": ["cmyk"]}.get(image.mode, [])
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bits(image)
        notes += ["sixteen_bit"] if "sixteen_bit" not in notes else []
    if image.has_transparency_data:
        image = _without_alpha(image, image_format.background, notes)
    wanted = "L" if image_format.channels == 1 else "RGB"
    is_grey = image.mode in {"1", "L"}
    if is_grey != (wanted == "L"):
        notes.append("grey_to_colour" if is_grey else "colour_to_grey")
    if image.mode != wanted:
        image = image.convert(wanted)
    side = (image_format.image_size_px, image_format.image_size_px)
    if image.size != side:
        method = Image.Resampling.BILINEAR  # averages when it shrinks
        match image_format.resize:
            case "stretch":
                image = image.resize(side, method)
            case "crop":
                image = ImageOps.fit(image, side, method)
            case "pad":
                image = _pad(image, image_format, method)
    width, height = size
    pixels = np.frombuffer(image.tobytes(), np.uint8).reshape(image_format.shape)  # faster than np.asarray(image)
    return Decoded(pixels, width, height, notes)


def _pad(image: Image.Image, image_format: ImageFormat, method: Image.Resampling) -> Image.Image:
    """The whole image on the background, at least one pixel wide and high: `ImageOps.pad` lets a thin one vanish."""
    side = image_format.image_size_px
    width, height = (max(1, round(side * length / max(image.size))) for length in image.size)
    ground = Image.new(image.mode, (side, side), (image_format.background,) * image_format.channels)
    ground.paste(image.resize((width, height), method), ((side - width) // 2, (side - height) // 2))
    return ground


def _eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.mode == "F" or low < 0 or high > 65535:
        raise UnusableImageError("unsupported_depth", f"values from {low:g} to {high:g}; expected 8 or 16 bits")
    rounded = np.empty(values.shape, np.uint8)
    for band in _bands(*image.size):
        rounded[band] = (values[band].astype(np.uint32) + 128) // 257
    return Image.fromarray(rounded)


def _without_alpha(image: Image.Image, background: int, notes: list[str]) -> Image.Image:
    """Lay the image on the background; fully opaque images stay as they are."""
    result = "L" if image.mode in {"1", "L", "LA", "La"} else "RGB"
    image = image if image.mode == "RGBA" else image.convert("RGBA")
    if image.getchannel("A").getextrema() == (255, 255):
        return image.convert(result)
    notes.append("alpha")
    flat = Image.new(result, image.size)
    for band in _bands(*image.size):
        part = image.crop((0, band.start, image.width, band.stop))
        ground = Image.new("RGBA", part.size, (background, background, background, 255))
        flat.paste(Image.alpha_composite(ground, part).convert(result), (0, band.start))
    return flat


def _bands(width: int, height: int) -> Iterator[slice]:
    """Rows of an image, as many at once as hold about `BAND_PX`."""
    rows = max(1, BAND_PX // max(1, width))
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))
