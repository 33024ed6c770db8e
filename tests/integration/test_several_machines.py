"""Two processes train as one does; when one is killed the other says so, and the same command goes on."""

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cnn_transfer.training import Checkpoints, fit

sys.path.insert(0, str(Path(__file__).parent))
import together

SCRIPT = Path(together.__file__)
SECONDS_TO_NOTICE = 30


def free_addresses(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{free.getsockname()[1]}" for free in sockets]
    for free in sockets:
        free.close()
    return addresses


def start(workers, *arguments):
    """The processes, the chief first, and their addresses."""
    addresses = free_addresses(workers)
    processes = []
    for index in range(workers):
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
        if workers > 1:
            task = {"type": "worker", "index": index}
            environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
        command = [sys.executable, "-W", "ignore", str(SCRIPT), *map(str, arguments)]
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        processes.append(subprocess.Popen(command, env=environment, **output))
    return processes, addresses


def run(workers, *arguments):
    processes, _ = start(workers, *arguments)
    said = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * workers, "\n\n".join(said)
    return said


def result_of(file):
    with np.load(file) as found:
        return {name: found[name] for name in found.files}


@pytest.fixture(scope="module")
def by_two(image_set_folder, tmp_path_factory):
    """The result of two processes that nobody disturbs."""
    file = tmp_path_factory.mktemp("two") / "result.npz"
    run(2, image_set_folder, file)
    return result_of(file)


def test_two_processes_end_with_the_result_of_one(image_set_folder, by_two, tmp_path):
    run(1, image_set_folder, tmp_path / "result.npz")
    by_one = result_of(tmp_path / "result.npz")
    log = by_one.pop("log")
    assert log.shape == (9, 6)
    assert log[-1, 4] < 0.8 * log[0, 4]  # it has learnt
    np.testing.assert_allclose(by_two["log"], log, rtol=1e-6)  # figures are shared in float32
    for name, weights in by_one.items():
        np.testing.assert_allclose(by_two[name], weights, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("victim", [1, 0])
def test_a_killed_process_ends_the_others_and_the_same_command_goes_on(image_set_folder, by_two, tmp_path, victim):
    arguments = image_set_folder, tmp_path / "result.npz", tmp_path / "checkpoints"
    processes, addresses = start(2, *arguments)
    while not list(tmp_path.glob("checkpoints/[!.]*.npz")):
        assert all(process.poll() is None for process in processes), processes[0].communicate()[0]
        time.sleep(0.05)
    processes[victim].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    said = processes[1 - victim].communicate(timeout=120)[0]
    seconds = time.monotonic() - killed
    assert seconds < SECONDS_TO_NOTICE
    assert processes[1 - victim].returncode == 1
    who = rf"WorkerLostError: worker {victim} at {addresses[victim]} is gone\. "
    told = re.search(who + r"Start the same command again: the fit goes on after epoch (\d+) of 8\.", said)
    epoch = int(told[1])
    processes[victim].communicate()

    (heard, _) = run(2, *arguments)
    went_on = int(re.search(r"the fit goes on after epoch (\d+) of 8\.", heard)[1])
    assert went_on >= 1
    assert went_on == epoch or victim == 0  # the chief may have kept one more before it was killed
    for name, values in result_of(tmp_path / "result.npz").items():
        np.testing.assert_array_equal(values, by_two[name])


class StoppedError(BaseException):
    """What a signal handler raises."""


class StopsAfterOneEpoch(Checkpoints):
    def write(self, key, state):
        super().write(key, state)
        raise StoppedError


@pytest.mark.nightly
def test_ray_starts_the_processes_which_go_on_and_hand_back_the_result(image_set_folder, tmp_path, monkeypatch, caplog):
    ray = pytest.importorskip("ray")
    caplog.set_level(logging.INFO, "cnn_transfer")
    monkeypatch.setenv("RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS", "0")
    given = together.network(), *together.examples(image_set_folder), together.course(steps=4, validations=2)
    given = *given, together.moves(), "float32", 0, "phase"
    alone = fit(*given)
    with pytest.raises(StoppedError):
        fit(*given, StopsAfterOneEpoch(tmp_path))
    try:
        ray.init(_node_ip_address="127.0.0.1", log_to_driver=False, include_dashboard=False, configure_logging=False)
        by_ray = fit(*given, Checkpoints(tmp_path), workers=2)
    finally:
        ray.shutdown()
    assert by_ray.log["step"].tolist() == [0, 2, 4]
    figures = [name for name in alone.log if name != "phase"]
    np.testing.assert_array_equal(by_ray.log[figures][:2], alone.log[figures][:2])
    np.testing.assert_allclose(by_ray.log[figures].to_numpy(float), alone.log[figures].to_numpy(float), rtol=1e-3)
    assert fit(*given, Checkpoints(tmp_path), workers=2).log.equals(by_ray.log)  # without starting anything
    said = [record.getMessage() for record in caplog.records if record.name == "cnn_transfer.training.fit"]
    assert said == ["phase goes on after epoch 1 of 2.", "phase was finished before."]
