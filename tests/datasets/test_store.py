"""The store's credentials and errors; servers that do not answer are met in tests/integration/test_runs_on_s3.py."""

import errno
import threading

import click
import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from cnn_transfer.configuration import ConfigLoader
from cnn_transfer.datasets import store
from cnn_transfer.datasets.store import StoreError, check_store, configure_store, credential_source
from cnn_transfer.datasets.versions import open_path
from cnn_transfer.images.locations import S3_ATTEMPTS
from cnn_transfer.settings import CONFIG_LOADER_ARGS


@pytest.fixture(autouse=True)
def settings():
    yield
    fsspec.config.conf.pop("s3", None)


@pytest.fixture
def loader(tmp_path):
    """A configuration with credentials that are not those of its environment."""
    for folder in ("base", "production", "local"):
        (tmp_path / folder).mkdir()
    (tmp_path / "base/globals.yml").write_text("store: ${environment:TRANSFER_STORE,data}\n")
    (tmp_path / "production/globals.yml").write_text("store: ${environment:TRANSFER_STORE}\n")
    return lambda env="production": ConfigLoader(str(tmp_path), env=env, **CONFIG_LOADER_ARGS)


@pytest.mark.parametrize("env", ["local", "production"])
def test_the_store_is_that_of_the_environment_variable(loader, monkeypatch, tmp_path, env):
    monkeypatch.setenv("HOME", "/me")
    places = {"s3://b/c": "s3://b/c", "out": str(tmp_path / "out"), "/out": "/out", "~/out": "/me/out"}
    for address, expected in places.items():
        monkeypatch.setenv("TRANSFER_STORE", address)
        assert loader(env).store(tmp_path) == expected


def test_without_the_variable_the_store_is_the_projects_folder(loader, monkeypatch, tmp_path):
    for unset in (
        lambda: monkeypatch.delenv("TRANSFER_STORE", raising=False),
        lambda: monkeypatch.setenv("TRANSFER_STORE", ""),
    ):
        unset()
        assert loader("local").store(tmp_path) == str(tmp_path / "data")


def test_where_the_variable_must_be_set_it_is_named(loader, monkeypatch):
    monkeypatch.setenv("TRANSFER_STORE", "")
    with pytest.raises(click.ClickException, match="TRANSFER_STORE must be set and is not"):
        loader()


def test_local_credentials_serve_in_every_environment(loader, monkeypatch, tmp_path):
    monkeypatch.setenv("TRANSFER_STORE", "s3://b")
    assert loader().store_credentials() == {}
    (tmp_path / "local/credentials.yml").write_text("store: {key: somebody, secret: hush}\n")
    configure_store("s3://b", loader().store_credentials())
    assert fsspec.filesystem("s3").secret == "hush"
    configure_store("s3://b", {})
    assert fsspec.filesystem("s3").secret is None


def test_a_credentials_file_that_cannot_be_read_is_not_shown(loader, monkeypatch, tmp_path):
    monkeypatch.setenv("TRANSFER_STORE", "s3://b")
    (tmp_path / "local/credentials.yml").write_text("store: {secret: hush\n")
    with pytest.raises(
        click.ClickException, match=r"credentials\.yml cannot be read: it is no YAML at line 2, "
    ) as caught:
        loader().store_credentials()
    assert "hush" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_credentials_of_the_project_come_before_those_of_fsspec(monkeypatch):
    monkeypatch.setattr(store, "_fsspec_settings", {"s3": {"key": "theirs", "secret": "hush"}})
    configure_store("s3://b", {"key": "mine"})
    assert (fsspec.config.conf["s3"]["key"], fsspec.config.conf["s3"]["secret"]) == ("mine", "hush")


def test_what_others_write_is_seen_and_a_server_that_is_silent_is_given_up_soon():
    configure_store("s3://b", {})
    s3, _ = open_path("s3://b/table.csv")
    assert s3.retries == S3_ATTEMPTS
    assert not s3.dircache.use_listings_cache
    assert (
        s3.config_kwargs["connect_timeout"] * s3.config_kwargs["retries"]["total_max_attempts"] <= store.CHECK_SECONDS
    )


def test_where_credentials_come_from_is_told(monkeypatch, tmp_path):
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(variable, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(store, "_fsspec_settings", {})
    configure_store("s3://b", {"key": "mine"})
    assert credential_source("s3") == "conf/local/credentials.yml"
    configure_store("s3://b", {})
    assert credential_source("s3").startswith("none found: set AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    assert credential_source("s3") == "the environment (AWS_ACCESS_KEY_ID)"
    monkeypatch.setattr(store, "_fsspec_settings", {"s3": {"profile": "mine"}})
    assert credential_source("s3") == "fsspec's configuration (such as FSSPEC_S3_KEY)"
    assert credential_source("gs") == "where the file system of gs:// looks for them"


def test_unknown_arguments_are_named_without_their_values():
    with pytest.raises(StoreError, match=r"arguments of s3fs: key, secret.*Received: secrt\.") as caught:
        configure_store("s3://b", {"secrt": "hush"})
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("zzz://b", "folder or an address such as s3://bucket/prefix. Received: zzz://b"),
        ("s3://me:hush@b/c", "must hold no password"),
        ("{file}/below", "NotADirectoryError.*Choose a folder that can be written"),
    ],
)
def test_an_address_that_is_no_store_is_refused(tmp_path, address, expected):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=expected) as caught:
        check_store(address.format(file=tmp_path / "file"))
    assert "hush" not in str(caught.value)


def test_a_store_that_can_be_used_is_left_as_it_was(bucket, tmp_path):
    for address in (f"s3://{bucket}/prefix [1]", str(tmp_path / "new [1]/folder")):
        check_store(address)
        filesystem, path = fsspec.core.url_to_fs(address)
        filesystem.invalidate_cache()
        assert filesystem.find(path) == []


def test_a_full_disk_is_left_without_what_it_was_tried_with(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(LocalFileSystem, "pipe_file", full)
    with pytest.raises(StoreError, match="No space left on device"):
        check_store(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_does_not_answer_is_not_waited_for(tmp_path, monkeypatch):
    answer = threading.Event()
    monkeypatch.setattr(store, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr(store, "_try", lambda *_: answer.wait(60))
    with pytest.raises(StoreError, match=r"cannot be used: TimeoutError: no answer within 0\.05 seconds"):
        check_store(str(tmp_path))
    answer.set()


@pytest.mark.parametrize(("method", "answer"), [("cat_file", b"other"), ("find", [])])
def test_a_store_that_gives_back_something_else_is_refused(tmp_path, monkeypatch, method, answer):
    monkeypatch.setattr(LocalFileSystem, method, lambda *_: answer)
    with pytest.raises(StoreError, match="does not give back what was written"):
        check_store(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_that_is_not_there_is_named(bucket):
    with pytest.raises(
        StoreError, match=r"s3://none-such/x cannot be used(.|\n)*Endpoint: http://127(.|\n)*Make the bucket"
    ):
        check_store("s3://none-such/x")


def test_the_folder_for_local_copies_is_checked_too(bucket, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRANSFER_CACHE", str(tmp_path / "file"))
    with pytest.raises(StoreError, match=r"folder for local copies of the store, .*TRANSFER_CACHE names another"):
        check_store(f"s3://{bucket}")
