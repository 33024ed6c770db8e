"""Predictors in the catalog: a version a run, and the one that is asked for, on a disk and on an object store."""

import fsspec
import numpy as np
import pytest
from kedro.io import DatasetError, Version
from kedro.io.core import VersionNotFoundError

from cnn_transfer.datasets import ChosenPredictorDataset, PredictorDataset

RUNS = ("2026-01-01T00.00.00.000Z", "2026-01-02T00.00.00.000Z")
BLACK = np.zeros((1, 28, 28, 1), np.uint8)


@pytest.fixture(params=["folder", "s3"])
def store(request, tmp_path):
    if request.param == "folder":
        yield str(tmp_path / "predictor")
        return
    fsspec.config.conf["s3"] = {"use_listings_cache": False}
    yield f"s3://{request.getfixturevalue('bucket')}/store/predictor"
    del fsspec.config.conf["s3"]


@pytest.fixture
def stored(store, predictor):
    for run in RUNS:
        PredictorDataset(filepath=store, version=Version(run, run)).save(predictor)
    return store


def test_version_of_a_run_is_what_was_saved(stored, predictor):
    loaded = PredictorDataset(filepath=stored, version=Version(RUNS[0], RUNS[0])).load()
    assert loaded.facts == predictor.facts
    np.testing.assert_allclose(loaded.compute(BLACK).logits, predictor.compute(BLACK).logits, atol=1e-5)


def test_newest_version_is_chosen_unless_one_is_asked_for(stored):
    assert ChosenPredictorDataset(filepath=stored).load().version == RUNS[1]
    assert ChosenPredictorDataset(filepath=stored, model_version=RUNS[0]).load().version == RUNS[0]


def test_unknown_version_lists_those_that_are_there(stored):
    dataset = ChosenPredictorDataset(filepath=stored, model_version="yesterday")
    assert not dataset.exists()
    with pytest.raises(VersionNotFoundError, match=f"no version yesterday of .*newest first: {RUNS[1]}, {RUNS[0]}"):
        dataset.version()


def test_same_content_has_the_same_fingerprint_whatever_its_version(stored):
    first, last = (ChosenPredictorDataset(filepath=stored, model_version=run).fingerprint() for run in RUNS)
    assert first == last


def test_number_names_a_version_too(store, predictor):
    PredictorDataset(filepath=store, version=Version("7", "7")).save(predictor)
    assert ChosenPredictorDataset(filepath=store, model_version=7).load().version == "7"


def test_without_any_version_it_does_not_exist(store):
    dataset = ChosenPredictorDataset(filepath=store)
    assert not dataset.exists()
    with pytest.raises(VersionNotFoundError, match=r"There is no version of .* yet\."):
        dataset.version()


def test_chosen_one_is_never_written(store, predictor):
    with pytest.raises(DatasetError, match="written by its own entry"):
        ChosenPredictorDataset(filepath=store).save(predictor)
