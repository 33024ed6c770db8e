"""What is here needs real programs: servers on loopback, environments of their own, processes that are killed."""

from pathlib import Path

import pytest

from projects import make_project


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All that is here is slow, and begins before all else: what is short fills the workers evenly in the end.

    After it comes what waits much, as of the service, which would be waited for alone in the end.
    """
    items.sort(key=lambda item: (Path(__file__).parent not in item.path.parents, item.path.name != "test_server.py"))
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project in which nothing has run."""
    return make_project(tmp_path / "project")
