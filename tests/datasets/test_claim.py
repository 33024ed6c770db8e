"""Only one process works on a thing at a time, and a dead one does not keep it."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import threading
import time

import fsspec
import pytest

from cnn_transfer.datasets import claim
from cnn_transfer.datasets.claim import Claim, ClaimedError


@pytest.fixture(params=["folder", "s3"])
def place(request, tmp_path):
    """A file system and the path of a claim in it."""
    if request.param == "folder":
        return fsspec.filesystem("file"), str(tmp_path / "run/node.claim")
    return fsspec.filesystem("s3"), f"{request.getfixturevalue('bucket')}/run/node.claim"


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(claim, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(claim, "PATIENCE_SECONDS", 0.5)


def test_a_claim_is_given_back(place):
    for _ in range(2):
        with Claim(*place, "work"):
            assert place[0].exists(place[1])
    place[0].invalidate_cache()
    assert not place[0].exists(place[1])


def test_a_second_process_is_told_who_works(place):
    with (
        Claim(*place, "node of the run a"),
        pytest.raises(ClaimedError, match=rf"node of the run a is being worked on by process {os.getpid()} on") as told,
        Claim(*place, "node of the run a"),
    ):
        pass
    assert "give this run another id" in str(told.value)


def test_a_claim_of_an_error_is_given_back(place):
    with pytest.raises(ValueError, match="broken"), Claim(*place, "work"):
        raise ValueError("broken")
    with Claim(*place, "work"):
        pass


def hold(path):
    with Claim(fsspec.filesystem("file"), path, "work"):
        signal.pause()


def test_the_claim_of_a_killed_process_of_this_machine_is_free_at_once(tmp_path):
    path = str(tmp_path / "node.claim")
    holder = multiprocessing.get_context("spawn").Process(target=hold, args=(path,))
    holder.start()
    while not os.path.exists(path) or not os.path.getsize(path):
        holder.join(0.05)
    with pytest.raises(ClaimedError), Claim(fsspec.filesystem("file"), path, "work"):
        pass
    holder.kill()
    holder.join()
    with Claim(fsspec.filesystem("file"), path, "work"):
        pass


def test_a_process_that_ended_is_gone_before_anybody_asks_how():
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie, as in a container without an init
    assert claim._process_started(process.pid) == "gone"
    process.wait()


def test_only_what_a_dead_process_of_this_machine_holds_is_cleared(place):
    filesystem, path = place
    with Claim(filesystem, path, "work"):
        Claim(filesystem, path, "work").clear()
        assert filesystem.exists(path)
        dead = json.loads(filesystem.cat_file(path)) | {"process_started": "0"}
    other_machine(place)
    Claim(filesystem, path, "work").clear()
    assert filesystem.exists(path)
    filesystem.pipe_file(path, json.dumps(dead).encode())
    Claim(filesystem, path, "work").clear()
    assert not filesystem.exists(path)
    Claim(filesystem, path, "work").clear()


def test_a_process_of_another_container_on_this_host_is_not_looked_for_in_the_own_table(place, quick, monkeypatch):
    with monkeypatch.context() as container:
        container.setattr(claim, "_pid_namespace", lambda: "pid:[1]")
        container.setattr(claim, "_process_started", lambda process: "when its machine started")
        holder = Claim(*place, "work")
    monkeypatch.setattr(claim, "PATIENCE_SECONDS", 60)
    with holder:
        Claim(*place, "work").clear()
        with pytest.raises(ClaimedError, match="is being worked on"), Claim(*place, "work"):
            pass


def test_a_claim_of_this_host_in_the_older_form_is_waited_for(place, quick):
    filesystem, path = place
    other_machine(place)
    older = json.loads(filesystem.cat_file(path)) | {"host": socket.gethostname(), "process": os.getpid()}
    filesystem.pipe_file(path, json.dumps(older).encode())
    start = time.monotonic()
    with Claim(*place, "work"):
        assert time.monotonic() - start >= 0.5


def test_a_claim_that_another_process_has_taken_over_is_not_renewed(tmp_path, quick, caplog):
    place = fsspec.filesystem("file"), str(tmp_path / "node.claim")
    with Claim(*place, "work"):
        other_machine(place)
        theirs = (tmp_path / "node.claim").read_text()
        time.sleep(0.4)
        assert (tmp_path / "node.claim").read_text() == theirs
    assert (tmp_path / "node.claim").read_text() == theirs
    assert "The claim on work was lost to process 7 on far" in caplog.text


def other_machine(place, beat=0):
    filesystem, path = place
    content = {"host": "far", "process": 7, "process_started": "1", "claim": "c", "since": "today", "beat": beat}
    filesystem.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
    filesystem.pipe_file(path, json.dumps(content).encode())


def test_of_two_that_see_a_dead_process_one_takes_over(place, monkeypatch):
    filesystem, path = place
    dead = Claim(*place, "work")
    dead._me |= {"process": 2**22 + 1}  # no process has that number
    assert dead._create()
    first, second = Claim(*place, "work"), Claim(*place, "work")
    waits = Claim._wait_for_end_of

    def let_the_first_in(self, holder):
        waits(self, holder)
        if self is second and holder["claim"] == dead._me["claim"]:
            first.__enter__()

    monkeypatch.setattr(Claim, "_wait_for_end_of", let_the_first_in)
    with pytest.raises(ClaimedError), second:
        pass
    filesystem.invalidate_cache()
    assert json.loads(filesystem.cat_file(path))["claim"] == first._me["claim"]
    first.__exit__(None, None, None)


def test_another_machine_that_shows_no_sign_of_life_is_not_waited_for_for_long(place, quick):
    other_machine(place)
    with Claim(*place, "work"):
        pass


def test_another_machine_that_works_on_is_told_of(place, quick, monkeypatch):
    monkeypatch.setattr(claim, "PATIENCE_SECONDS", 60)  # it ends with the first beat, however slow the store is
    other_machine(place)
    beat = threading.Timer(0.2, other_machine, (place, 1))
    beat.start()
    with pytest.raises(ClaimedError, match="process 7 on far since today"), Claim(*place, "work"):
        pass
    beat.join()


def test_what_another_machine_gives_back_is_free_at_once(tmp_path, quick, monkeypatch):
    monkeypatch.setattr(claim, "PATIENCE_SECONDS", 60)
    place = fsspec.filesystem("file"), str(tmp_path / "node.claim")
    other_machine(place)
    given_back = threading.Timer(0.1, os.remove, (place[1],))
    given_back.start()
    start = time.monotonic()
    with Claim(*place, "work"):
        assert time.monotonic() - start < 30


def test_a_claim_that_cannot_be_renewed_for_a_while_is_renewed_then(tmp_path, monkeypatch, caplog):
    class Unsteady(type(fsspec.filesystem("file"))):
        broken = threading.Event()

        def pipe_file(self, *arguments, **named):
            if self.broken.is_set():
                raise OSError("no answer")
            super().pipe_file(*arguments, **named)

    monkeypatch.setattr(claim, "BEAT_SECONDS", 0.01)
    path = tmp_path / "node.claim"
    deadline = time.monotonic() + 10

    def wait_for(happened):
        while not happened() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert happened()

    with Claim(Unsteady(), str(path), "work"):
        Unsteady.broken.set()
        wait_for(lambda: "The claim on work cannot be renewed (no answer)" in caplog.text)
        before = path.read_text()
        Unsteady.broken.clear()
        wait_for(lambda: path.read_text() not in {"", before})


def test_a_holder_shows_signs_of_life(tmp_path, quick):
    path = tmp_path / "node.claim"
    with Claim(fsspec.filesystem("file"), str(path), "work"):
        first = path.read_text()
        threading.Event().wait(0.3)
        assert path.read_text() != first


def wait_until(happened):
    deadline = time.monotonic() + 10
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert happened()


@pytest.mark.parametrize("content", ["", None], ids=["half written", "removed"])
def test_a_claim_that_is_damaged_is_made_whole_by_its_holder(tmp_path, quick, caplog, content):
    path = tmp_path / "node.claim"
    with Claim(fsspec.filesystem("file"), str(path), "work") as mine:
        path.unlink() if content is None else path.write_text(content)
        wait_until(lambda: path.exists() and mine._me["claim"] in path.read_text())
    assert not path.exists()
    assert "was lost" not in caplog.text


def test_a_claim_read_while_it_was_written_is_no_sign_of_life(tmp_path, quick):
    path = tmp_path / "node.claim"
    place = fsspec.filesystem("file"), str(path)
    other_machine(place)
    half = threading.Timer(0.2, path.write_text, ("",))
    half.start()
    with Claim(*place, "work"):
        half.join()
