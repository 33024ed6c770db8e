"""Local copies: below a limit, the least recently opened one goes first, and never one that is being opened."""

import os
import shutil
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from cnn_transfer.datasets.cache import cache_folder, check_cache, local_copy, working_folder


@pytest.fixture
def store(monkeypatch, tmp_path):
    """A store with three folders of 1 kB each, and a cache for two."""
    monkeypatch.setenv("TRANSFER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TRANSFER_CACHE_GB", "0.0000025")
    filesystem = MemoryFileSystem(skip_instance_cache=True)
    for name in "abc":
        filesystem.pipe_file(f"/{tmp_path.name}/{name}/part", b"x" * 990)
        filesystem.pipe_file(f"/{tmp_path.name}/{name}/last", b"y" * 10)
    return lambda name: local_copy(filesystem, f"/{tmp_path.name}/{name}", "last")


def cached():
    return sorted(folder.name.split("-")[0] for folder in cache_folder().iterdir())


def opened(store, *names):
    for seconds, name in enumerate(names):
        with store(name) as folder:
            assert (folder / "part").read_bytes() == b"x" * 990
        os.utime(folder, (seconds, seconds))


def test_the_least_recently_opened_copy_makes_way(store):
    opened(store, "a", "b")
    assert cached() == ["a", "b"]
    opened(store, "b", "a", "c")
    assert cached() == ["a", "c"]


def test_a_copy_that_is_open_stays(store):
    with store("a") as folder:
        opened(store, "b", "c")
        assert (folder / "last").exists()
        assert cached() == ["a", "c"]


def test_what_a_killed_process_left_is_removed_and_what_is_written_stays(store):
    with working_folder("x") as busy:
        (busy / "half").write_text("")
        (cache_folder() / ".partial-dead").mkdir()
        opened(store, "a")
        assert busy.is_dir()
        assert not (cache_folder() / ".partial-dead").exists()
    assert cached() == ["a"]


def test_what_a_killed_process_left_makes_way_before_any_copy(store):
    opened(store, "a")
    dead = cache_folder() / ".partial-dead"
    dead.mkdir()
    (dead / "half").write_bytes(b"x" * 1000)
    opened(store, "b")
    assert cached() == ["a", "b"]


def test_a_copy_that_another_process_fetched_meanwhile_serves_as_well(store, monkeypatch):
    rename = Path.rename

    def come_second(folder, goal):
        shutil.copytree(folder, goal)
        return rename(folder, goal)

    monkeypatch.setattr(Path, "rename", come_second)
    opened(store, "a")
    assert cached() == ["a"]


def test_a_copy_that_cannot_get_its_name_is_an_error(store, monkeypatch):
    monkeypatch.setattr(Path, "rename", lambda folder, _: os.listdir(folder / "gone"))
    with pytest.raises(FileNotFoundError, match="gone"), store("a"):
        pass
    assert cached() == []


def test_a_copy_that_does_not_come_whole_is_none(store, monkeypatch):
    monkeypatch.setattr(
        MemoryFileSystem, "get", lambda self, remote, local, **_: [open(x, "wb").close() for x in local]
    )
    with pytest.raises(OSError, match="0 of them came"), store("a"):
        pass
    assert cached() == []


@pytest.mark.parametrize("value", ["many", "-1", "0"])
def test_a_limit_that_is_none_is_refused(monkeypatch, value):
    monkeypatch.setenv("TRANSFER_CACHE_GB", value)
    with pytest.raises(ValueError, match=f"above 0, in gigabytes. Received: {value}"):
        check_cache()
