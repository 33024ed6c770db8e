"""Damaged and odd images as cameras, programs and file systems make them, written by real encoders.

`make_folder`, `make_split_folder` and `make_manifest` each write a set and return what must become of every file in it:
`Expected` by id. Together they meet every code of `cnn_transfer.images.reasons`.
"""

import io
import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

FORMATS = {
    "avif": "AVIF", "bmp": "BMP", "gif": "GIF", "jp2": "JPEG2000", "jpg": "JPEG", "png": "PNG", "ppm": "PPM",
    "tga": "TGA", "tif": "TIFF", "webp": "WEBP",
}  # fmt: skip
HEIC = Path(__file__).with_name("telephone.heic").read_bytes()
HEIC_HEADER = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)


class Expected(NamedTuple):
    """What becomes of a file: a reason to set it aside, or notes beside those on its colours."""

    reason: str = ""
    notes: frozenset = frozenset()
    grey: bool = False


def used(*notes, grey=False):
    return Expected(notes=frozenset(notes), grey=grey)


def photograph(seed, width=64, height=48, mode="RGB"):
    """A smooth picture with some grain; those of two seeds are not alike."""
    rng = np.random.default_rng(seed)
    shapes = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    grain = rng.integers(-12, 13, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(shapes) + grain, 0, 255).astype(np.uint8)).convert(mode)


def encode(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width, height, bits, colour_type, data):
    """A PNG file from its header and compressed data; whether they fit together is the caller's affair."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bomb(side=30_000):
    """A whole PNG of 1 bit a pixel: a few hundred kilobytes that declare, and hold, `side` × `side` pixels."""
    packer = zlib.compressobj(1)
    row = bytes(1 + -(-side // 8))
    data = b"".join(packer.compress(row * 1000) for _ in range(side // 1000)) + packer.flush()
    return png(side, side, 1, 0, data)


def sixteen_bit_png(seed, colour_type, channels):
    pixels = np.asarray(photograph(seed, 24, 20).resize((24, 20))).astype(">u2")[..., :1].repeat(channels, axis=2) * 257
    return png(24, 20, 16, colour_type, zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels)))


def turned_jpeg(seed, orientation, width=64, height=48):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(photograph(seed, width, height), "JPEG", exif=exif)


def transparent(seed, mode="RGBA"):
    image = photograph(seed, mode="RGB").convert(mode)
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def palette_with_transparency(seed):
    image = photograph(seed).quantize(16)
    image.info["transparency"] = 3
    return image


def pages(seeds, kind, **options):
    first, *others = (photograph(seed) for seed in seeds)
    return encode(first, kind, save_all=True, append_images=others, **options)


def ordinary(start):
    """Every format as it should be."""
    files = {}
    for seed, (suffix, kind) in enumerate(FORMATS.items(), start):
        files[f"whole.{suffix}"] = (encode(photograph(seed), kind), used(*(["palette"] if suffix == "gif" else [])))
    return files


def torn(start):
    """Every format with its end missing."""
    return {
        f"cut{share:.0%}.{suffix}": (_cut(encode(photograph(seed), kind), share), Expected("truncated"))
        for seed, (suffix, kind) in enumerate(FORMATS.items(), start)
        for share in (0.4, 0.9)
    }


def _cut(content, share):
    return content[: int(len(content) * share)]


def harmful(start):
    """What must not be used."""
    broken = bytearray(encode(photograph(start)))
    broken[len(broken) // 2] ^= 0xFF  # of the formats, PNG alone has check sums
    float_image = Image.fromarray(np.random.default_rng(0).random((20, 20)).astype(np.float32))
    deep_image = Image.fromarray(np.random.default_rng(0).integers(0, 2**20, (20, 20), np.int32))
    return {
        "nothing.png": (b"", Expected("empty_file")),
        "text.jpg": (b"not an image at all", Expected("not_an_image")),
        "no suffix": (b"not an image at all", Expected("not_an_image")),
        "telephone.heic": (HEIC, used("orientation")),
        "cut.heic": (HEIC[:-40], Expected("truncated")),
        "header.heic": (HEIC_HEADER, Expected("damaged")),
        "notes.txt": (b"text about a cat", Expected("other_file")),
        "BMW.txt": (b"BMW: not a bitmap", Expected("other_file")),
        "sound.wav": (b"RIFF\x24\0\0\0WAVEfmt " + bytes(28), Expected("other_file")),
        "broken header.png": (b"\x89PNG\r\n\x1a\n" + bytes(50), Expected("damaged")),
        "broken data.png": (bytes(broken), Expected("damaged")),
        "bomb.png": (bomb(), Expected("too_large")),
        "small.png": (encode(photograph(start + 1, 7, 40)), Expected("too_small")),
        "float.tif": (encode(float_image, "TIFF"), Expected("unsupported_depth")),
        "deep.tif": (encode(deep_image, "TIFF"), Expected("unsupported_depth")),
        ".hidden.png": (encode(photograph(start + 2)), Expected("hidden_file")),
        "._whole.png": (b"\0\5\x16\7" + bytes(60), Expected("hidden_file")),
        ".DS_Store": (b"\0\0\0\1Bud1", Expected("hidden_file")),
        "Thumbs.db": (b"\xd0\xcf\x11\xe0", Expected("system_file")),
        "desktop.ini": (b"[.ShellClassInfo]", Expected("system_file")),
    }


def odd(start):
    """What is used after something was done to it."""
    seeds = iter(range(start, start + 100))
    grey = photograph(next(seeds), mode="L")
    damaged_exif = encode(photograph(next(seeds)), "JPEG", exif=b"Exif\0\0" + b"garbage, not a directory")
    sixteen_bit = Image.fromarray(np.asarray(photograph(next(seeds), mode="L")).astype(np.uint16) * 257)
    return {
        "really a jpeg.png": (encode(photograph(next(seeds)), "JPEG"), used("wrong_extension")),
        "picture.txt": (encode(photograph(next(seeds))), used("wrong_extension")),
        "animated.gif": (pages([next(seeds), next(seeds)], "GIF"), used("first_frame", "palette")),
        "animated.webp": (pages([next(seeds), next(seeds)], "WEBP"), used("first_frame")),
        "animated.png": (pages([next(seeds), next(seeds)], "PNG"), used("first_frame")),
        "animated.avif": (pages([next(seeds), next(seeds)], "AVIF"), used("first_frame")),
        "pages.tif": (pages([next(seeds), next(seeds)], "TIFF"), used("first_frame")),
        "turned.jpg": (turned_jpeg(next(seeds), 6), used("orientation")),
        "mirrored.jpg": (turned_jpeg(next(seeds), 2), used("orientation")),
        "exif.jpg": (damaged_exif, used("damaged_exif")),
        "RGBA.png": (encode(transparent(next(seeds))), used("alpha")),
        "RGBA.webp": (encode(transparent(next(seeds)), "WEBP"), used("alpha")),
        "LA.png": (encode(transparent(next(seeds), "LA")), used("alpha", grey=True)),
        "opaque.png": (encode(photograph(next(seeds), mode="RGBA")), used()),
        "palette.png": (encode(photograph(next(seeds)).quantize(32)), used("palette")),
        "clear palette.png": (encode(palette_with_transparency(next(seeds))), used("palette", "alpha")),
        "CMYK.jpg": (encode(photograph(next(seeds), mode="CMYK"), "JPEG"), used("cmyk")),
        "CMYK.tif": (encode(photograph(next(seeds), mode="CMYK"), "TIFF"), used("cmyk")),
        "16 bits.png": (sixteen_bit_png(next(seeds), 0, 1), used("sixteen_bit", grey=True)),
        "16 bits colour.png": (sixteen_bit_png(next(seeds), 2, 3), used("sixteen_bit")),
        "16 bits.tif": (encode(sixteen_bit, "TIFF"), used("sixteen_bit", grey=True)),
        "1 bit.png": (encode(photograph(next(seeds), mode="1")), used("one_bit", grey=True)),
        "1 bit.tif": (encode(photograph(next(seeds), mode="1"), "TIFF"), used("one_bit", grey=True)),
        "grey.png": (encode(grey), used(grey=True)),
    }


def oddly_named(start):
    names = [
        "with space.png", " leading.png", "späß 图片 🐈.png", "new\nline.png", "tab\t\"'$`.png", "a.b.c.png",
        "UPPER.PNG", "\udcff\udcfe.png", "\\xff\\xfe.png", "100%.png", "#1?.png", "-rf.png",
    ]  # fmt: skip
    return {name: (encode(photograph(seed)), used()) for seed, name in enumerate(names, start)}


def printed(name):
    """How the name of a file stands in a table."""
    return name.replace("\\", "\\\\").replace("\udcff\udcfe", "\\xff\\xfe")


def make_folder(folder):
    """A folder of class folders with everything in it that a folder may have.

    Returns:
        `Expected` by id.
    """
    files = {
        f"cat/{name}": content
        for part in (ordinary(100), torn(200), harmful(300), odd(400), oddly_named(500))
        for name, content in part.items()
    }
    files |= {f"dog/{seed}.png": (encode(photograph(seed)), used()) for seed in range(600, 630)}
    files["dog/deep/er/1.png"] = (encode(photograph(630)), used())
    files["dog/folder.png/inside.png"] = (encode(photograph(631)), used())
    files["Dog /1.png"] = (encode(photograph(640)), Expected("small_class"))
    files["torn only/1.png"] = (encode(photograph(641))[:100], Expected("truncated"))
    files["system only/Thumbs.db"] = (b"", Expected("system_file"))
    files["dog/whole copy.png"] = (encode(photograph(600)), Expected("duplicate"))
    files["cat/is it a dog.png"] = (encode(photograph(650)), Expected("conflicting_labels"))
    files["dog/is it a cat.bmp"] = (encode(photograph(650), "BMP"), Expected("conflicting_labels"))
    files["dog/compressed.jpg"] = (encode(photograph(601), "JPEG", quality=60), used())
    files["cat/nearly a dog.jpg"] = (encode(photograph(602), "JPEG", quality=60), used())
    files["_unlabelled/1.png"] = (encode(photograph(660)), used())
    files["_unlabelled/2.png"] = (encode(photograph(661))[:200], Expected("truncated"))
    files["_unlabelled/Thumbs.db"] = (b"", Expected("system_file"))
    files["stray.png"] = (encode(photograph(662)), Expected("stray_file"))
    files["README.md"] = (b"about the photographs", Expected("other_file"))
    files[".DS_Store"] = (b"", Expected("hidden_file"))
    for name, (content, _) in files.items():
        write(folder / name, content)
    expected = {printed(name): become for name, (_, become) in files.items()}
    return expected | _make_links_and_folders(folder)


def _make_links_and_folders(folder):
    outside = folder.parent / "outside"
    write(outside / "cat.png", encode(photograph(700)))
    write(folder / ".git/objects/1.png", encode(photograph(701)))
    write(folder / "__MACOSX/cat/._1.png", b"\0\5\x16\7")
    (folder / "bird").mkdir()
    (folder / "fish/empty/too").mkdir(parents=True)
    os.mkfifo(folder / "cat/pipe.png")
    links = {
        "cat/outside.png": (outside / "cat.png", "link_outside"),
        "outside": (outside, "link_outside"),
        "cat/loop": ("..", "link_loop"),
        "cat/self": (".", "link_loop"),
        "cat/broken.png": ("gone.png", "broken_link"),
        "cat/circle.png": ("circle.png", "broken_link"),
        "cat/linked.png": ("whole.png", "duplicate"),
    }
    for name, (target, _) in links.items():
        (folder / name).symlink_to(target)
    (folder / "cat/linked.png").rename(folder / "cat/zz linked.png")  # of two copies the first name is used
    return {
        **{name.replace("/linked", "/zz linked"): Expected(reason) for name, (_, reason) in links.items()},
        ".git": Expected("hidden_file"),
        "__MACOSX": Expected("system_file"),
        "cat/pipe.png": Expected("unreadable"),
    }


def make_split_folder(folder):
    """Given sides, and pictures on two of them.

    Returns:
        `Expected` by id.
    """
    files = {
        f"{split}/{label}/{seed}.png": (encode(photograph(seed)), used())
        for start, split in ((1000, "train"), (1100, "valid"), (1200, "test"))
        for offset, label in ((0, "cat"), (50, "dog"))
        for seed in range(start + offset, start + offset + 6)
    }
    files["train/cat/same as a test image.png"] = (encode(photograph(1200)), Expected("leak"))
    files["train/dog/nearly a test image.jpg"] = (encode(photograph(1250), "JPEG", quality=60), Expected("leak"))
    files["train/dog/same as validation.bmp"] = (encode(photograph(1150), "BMP"), Expected("leak"))
    files["_unlabelled/nearly a test image.jpg"] = (encode(photograph(1201), "JPEG", quality=60), Expected("leak"))
    files["_unlabelled/1.png"] = (encode(photograph(1300)), used())
    files["train/_unlabelled/2.png"] = (encode(photograph(1301)), used())
    files["test/_unlabelled/3.png"] = (encode(photograph(1302)), Expected("unlabelled_test"))
    files["train/stray.png"] = (encode(photograph(1303)), Expected("stray_file"))
    files["licence.txt"] = (b"CC0", Expected("other_file"))
    for name, (content, _) in files.items():
        write(folder / name, content)
    return {name: become for name, (_, become) in files.items()}


def make_manifest(folder):
    """A manifest with rows that cannot be used.

    Returns:
        The file, and `Expected` by id.
    """
    rows, expected = ["path,label"], {}
    for label, start in (("cat", 2000), ("dog", 2100)):
        for seed in range(start, start + 8):
            write(folder / f"images/{seed}.png", encode(photograph(seed)))
            rows.append(f"images/{seed}.png,{label}")
            expected[f"images/{seed}.png"] = used()
    write(folder / "images/both.png", encode(photograph(2200)))
    rows += ["images/both.png,cat", "images/both.png,dog", "images/2000.png,cat", ",cat", "images/gone.png,dog"]
    expected |= {"images/gone.png": Expected("missing_file"), "row 19": Expected("missing_path")}
    write(folder / "manifest.csv", "\n".join(rows).encode())
    return folder / "manifest.csv", expected


def write(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
