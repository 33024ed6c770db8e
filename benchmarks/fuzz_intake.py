"""Damaged files of every format through listing, decoding and checks: nothing may crash, hang, grow or go unreported.

python benchmarks/fuzz_intake.py [--files 20000] [--seed 0]

Each file is one of 21 pictures with one kind of damage: flipped bits, a cut end, zeroed blocks, inserted bytes, or the
first bytes of another format. A thousand files at a time are prepared by a process of its own, with a time limit. The
table shows what became of the files of each format; "similar" means a mean difference to the whole picture of at most
8 of 255. About 3 minutes for 20,000 files on 2 cores.
"""

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
from PIL import Image

from cnn_transfer.images import (
    CheckRule,
    DecodedImages,
    ImageFormat,
    ImageSet,
    SplitRule,
    check_image_set,
    decode_image,
    list_images,
    open_image_set,
    preparation,
    write_image_set,
)

AT_ONCE = 1000
LIMIT_S = 300  # for a thousand files
SIDE_PX = 64
SIMILAR = 8
# name: suffix, mode, arguments of Pillow's writer
VARIANTS: dict[str, tuple[str, str, dict[str, object]]] = {
    "AVIF": ("avif", "RGB", {}),
    "BMP": ("bmp", "RGB", {}),
    "BMP palette": ("bmp", "P", {}),
    "GIF": ("gif", "P", {}),
    "GIF animated": ("gif", "P", {"save_all": True, "duration": 100}),
    "JPEG": ("jpg", "RGB", {"quality": 90, "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"}),
    "JPEG progressive": ("jpg", "RGB", {"progressive": True}),
    "JPEG CMYK": ("jpg", "CMYK", {}),
    "JPEG2000": ("jp2", "RGB", {}),
    "PNG": ("png", "RGB", {}),
    "PNG 16 bit": ("png", "I;16", {}),
    "PNG palette": ("png", "P", {"transparency": 0}),
    "PPM": ("ppm", "RGB", {}),
    "TGA": ("tga", "RGB", {}),
    "TGA packed": ("tga", "RGBA", {"compression": "tga_rle"}),
    "TIFF": ("tif", "RGB", {}),
    "TIFF LZW": ("tif", "RGB", {"compression": "tiff_lzw"}),
    "TIFF JPEG": ("tif", "RGB", {"compression": "jpeg"}),
    "TIFF pages": ("tif", "L", {"compression": "tiff_adobe_deflate", "save_all": True}),
    "WEBP": ("webp", "RGB", {}),
    "WEBP animated": ("webp", "RGBA", {"save_all": True, "lossless": True}),
}


def main() -> None:
    """Damage, prepare in processes of their own, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.prepare:
        prepare(arguments.prepare)
        return
    pictures = draw_pictures()
    results, slowest, peak_bytes, noise = [], (0.0, ""), 0, []
    for start in range(0, arguments.files, AT_ONCE):
        with tempfile.TemporaryDirectory() as temporary:
            numbers = range(start, min(start + AT_ONCE, arguments.files))
            write_damaged(Path(temporary, "photos"), pictures, numbers, arguments.seed)
            command = [sys.executable, __file__, "--prepare", temporary]
            begin = time.perf_counter()
            child = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
            if child.returncode:
                sys.exit(f"Files {start} to {numbers[-1]}: exit code {child.returncode}\n{child.stderr[-3000:]}")
            facts = json.loads((Path(temporary) / "facts.json").read_text())
            results.append(pd.read_parquet(Path(temporary, "results.parquet")))
            slowest, peak_bytes = max(slowest, tuple(facts["slowest"])), max(peak_bytes, facts["peak_bytes"])
            noise += child.stderr.splitlines()
        print(f"{numbers[-1] + 1} files, {time.perf_counter() - begin:.1f} s", flush=True)
    table = pd.concat(results)
    for rows in ("format", "damage"):
        counts = pd.crosstab(table[rows], table["outcome"], margins=True)
        print(f"\n{counts.to_string()}")
    print(f"\nslowest image: {slowest[0]:.2f} s, {slowest[1]}; largest peak memory: {peak_bytes / 2**20:.0f} MiB")
    print(f"lines on standard error: {len(noise)}", *sorted({line[:150] for line in noise})[:10], sep="\n  ")


def draw_pictures() -> dict[str, bytes]:
    """One picture, smooth with some noise, in every variant."""
    rng = np.random.default_rng(0)
    pages = []
    for _ in range(2):
        smooth = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8)).resize((120, 90), Image.Resampling.BICUBIC)
        noisy = np.asarray(smooth, np.int16) + rng.integers(-6, 7, (90, 120, 3))
        pages.append(Image.fromarray(noisy.clip(0, 255).astype(np.uint8)))
    encoded = {}
    for name, (suffix, mode, options) in VARIANTS.items():
        if mode == "I;16":
            first, *others = (Image.fromarray(np.asarray(page.convert("L")).astype(np.uint16) * 257) for page in pages)
        else:
            first, *others = (page.convert(mode) for page in pages)
        stream = io.BytesIO()
        more = {"append_images": others} if "save_all" in options else {}
        first.save(stream, Image.registered_extensions()[f".{suffix}"], **options, **more)
        encoded[name] = stream.getvalue()
    return encoded


def write_damaged(folder: Path, pictures: dict[str, bytes], numbers: range, seed: int) -> None:
    """Write damaged files into a folder for each variant, and the undamaged one into each."""
    for name, content in pictures.items():
        (folder / name).mkdir(parents=True)
        (folder / name / f"whole.{VARIANTS[name][0]}").write_bytes(content)
    for number in numbers:
        rng = np.random.default_rng([seed, number])
        name, kind = str(rng.choice(list(pictures))), str(rng.choice(list(DAMAGES)))
        damaged = DAMAGES[kind](bytearray(pictures[name]), rng, list(pictures.values()))
        (folder / name / f"{number:07d} {kind}.{VARIANTS[name][0]}").write_bytes(damaged)


def flip_bits(content: bytearray, rng: np.random.Generator, _: list[bytes]) -> bytearray:
    """One to 16 bits; half the time in the first 100 bytes, where the header is."""
    length = min(len(content), 100) if rng.random() < 0.5 else len(content)
    for position in rng.integers(0, length, 2 ** rng.integers(0, 5)):
        content[position] ^= 1 << rng.integers(0, 8)
    return content


def cut_end(content: bytearray, rng: np.random.Generator, _: list[bytes]) -> bytearray:
    """Anything from nothing to all but one byte is left."""
    return content[: rng.integers(0, len(content))]


def zero_block(content: bytearray, rng: np.random.Generator, _: list[bytes]) -> bytearray:
    """One to 512 bytes, as after a failed disk."""
    start, length = rng.integers(0, len(content)), rng.integers(1, 513)
    content[start : start + length] = bytes(len(content[start : start + length]))
    return content


def insert_bytes(content: bytearray, rng: np.random.Generator, _: list[bytes]) -> bytearray:
    """One to 64 bytes anywhere."""
    start = rng.integers(0, len(content))
    content[start:start] = rng.bytes(int(rng.integers(1, 65)))
    return content


def swap_header(content: bytearray, rng: np.random.Generator, others: list[bytes]) -> bytearray:
    """The first bytes of another picture."""
    length = rng.integers(2, 65)
    content[:length] = others[rng.integers(len(others))][:length]
    return content


DAMAGES = {
    "bits flipped": flip_bits,
    "end cut": cut_end,
    "block zeroed": zero_block,
    "bytes inserted": insert_bytes,
    "header swapped": swap_header,
}


def prepare(folder: Path) -> None:
    """Prepare `photos` in a folder; write what became of each file and the slowest one."""
    slowest = (0.0, "")

    def timed(encoded: bytes, image_format: ImageFormat, name: str) -> object:
        nonlocal slowest
        start = time.perf_counter()
        try:
            return decode_image(encoded, image_format, name)
        finally:
            slowest = max(slowest, (time.perf_counter() - start, name))

    listing = list_images(folder / "photos")
    image_format = ImageFormat(image_size_px=SIDE_PX, channels=3)
    with mock.patch.object(preparation, "decode_image", timed):
        write_image_set(DecodedImages(listing, image_format, np.arange(len(listing.table))), folder / "set")
    images = open_image_set(folder / "set")
    rule = CheckRule(group_pattern=None, near_duplicates=None, small_classes="set_aside", most_set_aside=1)
    split_rule = SplitRule(test_fraction=0.2, labels_per_class=None, validation_ratio=0.25)
    checked = check_image_set(images, rule, split_rule)
    reported = sorted([*checked.table["id"], *checked.rejected["id"]])
    written = sorted(str(file.relative_to(folder / "photos")) for file in (folder / "photos").glob("*/*"))
    if reported != written:
        sys.exit(f"Not reported once: {set(written) ^ set(reported)}")
    (folder / "facts.json").write_text(
        json.dumps({"slowest": slowest, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024})
    )
    outcomes(images).to_parquet(folder / "results.parquet")


def outcomes(images: ImageSet) -> pd.DataFrame:
    """One row a damaged file: format, damage, and the reason why it was set aside or how like the whole one it is."""
    whole = images.table["id"].str.contains("/whole.")
    pixels = images.pixels(np.arange(len(images))).astype(np.int16)
    original = dict(zip(images.table["label"][whole], np.flatnonzero(whole), strict=True))
    difference = np.abs(pixels - pixels[images.table["label"].map(original)]).mean(axis=(1, 2, 3))
    likeness = np.select([difference == 0, difference <= SIMILAR], ["identical", "similar"], "different")
    used = images.table.assign(outcome=[f"used: {kind}" for kind in likeness])[~whole]
    rejected = images.rejected.assign(outcome=images.rejected["reason"])
    rows = pd.concat([used, rejected])[["id", "label", "outcome"]]
    damage = rows["id"].str.extract(r"/\d+ ([a-z ]+)\.", expand=False)
    return rows.assign(format=rows["label"], damage=damage)


if __name__ == "__main__":
    main()
