"""Projects to run the real command line in: the repository's code and configuration, data of their own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
KEDRO = Path(sys.executable).with_name("kedro")
CIRCUMSTANCES = {"seconds", "peak_memory_mb", "images_per_second", "reused_from"}


def make_project(folder: Path) -> Path:
    """A project folder with a copy of the configuration; the code is the installed one, the raw data a link."""
    folder.mkdir(parents=True)
    shutil.copytree(ROOT / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
    (folder / "conf/local").mkdir()
    (folder / "data").mkdir()
    (folder / "src").mkdir()  # the code is found where it is installed
    (folder / "data/01_raw").symlink_to(ROOT / "data/01_raw")
    (folder / "notebooks").symlink_to(ROOT / "notebooks")
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(ROOT / name, folder)
    return folder


def run_kedro(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run kedro in a new process; standard error and output together in `stdout`.

    Its coverage is not measured, which would take half of its time again.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    environment |= {"DO_NOT_TRACK": "1", "COLUMNS": "200"}
    return subprocess.run(
        [str(KEDRO), *arguments],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=550,
        check=False,
    )


def results(project: Path, run_id: str) -> dict[str, Any]:
    """What a run found out, without how it came about: seconds, memory, what was taken over."""
    summary = json.loads((project / f"data/08_reporting/summary.json/{run_id}/summary.json").read_text())
    return {key: value for key, value in summary.items() if key not in CIRCUMSTANCES}


def latest(path: Path) -> Path:
    """The newest version of a dataset that Kedro versions."""
    return max(path.glob(f"*/{path.name}"))


def outputs(project: Path) -> list[Path]:
    """All files that runs wrote."""
    return [file for file in (project / "data").rglob("*") if file.is_file() and "01_raw" not in file.parts]
