"""The stage `predict` by itself, and what stops it before its first node."""

import shutil
import zipfile
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset, Version
from kedro.pipeline import Pipeline
from kedro.runner import SequentialRunner
from PIL import Image

from cnn_transfer.datasets import (
    ChosenPredictorDataset,
    JSONDataset,
    LabelledImagesDataset,
    NewImagesDataset,
)
from cnn_transfer.datasets.matplotlib_dataset import MatplotlibDataset
from cnn_transfer.exit_codes import REFUSED
from cnn_transfer.hooks import CheckHooks, SummaryHooks
from cnn_transfer.images.reasons import NOTES, REASONS
from cnn_transfer.parameters import ParameterError
from cnn_transfer.pipeline_registry import register_pipelines
from cnn_transfer.pipelines.predict.nodes import label_images
from cnn_transfer.prediction import WITHHELD
from cnn_transfer.prediction.drift import THRESHOLDS

PIPELINE = register_pipelines()["predict"]
BLOCK = {"decoding_threads": 1, "drift_confidence": 0.99}


def catalog(store, images, folder):
    version = Version(None, "1")
    return DataCatalog(
        {
            "new_images": NewImagesDataset(filepath=str(images)),
            "chosen_predictor": ChosenPredictorDataset(filepath=str(store.parents[1])),
            "params:predict": MemoryDataset(BLOCK),
            "predictions": LabelledImagesDataset(filepath=str(folder / "predictions.parquet"), version=version),
            "prediction_counts": JSONDataset(filepath=str(folder / "counts.json"), version=version),
            "rejected_new_images": MemoryDataset(),
            "drift": JSONDataset(filepath=str(folder / "drift.json"), version=version),
            "drift_table": MemoryDataset(),
            "drift_plot": MatplotlibDataset(filepath=str(folder / "drift.png"), version=version),
        }
    )


@pytest.fixture(scope="module")
def store(predictor_folder, tmp_path_factory):
    """A predictor where a catalog has it."""
    folder = tmp_path_factory.mktemp("store")
    shutil.copytree(predictor_folder, folder / "predictor" / predictor_folder.parent.name / "predictor")
    return folder / "predictor" / predictor_folder.parent.name / "predictor"


def run(store, images, folder):
    made = catalog(store, images, folder)
    SequentialRunner().run(PIPELINE, made)
    return made


@pytest.fixture(scope="module")
def dark_images(class_folder, tmp_path_factory):
    """All shapes with half their light, and a file that is no image."""
    folder = tmp_path_factory.mktemp("dark")
    for path in sorted(class_folder.glob("*/*.png")):
        pixels = np.asarray(Image.open(path)) // 2
        Image.fromarray(pixels).save(folder / f"{path.parent.name}-{path.name}")
    (folder / "broken.png").write_bytes(b"\x89PNG")
    return folder


@pytest.fixture(scope="module")
def finished(store, dark_images, tmp_path_factory):
    return run(store, dark_images, tmp_path_factory.mktemp("run"))


def test_labels_counts_and_rejected_images_are_of_the_same_images(finished):
    counts, labelled = finished.load("prediction_counts"), finished.load("predictions")
    assert counts["listed"] == 401
    assert counts["labelled"] == sum(map(len, labelled.parts())) == 400
    assert finished.load("rejected_new_images")[["id", "reason"]].to_numpy().tolist() == [["broken.png", "damaged"]]
    assert counts["model_version"] == "2026-01-01T00.00.00.000Z"


def test_drift_of_darker_images_is_called_by_name(finished):
    drift, table = finished.load("drift"), finished.load("drift_table")
    assert "brightness" in drift["drift"]
    assert "size" not in drift["drift"]
    assert table["aspect"].tolist() == list(THRESHOLDS)
    assert drift["images"] == 400
    assert "<svg" in finished.load("drift_plot")


def test_images_like_those_of_the_training_are_no_drift(store, class_folder, tmp_path):
    drift = run(store, class_folder, tmp_path).load("drift")
    assert set(drift["drift"]) <= {"confidence"}  # most of them are images that the network was trained on


def test_the_end_of_a_run_says_what_became_of_the_images_and_where_they_are(finished, capsys):
    SummaryHooks().after_pipeline_run(PIPELINE, finished)
    printed = " ".join(capsys.readouterr().out.split())
    assert "Images 401 listed, 400 labelled by 2026-01-01T00.00.00.000Z, 1 rejected: 1 damaged" in printed
    assert finished.load("drift")["statement"] in printed
    assert "1/predictions.parquet" in printed


def test_the_wrong_block_of_parameters_is_refused(predictor):
    with pytest.raises(ParameterError, match=r"predict\.drift_confidence"):
        label_images(None, predictor, BLOCK | {"drift_confidence": 2})


def told(parameters, entries):
    """What the check before the first node says, and the exit code."""
    hooks = CheckHooks()
    hooks._parameters, hooks._run_is_given = parameters, True
    raw = {f"{role}_raw_images": MemoryDataset() for role in ("source", "target")}
    with pytest.raises(click.ClickException) as refused:
        hooks.before_pipeline_run(PIPELINE, DataCatalog(raw | {"params:predict": MemoryDataset(BLOCK)} | entries))
    return refused.value.message, refused.value.exit_code


def unusable(parameters, store, images=None, model_version=None):
    root = str(store.parents[1])
    return told(
        parameters,
        {
            "new_images": NewImagesDataset(filepath=images),
            "chosen_predictor": ChosenPredictorDataset(filepath=root, model_version=model_version),
        },
    )


def test_all_that_is_missing_is_told_before_the_first_node(parameters, store):
    message, code = unusable(parameters, store, None, "yesterday")
    assert code == REFUSED
    assert "nothing was run" in message
    assert "new_images: images must be a folder" in message
    assert "There is no version yesterday of " in message
    assert "2026-01-01T00.00.00.000Z" in message
    assert "Name one with --params model_version=RUN" in message


def test_a_store_without_predictors_says_how_to_make_one(parameters, tmp_path, class_folder):
    message, code = unusable(parameters, tmp_path / "a" / "b", str(class_folder))
    assert code == 1  # a model may come
    assert "There is no version of " in message
    assert "kedro run" in message


def damaged(store, folder, change):
    copy = folder / "predictor/1/predictor"
    shutil.copytree(store, copy)
    change(copy)
    return copy


def with_code(copy: Path):
    import keras

    inputs = keras.Input((28, 28, 1), dtype="uint8", name="pixels")
    keras.Model(inputs, keras.layers.Lambda(lambda pixels: pixels)(inputs)).save(copy / "model.keras")


def with_other_weights(copy: Path):
    with zipfile.ZipFile(copy / "model.keras") as archive:
        weights = archive.getinfo("model.weights.h5")
        start = weights.header_offset + 30 + len(weights.filename)
    content = bytearray((copy / "model.keras").read_bytes())
    content[start + 200] ^= 255
    (copy / "model.keras").write_bytes(content)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (with_code, "Lambda layer"),
        (with_other_weights, "is damaged: model.keras"),
        (lambda copy: (copy / "features.npz").write_bytes(b"PK"), "is damaged"),
        (lambda copy: (copy / "training.parquet").unlink(), "is damaged"),
        (lambda copy: (copy / "predictor.json").write_text("{}"), "cannot be read"),
    ],
    ids=["code", "weights", "features", "training", "facts"],
)
def test_a_predictor_that_cannot_be_used_is_told_before_the_first_node(
    parameters, store, tmp_path, class_folder, change, expected
):
    message, _ = unusable(parameters, damaged(store, tmp_path, change), str(class_folder))
    assert expected in message
    assert "new_images" not in message


def test_nothing_is_said_when_all_is_there(parameters, store, class_folder):
    hooks = CheckHooks()
    hooks._parameters, hooks._run_is_given = parameters, True
    raw = {f"{role}_raw_images": MemoryDataset() for role in ("source", "target")}
    entries = {
        "new_images": NewImagesDataset(filepath=str(class_folder)),
        "chosen_predictor": ChosenPredictorDataset(filepath=str(store.parents[1])),
        "params:predict": MemoryDataset(BLOCK),
    }
    hooks.before_pipeline_run(PIPELINE, DataCatalog(raw | entries))
    assert isinstance(PIPELINE, Pipeline)


def test_every_column_and_code_is_explained_to_users(finished):
    text = (Path(__file__).parents[2] / "docs/predict.md").read_text()
    table = pd.concat(finished.load("predictions").parts())
    columns = {
        "probability_<class>" if name.startswith("probability_") else
        "nearest_1` …" if name == "nearest_1" else name
        for name in table if not name.startswith(("nearest_2", "nearest_3"))
    }  # fmt: skip
    for name in columns:
        assert f"`{name.removesuffix('` …')}`" in text, name
    for code in (
        *WITHHELD,
        *REASONS,
        *NOTES,
        "training_image",
        "unlabelled_image",
        "left_out_image",
        *THRESHOLDS,
        *finished.load("prediction_counts"),
    ):
        assert code in text, code
