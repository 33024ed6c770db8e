"""What a node's outputs depend on, as a digest: its code, its parameters, and the contents of its inputs.

Nodes are pure, so that two with the same digest make the same. The contents of inputs count, not where they come from:
when a changed node makes what it made before, nothing after it is made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kedro.io import AbstractVersionedDataset, CatalogProtocol
from kedro.pipeline.node import Node
from kedro.utils import find_kedro_project

from cnn_transfer.datasets import RunRecordsDataset, versions
from cnn_transfer.evaluation.provenance import OF_A_PROCESS

PACKAGE = "cnn_transfer"
# Whose releases may change what a node makes.
LIBRARIES = (
    "keras",
    "matplotlib",
    "numpy",
    "pandas",
    "pi-heif",
    "pillow",
    "pyarrow",
    "scikit-learn",
    "scipy",
    "tensorflow",
)


@dataclass(frozen=True)
class Fingerprint:
    """Of one node in one run.

    Attributes:
        node: Its name.
        inputs: Digest of each input and, by the name `code`, of the code; None where the content is not known.
        outside: Those inputs that no run makes, such as raw images: they may change while a run lasts.
        identities: Of those that people choose, what was chosen, such as the place of the images: a run keeps to it.
    """

    node: str
    inputs: dict[str, str | None]
    outside: frozenset[str]
    identities: dict[str, dict[str, Any]]

    @property
    def value(self) -> str | None:
        """The digest; None when the content of an input is not known."""
        return None if None in self.inputs.values() else digest_of([self.node, self.inputs])

    def changes(self, record: Mapping[str, Any]) -> list[str]:
        """Names of what differs from the inputs of a record; of what comes from outside, of what was chosen."""
        made_with = record["inputs"]
        names = [name for name in self.inputs.keys() | made_with.keys() if name not in self.outside]
        changed = [name for name in names if self.inputs.get(name) != made_with.get(name)]
        for name, chosen in record.get("identities", {}).items():
            now = self.identities.get(name, {})
            changed += [f"{name}.{part}" for part in chosen.keys() | now.keys() if chosen.get(part) != now.get(part)]
        return sorted(changed)


class Fingerprints:
    """Of the nodes of one run.

    Args:
        catalog: The catalog of the run.
        records: What the run has made so far.
    """

    def __init__(self, catalog: CatalogProtocol[str, Any], records: RunRecordsDataset) -> None:
        self._catalog, self._records = catalog, records
        self._code: dict[str, str] = {}

    def of(self, node: Node) -> Fingerprint:
        """The fingerprint of a node; all that it reads from this run must be there."""
        inputs = {name: self._digest(name) for name in sorted(set(node.inputs))}
        outside = frozenset(name for name in inputs if self._is_outside(name))
        identities = {name: chosen for name in sorted(outside) if (chosen := self._identity(name))}
        return Fingerprint(node.name, {"code": self._code_of(node.func.__module__), **inputs}, outside, identities)

    def _digest(self, name: str) -> str | None:
        if self._is_of_this_run(name) and name in self._records.digests():
            return self._records.digests()[name]
        if name not in self._records.contents:
            self._records.contents[name] = self._read_digest(name)
        return self._records.contents[name]

    def _read_digest(self, name: str) -> str | None:
        if name.startswith("params:"):
            counts = name.removeprefix("params:") not in OF_A_PROCESS
            return digest_of(self._catalog.load(name) if counts else None)
        if name == "parameters":
            everything = self._catalog.load(name)
            return digest_of({key: everything[key] for key in everything if key not in OF_A_PROCESS})
        dataset = self._catalog.get(name)
        if isinstance(dataset, AbstractVersionedDataset):
            return versions.digest(dataset, str(dataset.resolve_load_version()))
        known = getattr(dataset, "fingerprint", None)
        return known() if known else None

    def _identity(self, name: str) -> dict[str, Any]:
        """What was chosen; paths in the project are relative to it, which may lie elsewhere on another machine."""
        known = getattr(self._catalog.get(name), "identity", None)
        chosen: dict[str, Any] = known() if known else {}
        return {
            part: value.removeprefix(self._project) if isinstance(value, str) else value
            for part, value in chosen.items()
        }

    def _is_of_this_run(self, name: str) -> bool:
        """Whether what is loaded is what this run makes: the command line may name another version."""
        dataset = self._catalog.get(name)
        return versions.asked_for(dataset) in (None, self._records.run_id)

    def _is_outside(self, name: str) -> bool:
        if name == "parameters" or name.startswith("params:"):
            return False
        return not isinstance(self._catalog.get(name), AbstractVersionedDataset)

    def _code_of(self, module: str) -> str:
        """Digest of a module and all modules of this package that it imports, and of the releases of libraries."""
        if module not in self._code:
            used = {module}
            if module.startswith(f"{PACKAGE}.") and module in self._imports.modules:
                used |= self._imports.find_upstream_modules(module)
            sources = {name: _source(name) for name in sorted(used)}
            self._code[module] = digest_of([sources, {name: _release(name) for name in LIBRARIES}])
        return self._code[module]

    @cached_property
    def _project(self) -> str:
        return f"{find_kedro_project(Path.cwd())}/"

    @cached_property
    def _imports(self) -> Any:
        import grimp

        return grimp.build_graph(PACKAGE, cache_dir=None)


def digest_of(value: Any) -> str:
    """Digest of a value that JSON can say, whatever the order of its keys."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


def _source(module: str) -> str:
    found = find_spec(module)
    if found is None or found.origin is None or not Path(found.origin).exists():
        return module
    return hashlib.blake2b(Path(found.origin).read_bytes(), digest_size=16).hexdigest()


@cache
def _release(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
