"""A copy of the project to run in, so that benchmarks leave the user's data alone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
KEDRO = Path(sys.executable).with_name("kedro")


def copy_project(folder: Path) -> Path:
    """Copy configuration, code and bundled data into a new folder."""
    folder.mkdir(parents=True)
    for name in ("conf", "src"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "local"))
    (folder / "conf/local").mkdir()
    shutil.copytree(ROOT / "data/01_raw", folder / "data/01_raw")
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copy(ROOT / ".telemetry", folder)
    return folder


def latest_version(path: Path) -> Path:
    """The newest version of a dataset that Kedro versions."""
    return max(path.glob(f"*/{path.name}"))


def run_kedro(project: Path, *options: str, **parameters: Any) -> None:
    """`kedro run` in a process of its own, with parameters by their dotted names."""
    values = ",".join(f"{key}={value}" for key, value in parameters.items())
    command = [str(KEDRO), "run", *options, "--params", values]
    subprocess.run(command, cwd=project, env=os.environ | {"DO_NOT_TRACK": "1"}, check=True, capture_output=True)


def run_transfer(project: Path, **parameters: Any) -> dict[str, Any]:
    """Run the whole pipeline in a process of its own; the run's summary."""
    run_kedro(project, **parameters)
    summary: dict[str, Any] = json.loads(latest_version(project / "data/08_reporting/summary.json").read_text())
    return summary
