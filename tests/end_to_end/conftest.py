"""Projects in which nothing or everything has run, and a browser."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from browsers import chromium
from projects import forked_kedro, make_project, run_kedro


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project in which nothing has run."""
    return make_project(tmp_path / "project")


@pytest.fixture(scope="session")
def finished_project(finished_run: tuple[Path, str]) -> Path:
    """A project in which `kedro run --env test` has finished."""
    return finished_run[0]


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    """Chromium without a window; what its pages write to the console is kept."""
    with chromium() as driver:
        yield driver


Kedro = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def fresh_kedro() -> Kedro:
    """Run kedro in a project in a new process, as people do."""
    return run_kedro


@pytest.fixture(scope="session")
def quick_kedro(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kedro]:
    """The same in a process that need not import again what every run imports."""
    with forked_kedro(tmp_path_factory.mktemp("printed")) as run:
        yield run


@pytest.fixture(scope="session")
def kedro(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kedro]:
    """The same, nor TensorFlow: for runs that need it, and whose start is not what is tested."""
    with forked_kedro(tmp_path_factory.mktemp("printed"), "keras") as run:
        yield run
