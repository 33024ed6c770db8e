"""SIGTERM ends a run in order: unfinished training leaves its state, claims are given back, the exit code says why.

Spot instances and Kubernetes send it some seconds before they kill. An exception out of the signal's handler ends the
node at the next line of Python; where that line lets no exception out, it is raised again; where a library has caught
it, the run ends after that node; and where a library computes on for longer, a thread that the signal wakes ends the
process without waiting: all that it has written is whole.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from cnn_transfer.exit_codes import STOPPED

GRACE_SECONDS = 8.0


class Terminated(SystemExit):
    """SIGTERM was received; no `except Exception` catches it."""


@contextmanager
def ended_by_signals(logger: logging.Logger) -> Iterator[Callable[[], None]]:
    """Turn SIGTERM into an exception while the block runs; in other threads than the main one nothing changes.

    Yields:
        What raises it again, once the signal has come: to be called where all is well if it has not.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    told, raised, left = threading.Event(), threading.Event(), threading.Event()

    def end(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        if raised.is_set():  # once is enough
            return
        raised.set()
        if not told.is_set():
            told.set()
            with suppress(SystemExit):  # of Rich's, where nobody reads the output any more: the exit code must say why
                logger.warning("Stopping at SIGTERM.")
        raise Terminated(STOPPED)

    def end_if_told() -> None:
        if told.is_set():
            raise Terminated(STOPPED)

    report = sys.unraisablehook

    def lost(what: sys.UnraisableHookArgs) -> None:
        if isinstance(what.exc_value, Terminated):  # raised in a destructor, which lets no exception out
            raised.clear()
        else:
            report(what)

    def see_to_it(woken: socket.socket) -> None:
        """Wait for the number of a signal, which Python's own handler writes even while a library computes."""
        with woken:
            while signal.SIGTERM not in (numbers := woken.recv(16)):
                if not numbers:
                    return
            deadline = time.monotonic() + GRACE_SECONDS
            while not left.wait(0.1):
                if time.monotonic() > deadline:
                    logger.warning(
                        "Ended without waiting for what computes on. All that was written is whole: the same command "
                        "under the same run id goes on."
                    )
                    os._exit(STOPPED)
                if not raised.is_set():
                    signal.raise_signal(signal.SIGTERM)

    woken, wakes = socket.socketpair()
    wakes.setblocking(False)
    before = signal.signal(signal.SIGTERM, end)
    descriptor = signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    sys.unraisablehook = lost
    threading.Thread(target=see_to_it, args=(woken,), daemon=True).start()
    try:
        yield end_if_told
    finally:
        left.set()
        sys.unraisablehook = report
        signal.set_wakeup_fd(descriptor)
        signal.signal(signal.SIGTERM, before)
        wakes.close()
