"""Who trains together, as TF_CONFIG says; what they do is in tests/integration/test_several_machines.py."""

import json

import numpy as np
import pytest

from cnn_transfer.models import copy_network
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
        ("/job:worker/replica:0/task:1 cannot reach /job:worker/replica:0/task:2", "worker 2 at c:3"),
    ],
)
def test_the_machine_that_is_gone_is_named(team, message, expected):
    assert team._lost(message) == expected


def member(index, addresses=("a:1", "b:2", "c:3")):
    """One of several machines, without the others: what is added up is what this one has."""
    one = Team.__new__(Team)
    one._members = Cluster(tuple(("worker", number, at) for number, at in enumerate(addresses)), index)
    one._add = lambda values: values
    return one


def test_the_chief_does_not_say_that_it_is_gone_itself():
    assert member(0)._lost("RPC: /tensorflow.CoordinationService/Heartbeat") == "Another machine of the training"


def test_what_is_told_and_shared_is_the_chiefs():
    chief, other = member(0), member(1)
    assert chief._tell("evaluate: Größe der Bilder") == "evaluate: Größe der Bilder"
    assert chief.share([0.5, 2]) == [0.5, 2]
    assert other._tell("evaluate") == ""
    assert other.share([0.5, 2]) == [0, 0]


@pytest.mark.parametrize(("index", "expected"), [(0, "first"), (1, "second"), (2, "first")])
def test_processes_of_one_machine_take_a_graphics_card_each(monkeypatch, index, expected):
    import tensorflow as tf

    seen = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: ["first", "second"])
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda card, kind: seen.append((card, kind)))
    workers._use_one_card(member(index, ("a:1", "a:2", "b:1"))._members)
    assert seen == [(expected, "GPU")]


def test_the_model_of_a_team_learns_as_keras_does(tiny_network, shapes):
    """Of one machine, whose part is the whole batch."""
    import tensorflow as tf

    network, alone = tiny_network(), member(0, ("a:1",))
    alone._strategy = tf.distribute.get_strategy()
    rows = np.arange(0, 400, 10)[:32]
    targets = np.eye(4, dtype=np.float32)[shapes.classes[rows]]
    losses, weights = [], []
    for model in (copy_network(network), alone.model(copy_network(network), batch_size=16)):
        model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
        batches = tf.data.Dataset.from_tensor_slices((shapes.pixels(rows), targets)).batch(16, drop_remainder=True)
        losses.append(model.fit(batches, shuffle=False, verbose=0).history)
        weights.append(model.get_weights())
    assert losses[0]["loss"] == pytest.approx(losses[1]["loss"], rel=1e-4)
    assert losses[0]["accuracy"] == losses[1]["accuracy"]
    for mine, theirs, before in zip(*weights, network.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-5)
        assert not np.array_equal(theirs, before)


def test_a_batch_is_shared_out_as_evenly_as_it_goes(team):
    assert [(16 * index // 3, 16 * (index + 1) // 3) for index in range(3)] == [(0, 5), (5, 10), (10, 16)]
    assert team._bounds(16) == (5, 10)
    assert team._bounds(3) == (1, 2)
    with pytest.raises(ValueError, match=r"batch_size must be at least 3, the number of workers.*Received: 2"):
        team._bounds(2)


def test_only_within_at_work_do_the_others_take_part(team):
    assert workers.team_at_work() is None
    with team.at_work():
        assert workers.team_at_work() is team
    assert workers.team_at_work() is None
