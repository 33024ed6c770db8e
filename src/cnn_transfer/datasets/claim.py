"""A claim on a piece of work that only one process may do at a time, as a small file on any file system of fsspec.

The file says who holds it and is written anew every few seconds. A process that was killed leaves it behind; then the
next one takes over: at once when it can see that the holder is gone (same machine and table of processes: each
container has a table of its own), else when the file has not been written for `PATIENCE_SECONDS`. Locks of the
operating system would be gone with the process, but they do not exist in object stores, and on network drives they
cannot be relied on.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cnn_transfer.datasets.versions import is_local

LOGGER = logging.getLogger("cnn_transfer")

BEAT_SECONDS, PATIENCE_SECONDS = 5.0, 20.0
TABLE = ("host", "boot", "pid_namespace")  # what tells tables of processes apart; older claims say the host only


class ClaimedError(RuntimeError):
    """Another process works on it."""


class Claim:
    """Held from entering to leaving a `with` block.

    Args:
        filesystem: Of fsspec.
        path: The file, in a folder that need not exist.
        what: What is claimed, for people.

    Raises:
        ClaimedError: On entering, when another process holds it.
    """

    def __init__(self, filesystem: Any, path: str, what: str) -> None:
        self._filesystem, self._path, self._what = filesystem, path, what
        self._me = {
            "host": socket.gethostname(),
            "boot": _boot(),
            "pid_namespace": _pid_namespace(),
            "process": os.getpid(),
            "process_started": _process_started(os.getpid()),
            "claim": uuid.uuid4().hex,
            "since": time.strftime("%Y-%m-%d %H:%M:%S%z"),
        }
        self._done = threading.Event()
        self._beats = threading.Thread(target=self._keep_alive, daemon=True)

    def __enter__(self) -> Self:
        while not self._create():
            holder = self._read()
            if holder is not None:
                self._wait_for_end_of(holder)
                now = self._read()
                if now is not None and now["claim"] == holder["claim"]:  # not of one that has taken over meanwhile
                    self._remove()
        self._beats.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._beats.join()
        holder = self._read()
        if holder is not None and holder["claim"] == self._me["claim"]:
            self._remove()

    def clear(self) -> None:
        """Remove the file where a process of this machine left it behind."""
        holder = self._read()
        if holder is not None and self._can_see(holder) and self._is_gone(holder):
            self._remove()

    def _create(self) -> bool:
        """Write the file unless there is one; the test and the writing are one operation of the store."""
        try:
            if is_local(self._filesystem):
                self._filesystem.makedirs(self._path.rsplit("/", maxsplit=1)[0], exist_ok=True)
            with self._filesystem.open(self._path, "xb") as stream:
                stream.write(self._content(0))
        except FileExistsError:
            return False
        return True

    def _content(self, beat: int) -> bytes:
        return json.dumps(self._me | {"beat": beat}).encode()

    def _keep_alive(self) -> None:
        beat = 0
        while not self._done.wait(BEAT_SECONDS):
            beat += 1
            try:
                holder = self._read()
                if holder is not None and holder["claim"] not in {"", self._me["claim"]}:
                    LOGGER.warning(
                        "The claim on %s was lost to process %s on %s, which saw no sign of life of this one.",
                        self._what, holder["process"], holder["host"],
                    )  # fmt: skip
                    return
                if holder is None:  # removed, perhaps by one that is about to claim it
                    self._create()
                else:
                    self._filesystem.pipe_file(self._path, self._content(beat))
            except OSError as error:
                LOGGER.warning("The claim on %s cannot be renewed (%s); it is tried again.", self._what, error)

    def _read(self) -> dict[str, Any] | None:
        """What the file says; None when it is gone."""
        self._filesystem.invalidate_cache()
        try:
            content = self._filesystem.cat_file(self._path)
        except FileNotFoundError:
            return None
        try:
            holder: dict[str, Any] = json.loads(content)
        except ValueError:  # read while it was written
            return {"host": "", "process": 0, "process_started": "", "claim": "", "since": "", "beat": -1}
        return holder

    def _wait_for_end_of(self, holder: Mapping[str, Any]) -> None:
        """Return when the holder is gone.

        Raises:
            ClaimedError: When it is alive.
        """
        if self._can_see(holder):
            if self._is_gone(holder):
                return
            raise self._claimed(holder)
        LOGGER.info(
            "%s: process %s on %s has begun it and may have been killed. Waiting %.0f s for a sign of life.",
            self._what, holder["process"], holder["host"], PATIENCE_SECONDS,
        )  # fmt: skip
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            time.sleep(BEAT_SECONDS / 5)
            now = self._read()
            if now is None:
                return
            if now["claim"] and holder["claim"] and now != holder:
                raise self._claimed(now)
            holder = now

    def _can_see(self, holder: Mapping[str, Any]) -> bool:
        """Whether the holder's process is in the table of processes that this one sees."""
        return all(holder.get(name) == self._me[name] for name in TABLE)

    @staticmethod
    def _is_gone(holder: Mapping[str, Any]) -> bool:
        """Whether a process that can be seen has ended."""
        return bool(_process_started(holder["process"]) != holder["process_started"])

    def _claimed(self, holder: Mapping[str, Any]) -> ClaimedError:
        return ClaimedError(
            f"{self._what} is being worked on by process {holder['process']} on {holder['host']} since "
            f"{holder['since']}. Wait for it to end, or give this run another id (TRANSFER_RUN_ID)."
        )

    def _remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._filesystem.rm_file(self._path)


def _boot() -> str:
    """Identity of the boot of this machine; an empty text where the system does not say."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _pid_namespace() -> str:
    """Identity of the table of processes, which each container has of its own; as `_boot` where it is not known."""
    with contextlib.suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""


def _process_started(process: int) -> str:
    """When a process of this machine started, in ticks since boot, which tells it from a later one of its number.

    An empty text where the system does not say; `gone` when there is none, or a zombie.
    """
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", maxsplit=1)[1].split()
        return "gone" if fields[0] in {"Z", "X"} else fields[19]
    try:
        os.kill(process, 0)  # sends nothing
    except ProcessLookupError:
        return "gone"
    except PermissionError:
        pass
    return ""
