"""A copy of the project to run in, so that benchmarks leave the user's data alone."""

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]


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
