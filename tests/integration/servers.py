"""Servers that start processes of their own, some of which outlive them: all end with the block that needs them."""

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any


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
