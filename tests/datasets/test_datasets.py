"""What each dataset saves and loads."""

import json
from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError, Version
from test_atomic import listing

from cnn_transfer.datasets import (
    ChosenPredictorDataset,
    CSVDataset,
    FeaturesDataset,
    ImageSetDataset,
    KerasModelDataset,
    NewImagesDataset,
    OfModelDataset,
    RawImagesDataset,
)
from cnn_transfer.datasets.matplotlib_dataset import MatplotlibDataset
from cnn_transfer.images.reasons import UnusableSetError
from cnn_transfer.models import build_network
from cnn_transfer.transfer import features as feature_module
from cnn_transfer.transfer import plan_extraction


def test_image_set_is_opened_where_it_was_written(tmp_path):
    dataset = ImageSetDataset(filepath=str(tmp_path / "images"), version=Version(None, "1"))
    dataset.save(listing(6))
    images = dataset.load()
    np.testing.assert_array_equal(images.pixels(np.array([5, 0]))[:, 0, 0, 0], [5, 0])
    table = pd.read_parquet(tmp_path / "images/1/images/table.parquet")
    assert table["label"].tolist() == ["a", "b"] * 3


@pytest.fixture
def extraction(shapes, shape_splits, tiny_network, augmentation):
    """What a head reads of shapes: 160 images with a copy each, and as many unlabelled ones as asked for."""

    def make(unlabelled, network=None):
        return plan_extraction(
            network or tiny_network(), shapes, shape_splits, (1,), 1, augmentation(shift_fraction=0.05), unlabelled, 0
        )

    return make


def computed(folder, version):
    return json.loads((folder / f"features/{version}/features/written.json").read_text())["computed"]


def test_features_are_versioned_and_what_an_earlier_version_holds_is_not_computed_again(
    tmp_path, extraction, tiny_network
):
    def version(name):
        return FeaturesDataset(filepath=str(tmp_path / "features"), version=Version(None, name))

    version("1").save(extraction(20))
    version("2").save(extraction(30, tiny_network(seed=1)))
    version("3").save(extraction(30))
    first, last = (
        FeaturesDataset(filepath=str(tmp_path / "features"), version=Version(name, None)).load() for name in "13"
    )
    assert (len(first.table), len(last.table)) == (2 * 160 + 20, 2 * 160 + 30)
    ids = first.table["id"][first.table["id"].isin(last.table["id"])]
    assert [computed(tmp_path, name) for name in "123"] == [340, 350, (~last.table["id"].isin(ids)).sum()]
    assert len(ids.unique()) < len(last.table["id"].unique()) <= len(ids.unique()) + 30
    np.testing.assert_array_equal(first.of(ids, first.taps, 1), last.of(ids, last.taps, 1))
    latest = FeaturesDataset(filepath=str(tmp_path / "features"), version=Version(None, None)).load()
    assert len(latest.table) == 350


def test_features_that_are_not_finished_leave_nothing_behind(tmp_path, extraction, monkeypatch):
    dataset = FeaturesDataset(filepath=str(tmp_path / "features"), version=Version(None, "1"))

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(feature_module, "_compute", stop)
        with pytest.raises(KeyboardInterrupt):
            dataset.save(extraction(5))
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]
    dataset.save(extraction(5))
    assert computed(tmp_path, "1") == 325
    assert [folder.name for folder in (tmp_path / "features/1").iterdir()] == ["features"]


def test_no_features_are_a_version_too(tmp_path, extraction):
    nothing = replace(extraction(5), rows=np.array([], int), copied=np.array([], int))
    dataset = FeaturesDataset(filepath=str(tmp_path / "features"), version=Version(None, "1"))
    dataset.save(nothing)
    features = dataset.load()
    assert (len(features.table), features.taps) == (0, ("block1", "block2"))
    after = FeaturesDataset(filepath=str(tmp_path / "features"), version=Version(None, "2"))
    after.save(extraction(5))
    assert computed(tmp_path, "2") == 325


def test_model_comes_back_with_its_weights_and_without_optimiser(tmp_path):
    network = build_network("compact_cnn", (28, 28, 1), 3, seed=0)
    dataset = KerasModelDataset(filepath=str(tmp_path / "model.keras"), version=Version(None, "1"))
    dataset.save(network)
    loaded = dataset.load()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1), np.uint8)
    np.testing.assert_array_equal(loaded.predict(pixels, verbose=0), network.predict(pixels, verbose=0))
    assert not loaded.compiled


def test_model_with_a_lambda_layer_is_refused(tmp_path):
    inputs = keras.Input((4,))
    network = keras.Model(inputs, keras.layers.Lambda(lambda x: x * 2)(inputs))
    dataset = KerasModelDataset(filepath=str(tmp_path / "model.keras"), version=Version(None, "1"))
    dataset.save(network)
    with pytest.raises(DatasetError, match="safe_mode"):
        dataset.load()


def test_models_and_pictures_need_the_suffixes_of_their_formats(tmp_path):
    with pytest.raises(DatasetError, match=r"must end in .keras. Received: .*model.h5"):
        KerasModelDataset(filepath=str(tmp_path / "model.h5"))
    with pytest.raises(DatasetError, match=r"must end in \.png\. Received: .*plot\.svg"):
        MatplotlibDataset(filepath=str(tmp_path / "plot.svg"))


def test_a_table_for_people_is_read_as_it_was_written(tmp_path):
    table = pd.DataFrame({"id": ["007", 'a, "b".png'], "label": ["NA", "1.0"], "margin": [0.25, 1e-9 / 3]})
    types = {"dtype": {"id": str, "label": str}, "keep_default_na": False}
    path = str(tmp_path / "table.csv")
    dataset = CSVDataset(filepath=path, load_args=types, version=Version(None, "1"))
    dataset.save(table)
    pd.testing.assert_frame_equal(dataset.load(), table, check_dtype=False)
    assert dataset.preview(2)["data"] == [["007", "NA", 0.25], ['a, "b".png', "1.0", 3.33333e-10]]
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["table.csv"]


@pytest.fixture
def folder_of_two_classes(tmp_path):
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        file = tmp_path / "pets" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"an image")
    return tmp_path / "pets"


def test_raw_images_may_have_labels_that_were_looked_at_again(folder_of_two_classes, tmp_path):
    told = tmp_path / "told.csv"
    dataset = RawImagesDataset(str(folder_of_two_classes), labels=str(told))
    assert not dataset.labels_exist()
    told.write_text("id,label\ncat/2.png,dog\n", encoding="utf-8")
    assert dataset.labels_exist()
    labels = dataset.load().table.set_index("id")["label"]
    assert labels.to_dict() == {"cat/1.png": "cat", "cat/2.png": "dog", "dog/1.png": "dog"}
    assert dataset._describe()["labels"] == str(told)


def test_other_labels_are_other_images_to_what_recognises_unchanged_ones(folder_of_two_classes, tmp_path):
    told = tmp_path / "told.csv"
    alone = RawImagesDataset(str(folder_of_two_classes))
    dataset = RawImagesDataset(str(folder_of_two_classes), labels=str(told))
    assert alone.labels_exist()
    told.write_text("id,label\ncat/2.png,dog\n", encoding="utf-8")
    first = dataset.fingerprint()
    assert first not in {None, alone.fingerprint()}
    told.write_text("id,label\ncat/2.png,cat\n", encoding="utf-8")
    assert dataset.fingerprint() != first
    told.write_text("id,label\ncat/2.png,dog\n", encoding="utf-8")
    assert dataset.fingerprint() == first  # its content counts, not its time


def test_raw_images_that_are_read_in_another_way_are_other_images(folder_of_two_classes):
    alone = RawImagesDataset(str(folder_of_two_classes))
    by_name = RawImagesDataset(str(folder_of_two_classes), name_pattern=r"(\d)\.png")
    assert by_name.load().table["label"].tolist() == ["1", "2", "1"]
    assert by_name._describe()["name_pattern"] == r"(\d)\.png"
    prints = {
        dataset.fingerprint()
        for dataset in (alone, by_name, RawImagesDataset(str(folder_of_two_classes), name_pattern="(.)", columns={}))
    }
    assert len(prints) == 3
    assert RawImagesDataset(str(folder_of_two_classes), columns={"label": "dx"}).fingerprint() not in prints


def test_a_table_of_raw_images_is_checked_before_it_is_read_and_a_folder_is_not(folder_of_two_classes):
    table = folder_of_two_classes / "table.csv"
    table.write_text("name,dx\ncat/1,cat\ndog/1,dog\n", encoding="utf-8")
    RawImagesDataset(str(table), columns={"file": "{name}.png", "label": "dx"}).check()
    for columns in ({"file": "name", "label": "dx"}, {"file": "{name}.png"}):
        with pytest.raises(UnusableSetError):
            RawImagesDataset(str(table), columns=columns).check()
    unusable = RawImagesDataset(str(folder_of_two_classes), name_pattern="(no name)")
    unusable.check()
    with pytest.raises(DatasetError):
        unusable.load()


def test_what_is_neither_a_folder_nor_a_table_and_columns_of_a_folder_are_refused_before_anything_is_listed(tmp_path):
    archive, folder = tmp_path / "photos.tar", tmp_path / "photos"
    archive.write_bytes(b"PK")
    folder.mkdir()
    with pytest.raises(
        ValueError, match=r"Images must be a folder .* Received: .*photos.tar. Archives other than .zip must"
    ):
        RawImagesDataset(str(archive)).check()
    with pytest.raises(ValueError, match=r"Names of columns are for tables; .*photos is a folder"):
        RawImagesDataset(str(folder), columns={"label": "dx"}).check()


def test_raw_images_are_never_written(tmp_path):
    with pytest.raises(DatasetError, match="never written"):
        RawImagesDataset(filepath=str(tmp_path)).save("anything")


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (RawImagesDataset, {"filepath": "b"}),
        (RawImagesDataset, {"labels": "b.csv"}),
        (RawImagesDataset, {"name_pattern": "(.)"}),
        (RawImagesDataset, {"columns": {"label": "dx"}}),
        (NewImagesDataset, {"filepath": "b"}),
        (NewImagesDataset, {"columns": {"file": "name"}}),
        (ChosenPredictorDataset, {"model_version": 7}),
    ],
)
def test_what_people_choose_is_told_apart_whatever_is_there(kind, arguments, tmp_path):
    usual = {"filepath": str(tmp_path / "a")}
    assert kind(**usual).identity() == kind(**usual).identity() != kind(**usual | arguments).identity()


def test_what_belongs_to_a_chosen_model_is_chosen_with_it():
    entry = {"type": "cnn_transfer.datasets.JSONDataset", "filepath": "facts.json"}
    chosen = [OfModelDataset(entry, {"filepath": "predictor", "model_version": run}).identity() for run in ("a", "b")]
    assert chosen == [{"model_version": "a"}, {"model_version": "b"}]
