"""Where a line of the log comes from: the run and the node, for logs that say it on every line (`json_logs`)."""

from __future__ import annotations

import os
from contextvars import ContextVar
from dataclasses import dataclass

from cnn_transfer.run_identity import VARIABLE


@dataclass
class Origin:
    """Of all lines of this process; nodes in threads have one each."""

    run_id: str | None = os.environ.get(VARIABLE)
    for_collectors: bool = False  # every line is JSON, and nothing should be printed beside


ORIGIN = Origin()
current_node: ContextVar[str | None] = ContextVar("current_node", default=None)
