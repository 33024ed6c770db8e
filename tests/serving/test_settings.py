"""Settings come from the command line, from variables, or are the defaults; what is wrong is named."""

from unittest.mock import Mock

import pytest

from cnn_transfer.parameters import ParameterError
from cnn_transfer.serving import Settings
from cnn_transfer.serving.__main__ import main


def test_the_command_line_goes_before_variables_and_these_before_defaults():
    variables = {"CNN_TRANSFER_PORT": "80", "CNN_TRANSFER_MOST_FILES": "2", "PORT": "1"}
    settings = Settings.read(["--port", "90", "--upload-seconds", "2.5"], variables)
    assert (settings.port, settings.most_files, settings.upload_seconds, settings.host) == (90, 2, 2.5, "127.0.0.1")


def test_releases_are_those_of_the_store_unless_a_folder_is_named():
    store = {"TRANSFER_STORE": "s3://bucket/prefix/"}
    assert Settings.read([], {}).release == "data/06_models/release"
    assert Settings.read([], store).release == "s3://bucket/prefix/06_models/release"
    assert Settings.read([], store | {"CNN_TRANSFER_RELEASE": "there"}).release == "there"
    assert Settings.read(["--release", "here"], store).release == "here"


def test_a_store_that_cannot_be_looked_at_is_told_with_where_credentials_come_from(monkeypatch):
    monkeypatch.setattr("sys.argv", ["serving", "--release", "s3://bucket/06_models/release"])
    monkeypatch.setattr("cnn_transfer.serving.releases.find_releases", Mock(side_effect=OSError("no credentials.")))
    with pytest.raises(SystemExit, match=r"release cannot be looked at: OSError no credentials\. .* AWS_ACCESS_KEY_ID"):
        main()


def test_a_tilde_in_the_name_of_the_store_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/me")
    assert Settings.read([], {"TRANSFER_STORE": "~/x"}).release == "/me/x/06_models/release"


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        (["--port", "100000"], {}, "port: Input should be less than or equal to 65535. Received: '100000'"),
        ([], {"CNN_TRANSFER_MOST_FILE": "2"}, "most_file is not a parameter. Did you mean most_files"),
        (["--most-files", "many"], {}, "most_files: .* Received: 'many'"),
        (["--most-request-mb", "300"], {}, r"most_waiting_mb: must be at least most_request_mb, 300, .* Received: 256"),
        ([], {"CNN_TRANSFER_MOST_WAITING_MB": "31"}, "most_request_mb, 32, .* Raise it, .* Received: '31'"),
        (["--most-request-mb", "-1", "--most-waiting-mb", "1"], {}, "^most_request_mb: [^\n]*$"),
        (["--runtime", "onx"], {}, "runtime: must be one of .* litert_int8. Did you mean onnx[?] Received: 'onx'[.]$"),
    ],
)
def test_wrong_values_are_named(arguments, variables, message):
    with pytest.raises(ParameterError, match=message):
        Settings.read(arguments, variables)


def test_as_much_may_wait_as_one_request_has():
    settings = Settings.read(["--most-request-mb", "300", "--most-waiting-mb", "300"], {})
    assert settings.most_waiting_mb == settings.most_request_mb


def test_help_explains_every_setting(capsys):
    with pytest.raises(SystemExit) as ended:
        Settings.read(["--help"], {})
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in text
        assert field.description
