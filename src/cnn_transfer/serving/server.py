"""Starting, and stopping without a dropped request, on uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import logging.config
import signal
import socket
import sys
import threading
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from cnn_transfer.json_lines import JsonLines
from cnn_transfer.serving.app import create_app
from cnn_transfer.serving.settings import Settings

LOGGER = logging.getLogger(__name__)
HEADER_SECONDS = 10  # in which the head of a request has to be there; uvicorn waits for ever
MOST_CONNECTIONS = 900  # many systems allow a process 1,024 files
SWITCH_SECONDS = 0.0005  # until labelling lets requests come between; Python's 5 ms are waited several times a request
MALLOC = {-3: 2**20, -1: 2**20, -8: 2}  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD (bytes), M_ARENA_MAX of malloc.h


class ImpatientProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's protocol, which closes a connection whose request does not begin, or is refused and does not end."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Wait on until a request has begun."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._stop_waiting()
        elif (before is None or before.response_complete) and self._patience is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._patience = self.loop.call_later(HEADER_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        self._patience = None
        self.transport.abort()


class Server(uvicorn.Server):
    """uvicorn's server, which says at /ready that it will stop some time before it does."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and take what is there out of the rounds of the garbage collector, each of which stops everything.

        The release is loaded before: what uvicorn says of an application that cannot start is a traceback.

        Raises:
            NoReleaseError: When there is no release that can be served.
        """
        await asyncio.to_thread(self.config.app.state.service.load)  # type: ignore[union-attr]
        await super().startup(sockets)
        gc.collect()
        gc.freeze()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """At SIGTERM stop after a while, at SIGINT or a second signal at once."""
        del frame
        service = self.config.app.state.service  # type: ignore[union-attr]
        if service.stopping or sig != signal.SIGTERM:
            self.force_exit = self.should_exit and sig == signal.SIGINT
            service.stopping = self.should_exit = True
            return
        service.stopping = True
        LOGGER.info("Stopping in %g s", service.settings.grace_seconds)
        timer = threading.Timer(service.settings.grace_seconds, self._exit)
        timer.daemon = True
        timer.start()

    def _exit(self) -> None:
        self.should_exit = True


def serve(settings: Settings) -> None:
    """Serve until a signal ends it.

    Raises:
        SystemExit: When the port is taken.
        NoReleaseError: When there is no release that can be served.
    """
    logging.config.dictConfig(log_configuration(settings.logs))
    give_memory_back()
    sys.setswitchinterval(SWITCH_SECONDS)
    Server(configuration(create_app(settings))).run()


def give_memory_back() -> None:
    """Let the C library return what uploads and large images took; by itself it keeps half as much again as needed."""
    with contextlib.suppress(AttributeError, OSError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in MALLOC.items():
            mallopt(parameter, value)


def configuration(app: FastAPI) -> uvicorn.Config:
    """How uvicorn serves the application."""
    settings = app.state.service.settings
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=ImpatientProtocol,
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=settings.drain_seconds,
        lifespan="on",
    )


def log_configuration(form: str) -> dict[str, Any]:
    """Of Python's logging: lines of text, or one JSON object a line."""
    formatters: dict[str, dict[str, Any]] = {
        "text": {"format": "%(asctime)s %(levelname)s %(message)s"},
        "json": {"()": JsonLines},
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"lines": formatters[form]},
        "handlers": {"lines": {"class": "logging.StreamHandler", "formatter": "lines"}},
        "root": {"handlers": ["lines"], "level": "WARNING"},
        "loggers": {"cnn_transfer": {"level": "INFO"}, "uvicorn": {"level": "INFO"}},
    }
