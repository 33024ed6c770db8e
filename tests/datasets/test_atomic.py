"""A version that exists is whole, whatever happens while it is written."""

import inspect
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError, Version
from matplotlib.figure import Figure
from PIL import Image

from cnn_transfer.datasets import (
    CSVDataset,
    ImageSetDataset,
    JSONDataset,
    KerasModelDataset,
    ParquetDataset,
    TextDataset,
)
from cnn_transfer.datasets.matplotlib_dataset import MatplotlibDataset
from cnn_transfer.images import DecodedImages, ImageFormat, ImageListing


def listing(count: int, broken_from: int | None = None) -> DecodedImages:
    """Random images; reading fails outright from one of them on, as a lost network drive would."""
    table = pd.DataFrame({"id": [f"{i}" for i in range(count)], "label": ["a", "b"] * (count // 2)})

    def read(rows):
        for row in rows:
            if broken_from is not None and row >= broken_from:
                raise RuntimeError("the drive is gone")
            yield np.full((16, 16, 1), row, np.uint8)

    return DecodedImages(ImageListing(table, read), ImageFormat(image_size_px=16, channels=1), np.arange(count))


def network() -> keras.Model:
    inputs = keras.Input((16, 16, 1), dtype="uint8")
    return keras.Model(inputs, keras.layers.Flatten()(inputs))


class Unsaveable:
    """Fails in every format, after the file was opened."""

    def to_parquet(self, file, **_):
        file.write(b"half")
        raise OSError("No space left on device")

    def savefig(self, *_, **__):
        raise OSError("No space left on device")

    def save(self, path):
        Path(path).write_bytes(b"half")
        raise OSError("No space left on device")


CASES = {
    "json": (JSONDataset, "x.json", {"a": 1}, {"a": 1, "b": Unsaveable()}),
    "parquet": (ParquetDataset, "x.parquet", pd.DataFrame({"a": [1]}), Unsaveable()),
    "picture": (MatplotlibDataset, "x.png", Figure(), Unsaveable()),
    "text": (TextDataset, "x.html", "<p>é</p>", Unsaveable()),
    "model": (KerasModelDataset, "x.keras", network, Unsaveable()),
    "images": (ImageSetDataset, "x", listing(4), listing(4, broken_from=2)),
}


def test_pictures_are_loaded_as_vectors(tmp_path):
    figure = Figure()
    figure.text(0.5, 0.5, "seen")
    dataset = MatplotlibDataset(filepath=str(tmp_path / "x.png"), version=Version(None, None))
    dataset.save(figure)
    loaded = MatplotlibDataset(filepath=str(tmp_path / "x.png"), version=Version(None, None)).load()
    assert loaded.startswith("<svg")
    assert ">seen</text>" in loaded


def test_words_without_a_picture_are_written_without_a_warning(tmp_path):
    figure = Figure(layout="constrained")
    figure.suptitle("There is nothing to draw.")
    MatplotlibDataset(filepath=str(tmp_path / "x.png")).save(figure)
    assert np.asarray(Image.open(tmp_path / "x.png").convert("L")).min() < 100


@pytest.mark.parametrize("characters", range(28, 36))
def test_nothing_of_a_picture_is_cut_off_at_its_edge(tmp_path, characters):
    """Letters of the PNG are wider than those of the SVG, by hinting: what fits into the one must fit into both."""
    figure = Figure(figsize=(6, 1), dpi=110, layout="constrained")
    figure.subplots().set_yticks([0.5], ["fine_tuning.most_doublings: 2 → 10000"[:characters]], fontsize=7)
    MatplotlibDataset(filepath=str(tmp_path / "x.png")).save(figure)
    pixels = np.asarray(Image.open(tmp_path / "x.png").convert("L"))
    assert pixels.min() < 100
    assert pixels[:, :2].min() == 255


def test_a_picture_that_cannot_be_written_as_png_leaves_no_vector(tmp_path):
    class VectorOnly(Figure):
        def savefig(self, *args, **kwargs):
            if kwargs.get("format") != "svg":
                raise OSError("No space left on device")
            super().savefig(*args, **kwargs)

    dataset = MatplotlibDataset(filepath=str(tmp_path / "x.png"), version=Version(None, "2026-01-01"))
    with pytest.raises(DatasetError):
        dataset.save(VectorOnly())
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


@pytest.mark.parametrize(("dataset_class", "name", "good", "bad"), CASES.values(), ids=CASES.keys())
def test_failed_write_leaves_no_version_and_no_debris(tmp_path, dataset_class, name, good, bad):
    good = good() if callable(good) else good
    first = dataset_class(filepath=str(tmp_path / name), version=Version(None, "2026-01-01"))
    first.save(good)
    second = dataset_class(filepath=str(tmp_path / name), version=Version(None, "2026-01-02"))
    with pytest.raises(DatasetError):
        second.save(bad)
    assert (
        dataset_class(filepath=str(tmp_path / name), version=Version(None, None)).resolve_load_version() == "2026-01-01"
    )
    left = [file.name for file in (tmp_path / name).rglob("*") if file.is_file() and "2026-01-02" in str(file)]
    assert left == []


def test_kill_while_images_are_written_leaves_no_version(tmp_path):
    imports = """
        import time
        import numpy as np
        import pandas as pd
        from kedro.io import Version
        from cnn_transfer.datasets import ImageSetDataset
        from cnn_transfer.images import DecodedImages, ImageFormat, ImageListing, preparation
    """
    writing = f"""
        preparation.MOST_CHUNK_IMAGES = 2
        images = listing(1000)
        read = images.listing.read
        def slowly(rows):
            for image in read(rows):
                time.sleep(0.01)
                print("read", flush=True)
                yield image
        object.__setattr__(images.listing, "read", slowly)
        ImageSetDataset(filepath={str(tmp_path / "x")!r}, version=Version(None, "2026-01-02")).save(images)
    """
    script = "\n".join([textwrap.dedent(imports), inspect.getsource(listing), textwrap.dedent(writing)])
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        for _ in range(20):
            assert process.stdout.readline() == b"read\n"
        os.kill(process.pid, signal.SIGKILL)
    assert any((tmp_path / "x/2026-01-02").iterdir()), "the process was killed before it wrote anything"
    assert not ImageSetDataset(filepath=str(tmp_path / "x"), version=Version(None, None)).exists()


def test_a_version_is_never_written_twice(tmp_path):
    for expectation in (None, DatasetError):
        dataset = JSONDataset(filepath=str(tmp_path / "x.json"), version=Version(None, "2026-01-01"))
        if expectation is None:
            dataset.save({"a": 1})
        else:
            with pytest.raises(expectation, match="must not exist"):
                dataset.save({"a": 2})
    assert dataset.load() == {"a": 1}


def test_unversioned_file_is_replaced_as_a_whole(tmp_path):
    dataset = JSONDataset(filepath=str(tmp_path / "x.json"))
    dataset.save({"a": 1})
    with pytest.raises(DatasetError):
        dataset.save({"a": Unsaveable()})
    assert dataset.load() == {"a": 1}
    dataset.save({"a": 2})
    assert dataset.load() == {"a": 2}
    assert os.listdir(tmp_path) == ["x.json"]


@pytest.mark.parametrize(
    ("kind", "returned"),
    [(CSVDataset, "Table"), (ParquetDataset, "Table"), (JSONDataset, "JSON"), (MatplotlibDataset, "Image")],
)
def test_what_no_run_has_made_has_no_preview_and_is_no_error(tmp_path, kind, returned):
    dataset = kind(filepath=str(tmp_path / "file.png"), version=Version(None, "1"))
    assert dataset.preview() is None
    assert inspect.signature(dataset.preview).return_annotation == f"{returned}Preview"  # else kedro-viz shows nothing
