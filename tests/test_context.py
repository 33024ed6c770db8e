"""What the context makes of the configuration."""

import click
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


@pytest.mark.parametrize(
    ("kind", "content", "expected"),
    [
        ("parameters", b"seed: [1\n", "parameters.yml cannot be read: it is no YAML at line 2, character 1"),
        ("parameters", b"evaluate:\n\tlevels: 3\n", "at line 2, character 1 (found character '\\t' that cannot start"),
        ("parameters", b"seed: 1\nseed: 2\n", "at line 2, character 1 (found duplicate key seed). Nothing was run."),
        ("parameters", b"target_images: caf\xe9\n", "parameters.yml cannot be read: it is not in UTF-8."),
        ("parameters", b"[1, 2]\n", "parameters.yml cannot be used: it holds a list, and names with values were"),
        ("parameters", b"seed: ${sede}\n", "seed cannot be read from parameters; nothing was run."),
        ("catalog", b"summary: {type: [\n", "catalog.yml cannot be read: it is no YAML at line 2, character 1"),
        ("catalog", b"summary: 3\n", "The catalog cannot be used; nothing was run. Catalog entry 'summary' is not"),
        ("globals", b"store: [\n", "globals.yml cannot be read: it is no YAML at line 2, character 1"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_place_and_what_is_wrong(kind, content, expected, tmp_path):
    project = make_project(tmp_path / "project")
    (project / "conf/broken").mkdir()
    (project / f"conf/broken/{kind}.yml").write_bytes(content)

    def read():
        loader = ConfigLoader(str(project / "conf"), env="broken", **CONFIG_LOADER_ARGS)
        context = RunContext(project, loader, "broken", "cnn_transfer", _create_hook_manager())
        return context.params, context.catalog

    with pytest.raises(click.ClickException) as refused:
        read()
    assert expected in refused.value.message


def test_of_a_broken_file_of_credentials_no_word_is_told(tmp_path):
    project = make_project(tmp_path / "project")
    (project / "conf/broken").mkdir()
    file = project / "conf/broken/credentials.yml"
    file.write_text("secret: 1\nsecret: 2\n")
    loader = ConfigLoader(str(project / "conf"), env="broken", **CONFIG_LOADER_ARGS)
    with pytest.raises(click.ClickException) as refused:
        loader["credentials"]
    assert refused.value.message == f"{file} cannot be read: it is no YAML at line 2, character 1. Nothing was run."
    assert refused.value.__cause__ is None
