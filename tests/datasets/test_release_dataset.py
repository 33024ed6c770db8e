"""Exports and releases in the catalog, and what the run of a chosen model worked with; on a disk and on S3."""

import json
from dataclasses import replace

import fsspec
import pandas as pd
import pytest
from kedro.io import DatasetError, Version
from kedro.io.core import VersionNotFoundError

from cnn_transfer.datasets import (
    ChampionDataset,
    ExportedFilesDataset,
    OfModelDataset,
    ParquetDataset,
    PredictorDataset,
    ReleaseDataset,
    versions,
)
from cnn_transfer.exporting import Champion, Release

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
def challenged(runs, release):
    """The newest run is about to be released; both runs' predictors are, by name, in releases before it."""

    def publish(version, predictor_version):
        made = replace(release, predictor=replace(release.predictor, version=predictor_version))
        ReleaseDataset(filepath=f"{runs}/release", version=Version(version, version)).save(made)

    champion = ChampionDataset(filepath=f"{runs}/release", predictor={"filepath": f"{runs}/predictor"})
    return champion, publish


def test_champion_is_the_newest_release_of_another_predictor(challenged):
    champion, publish = challenged
    first = champion.fingerprint()
    assert champion.exists()
    assert (champion.load().version, champion.load().predictor) == ("", None)
    publish("9", RUNS[0])
    publish("8", RUNS[1])  # of the chosen predictor itself: nothing to compare with
    assert champion.load().version == "9"
    assert champion.load().predictor.facts.class_names == ("blob", "column", "diagonal", "row")
    assert champion.fingerprint() != first
    second = champion.fingerprint()
    publish("10", RUNS[0])
    assert champion.load().version == "10"  # completed last, whatever its name
    assert champion.fingerprint() != second


def test_champion_that_cannot_be_opened_gives_way_to_the_one_that_is_served_instead(challenged, monkeypatch, tmp_path):
    champion, publish = challenged

    def load(cache):
        monkeypatch.setenv("TRANSFER_CACHE", str(tmp_path / cache))  # another machine's
        return champion.load()

    publish("1", RUNS[0])
    publish("2", RUNS[0])
    filesystem, folder = champion._releases._fs, str(champion._releases._filepath)
    filesystem.pipe_file(f"{folder}/2/release/predictor.json", b"{")
    assert load("first").version == "1"
    filesystem.pipe_file(f"{folder}/1/release/predictor.json", b'{"form": 1}')
    found = load("second")
    assert (found.version, found.predictor) == ("2", None)
    assert "cannot be read" in found.problem
    filesystem.rm_file(f"{folder}/2/release/exports.json")
    assert "its form is 1, this program reads" in load("third").problem


def test_champion_is_never_written(challenged):
    with pytest.raises(DatasetError, match="written by its own entry"):
        challenged[0].save(Champion())
