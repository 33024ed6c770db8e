"""Logs for collectors: one JSON object a line, with the run and the node that it comes from.

    KEDRO_LOGGING_CONFIG=conf/logging_json.yml KEDRO_LOGGING_MODULE_ALLOWLIST=cnn_transfer kedro run

The second variable lets Kedro take a handler of this package. A line has `time` (ISO 8601, UTC), `level`, `logger`,
`message`, `run_id`, `node` (null outside of nodes), and `traceback` where there is one.
"""

from __future__ import annotations

import logging
import sys
from types import TracebackType
from typing import Any

from cnn_transfer.json_lines import JsonLines
from cnn_transfer.log_origin import ORIGIN, current_node

LOGGER = logging.getLogger("cnn_transfer")


class RunLines(JsonLines):
    """With where they come from."""

    def own_fields(self) -> dict[str, Any]:
        """Run and node."""
        return {"run_id": ORIGIN.run_id, "node": current_node.get()}


class JsonHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes such lines to standard error; warnings and uncaught errors among them, as Kedro's own handler does."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(RunLines())
        logging.captureWarnings(True)
        sys.excepthook = _log_uncaught
        ORIGIN.for_collectors = True


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    LOGGER.critical("%s: %s", kind.__name__, error, exc_info=(kind, error, traceback))
