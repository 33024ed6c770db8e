"""Projects to run the real command line in: the repository's code and configuration, data of their own."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE
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
    """Run kedro in a new process; standard error and output together in `stdout`."""
    return subprocess.run(
        [str(KEDRO), *arguments],
        cwd=project,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=550,
        check=False,
    )


def _environment() -> dict[str, str]:
    """That of kedro's processes."""
    return os.environ | {"DO_NOT_TRACK": "1", "COLUMNS": "200"}


FORKING = """
import json, os, sys
import cnn_transfer.context, cnn_transfer.datasets.matplotlib_dataset, cnn_transfer.pipeline_registry
from cnn_transfer.prediction.native_notes import without_native_notes
from kedro.framework.cli.cli import main
with without_native_notes():
    for name in sys.argv[1:]:
        __import__(name)
for line in sys.stdin:
    project, printed, environment, *arguments = json.loads(line)
    if child := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    os.chdir(project)
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(printed, os.O_CREAT | os.O_WRONLY), 1)
    os.dup2(1, 2)
    sys.argv = ["kedro", *arguments]
    sys.exit(main())
"""


@contextmanager
def forked_kedro(folder: Path, *modules: str) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Run kedro as `run_kedro` does, each time in a process forked from one that has imported what every run does.

    Args:
        folder: Where the processes' output goes.
        modules: What else is imported.
    """
    alone = "ignore:This process:DeprecationWarning"  # of Python 3.12 on: the other threads, of libraries, hold nothing
    command = [sys.executable, "-W", alone, "-c", FORKING, *modules]
    with subprocess.Popen(command, env=_environment(), stdin=PIPE, stdout=PIPE, text=True, bufsize=1) as forking:
        assert forking.stdin
        assert forking.stdout
        requests, codes, count = forking.stdin, forking.stdout, itertools.count()

        def run(
            project: Path, *arguments: str, environment: dict[str, str] | None = None
        ) -> subprocess.CompletedProcess[str]:
            printed = folder / f"{next(count)}.txt"
            requests.write(json.dumps([str(project), str(printed), environment or _environment(), *arguments]) + "\n")
            return subprocess.CompletedProcess(arguments, int(codes.readline()), printed.read_text())

        yield run


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
