"""Logs for collectors: one JSON object a line, with the run and the node that it comes from.

    KEDRO_LOGGING_CONFIG=conf/logging_json.yml KEDRO_LOGGING_MODULE_ALLOWLIST=cnn_transfer kedro run

The second variable lets Kedro take a handler of this package. A line has `time` (ISO 8601, UTC), `level`, `logger`,
`message`, `run_id`, `node` (null outside of nodes), and `traceback` where there is one.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from cnn_transfer.log_origin import ORIGIN, current_node

LOGGER = logging.getLogger("cnn_transfer")


class JsonLines(JsonFormatter):
    """Names and order of the fields."""

    def __init__(self) -> None:
        super().__init__(rename_fields={"exc_info": "traceback"}, json_ensure_ascii=False)

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """Put the project's fields before those of the record's `extra`."""
        log_data["time"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        log_data["level"] = record.levelname
        log_data["logger"] = record.name
        log_data["message"] = record.getMessage()
        log_data["run_id"], log_data["node"] = ORIGIN.run_id, current_node.get()
        super().add_fields(log_data, record, message_dict)


class JsonHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes such lines to standard error; warnings and uncaught errors among them, as Kedro's own handler does."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        logging.captureWarnings(True)
        sys.excepthook = _log_uncaught
        ORIGIN.for_collectors = True


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    LOGGER.critical("%s: %s", kind.__name__, error, exc_info=(kind, error, traceback))
