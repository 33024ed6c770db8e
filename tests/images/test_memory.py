"""Memory does not grow with the number of images, measured on processes of their own that the system keeps small."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

SIDE_PX = 128
FEW, MANY = 1_000, 10_000  # the few are seven chunks already: more than are ever on their way
LIMIT_BYTES = 144 * 2**20  # what a process may allocate beyond its imports, thread stacks included

PREPARE = """
import json, resource, sys
from pathlib import Path
import numpy as np
from cnn_transfer.images import DecodedImages, ImageFormat, Workers, list_images, open_image_set, write_image_set

def status(field):
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) * 1024

photos, folder, side, limit, earlier = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:]
import pyarrow.parquet, pyarrow.dataset  # pandas imports them when it first writes
limit += status("VmData")
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
listing = list_images(photos)
workers = Workers(engine="threads", workers=2)
images = DecodedImages(listing, ImageFormat(image_size_px=side, channels=3), np.arange(len(listing.table)), workers)
write_image_set(images, folder, *map(Path, earlier))
peak = status("VmHWM")  # imports included, since they are what a user sees, too
stored = open_image_set(folder)
print(json.dumps({"images": len(stored), "bytes": sum(s.nbytes for s in stored.shards), "peak": peak,
    "decoded": json.loads((folder / "written.json").read_text())["decoded"]}))
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Folders with few and many images: different names of fifty files, each of which is decoded whenever it is met."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for index in range(50):
        Image.fromarray(rng.integers(0, 256, (SIDE_PX, SIDE_PX, 3), np.uint8)).save(root / f"{index}.bmp")
    for count in (FEW, MANY):
        for label in ("cat", "dog"):
            (root / str(count) / label).mkdir(parents=True)
        for index in range(count):
            os.link(root / f"{index % 50}.bmp", root / str(count) / ("cat", "dog")[index % 2] / f"{index:05d}.bmp")
    return root


def prepare(photos, folder, *earlier, limit=LIMIT_BYTES):
    command = [sys.executable, "-c", PREPARE, str(photos), str(folder), str(SIDE_PX), str(limit), *map(str, earlier)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.slow
def test_ten_times_the_images_need_the_same_memory(photos, tmp_path):
    few = prepare(photos / str(FEW), tmp_path / "few")["peak"]
    many = prepare(photos / str(MANY), tmp_path / "many")
    assert many["decoded"] == MANY
    assert many["bytes"] == MANY * SIDE_PX**2 * 3 > 3 * LIMIT_BYTES
    assert many["peak"] <= 1.2 * few
    again = prepare(photos / str(MANY), tmp_path / "again", tmp_path / "many")
    assert again["decoded"] == 0
    assert again["peak"] <= 1.2 * few
