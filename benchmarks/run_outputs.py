"""What a run has made, in a form that tells whether two runs made the same; and whether all of it can be read."""

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import AbstractVersionedDataset

from cnn_transfer.datasets import versions

OF_ONE_RUN = ("run_records", "report.html", "run_provenance.json")  # times, memory, and how it was started
# And of what it had to do: what is stored of the same content is not decoded or computed again.
FIGURES_OF_ONE_RUN = ("seconds", "peak_memory_mb", "images_per_second", "reused_from", "decoded", "computed")


def contents(project: Path, run: str) -> dict[str, str]:
    """A digest of each file of a run, by its name without the run's id; times and memory are left out."""
    found = {}
    for file in sorted((project / "data").glob(f"0[2-8]_*/*/{run}/**/*")):
        name = str(file.relative_to(project)).replace(f"/{run}/", "/")
        if file.is_file() and not any(part in name for part in OF_ONE_RUN):
            found[name] = hashlib.sha256(_comparable(file)).hexdigest()
    return found


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Names of what differs, or is in one of them only."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def unreadable(project: Path, run: str) -> list[str]:
    """Load every version that a run has, as a node would; names and errors of those that cannot be."""
    os.environ["TRANSFER_RUN_ID"] = run
    problems = []
    for name, dataset in _versioned(project):
        if versions.exists(dataset, run):
            try:
                dataset.load()
            except Exception as error:
                problems.append(f"{name}: {error}")
    return problems


def foreign_inputs(project: Path, run: str) -> list[str]:
    """Inputs of nodes that are not what this run has made, by the digests in its records."""
    records = [
        json.loads(file.read_text()) for file in (project / f"data/08_reporting/run_records/{run}").glob("[!.]*.json")
    ]
    made = {name: digest for record in records for name, digest in record["outputs"].items()}
    return [
        f"{record['node']} read another {name}"
        for record in records
        for name, digest in record["inputs"].items()
        if name in made and made[name] != digest
    ]


def _versioned(project: Path) -> Iterator[tuple[str, AbstractVersionedDataset[Any, Any]]]:
    bootstrap_project(project)
    with KedroSession.create(project_path=project) as session:
        assert isinstance(session, KedroSession)
        catalog = session.load_context().catalog
        for name in catalog:
            if isinstance(dataset := catalog.get(name), AbstractVersionedDataset):
                yield name, dataset


def _comparable(file: Path) -> bytes:
    if file.suffix == ".json":
        figures = json.loads(file.read_text())
        if isinstance(figures, dict):
            figures = {name: figures[name] for name in figures if name not in FIGURES_OF_ONE_RUN}
        return json.dumps(figures).encode()
    content = file.read_bytes()
    if file.suffix == ".keras":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return b"".join(archive.read(name) for name in sorted(archive.namelist()) if name != "metadata.json")
    return content
