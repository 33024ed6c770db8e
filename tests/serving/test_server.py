"""The service as a process of its own: it stops gracefully, exchanges its model under load, and survives attacks."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from services import VERSION, Client, form

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from hostile_uploads import hostile_requests

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

PACKAGES = {"tensorflow", "keras", "kedro", "kedro_datasets", "matplotlib"}


class Process:
    """A process of the service; `client` asks it, `log` is what it wrote."""

    def __init__(self, releases, log, **settings):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.client = Client(free.getsockname()[1])
        variables = {f"CNN_TRANSFER_{name.upper()}": str(value) for name, value in settings.items()}
        command = [sys.executable, "-m", "cnn_transfer.serving", "--release", releases, "--port", str(self.client.port)]
        self._log = log
        with log.open("wb") as stream:
            self.process = subprocess.Popen(command, stdout=stream, stderr=stream, env=os.environ | variables)
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError):
                if self.client.get("/ready").status == 200:
                    break
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.1)

    @property
    def log(self):
        return self._log.read_text()

    def memory_mb(self):
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


@pytest.fixture
def start(tmp_path):
    """Start services that end with the test."""
    started = []

    def begin(releases, **settings):
        started.append(Process(releases, tmp_path / f"log-{len(started)}", **settings))
        return started[-1]

    yield begin
    for one in started:
        one.process.kill()
        one.process.wait()


@pytest.fixture(scope="module")
def image(class_folder):
    return (class_folder / "blob/099.png").read_bytes()


class Load:
    """Clients that send one image after the other while the block runs; `statuses` is what came back."""

    def __init__(self, client, image, clients=4):
        self.statuses, self.versions = [], set()
        self._going = True
        self._threads = [threading.Thread(target=self._send, args=(client, image)) for _ in range(clients)]

    def _send(self, client, image):
        while self._going:
            try:
                answer = client.send(("a.png", image))
                self.statuses.append(answer.status)
                self.versions.add(answer.json["model"]["version"])
            except (OSError, KeyError) as error:
                self.statuses.append(repr(error))

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._going = False
        for thread in self._threads:
            thread.join()


def test_imports_neither_tensorflow_nor_kedro(release_folder):
    code = (
        "import sys; from cnn_transfer.serving import Settings; from cnn_transfer.serving.releases import *;"
        "from cnn_transfer.serving.server import serve; from pathlib import Path;"
        "load_release(find_releases(Path(sys.argv[1]))[0], Settings());"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code, release_folder], capture_output=True, text=True, check=True)
    assert not PACKAGES & set(done.stdout.split())
    assert "onnxruntime" in done.stdout


def test_without_a_release_it_ends_with_the_command_that_makes_one(tmp_path):
    command = [sys.executable, "-m", "cnn_transfer.serving", "--release", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "kedro run --pipelines export" in done.stderr
    assert "Traceback" not in done.stderr
    done = subprocess.run([*command, "--logs", "json"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    [line] = [json.loads(line) for line in done.stderr.splitlines()]
    assert line["level"] == "CRITICAL"
    assert "kedro run --pipelines export" in line["message"]


def test_a_damaged_release_alone_ends_it_with_the_reason(releases, tmp_path):
    (releases / VERSION / "release/model.onnx").write_bytes(b"no model")
    command = [sys.executable, "-m", "cnn_transfer.serving", "--release", releases, "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert f"{VERSION}/release cannot be served; there is no older one; it is tried again" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("There is no release that can be served in")
    assert "Traceback" not in done.stderr


def test_sigterm_answers_what_is_under_way_and_ends_with_0(releases, image, start):
    service = start(releases, grace_seconds=1, logs="json")
    body, kind = form(("a.png", image))
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", service.client.port), timeout=30) as connection:
        connection.sendall(head + body[:100])
        time.sleep(0.2)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert service.client.get("/ready").status == 503  # while others still come
        assert service.client.send(("a.png", image)).status == 200
        time.sleep(1)
        with pytest.raises(ConnectionRefusedError):
            service.client.get("/live")
        connection.sendall(body[100:])
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    assert service.process.wait(20) == 0
    for line in map(json.loads, service.log.splitlines()):
        assert list(line) == ["time", "level", "logger", "message"]
        assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)  # as in the logs of runs


def test_no_request_fails_while_the_model_is_exchanged(releases, copy_release, image, start):
    service = start(releases, watch_seconds=0.2)
    swaps = [f"swap-{number}" for number in range(8)]
    with Load(service.client, image) as load:
        for version in swaps:
            copy_release(version)
            deadline = time.monotonic() + 30
            while service.client.get("/ready").json["version"] != version:
                assert time.monotonic() < deadline, service.log
                time.sleep(0.02)
        damaged = copy_release("damaged")
        (damaged / "model.onnx").write_bytes(b"no model")
        os.utime(damaged / "exports.json")
        while not service.client.metric('cnn_transfer_model_loads_total{result="failed"}'):
            time.sleep(0.1)
    assert set(load.statuses) == {200}
    assert len(load.statuses) > 20
    assert load.versions >= {swaps[-1], swaps[-2]}
    assert service.client.get("/ready").json["version"] == swaps[-1]


def test_hostile_requests_crash_nothing_show_nothing_and_keep_no_memory(release_folder, image, start):
    service = start(release_folder, upload_seconds=2)

    def attack(requests):
        with ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(lambda request: service.client.raw(request.content), requests))
        for request, received in zip(requests, answers, strict=True):
            assert not any(words in received for words in (b"Traceback", b'File "', b"root:")), request.kind
        return {received[9:12].decode() for received in answers}

    attack(list(hostile_requests(54, slow_share=0, seed=1)))
    before = service.memory_mb()
    files = len(list(Path(f"/proc/{service.process.pid}/fd").iterdir()))
    statuses = attack(list(hostile_requests(108, slow_share=0.05)))
    assert "500" not in statuses
    assert {"400", "408", "413", "415", "422"} <= statuses
    assert service.client.send(("a.png", image)).status == 200
    assert service.memory_mb() < before + 30
    assert len(list(Path(f"/proc/{service.process.pid}/fd").iterdir())) <= files + 3
    assert "Traceback" not in service.log


def test_a_flood_is_refused_early_and_leaves_nothing(release_folder, image, start):
    service = start(release_folder, most_waiting_images=8)
    with Load(service.client, image, clients=48) as load:
        time.sleep(4)
    assert set(load.statuses) <= {200, "KeyError('model')", 503}
    assert 200 in load.statuses
    assert service.client.metric("cnn_transfer_waiting_images") == 0
    assert service.client.send(("a.png", image)).status == 200


def test_it_runs_without_a_right_to_write(release_folder, image, start, monkeypatch, tmp_path):
    for name in ("TMPDIR", "HOME"):
        monkeypatch.setenv(name, "/nowhere")
    service = start(release_folder)
    large = b"\x89PNG\r\n\x1a\n" + bytes(5_000_000)  # more than what libraries keep in memory by themselves
    assert service.client.send(("large.png", large), ("a.png", image)).status == 200


def test_make_serve_says_what_is_missing(tmp_path):
    if shutil.which("make") is None:
        pytest.skip("needs make")
    root = Path(__file__).parents[2]
    printed = subprocess.run(
        ["make", "--dry-run", "serve"], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    assert "-m cnn_transfer.serving" in printed
