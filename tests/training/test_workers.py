"""Who trains together, as TF_CONFIG says; what they do is in tests/integration/test_several_machines.py."""

import json

import pytest

from cnn_transfer.training import workers
from cnn_transfer.training.workers import Cluster, Team, cluster, join, role

TWO = {"worker": ["a:1", "b:2"]}


@pytest.fixture
def configured(monkeypatch):
    def configure(jobs, kind="worker", index=0):
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": jobs, "task": {"type": kind, "index": index}}))

    return configure


def test_a_process_is_alone_unless_others_are_named(monkeypatch, configured):
    for text in ("", "{}", '{"cluster": {}}'):
        monkeypatch.setenv("TF_CONFIG", text)
        assert role() == "alone"
    configured({"worker": ["a:1"]})
    assert role() == "alone"
    assert join() is None


@pytest.mark.parametrize(
    ("jobs", "task", "expected", "name"),
    [
        (TWO, ("worker", 0), "chief", "worker 0 at a:1"),
        (TWO, ("worker", 1), "worker", "worker 1 at b:2"),
        ({"worker": ["b:2"], "chief": ["a:1"]}, ("chief", 0), "chief", "chief 0 at a:1"),
        ({"worker": ["b:2"], "chief": ["a:1"]}, ("worker", 0), "worker", "worker 0 at b:2"),
    ],
)
def test_the_first_is_the_chief(configured, jobs, task, expected, name):
    configured(jobs, *task)
    assert role() == expected
    assert cluster().name(cluster().index) == name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("worker 0", "must look like"),
        ('{"cluster": {"worker": ["a:1", "b:2"]}}', "must look like"),
        ('{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}', "chief and worker only. Received: ps"),
        ('{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 2}}', "Received: worker 2"),
    ],
)
def test_what_cannot_be_understood_is_an_error(monkeypatch, text, expected):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match=expected):
        role()


@pytest.fixture
def team():
    """The second of three machines, without the others."""
    member = Team.__new__(Team)
    member._members = Cluster((("worker", 0, "a:1"), ("worker", 1, "b:2"), ("worker", 2, "c:3")), 1)
    return member


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("from remote target /job:worker/replica:0/task:2 while calling RecvBuf", "worker 2 at c:3"),
        ("from /job:worker/task:1: tasks are unhealthy: /job:worker/replica:0/task:0", "worker 0 at a:1"),
        ("RPC: /tensorflow.CoordinationService/Heartbeat", "worker 0 at a:1"),
        ("Socket closed", "Another machine of the training"),
    ],
)
def test_the_machine_that_is_gone_is_named(team, message, expected):
    assert team._lost(message) == expected


def test_a_batch_is_shared_out_as_evenly_as_it_goes(team):
    assert [(16 * index // 3, 16 * (index + 1) // 3) for index in range(3)] == [(0, 5), (5, 10), (10, 16)]
    assert team._bounds(16) == (5, 10)
    with pytest.raises(ValueError, match=r"batch_size must be at least 3, the number of workers.*Received: 2"):
        team._bounds(2)


def test_only_within_at_work_do_the_others_take_part(team):
    assert workers.team_at_work() is None
    with team.at_work():
        assert workers.team_at_work() is team
    assert workers.team_at_work() is None
