"""What each dataset saves and loads."""

import keras
import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError, Version
from test_atomic import listing

from cnn_transfer.datasets import ImageSetDataset, KerasModelDataset, NodeSecondsDataset, RawImagesDataset
from cnn_transfer.models import build_network


def test_image_set_is_opened_where_it_was_written(tmp_path):
    dataset = ImageSetDataset(filepath=str(tmp_path / "images"), version=Version(None, "1"))
    dataset.save(listing(6))
    images = dataset.load()
    np.testing.assert_array_equal(images.pixels(np.array([5, 0]))[:, 0, 0, 0], [5, 0])
    table = pd.read_parquet(tmp_path / "images/1/images/table.parquet")
    assert table["label"].tolist() == ["a", "b"] * 3


def test_image_set_refuses_a_remote_folder():
    with pytest.raises(DatasetError, match=r"local folder. Received: s3://bucket/images"):
        ImageSetDataset(filepath="s3://bucket/images")


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


def test_model_needs_the_keras_suffix(tmp_path):
    with pytest.raises(DatasetError, match=r"must end in .keras. Received: .*model.h5"):
        KerasModelDataset(filepath=str(tmp_path / "model.h5"))


def test_node_seconds_add_up_over_processes_and_replace_their_own(tmp_path):
    NodeSecondsDataset(filepath=str(tmp_path / "seconds")).save({"a.b": 1.0, "c": 2.0})
    NodeSecondsDataset(filepath=str(tmp_path / "seconds")).save({"a.b": 3.0})
    assert NodeSecondsDataset(filepath=str(tmp_path / "seconds")).load() == {"c": 2.0, "a.b": 3.0}


def test_raw_images_are_never_written(tmp_path):
    with pytest.raises(DatasetError, match="never written"):
        RawImagesDataset(filepath=str(tmp_path)).save("anything")
