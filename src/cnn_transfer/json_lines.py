"""Lines of a log for collectors: the form that runs (`json_logs`) and the service have in common."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from pythonjsonlogger.json import JsonFormatter


class JsonLines(JsonFormatter):
    """An object a line: `time` (ISO 8601, UTC), `level`, `logger`, `message`, and `traceback` where there is one."""

    def __init__(self) -> None:
        super().__init__(rename_fields={"exc_info": "traceback"}, json_ensure_ascii=False)

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """Put the fields that every line has before those of the record's `extra`."""
        log_data["time"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        log_data["level"], log_data["logger"] = record.levelname, record.name
        log_data["message"] = record.getMessage()
        log_data.update(self.own_fields())
        super().add_fields(log_data, record, message_dict)
        log_data.pop("color_message", None)  # uvicorn's second one, for terminals

    def own_fields(self) -> dict[str, Any]:
        """What else every line has."""
        return {}
