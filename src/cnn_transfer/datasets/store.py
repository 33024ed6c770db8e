"""The store: the folder or address below which runs write everything. Defaults of its file system, and a check of it.

Credentials of a store come, the first that is there, from

1. the block `store` of `conf/local/credentials.yml`: arguments of fsspec's file system, for s3:// `key` and `secret`,
   or `profile`, and `endpoint_url`;
2. fsspec's own configuration, such as the environment variable FSSPEC_S3_KEY;
3. where its library looks, for s3:// the environment (AWS_ACCESS_KEY_ID, ...), `~/.aws`, the role of the machine.

They become defaults of the file system and are never part of the catalog, which other programs show.
"""

from __future__ import annotations

import copy
import os
import shutil
import threading
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import fsspec
from fsspec import AbstractFileSystem
from fsspec.config import conf

from cnn_transfer.datasets.cache import cache_folder, check_cache
from cnn_transfer.datasets.versions import is_local, remove

CHECK_SECONDS = 30
DEFAULTS: dict[str, dict[str, Any]] = {
    "s3": {
        "use_listings_cache": False,  # other processes write, too
        # A server that takes no connections is given up after half a minute (by botocore's own, five), and one that
        # answers none of the requests it takes after 2 x 4 tries of 30 seconds.
        "config_kwargs": {
            "connect_timeout": 5,
            "read_timeout": 30,
            "retries": {"mode": "standard", "total_max_attempts": 4},
        },
    }
}
S3_ARGUMENTS = ("key", "secret", "token", "profile", "anon", "endpoint_url", "client_kwargs", "config_kwargs")
SOURCES = {  # botocore's words for them
    "env": "the environment (AWS_ACCESS_KEY_ID)",
    "shared-credentials-file": "~/.aws/credentials",
    "config-file": "~/.aws/config",
    "iam-role": "the role of this machine",
    "container-role": "the role of this container",
    "assume-role-with-web-identity": "a web identity token (AWS_WEB_IDENTITY_TOKEN_FILE)",
}
CREDENTIALS_FILE = "conf/local/credentials.yml"

_fsspec_settings = copy.deepcopy(conf)  # from its environment variables and files
_from_file: set[str] = set()  # protocols whose credentials come from CREDENTIALS_FILE


class StoreError(RuntimeError):
    """The store cannot be used."""


def configure_store(address: str, credentials: Mapping[str, Any]) -> None:
    """Make credentials, and time limits, the defaults of the file system that an address belongs to.

    Args:
        address: Of the store.
        credentials: Arguments of the file system; none: it looks for them itself.

    Raises:
        StoreError: When an argument is none of the file system's.
    """
    protocol = fsspec.utils.get_protocol(address)
    if protocol == "file":
        return
    if protocol == "s3" and (unknown := sorted(set(credentials) - set(S3_ARGUMENTS))):
        raise StoreError(
            f"The block store of {CREDENTIALS_FILE} must hold arguments of s3fs: {', '.join(S3_ARGUMENTS)}. "
            f"Received: {', '.join(unknown)}."
        )
    conf[protocol] = {**DEFAULTS.get(protocol, {}), **_fsspec_settings.get(protocol, {}), **credentials}
    _from_file.discard(protocol)
    if credentials:
        _from_file.add(protocol)


def check_store(address: str) -> None:
    """Find out within half a minute whether a store can be listed, read, written and deleted from.

    Raises:
        StoreError: When it cannot: what was tried, with which credentials, and what to do.
    """
    location = urlsplit(address)
    if location.password:
        raise StoreError(
            f"An address of a store must hold no password. Received one for {location.hostname or location.scheme}. "
            f"Put it into {CREDENTIALS_FILE}."
        )
    filesystem, path = _open(address)
    if not is_local(filesystem):
        try:
            check_cache()
        except (OSError, ValueError) as error:
            raise StoreError(
                f"The folder for local copies of the store, {cache_folder()}, cannot be used: {error}. "
                "TRANSFER_CACHE names another one, TRANSFER_CACHE_GB its size."
            ) from error
    errors: list[Exception] = []
    worker = threading.Thread(target=_try, args=(filesystem, path, errors), daemon=True)
    worker.start()
    worker.join(CHECK_SECONDS)
    if worker.is_alive():
        errors.append(TimeoutError(f"no answer within {CHECK_SECONDS} seconds"))
    if errors:
        raise StoreError(_explain(address, filesystem, errors[0])) from errors[0]


def _try(filesystem: AbstractFileSystem, path: str, errors: list[Exception]) -> None:
    folder = f"{path.rstrip('/')}/.check-{uuid.uuid4().hex}"
    try:
        if is_local(filesystem):
            os.makedirs(folder)
        filesystem.pipe_file(f"{folder}/file", b"written")
        if filesystem.find(folder) != [f"{folder}/file"] or filesystem.cat_file(f"{folder}/file") != b"written":
            raise OSError("it does not give back what was written")
        remove(filesystem, folder)
    except Exception as error:  # whatever a file system raises, somebody has to be told
        errors.append(error)
        if is_local(filesystem):  # a full disk takes a folder, but nothing into it
            shutil.rmtree(folder, ignore_errors=True)


def _open(address: str) -> tuple[AbstractFileSystem, str]:
    try:
        filesystem, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise StoreError(
            f"The store {address} needs a package: {error} For s3://: pip install 'cnn-transfer[s3]'."
        ) from error
    except ValueError as error:
        raise StoreError(
            f"The store must be a folder or an address such as s3://bucket/prefix. Received: {address}. {error}."
        ) from error
    return filesystem, path


def _explain(address: str, filesystem: AbstractFileSystem, error: Exception) -> str:
    said = f"The store {address} cannot be used: {type(error).__name__}: {error}".rstrip(".") + "."
    if is_local(filesystem):
        return f"{said} Choose a folder that can be written, by TRANSFER_STORE or in globals.yml."
    remedy = "Check address and endpoint, and that these credentials may list, read, write and delete there."
    if isinstance(error, FileNotFoundError):
        remedy = "Make the bucket first, or correct the address; it comes from TRANSFER_STORE or globals.yml."
    client = getattr(filesystem, "_s3", None)
    endpoint = f"Endpoint: {client.meta.endpoint_url}. " if client is not None else ""
    return f"{said}\n{endpoint}Credentials: {credential_source(fsspec.utils.get_protocol(address))}.\n{remedy}"


def credential_source(protocol: str) -> str:
    """Where the credentials come from, in words."""
    if protocol in _from_file:
        return CREDENTIALS_FILE
    if {"key", "secret", "token", "profile", "anon"} & _fsspec_settings.get(protocol, {}).keys():
        return f"fsspec's configuration (such as FSSPEC_{protocol.upper()}_KEY)"
    if protocol == "s3":
        import botocore.session

        found = botocore.session.Session().get_credentials()
        none = f"none found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write {CREDENTIALS_FILE}"
        return SOURCES.get(found.method, str(found.method)) if found else none
    return f"where the file system of {protocol}:// looks for them"
