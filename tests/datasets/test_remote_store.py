"""What the datasets write to an object store: whole or not there, and opened from a local copy."""

import fsspec
import numpy as np
import pandas as pd
import pytest
import s3fs
from kedro.io import DatasetError, Version
from test_atomic import CASES, listing

from cnn_transfer.datasets import (
    CurvePointsDataset,
    FeatureCollectionDataset,
    ImageSetDataset,
    JSONDataset,
    ParquetDataset,
    versions,
)
from cnn_transfer.evaluation.curve_points import PlannedPoint
from cnn_transfer.transfer import FeatureExtraction


@pytest.fixture(autouse=True)
def fresh_listings(bucket):
    """Another process's listings are not known here, as `configure_store` sees to."""
    fsspec.config.conf["s3"] = {"use_listings_cache": False}
    yield
    del fsspec.config.conf["s3"]


@pytest.fixture
def another_machine(monkeypatch, tmp_path):
    """From here on the cache is empty."""
    return lambda name="other": monkeypatch.setenv("TRANSFER_CACHE", str(tmp_path / name))


def objects(bucket, version=""):
    s3 = s3fs.S3FileSystem(use_listings_cache=False)
    return sorted(path for path in s3.find(bucket) if f"/{version}" in path)


def images(bucket, version):
    return ImageSetDataset(filepath=f"s3://{bucket}/store/images", version=Version(version, version))


@pytest.mark.parametrize("form", ["json", "model", "images"])
def test_a_failed_write_leaves_no_object(bucket, form):
    dataset_class, name, good, bad = CASES[form]

    def dataset(version):
        return dataset_class(filepath=f"s3://{bucket}/store/{name}", version=Version(None, version))

    dataset("2026-01-01").save(good() if callable(good) else good)
    with pytest.raises(DatasetError):
        dataset("2026-01-02").save(bad)
    assert dataset(None).resolve_load_version() == "2026-01-01"
    assert objects(bucket, "2026-01-02") == []


def test_an_image_set_is_opened_from_what_was_written_and_fetched_elsewhere(bucket, another_machine, monkeypatch):
    images(bucket, "a").save(listing(6))
    with monkeypatch.context() as offline:
        offline.setattr(s3fs.S3FileSystem, "_get_file", lambda *_, **__: pytest.fail("fetched"))
        assert len(images(bucket, "a").load()) == 6
    another_machine()
    opened = images(bucket, "a").load()
    np.testing.assert_array_equal(opened.pixels(np.array([5, 0]))[:, 0, 0, 0], [5, 0])
    assert list((versions_of := images(bucket, None)).list_versions(full_path=False)) == ["a"]
    assert versions_of.exists()


def test_an_upload_that_breaks_off_leaves_no_version(bucket, monkeypatch):
    images(bucket, "a").save(listing(4))
    call, sent = s3fs.S3FileSystem._call_s3, []

    async def refuse(self, method, *arguments, **options):
        sent.extend([method] * (method == "put_object"))
        if len(sent) > 2:
            raise OSError("no room in the bucket")
        return await call(self, method, *arguments, **options)

    with monkeypatch.context() as full:
        full.setattr(s3fs.S3FileSystem, "_call_s3", refuse)
        with pytest.raises(DatasetError, match="no room in the bucket"):
            images(bucket, "b").save(listing(4))
    assert images(bucket, None).list_versions(full_path=False) == ["a"]


def test_what_a_killed_upload_left_is_no_version_and_makes_way(bucket):
    s3 = s3fs.S3FileSystem(use_listings_cache=False)
    s3.pipe_file(f"{bucket}/store/images/a/images/pixels-00007.arrow", b"half")
    assert not images(bucket, None).exists()
    assert not versions.exists(images(bucket, "a"), "a")
    images(bucket, "a").save(listing(4))
    assert len(images(bucket, "a").load()) == 4
    assert not s3.exists(f"{bucket}/store/images/a/images/pixels-00007.arrow")


def test_what_an_earlier_version_holds_is_not_computed_again_on_another_machine(
    bucket, shapes, tiny_network, augmentation, another_machine
):
    rows = np.arange(5)
    wanted = {
        "mine": lambda: FeatureExtraction(
            tiny_network(), shapes, rows, rows[:0], ("block1", "block2"), (1,), 0, augmentation()
        )
    }
    for version, computed in (("a", 5), ("b", 0)):
        dataset = FeatureCollectionDataset(filepath=f"s3://{bucket}/store/features", version=Version(version, version))
        dataset.save(wanted)
        assert dataset.load()["mine"].computed == computed
        another_machine(version)
    assert versions.digest(dataset, "a") == versions.digest(dataset, "b")


def test_points_of_a_curve_are_kept_one_by_one_and_taken_elsewhere(bucket, another_machine):
    calls = []

    def measure(labels, fails):
        if labels in fails:
            raise ValueError("cut off")
        calls.append(labels)
        return pd.DataFrame({"id": ["a"], "label": ["x"], "predicted": ["x"]})

    def save(version, number, fails=()):
        points = [
            PlannedPoint("transfer", labels, 0, "d", lambda labels=labels: measure(labels, fails))
            for labels in range(1, number + 1)
        ]
        dataset = CurvePointsDataset(filepath=f"s3://{bucket}/store/points", version=Version(None, version))
        dataset.save(points)
        return dataset

    with pytest.raises(DatasetError, match="cut off"):
        save("a", 3, fails={3})
    another_machine()
    assert [point.labels for point in save("a", 3).load()] == [1, 2, 3]
    another_machine("third")
    save("b", 4)
    assert calls == [1, 2, 3, 4]


def test_a_version_that_is_not_there_is_answered_with_those_that_are(bucket):
    path = f"s3://{bucket}/store/x.json"
    JSONDataset(filepath=path, version=Version(None, "nightly-1")).save({})
    with pytest.raises(DatasetError, match=r"no version nightly-7 of .*There are, the newest first: nightly-1\."):
        JSONDataset(filepath=path, version=Version("nightly-7", None)).load()


def test_tables_are_previewed(bucket):
    dataset = ParquetDataset(filepath=f"s3://{bucket}/store/x.parquet", version=Version("a", "a"))
    dataset.save(pd.DataFrame({"a": range(9)}))
    assert dataset.preview(nrows=2) == {"index": [0, 1], "columns": ["a"], "data": [[0], [1]]}
