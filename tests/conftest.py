"""What the tests share: a small set of images that a network can learn, and networks small enough to train in seconds.

The images go through the real reader and writer once a session: a class folder of PNG files, decoded into an image set.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's start-up notes would hide what pytest prints
os.environ.pop("TRANSFER_STORE", None)  # else the tests' runs would write there

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from hypothesis import settings
from PIL import Image

from cnn_transfer.evaluation import (
    TriedDamage,
    calibrate,
    choose_threshold,
    embed_images,
    fit_calibration,
    fit_familiarity,
    fit_sets,
    predict,
    reference_rows,
    try_damage,
)
from cnn_transfer.exporting import FORMATS, export
from cnn_transfer.images import (
    Augmentation,
    DecodedImages,
    ImageFormat,
    SplitRule,
    assign_splits,
    list_images,
    open_image_set,
    write_image_set,
)
from cnn_transfer.models import ModelCard, add_head, tracing
from cnn_transfer.prediction import build_predictor
from cnn_transfer.training import Optimisation
from projects import make_project, run_kedro

# The cores of a test machine are shared, so that a time limit for one example would fail by chance.
settings.register_profile("shared", deadline=None, max_examples=50, derandomize=True, database=None)
settings.load_profile("shared")

IMAGE_SHAPE = (28, 28, 1)
CLASS_NAMES = ("blob", "column", "diagonal", "row")
IMAGES_PER_CLASS = 100


def pytest_collection_finish() -> None:
    """Spare the collector what lives to the end: TensorFlow's half million objects took 8% of the time of all tests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> tuple[Path, str]:
    """A project in which `kedro run --env test` has finished, and what it printed: run once, copied for each worker."""
    shared = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        shared = shared.parent
    original, printed = shared / "finished_run/project", shared / "finished_run.txt"
    with FileLock(shared / "finished_run.lock"):
        if not printed.exists():
            result = run_kedro(make_project(original), "run", "--env", "test", "--pipeline", "transfer")
            assert result.returncode == 0, result.stdout
            printed.write_text(result.stdout)
    folder = tmp_path_factory.mktemp("finished") / "project"
    shutil.copytree(original, folder, symlinks=True)
    return folder, printed.read_text().replace(str(original), str(folder))


def png_bytes(pixels):
    """Encode (height, width) or (height, width, 3) uint8 pixels as PNG."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def draw_shape(name, rng):
    """One noisy 28 x 28 picture of a bright shape at a random place: easy to learn, never twice the same."""
    pixels = rng.integers(0, 60, (28, 28))
    x, y = rng.integers(6, 18, 2)
    bright = rng.integers(170, 256, (28, 28))
    rows, columns = np.indices((28, 28))
    masks = {
        "blob": (rows - y - 2) ** 2 + (columns - x - 2) ** 2 < 25,
        "column": abs(columns - x - 2) < 3,
        "diagonal": abs(rows - columns + y - x) < 3,
        "row": abs(rows - y - 2) < 3,
    }
    return np.where(masks[name], bright, pixels).astype(np.uint8)


@pytest.fixture(scope="session")
def s3_server():
    """The environment of users of an S3 server, which is a process of its own and keeps its objects in memory."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(600):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.1)
            yield {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                "AWS_ACCESS_KEY_ID": "somebody",
                "AWS_SECRET_ACCESS_KEY": "secret",
                "AWS_DEFAULT_REGION": "us-east-1",
            }
        finally:
            server.terminate()


@pytest.fixture
def bucket(s3_server, monkeypatch, tmp_path):
    """A new bucket, whose address is its name after `s3://`; the environment names its server."""
    import s3fs

    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TRANSFER_CACHE", str(tmp_path / "cache"))
    name = f"photos-{hashlib.blake2b(bytes(tmp_path), digest_size=8).hexdigest()}"
    s3fs.S3FileSystem().mkdir(name)
    return name


@pytest.fixture(scope="session")
def encode_png():
    return png_bytes


@pytest.fixture(scope="session")
def class_folder(tmp_path_factory):
    """A folder with one folder of PNG files a class."""
    folder = tmp_path_factory.mktemp("shapes")
    rng = np.random.default_rng(0)
    for name in CLASS_NAMES:
        (folder / name).mkdir()
        for index in range(IMAGES_PER_CLASS):
            (folder / name / f"{index:03d}.png").write_bytes(png_bytes(draw_shape(name, rng)))
    return folder


@pytest.fixture(scope="session")
def image_set_folder(class_folder, tmp_path_factory):
    """The image set of `class_folder`, as it lies on disk."""
    listing = list_images(class_folder)
    folder = tmp_path_factory.mktemp("stored") / "shapes"
    image_format = ImageFormat(image_size_px=IMAGE_SHAPE[0], channels=1)
    write_image_set(DecodedImages(listing, image_format, np.arange(len(listing.table))), folder)
    return folder


@pytest.fixture(scope="session")
def shapes(image_set_folder):
    """400 images of four classes, opened."""
    return open_image_set(image_set_folder)


@pytest.fixture(scope="session")
def shape_splits(shapes):
    """Of each class 20 test images, 40 for training, 20 for validation, 20 unlabelled."""
    return assign_splits(shapes.table, SplitRule(test_fraction=0.2, labels_per_class=40, validation_ratio=0.5), seed=0)


@pytest.fixture(scope="session")
def augmentation():
    """Make an augmentation that moves nothing except what is named."""

    def make(**changes):
        nothing = {
            name: False if field.annotation is bool else 0.0
            for name, field in Augmentation.model_fields.items()
            if field.is_required()
        }
        return Augmentation(**nothing | changes)

    return make


@pytest.fixture(scope="session")
def schedule():
    """Make an optimisation of a few steps; name what a test is about."""

    def make(**changes):
        usual = {
            "learning_rate": 0.01,
            "batch_size": 16,
            "warmup_fraction": 0.1,
            "weight_decay": 0.0,
            "label_smoothing": 0.0,
            "validations": 2,
            "patience": 2,
        }
        length = {} if "epochs" in changes else {"steps": 10}
        return Optimisation(**usual | length | changes)

    return make


@pytest.fixture(scope="session")
def tiny_network():
    """Build a network with two blocks and a head that trains in a second; with or without batch normalisation."""
    import keras

    def build(n_classes=4, seed=0, normalised=True, image_shape=IMAGE_SHAPE):
        inputs = keras.Input(image_shape, dtype="uint8", name="pixels")
        x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, dtype="float32", name="rescaling")(inputs)
        for block, filters in enumerate((8, 16), start=1):
            initializer = keras.initializers.HeNormal(seed=100 * seed + block)
            x = keras.layers.Conv2D(filters, 3, strides=2, kernel_initializer=initializer, name=f"conv{block}")(x)
            if normalised:
                x = keras.layers.BatchNormalization(momentum=0.5, name=f"normalisation{block}")(x)
            x = keras.layers.Activation("relu", name=f"block{block}")(x)
        return add_head(keras.Model(inputs, x, name="tiny"), n_classes, seed)

    return build


@pytest.fixture(scope="module")
def traces_kept():
    """All traced networks of a file are kept: a fit of a small one takes less time than its tracing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracing, "MOST_SPARE", 100)
        patch.setattr(tracing, "_spare", {})
        yield


@pytest.fixture(scope="session")
def shapes_network(tiny_network, shapes, shape_splits):
    """A tiny network that knows blobs, columns, diagonals and rows."""
    import keras

    network = tiny_network()
    keras.utils.set_random_seed(0)
    rows = shapes.rows(shape_splits, "training")
    network.compile(keras.optimizers.AdamW(0.01), "sparse_categorical_crossentropy")
    network.fit(shapes.pixels(rows), shapes.classes[rows], batch_size=32, epochs=12, verbose=0)
    return network


@pytest.fixture(scope="session")
def predictor(shapes_network, shapes, shape_splits, familiarity_of):
    """A predictor of shapes, as the stage evaluate makes them."""
    validation = predict(shapes_network, shapes, shape_splits, "validation")
    calibration = fit_calibration(validation)
    calibrated = calibrate(validation, calibration)
    card = ModelCard(
        architecture="tiny", image_shape=IMAGE_SHAPE, class_names=CLASS_NAMES, trained_on="shapes",
        training_fingerprint=shapes.fingerprint, training_images=160, precision="float32",
        initialised_from="random weights", strategy="full", metrics={}, licence="MIT",
    )  # fmt: skip
    threshold = choose_threshold(calibrated, 0.9, 0.9)
    tried = try_damage(shapes_network, shapes, shape_splits, calibration, threshold["threshold"], 400, 0)
    familiarity = familiarity_of(shapes_network, shapes, shape_splits, threshold, tried)
    return build_predictor(
        shapes_network, card.model_dump(mode="json"), "# Shapes\n\nA card.\n", shapes, shape_splits, validation,
        calibration, threshold, fit_sets(calibrated, 0.9), familiarity, tried,
        shape_splits.loc[shape_splits["split"] == "unlabelled", ["id"]], 0,
    )  # fmt: skip


@pytest.fixture(scope="session")
def familiarity_of():
    """How strange an image may be, as the stage evaluate hands it to a predictor."""

    def fit(network, images, splits, threshold, tried, learnt=True):
        known = reference_rows(network, images, splits, 0), images.rows(splits, "validation")
        training, validation = (embed_images(network, images, rows, splits) for rows in known)
        promised = threshold["promised_accuracy"]
        return fit_familiarity(training, validation, 0.05, 0.05, learnt, TriedDamage.of(tried), promised)

    return fit


@pytest.fixture(scope="session")
def predictor_folder(predictor, tmp_path_factory):
    """The same on disk, where a catalog has it."""
    folder = tmp_path_factory.mktemp("predictors") / "2026-01-01T00.00.00.000Z" / "predictor"
    predictor.save(folder)
    return folder


@pytest.fixture(scope="session")
def training_pixels(shapes, shape_splits):
    """Those that the predictor was made with."""
    return shapes.pixels(shapes.rows(shape_splits, "training"))


@pytest.fixture(scope="session")
def exported(predictor, training_pixels):
    """The files of the predictor for other programs, as `exporting.write_files` takes them."""
    return export(predictor, list(FORMATS), training_pixels)


@pytest.fixture(scope="session")
def first_release():
    """What is said of a release before which there is none."""
    return {
        "champion": None,
        "passed": True,
        "statement": "There is no release of another network before this one.",
        "notes": [],
    }


@pytest.fixture(scope="session")
def predictions_table():
    """Make a table of predictions from true and predicted class names; the predicted class gets 70 %."""

    def make(labels, predicted, class_names, confidences=None):
        table = pd.DataFrame({"id": [f"i{n}" for n in range(len(labels))], "label": labels, "predicted": predicted})
        confidences = np.full(len(labels), 0.7) if confidences is None else np.asarray(confidences)
        for name in class_names:
            hit = np.asarray(predicted) == name
            table[f"probability_{name}"] = np.where(hit, confidences, (1 - confidences) / (len(class_names) - 1))
        return table

    return make
