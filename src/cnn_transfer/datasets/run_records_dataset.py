"""What each node of a run read and made, by content: what tells that a node need not run again.

    <filepath>/<run>/<node>.json          one record a node, written when its last output is whole
    <filepath>/<run>/.inputs.json         contents that the run took over from another one, as it started
    <filepath>/<run>/<node>.claim         while a process works on the node
    <filepath>/.made/<fingerprint>.json   which run has made what has this fingerprint

All of them are small files that are written whole, on any file system of fsspec.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

from kedro.io import AbstractDataset, Version
from kedro.io.core import DatasetError

from cnn_transfer.datasets.claim import Claim
from cnn_transfer.datasets.versions import PARTIAL, find_files, open_path, write_whole

Record = dict[str, Any]
INPUTS, MADE = ".inputs", ".made"


class RunRecordsDataset(AbstractDataset[Mapping[str, Record], dict[str, Record]]):
    """The records of the nodes of one run, by the node's name; saving adds to them.

    A record has the keys `node`, `fingerprint` (None where an input's content is not known), `inputs` and `outputs`
    (digest by name), `identities` (what people chose of what comes from outside, by name), `seconds`, `peak_memory_mb`,
    `images_per_second` (each None where it is not known), `reused_from` (the run that made the outputs, or None),
    `finished` (seconds since 1970).

    Args:
        filepath: Folder, local or an address; it should be versioned, each version a run.
        version: Kedro's version.
        credentials: For the file system of fsspec.
        metadata: For Kedro's plugins.
    """

    def __init__(
        self,
        filepath: str,
        version: Version | None = None,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._fs, self._filepath = open_path(filepath, version, credentials)
        self._version = version
        self.metadata = metadata
        self.contents: dict[str, str | None] = {}  # digests of what the run reads but does not make, found once
        self._known: dict[str, Record] | None = None

    @property
    def run_id(self) -> str:
        """The run whose records are written."""
        return self._version.save if self._version and self._version.save else "unversioned"

    def load(self) -> dict[str, Record]:
        run = self._version.load or self._latest() if self._version else self.run_id
        known = self.of_run(run)
        known = known.pop(INPUTS, {"nodes": {}})["nodes"] | known
        return dict(sorted(known.items(), key=lambda item: item[1]["finished"]))

    def save(self, data: Mapping[str, Record]) -> None:
        for node, record in data.items():
            self._write(f"{self.run_id}/{node}.json", record)
            if record.get("fingerprint"):
                self._write(f"{MADE}/{record['fingerprint']}.json", {"run": self.run_id, "node": node})
            if self._known is not None:
                self._known[node] = record

    def save_inputs(self, digests: Mapping[str, str], run: str) -> None:
        """Note what the run took over from another one as it started, with the digests of the contents.

        The records of that run become part of what this one loads: they say what its inputs cost.
        """
        before = self.records().get(INPUTS, {"outputs": {}, "taken_from": {}, "nodes": {}})
        theirs = self.of_run(run)
        theirs = theirs.pop(INPUTS, {"nodes": {}})["nodes"] | theirs
        record = {
            "outputs": before["outputs"] | dict(digests),
            "taken_from": before["taken_from"] | dict.fromkeys(digests, run),
            "nodes": before["nodes"]
            | {node: entry | {"reused_from": entry["reused_from"] or run} for node, entry in theirs.items()},
        }
        self._write(f"{self.run_id}/{INPUTS}.json", record)
        self.records()[INPUTS] = record

    def records(self) -> dict[str, Record]:
        """All records of the run as they were when first asked for, and what was saved here since."""
        if self._known is None:
            self._known = self.of_run(self.run_id)
            for node in self._known:  # killed after the record was written, before the claim was given back
                if self._fs.exists(self._claim_path(node)):
                    self._claim(node).clear()
        return self._known

    def digests(self) -> dict[str, str]:
        """Digests of all that the run has made or taken over, by name."""
        return {name: value for record in self.records().values() for name, value in record["outputs"].items()}

    def find(self, fingerprint: str) -> Iterator[tuple[str, Record]]:
        """The runs that have made what has this fingerprint, and their records: first the one that did it last.

        The others are looked for when they are asked for, since that one may have been deleted.
        """
        pointer = self._read_file(f"{MADE}/{fingerprint}.json")
        if pointer is None:
            return
        last, file = pointer["run"], f"{pointer['node']}.json"
        record = self._read_file(f"{last}/{file}")
        if record is not None and record["fingerprint"] == fingerprint:
            yield last, record
        runs = {PurePosixPath(path).name for path in self._fs.ls(str(self._filepath), detail=False)} - {last, MADE}
        records = self._read_files([str(self._filepath / run / file) for run in sorted(runs)])
        for path in sorted(records, key=lambda path: records[path]["finished"], reverse=True):
            if records[path]["fingerprint"] == fingerprint:
                yield PurePosixPath(path).parent.name, records[path]

    @contextmanager
    def claim(self, node: str) -> Iterator[Claim]:
        """Keep other processes from working on the same node of the same run.

        Raises:
            ClaimedError: When another one works on it.
        """
        with self._claim(node) as held:
            finished = self._read_file(f"{self.run_id}/{node}.json")  # meanwhile, by another process
            if finished is not None:
                self.records()[node] = finished
            yield held

    def _claim(self, node: str) -> Claim:
        return Claim(self._fs, self._claim_path(node), f"{node} of the run {self.run_id}")

    def _claim_path(self, node: str) -> str:
        return str(self._filepath / self.run_id / f"{node}.claim")

    def release(self) -> None:
        self._known = None

    def of_run(self, run: str) -> dict[str, Record]:
        """The records of any run."""
        folder = str(self._filepath / run)
        self._fs.invalidate_cache()
        try:
            paths = [
                path for path in self._fs.ls(folder, detail=False) if path.endswith(".json") and PARTIAL not in path
            ]
        except FileNotFoundError:
            return {}
        return {PurePosixPath(path).stem: record for path, record in self._read_files(paths).items()}

    def _read_files(self, paths: list[str]) -> dict[str, Record]:
        """Those that are there, many at once."""
        found = {}
        contents = self._fs.cat_ranges(paths, None, None)  # `cat` takes brackets in a path for a pattern
        for path, content in zip(paths, contents, strict=True):
            if isinstance(content, (FileNotFoundError, NotADirectoryError)):
                continue
            if isinstance(content, Exception):
                raise content
            found[path] = json.loads(content)
        return found

    def _read_file(self, name: str) -> Record | None:
        try:
            content: Record = json.loads(self._fs.cat_file(str(self._filepath / name)))
        except FileNotFoundError:
            return None
        return content

    def _write(self, name: str, record: Mapping[str, Any]) -> None:
        write_whole(self._fs, str(self._filepath / name), json.dumps(record, indent=1).encode())

    def _latest(self) -> str:
        """The run that was worked on last."""
        files = [
            path
            for path in find_files(self._fs, self._filepath)
            if path.endswith(".json") and PARTIAL not in path and f"/{MADE}/" not in path
        ]
        if not files:
            raise DatasetError(f"There are no records in {self._filepath}: no run has finished a node yet.")
        return PurePosixPath(max(files, key=self._fs.modified)).parent.name

    def _exists(self) -> bool:
        return bool(self._fs.exists(str(self._filepath / self.run_id)))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "version": self._version}
