"""Servers on loopback, and environments of their own for programs that cannot live beside the project.

Some servers start processes of their own, some of which outlive them: all end with the block that needs them.
"""

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from projects import ROOT

BIN = Path(sys.executable).parent


def own_variables() -> dict[str, str]:
    """Of this process, what any program needs, and what decides how BLAS rounds: results are compared with its own."""
    needed = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return needed | {name: value for name, value in os.environ.items() if name.startswith("OPENBLAS_")}


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


@contextlib.contextmanager
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


@contextlib.contextmanager
def running(*commands: list[str], env: Mapping[str, str], cwd: Path, log: Path) -> Iterator[None]:
    """Servers that run while the block does; they end with all processes that they started, however it ends."""
    mark = uuid.uuid4().hex  # inherited by those that leave the group of their server, too
    marked = {**env, "STARTED_BY": mark}
    servers: list[subprocess.Popen[bytes]] = []
    with log.open("ab") as stream:
        streams: Any = {"stdin": subprocess.DEVNULL, "stdout": stream, "stderr": stream}
        try:
            servers.extend(subprocess.Popen(command, cwd=cwd, env=marked, **streams) for command in commands)
            yield
        finally:
            for server in servers:
                server.terminate()
            for server in servers:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.wait(20)
            for process in _marked(mark):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            for server in servers:
                server.wait()


def _marked(mark: str) -> list[int]:
    """Processes that have this in their environment."""
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"STARTED_BY={mark}".encode() in file.read_bytes().split(b"\0"):
                found.append(int(file.parent.name))
    return found


def wait_until(what: str, condition: Callable[[], Any], seconds: float, log: Path) -> Any:
    """Wait until the condition gives something that is true, and return that."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.5)
    raise AssertionError(f"{what}: not within {seconds:.0f} s.\n{log.read_text()[-5000:]}")
