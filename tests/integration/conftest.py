"""Real programs beside the project: servers on loopback and environments of their own, made once and kept."""

import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from projects import ROOT, make_project

BIN = Path(sys.executable).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All that is here is slow."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


def make_environment(name: str, lock: Path) -> Path:
    """The folder `bin` of an environment at the top of the checkout, made anew when its lock file has changed."""
    folder = ROOT / name
    stamp, fingerprint = folder / ".ready", hashlib.sha256(lock.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != fingerprint:
        uv = str(BIN / "uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], check=True)
        install = ["pip", "install", "--quiet", "--require-hashes", "--no-deps", "--python", str(folder / "bin/python")]
        subprocess.run([uv, *install, "--requirement", str(lock)], check=True)
        stamp.write_text(fingerprint)
    return folder / "bin"


def free_port() -> int:
    """A port of the loopback interface that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def serving(command: list[str], log: Path, is_up: Callable[[], bool], environment: dict[str, str]) -> Iterator[None]:
    """A server in a process group of its own while the block runs."""
    with log.open("wb") as lines:
        server = subprocess.Popen(
            command, stdout=lines, stderr=lines, env=os.environ | environment, start_new_session=True, cwd=log.parent
        )
    try:
        deadline = time.monotonic() + 120
        while not is_up():
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not come up:\n{log.read_text()[-3000:]}")
            time.sleep(0.2)
        yield
    finally:
        os.killpg(server.pid, 9)
        server.wait()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project in which nothing has run."""
    return make_project(tmp_path / "project")
