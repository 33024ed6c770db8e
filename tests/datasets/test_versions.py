"""Versions as folders: content, copies, removal, on a local disk and in an object store."""

import json
import os
import shutil
import zipfile
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import fsspec
import keras
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from kedro.io import Version
from kedro.io.core import VersionNotFoundError

from cnn_transfer.datasets import (
    AllVersionsDataset,
    ImageSetDataset,
    JSONDataset,
    KerasModelDataset,
    TextDataset,
    versions,
)
from cnn_transfer.datasets.matplotlib_dataset import MatplotlibDataset
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
    with pytest.raises(VersionNotFoundError, match=r"no version four of .*There are, the newest first: .*three"):
        versions.digest(dataset(place, "one"), "four")


def test_how_much_was_computed_anew_is_no_content(image_set_folder, tmp_path):
    store = ImageSetDataset(filepath=str(tmp_path / "shapes"), version=Version("a", "a"))
    for version, decoded in (("a", 400), ("b", 0)):
        folder = tmp_path / f"shapes/{version}/shapes"
        shutil.copytree(image_set_folder, folder)
        (folder / "written.json").write_text(json.dumps({"decoded": decoded}))
    assert versions.digest(store, "a") == versions.digest(store, "b")
    about = json.loads((folder / "set.json").read_text())
    (folder / "set.json").write_text(json.dumps(about | {"name": "other"}))
    assert versions.digest(store, "a") != versions.digest(store, "b")


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


@pytest.mark.parametrize("name", ["labels.csv", "page.html"])
def test_what_people_write_in_is_copied(name, tmp_path):
    store = dataset(tmp_path, "old", TextDataset, name)
    store.save("as it was made")
    made = versions.digest(store, "old")
    versions.adopt(store, "old", "new")
    assert not versions.was_edited(store, "new", made)
    (tmp_path / name / "new" / name).write_text("edited")
    assert versions.was_edited(store, "new", made)
    assert store.load() == "as it was made"


def test_in_a_store_what_makes_a_version_whole_is_copied_last_and_a_whole_one_is_left_alone(monkeypatch):
    filesystem, store = fsspec.filesystem("memory"), dataset("memory://adopted", "old", name="folder")
    monkeypatch.setattr(filesystem, "store", {})
    monkeypatch.setattr(store, "LAST_FILE", "middle.json", raising=False)
    copied = []
    monkeypatch.setattr(filesystem, "cp_file", lambda origin, goal: copied.append((origin, goal)))
    origin, goal = (versions.version_folder(store, version) / "folder" for version in ("old", "new"))
    for name in ("first", "middle.json", "zuletzt"):
        filesystem.pipe_file(str(origin / name), b"content")
    filesystem.pipe_file(str(goal / "left by a kill"), b"half")
    versions.adopt(store, "old", "new")
    assert copied == [(str(origin / name), str(goal / name)) for name in ("first", "zuletzt", "middle.json")]
    assert not filesystem.exists(str(goal / "left by a kill"))
    filesystem.pipe_file(str(goal / "middle.json"), b"content")
    versions.adopt(store, "old", "new")
    assert len(copied) == 3


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


def test_an_adoption_that_was_cut_off_is_no_version_and_goes_with_it(tmp_path):
    store, folder = dataset(tmp_path, "old"), tmp_path / "figures.json"
    store.save({"a": 1})
    digest, partial = versions.digest(store, "old"), folder / f".partial-new-{'0' * 32}"
    shutil.copytree(folder / "old", partial)
    (folder / "old/.partial-figures.json").write_text("half")
    assert store.list_versions(full_path=False) == ["old"]
    assert versions.digest(store, "old") == digest
    versions.discard(store, "newer")
    assert partial.exists()
    versions.discard(store, "new")
    assert not partial.exists()


def test_what_is_unfinished_stays_where_the_next_save_goes_on_with_it(tmp_path):
    class GoesOn(TextDataset):
        KEEPS_UNFINISHED = True

    store = dataset(tmp_path, "cut", GoesOn, "points.txt")
    store.save("all")
    (tmp_path / "points.txt/cut/half").write_text("half")
    versions.discard(store, "cut")
    assert not versions.exists(store, "cut")
    assert [path.name for path in (tmp_path / "points.txt/cut").iterdir()] == ["half"]


def test_a_small_file_that_cannot_be_written_whole_stays_as_it_was(tmp_path, monkeypatch):
    def fill_up(path, content):
        with path.open("wb") as stream:
            stream.write(content[:1])
        raise OSError(28, "No space left on device")

    file, disk = tmp_path / "record.json", fsspec.filesystem("file")
    versions.write_whole(disk, str(file), b"old")
    monkeypatch.setattr(Path, "write_bytes", fill_up)
    with pytest.raises(OSError, match="No space left"):
        versions.write_whole(disk, str(file), b"new")
    assert (file.read_bytes(), list(tmp_path.iterdir())) == (b"old", [file])


def test_versions_are_ordered_by_time_whatever_their_names(tmp_path):
    times = {
        "nightly-9": "2026-01-01T00:00",
        "nightly-10": "2026-01-03T00:00",
        "2026-01-02T00.00.00.000Z": "2030-01-01",
    }
    for version, time in times.items():
        dataset(tmp_path, version).save({})
        seconds = datetime.fromisoformat(time).replace(tzinfo=UTC).timestamp()
        os.utime(tmp_path / "figures.json" / version, (seconds, seconds))
    latest = dataset(tmp_path, None)
    assert latest.list_versions(full_path=False) == ["nightly-10", "2026-01-02T00.00.00.000Z", "nightly-9"]
    assert latest.resolve_load_version() == "nightly-10"
    everything = AllVersionsDataset(filepath=str(tmp_path / "figures.json"))
    assert list(everything.load()) == ["nightly-9", "2026-01-02T00.00.00.000Z", "nightly-10"]


@pytest.mark.parametrize("says", ["LastModified", "mtime", None])
def test_versions_on_a_store_are_ordered_by_the_time_of_their_last_file(says):
    times = {"nightly-9": "2026-01-01", "nightly-10": "2026-01-03", "2026-01-02T00.00.00.000Z": "2030-01-01"}
    times = {version: datetime.fromisoformat(time).replace(tzinfo=UTC) for version, time in times.items()}

    class Store(MemoryFileSystem):
        def find(self, path, **_):
            files = {f"{path}/{version}/x.json": {"name": version} for version in times}
            for info in files.values() if says else ():
                time = times[info["name"]]
                info[says] = time if says == "LastModified" else time.timestamp()
            return files

        def modified(self, path):
            return times[path] if says is None else pytest.fail("asked again")

    found = versions.find_versions(Store(skip_instance_cache=True), PurePosixPath("/place/x.json"))
    assert found == ["nightly-10", "2026-01-02T00.00.00.000Z", "nightly-9"]


def test_a_network_is_always_stored_as_the_same_bytes(tmp_path):
    inputs = keras.Input((4,))
    shared = keras.initializers.HeNormal(seed=0)  # Keras names what layers share by its address in memory

    def network():
        layers = [keras.layers.Dense(3, kernel_initializer=shared, name=name) for name in "ab"]
        return keras.Model(inputs, [layer(inputs) for layer in layers], name="same")

    for version in ("a", "b"):
        keras.utils.set_random_seed(0)
        dataset(tmp_path, version, KerasModelDataset, "model.keras").save(network())
        shared = keras.initializers.HeNormal(seed=0)
    a, b = (tmp_path / "model.keras" / version / "model.keras" for version in "ab")
    assert a.read_bytes() == b.read_bytes()
    with zipfile.ZipFile(a) as archive:
        assert b'"shared_object_id": 0' in archive.read("config.json")
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert b'"date_saved": ""' in archive.read("metadata.json")
    assert dataset(tmp_path, "a", KerasModelDataset, "model.keras").load().name == "same"
