"""SIGTERM ends a run in order: unfinished training leaves its state, claims are given back, the exit code says why.

Spot instances and Kubernetes send it some seconds before they kill. An exception out of the signal's handler ends the
node at the next line of Python; where a library computes on for longer, a thread that the signal wakes ends the process
without waiting for it: all that it has written is whole.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: the same command again may succeed
GRACE_SECONDS = 8.0


class Terminated(SystemExit):
    """SIGTERM was received; no `except Exception` catches it."""


@contextmanager
def ended_by_signals(logger: logging.Logger) -> Iterator[None]:
    """Turn SIGTERM into an exception while the block runs; in other threads than the main one nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
        logger.warning("Stopping at SIGTERM.")
        raise Terminated(EXIT_CODE)

    left = threading.Event()
    woken, wakes = socket.socketpair()
    wakes.setblocking(False)
    before = signal.signal(signal.SIGTERM, end)
    descriptor = signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_end_anyway, args=(woken, left), daemon=True).start()
    try:
        yield
    finally:
        left.set()
        signal.set_wakeup_fd(descriptor)
        signal.signal(signal.SIGTERM, before)
        wakes.close()


def _end_anyway(woken: socket.socket, left: threading.Event) -> None:
    """Wait for the number of a signal, which Python's own handler writes even while a library computes."""
    with woken:
        while numbers := woken.recv(16):
            if signal.SIGTERM in numbers and not left.wait(GRACE_SECONDS):
                os._exit(EXIT_CODE)
