"""What the context makes of the configuration."""

import pytest
from kedro.framework.hooks.manager import _create_hook_manager

from cnn_transfer.configuration import ConfigLoader
from cnn_transfer.context import RunContext
from cnn_transfer.settings import CONFIG_LOADER_ARGS
from projects import make_project


@pytest.mark.parametrize(
    ("given", "expected"),
    [("data/lab.csv", "{project}/data/lab.csv"), ("/lab.csv", "/lab.csv"), ("s3://b/lab.csv", "s3://b/lab.csv")],
)
def test_labels_lie_in_the_project_as_images_do_wherever_the_command_is_given(given, expected, tmp_path, monkeypatch):
    project = make_project(tmp_path / "project")
    monkeypatch.chdir(project / "data")
    chosen = {"target_labels": given}
    loader = ConfigLoader(str(project / "conf"), env="test", runtime_params=chosen, **CONFIG_LOADER_ARGS)
    context = RunContext(project, loader, "test", "cnn_transfer", _create_hook_manager(), chosen)
    assert context.catalog.get("target_raw_images").labels == expected.format(project=project)
    assert context.catalog.get("source_raw_images").labels is None
