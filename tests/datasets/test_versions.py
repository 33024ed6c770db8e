"""Versions as folders: content, copies, removal, on a local disk and in an object store."""

import os

import fsspec
import pytest
from kedro.io import Version

from cnn_transfer.datasets import JSONDataset, MatplotlibDataset, TextDataset, versions
from cnn_transfer.evaluation.figures import new_figure


@pytest.fixture(params=["folder", "s3"])
def place(request, tmp_path):
    """A folder of the disk, or of a bucket."""
    if request.param == "folder":
        return str(tmp_path)
    return f"s3://{request.getfixturevalue('bucket')}/place"


def dataset(place, version, kind=JSONDataset, name="figures.json"):
    return kind(filepath=f"{place}/{name}", version=Version(version, version))


def test_the_digest_is_of_the_content_and_not_of_the_version(place):
    for version, content in (("one", {"a": 1}), ("two", {"a": 1}), ("three", {"a": 2})):
        dataset(place, version).save(content)
    one, two, three = (versions.digest(dataset(place, "one"), version) for version in ("one", "two", "three"))
    assert one == two != three
    with pytest.raises(FileNotFoundError, match="no version four of"):
        versions.digest(dataset(place, "one"), "four")


def test_an_adopted_version_is_the_same_and_stands_by_itself(place):
    dataset(place, "old").save({"a": 1})
    versions.adopt(dataset(place, "old"), "old", "new")
    assert versions.exists(dataset(place, "old"), "new")
    assert versions.digest(dataset(place, "old"), "new") == versions.digest(dataset(place, "old"), "old")
    versions.discard(dataset(place, "old"), "old")
    assert not versions.exists(dataset(place, "old"), "old")
    assert dataset(place, "new").load() == {"a": 1}


def test_all_files_of_a_version_are_adopted(tmp_path):
    figure = new_figure(1, 1)
    picture = dataset(tmp_path, "old", MatplotlibDataset, "plot.png")
    picture.save(figure)
    versions.adopt(picture, "old", "new")
    assert dataset(tmp_path, "new", MatplotlibDataset, "plot.png").load() == picture.load()
    old, new = (tmp_path / "plot.png" / version / "plot.png" for version in ("old", "new"))
    assert os.path.samefile(old, new), "on one disk it takes no space"


def test_two_processes_may_adopt_the_same(tmp_path):
    dataset(tmp_path, "old").save({"a": 1})
    versions.adopt(dataset(tmp_path, "old"), "old", "new")
    versions.adopt(dataset(tmp_path, "old"), "old", "new")
    assert sorted(path.name for path in (tmp_path / "figures.json").iterdir()) == ["new", "old"]


def test_an_adoption_that_fails_leaves_nothing(tmp_path, monkeypatch):
    dataset(tmp_path, "old").save({"a": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr("shutil.copy2", full)
    with pytest.raises(OSError, match="No space left"):
        versions.adopt(dataset(tmp_path, "old"), "old", "new")
    assert [path.name for path in (tmp_path / "figures.json").iterdir()] == ["old"]


def test_what_a_killed_process_left_is_no_version_and_goes_with_it(place):
    store = dataset(place, "cut", TextDataset, "page.html")
    filesystem = fsspec.core.url_to_fs(place)[0]
    folder = versions.version_folder(store, "cut")
    filesystem.makedirs(folder, exist_ok=True)
    filesystem.pipe_file(f"{folder}/.partial-page.html", b"half")
    assert not versions.exists(store, "cut")
    versions.discard(store, "cut")
    versions.discard(store, "cut")
    filesystem.invalidate_cache()
    assert not filesystem.exists(folder)
