"""The store: the folder or address below which runs write everything. Defaults of its file system, and a check of it.

Credentials of a store come, the first that is there, from

1. the block `store` of `conf/local/credentials.yml`: arguments of fsspec's file system, for s3:// `key` and `secret`, or
   `profile`, and `endpoint_url`;
2. fsspec's own configuration, such as the environment variable FSSPEC_S3_KEY;
3. where its library looks, for s3:// the environment (AWS_ACCESS_KEY_ID, ...), `~/.aws`, the role of the machine.

They become defaults of the file system and are never part of the catalog, which other programs show.
"""

from __future__ import annotations

import copy
import inspect
import os
import threading
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import fsspec
from fsspec.config import conf

from cnn_transfer.datasets.cache import cache_folder, check_cache
from cnn_transfer.datasets.versions import is_local

CHECK_SECONDS = 30
DEFAULTS: dict[str, dict[str, Any]] = {
    "s3": {
        "use_listings_cache": False,  # other processes write, too
        # At most half a minute until a server is given up that does not answer; botocore's own takes five minutes.
        "config_kwargs": {
            "connect_timeout": 5,
            "read_timeout": 60,
            "retries": {"mode": "standard", "total_max_attempts": 4},
        },
    }
}
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
        StoreError: When an argument is none of the file system's, or a package is missing.
    """
    protocol = fsspec.utils.get_protocol(address)
    if protocol == "file":
        return
    if credentials:
        known = inspect.signature(_file_system_class(address, protocol).__init__).parameters.keys() - {"self", "kwargs"}
        if unknown := sorted(set(credentials) - known):
            raise StoreError(
                f"The block store of {CREDENTIALS_FILE} must hold arguments of the file system of {protocol}://: "
                f"{', '.join(sorted(known))}. Received: {', '.join(unknown)}."
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
    protocol, location = fsspec.utils.get_protocol(address), urlsplit(address)
    if location.password:
        raise StoreError(
            f"An address of a store must hold no password. Received one for {location.hostname or protocol}. "
            f"Put it into {CREDENTIALS_FILE}."
        )
    errors: list[Exception] = []
    worker = threading.Thread(target=_try, args=(address, errors), daemon=True)
    worker.start()
    worker.join(CHECK_SECONDS)
    if worker.is_alive():
        errors.append(TimeoutError(f"no answer within {CHECK_SECONDS} seconds"))
    if errors:
        raise StoreError(_explain(address, protocol, errors[0])) from errors[0]


def _try(address: str, errors: list[Exception]) -> None:
    try:
        filesystem, path = fsspec.core.url_to_fs(address)
        folder = f"{path.rstrip('/')}/.check-{uuid.uuid4().hex}"
        if is_local(filesystem):
            os.makedirs(folder)
        else:
            check_cache()
        filesystem.pipe_file(f"{folder}/file", b"written")
        if filesystem.find(folder) != [f"{folder}/file"] or filesystem.cat_file(f"{folder}/file") != b"written":
            raise OSError("it does not give back what was written")
        filesystem.rm(folder, recursive=True)
    except Exception as error:  # noqa: BLE001  # whatever a file system raises, somebody has to be told
        errors.append(error)


def _explain(address: str, protocol: str, error: Exception) -> str:
    said = f"The store {address} cannot be used: {type(error).__name__}: {error}".rstrip(".") + "."
    if protocol == "file":
        return f"{said} Choose a folder that can be written, by TRANSFER_STORE or in globals.yml."
    if isinstance(error, ImportError):
        return f"{said} Install what it needs; for s3://: pip install 'cnn-transfer[s3]'."
    if str(cache_folder()) in str(error):
        return f"{said} Choose another folder for local copies by TRANSFER_CACHE."
    remedy = "Check address and endpoint, and that these credentials may list, read, write and delete there."
    if isinstance(error, FileNotFoundError):
        remedy = "Make the bucket first, or correct the address; it comes from TRANSFER_STORE or globals.yml."
    return f"{said}\nEndpoint: {_endpoint(address)}. Credentials: {credential_source(protocol)}.\n{remedy}"


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


def _endpoint(address: str) -> str:
    filesystem, _ = fsspec.core.url_to_fs(address)
    client = getattr(filesystem, "_s3", None)
    return str(client.meta.endpoint_url) if client is not None else "that of the file system"


def _file_system_class(address: str, protocol: str) -> type[fsspec.AbstractFileSystem]:
    try:
        return fsspec.get_filesystem_class(protocol)
    except (ImportError, ValueError) as error:
        raise StoreError(_explain(address, protocol, error)) from error
