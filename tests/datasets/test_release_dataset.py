"""Exports and releases in the catalog, and what the run of a chosen model worked with; on a disk and on S3."""

import json
import os
import time
from dataclasses import replace

import fsspec
import pandas as pd
import pytest
from kedro.io import DatasetError, Version
from kedro.io.core import VersionNotFoundError

from cnn_transfer.datasets import (
    ExportedFilesDataset,
    OfModelDataset,
    ParquetDataset,
    PredictorDataset,
    PublishedReleasesDataset,
    ReleaseDataset,
    versions,
)
from cnn_transfer.exporting import Release

RUNS = ("2026-01-01T00.00.00.000Z", "2026-01-02T00.00.00.000Z")
FILES = {"saved_model/saved_model.pb": b"graph", "saved_model/variables/index": b"weights", "model.onnx": b"onnx"}


@pytest.fixture(params=["folder", "s3"])
def store(request, tmp_path):
    if request.param == "folder":
        yield str(tmp_path / "store")
        return
    fsspec.config.conf["s3"] = {"use_listings_cache": False}
    yield f"s3://{request.getfixturevalue('bucket')}/store"
    del fsspec.config.conf["s3"]


def test_files_come_back_as_they_were(store):
    dataset = ExportedFilesDataset(filepath=f"{store}/exported_files", version=Version("1", "1"))
    dataset.save(FILES)
    assert dataset.load() == FILES


@pytest.fixture
def release(predictor, first_release):
    entry = {"name": "onnx", "file": "model.onnx", "passed": True, "verdict": "logits differ by at most 1e-6"}
    return Release(replace(predictor, version="6", card="# Released\n"), FILES, (entry,), first_release)


def test_release_is_a_predictor_with_its_exports_beside_it(store, release):
    dataset = ReleaseDataset(filepath=f"{store}/release", version=Version("7", "7"))
    dataset.save(release)
    assert dataset.load().card == "# Released\n"
    path = str(dataset._get_load_path())
    assert json.loads(dataset._fs.cat_file(f"{path}/exports.json"))["predictor_version"] == "6"
    for name, content in FILES.items():
        assert dataset._fs.cat_file(f"{path}/{name}") == content


def test_release_that_seems_younger_than_the_one_just_made_is_served_instead(tmp_path, release):
    dataset, ahead = (ReleaseDataset(filepath=f"{tmp_path}/release", version=Version(run, run)) for run in "78")
    dataset.save(release)
    assert dataset.served_instead() is None
    ahead.save(release)
    os.utime(tmp_path / "release/8/release/exports.json", (4e9, 4e9))  # as a clock that was wrong leaves it
    assert dataset.served_instead().version == "8"
    assert ahead.served_instead() is None


def test_release_that_was_cut_off_is_none(store, release, monkeypatch):
    dataset = ReleaseDataset(filepath=f"{store}/release", version=Version(None, "7"))

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("cnn_transfer.datasets.release_dataset.write_release", stop)
    with pytest.raises(KeyboardInterrupt):
        dataset.save(release)
    assert not versions.exists(dataset, "7")
    monkeypatch.undo()


def of_model(store, model_version=None, kind="cnn_transfer.datasets.ParquetDataset"):
    predictor = {"filepath": f"{store}/predictor", "model_version": model_version}
    return OfModelDataset({"type": kind, "filepath": f"{store}/splits.parquet"}, predictor)


@pytest.fixture
def runs(store, predictor):
    """Two runs, each with its predictor and its table; a third wrote a table and no predictor."""
    for place, run in enumerate((*RUNS, "2026-01-03T00.00.00.000Z")):
        if run in RUNS:
            PredictorDataset(filepath=f"{store}/predictor", version=Version(run, run)).save(predictor)
        table = pd.DataFrame({"place": [place]})
        ParquetDataset(filepath=f"{store}/splits.parquet", version=Version(run, run)).save(table)
    return store


def test_what_the_run_of_the_model_worked_with_is_read(runs):
    assert of_model(runs).load()["place"].tolist() == [1]
    assert of_model(runs, RUNS[0]).load()["place"].tolist() == [0]
    of_model(runs, RUNS[0]).check()


def test_its_content_has_a_fingerprint(runs):
    assert of_model(runs).fingerprint() != of_model(runs, RUNS[0]).fingerprint()
    assert of_model(runs).fingerprint() == of_model(runs, RUNS[1]).fingerprint()


def test_unknown_model_and_missing_table_list_what_is_there(runs):
    with pytest.raises(VersionNotFoundError, match=f"no version x of .*predictor.*newest first: {RUNS[1]}, {RUNS[0]}"):
        of_model(runs, "x").check()
    tables = ParquetDataset(filepath=f"{runs}/splits.parquet", version=Version(None, None))
    versions.discard(tables, RUNS[0])
    dataset = of_model(runs, RUNS[0])
    assert not dataset.exists()
    with pytest.raises(VersionNotFoundError, match=f"no version {RUNS[0]} of .*splits"):
        dataset.check()
    assert of_model(runs).exists()


def test_it_is_never_written_and_needs_versions(runs):
    with pytest.raises(DatasetError, match="written by its own entry"):
        of_model(runs).save(pd.DataFrame())
    with pytest.raises(DatasetError, match="unexpected keyword argument 'version'"):
        of_model(runs, kind="cnn_transfer.datasets.AllVersionsDataset").load()


@pytest.fixture
def published(store, release):
    """The entry of all releases, and how to add one."""

    def publish(version, predictor_version):
        made = replace(release, predictor=replace(release.predictor, version=predictor_version))
        ReleaseDataset(filepath=f"{store}/release", version=Version(version, version)).save(made)

    return PublishedReleasesDataset(filepath=f"{store}/release"), publish


def test_all_releases_are_there_the_newest_first_and_opened_when_asked_for(published):
    releases, publish = published
    assert releases.exists()
    assert releases.load() == []
    prints = {releases.fingerprint()}
    for version, predictor_version in (("9", "4"), ("10", "5")):
        publish(version, predictor_version)
        prints.add(releases.fingerprint())
        time.sleep(1.1)  # an object store's times are whole seconds
    assert [found[:2] for found in releases.load()] == [("10", "5"), ("9", "4")]
    assert releases.load()[1].open().facts.class_names == ("blob", "column", "diagonal", "row")
    assert len(prints) == 3


def test_release_whose_last_file_is_damaged_has_no_known_predictor(published):
    releases, publish = published
    publish("1", "4")
    filesystem, folder = releases._releases._fs, str(releases._releases._filepath)
    filesystem.pipe_file(f"{folder}/1/release/exports.json", b"{")
    assert [found[:2] for found in releases.load()] == [("1", "")]


def test_releases_are_written_by_their_own_entry(published):
    with pytest.raises(DatasetError, match="written by its own entry"):
        published[0].save([])
