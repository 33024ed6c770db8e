"""Labelled images as versions that grow part by part, on a disk and on an object store."""

import shutil
from dataclasses import replace

import fsspec
import numpy as np
import pytest
from kedro.io import DatasetError, Version

from cnn_transfer.datasets import LabelledImagesDataset, labelled_images_dataset
from cnn_transfer.datasets.versions import write_whole
from cnn_transfer.images import list_unlabelled, preparation
from cnn_transfer.images.decoding import UnusableImageError
from cnn_transfer.prediction import labelling
from cnn_transfer.prediction.labelling import ImagesToLabel

PARTS = 4


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(preparation, "MOST_CHUNK_IMAGES", 10)
    monkeypatch.setattr(labelling, "PART_IMAGES", 30)


@pytest.fixture(params=["folder", "s3"])
def store(request, tmp_path):
    if request.param == "folder":
        yield str(tmp_path / "predictions.parquet")
        return
    fsspec.config.conf["s3"] = {"use_listings_cache": False}
    yield f"s3://{request.getfixturevalue('bucket')}/store/predictions.parquet"
    del fsspec.config.conf["s3"]


@pytest.fixture
def images(predictor, class_folder):
    return ImagesToLabel(predictor, replace(list_unlabelled(class_folder / "row"), fingerprint="f"))


def cut_off(images, row):
    """The same images in a process that ends when it comes to one of them."""

    def read(rows):
        for number, image in zip(rows, images.listing.read(rows), strict=True):
            if number == row:
                raise RuntimeError("cut off")
            yield image

    return replace(images, listing=replace(images.listing, read=read))


def counted(images):
    """The same images, and the row numbers that are read."""
    seen = []

    def read(rows):
        seen.extend(rows.tolist())
        return images.listing.read(rows)

    return replace(images, listing=replace(images.listing, read=read)), seen


def dataset(store, version):
    return LabelledImagesDataset(filepath=store, version=Version(version, version))


def contents(store, version):
    filesystem, path = fsspec.core.url_to_fs(store)
    folder = f"{path}/{version}/predictions.parquet"
    return {file.removeprefix(f"{folder}/"): filesystem.cat_file(file) for file in filesystem.find(folder)}


@pytest.mark.parametrize("version", ["1", "2"])
def test_what_was_cut_off_goes_on_at_its_part_and_ends_the_same(store, images, version):
    dataset(store, "whole").save(images)
    whole = contents(store, "whole")
    filesystem, path = fsspec.core.url_to_fs(store)
    filesystem.rm(f"{path}/whole", recursive=True)
    with pytest.raises(DatasetError, match="cut off"):
        dataset(store, "1").save(cut_off(images, 85))
    assert not dataset(store, None).exists()
    rest, seen = counted(images)
    dataset(store, version).save(rest)
    assert 0 < min(seen) <= 60
    assert min(seen) % 30 == 0
    assert contents(store, version) == whole
    assert len(list(dataset(store, None).load().parts())) == PARTS


def test_nothing_is_read_again_when_all_parts_are_there(store, images, monkeypatch):
    def write(filesystem, path, content):
        if path.endswith(labelling.CONTENTS):
            raise RuntimeError("cut off")
        write_whole(filesystem, path, content)

    with monkeypatch.context() as patch:
        patch.setattr(labelled_images_dataset, "write_whole", write)
        with pytest.raises(DatasetError, match="cut off"):
            dataset(store, "1").save(images)
    rest, seen = counted(images)
    dataset(store, "1").save(rest)
    assert seen == []
    assert sum(map(len, dataset(store, None).load().parts())) == 100


def test_what_a_later_run_may_be_able_to_read_is_counted(store, images):
    def read(rows):
        for row, image in zip(rows, images.listing.read(rows), strict=True):
            yield {3: UnusableImageError("unreadable", "no answer"), 40: b""}.get(row, image)

    dataset(store, "1").save(replace(images, listing=replace(images.listing, read=read)))
    assert sorted(dataset(store, "1").load().rejected()["reason"]) == ["empty_file", "unreadable"]
    assert dataset(store, None).unread("1") == 1
    dataset(store, "2").save(images)
    assert dataset(store, None).unread("2") == 0


def test_finished_versions_are_not_taken_from(store, images):
    dataset(store, "1").save(images)
    again, seen = counted(images)
    dataset(store, "2").save(again)
    assert seen[0] == 0
    assert contents(store, "1") == contents(store, "2")


@pytest.mark.parametrize("changed", ["predictor", "images"])
def test_parts_of_something_else_are_not_taken_and_removed(store, images, changed):
    with pytest.raises(DatasetError, match="cut off"):
        dataset(store, "1").save(cut_off(images, 95))
    other = {
        "predictor": replace(images, predictor=replace(images.predictor, digest="another")),
        "images": replace(images, listing=replace(images.listing, fingerprint="changed")),
    }[changed]
    other, seen = counted(other)
    dataset(store, "1").save(other)
    assert seen[0] == 0
    assert len(contents(store, "1")) == 2 * PARTS + 1


def test_where_changes_are_not_known_only_the_run_itself_goes_on(store, images):
    images = replace(images, listing=replace(images.listing, fingerprint=None))
    with pytest.raises(DatasetError, match="cut off"):
        dataset(store, "1").save(cut_off(images, 95))
    other, seen = counted(images)
    dataset(store, "2").save(other)
    assert seen[0] == 0
    same, seen = counted(images)
    dataset(store, "1").save(same)
    assert seen[0] > 0


def test_half_written_file_of_a_killed_process_is_removed(tmp_path, images):
    store = str(tmp_path / "predictions.parquet")
    with pytest.raises(DatasetError, match="cut off"):
        dataset(store, "1").save(cut_off(images, 95))
    unfinished = next(tmp_path.glob("predictions.parquet/1/.partial-*"))
    (unfinished / f".partial-{'0' * 32}").write_bytes(b"half")
    dataset(store, "1").save(images)
    assert len(contents(store, "1")) == 2 * PARTS + 1


def test_without_versions_it_is_replaced(tmp_path, images):
    store = str(tmp_path / "predictions.parquet")
    few = replace(images, listing=replace(images.listing, table=images.listing.table.iloc[:20]))
    for listed in (images, few):
        LabelledImagesDataset(filepath=store).save(listed)
    assert np.sum([len(part) for part in LabelledImagesDataset(filepath=store).load().parts()]) == 20
    shutil.rmtree(store)
    assert not LabelledImagesDataset(filepath=store).exists()
