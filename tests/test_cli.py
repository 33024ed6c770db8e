"""Options that cannot be read."""

import pytest
from click.testing import CliRunner
from kedro.framework.cli.utils import find_run_command

from cnn_transfer.cli import run


def test_kedro_runs_with_the_command_of_the_project():
    assert find_run_command("cnn_transfer") is run


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--params", "seed=[1"], "seed: must be YAML (expected ',' or ']', but got '<stream end>'). Received: [1."),
        (["--params", "seed=1,target_name_pattern=[a-z]+"], "stands: \"target_name_pattern='[a-z]+'\"\n"),
        (["--params", "target_images={a}/b"], "target_images: must be YAML"),
        (["--params", "target_images='it"], "stands: \"target_images='''it'\"\n"),
        (["--params", "target_images=${it"], "target_images=${it: cannot be read. ${ begins a reference"),
        (["--params", "migrate_model.taps=[block1,block3]"], "by `=`. A comma ends a value: a list belongs into a"),
        (["--params", "seed"], "Item `seed` must contain a key and a value separated by `=`.\n"),
        (["--runner-params", "a={"], "--runner-params cannot be read; nothing was run.\na: must be YAML"),
        (["--runner", "SequentailRunner"], "there is no runner SequentailRunner. Leave it out.\n"),
    ],
)
def test_an_option_that_cannot_be_read_is_told_in_words(arguments, expected):
    result = CliRunner().invoke(run, arguments)
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code > 0
    assert expected in result.output


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run: [1", "options.yml cannot be read: it is no YAML at line 1, character 8"),
        ("env: test", "options.yml has no options of run; nothing was run."),
        ("run: 3", "options.yml has no options of run; nothing was run."),
    ],
)
def test_a_file_of_options_that_cannot_be_read_is_told_in_words(text, expected, tmp_path):
    file = tmp_path / "options.yml"
    file.write_text(text)
    result = CliRunner().invoke(run, ["--config", str(file)])
    assert isinstance(result.exception, SystemExit)
    assert expected in result.output
