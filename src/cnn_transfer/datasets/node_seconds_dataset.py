"""Wall time of nodes, collected across processes: one small file a node in one folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset


class NodeSecondsDataset(AbstractDataset[dict[str, float], dict[str, float]]):
    """A mapping of node name to seconds; saving adds to what is there, or replaces a node's own entry.

    Args:
        filepath: Local folder.
        metadata: For Kedro's plugins.
    """

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> dict[str, float]:
        entries = [json.loads(file.read_text()) for file in sorted(self._filepath.glob("*.json"))]
        return {entry["node"]: entry["seconds"] for entry in sorted(entries, key=lambda entry: entry["finished"])}

    def save(self, data: dict[str, float]) -> None:
        import time

        self._filepath.mkdir(parents=True, exist_ok=True)
        for node, seconds in data.items():
            file = self._filepath / f"{node}.json"
            partial = file.with_suffix(".partial")
            partial.write_text(json.dumps({"node": node, "seconds": round(seconds, 3), "finished": time.time()}))
            partial.replace(file)

    def _exists(self) -> bool:
        return self._filepath.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
