"""What configuration takes from the machine: environment variables, and credentials that no repository holds."""

from __future__ import annotations

import os
from copy import deepcopy
from io import StringIO
from pathlib import Path
from typing import Any

from kedro.config import MissingConfigException, OmegaConfigLoader
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from cnn_transfer.exit_codes import RefusedError
from cnn_transfer.parameters import did_you_mean

PATTERN = set("*?[")  # `]` alone is a character like others
FORMS = {".yml", ".yaml", ".json"}  # of the files that Kedro reads


def environment(name: str, otherwise: str | None = None) -> str:
    """The value of an environment variable; Kedro keeps OmegaConf's own resolver to credentials.

    A `~` at its beginning is the home folder: a shell expands it in few places only.

    Args:
        name: Of the variable.
        otherwise: What stands for one that is not set, or empty; None: it must be set.

    Raises:
        InterpolationResolutionError: When it must be set and is not.
    """
    if value := os.environ.get(name) or otherwise:
        return os.path.expanduser(value)
    raise InterpolationResolutionError(
        f"The environment variable {name} must be set and is not; this environment's configuration reads it. "
        f"For instance: export {name}=s3://bucket/prefix"
    )


def _check_path(path: str) -> None:
    """See whether Kedro can look for files there: it takes the whole path for a pattern.

    Raises:
        RefusedError: When it cannot.
    """
    if odd := sorted(PATTERN & set(path)):
        raise RefusedError(
            f"No file would be found in {path}: Kedro takes {' '.join(odd)} for part of a pattern. Rename the folder."
        )


def _check_environment(conf_source: str, env: str | None) -> None:
    """See whether the folder of an environment is there; archives and stores are left to Kedro.

    Raises:
        RefusedError: When it is not.
    """
    folder = Path(conf_source)
    if env is None or not folder.is_dir() or (folder / env).is_dir():
        return
    known = sorted(place.name for place in folder.iterdir() if place.is_dir() and place.name not in {"base", "local"})
    raise RefusedError(
        f"There is no environment {env}: {folder / env} is no folder. {did_you_mean(env, known)}There are: "
        f"{', '.join(known)}."
    )


def unreadable(file: Path, shown: bool) -> str | None:
    """What is wrong with a file, and where; None: it can be read.

    Args:
        file: Of configuration.
        shown: Whether words from the file may be told.
    """
    try:
        read = OmegaConf.load(StringIO(file.read_text("utf-8")))
    except UnicodeDecodeError:
        return f"{file} cannot be read: it is not in UTF-8. Save it as that."
    except YAMLError as error:
        mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
        where = f" at line {mark.line + 1}, character {mark.column + 1}" if mark else ""
        what = f" ({getattr(error, 'problem', None) or error})" if shown else ""
        return f"{file} cannot be read: it is no YAML{where}{what}."
    if not isinstance(read, DictConfig):
        return f"{file} cannot be used: it holds a list, and names with values were expected (name: value)."
    return None


class ConfigLoader(OmegaConfigLoader):
    """Kedro's, which also knows the store; what cannot be read, or is not set, is a message, not a traceback.

    Files are read once: Kedro asks for the parameters several times a run, each of which takes a tenth of a second.
    """

    def __init__(self, conf_source: str, env: str | None = None, **settings: Any) -> None:
        self._known: dict[str, dict[str, Any]] = {}
        _check_path(conf_source)
        _check_environment(conf_source, env)
        if env is None and Path(conf_source).is_dir() and not (Path(conf_source) / "local").is_dir():
            env = settings.get("base_env")  # a folder of one's own (--conf-source) may have no local
        super().__init__(conf_source, env=env, **settings)  # reads globals.yml

    def __getitem__(self, key: str) -> dict[str, Any]:
        """Of one kind, from all files.

        Raises:
            RefusedError: When a file cannot be read, or a value refers to what is not there.
        """
        if key not in self._known:
            try:
                self._known[key] = super().__getitem__(key)
            except (MissingConfigException, RefusedError):
                raise
            except Exception as error:
                if told := self._told(key, error):
                    raise RefusedError(told) from (None if key == "credentials" else error)
                raise
        return deepcopy(self._known[key])

    def _told(self, key: str, error: Exception) -> str | None:
        """What to tell of an error of Kedro's, which names the file only where its form is no YAML."""
        folders = {self.base_env: None, self.env or self.default_run_env: None}
        for folder in (Path(self.conf_source) / name for name in folders):
            files = {file for pattern in self.config_patterns.get(key, ()) for file in folder.glob(pattern)}
            for file in sorted(file for file in files if file.suffix in FORMS and file.is_file()):
                if told := unreadable(file, shown=key != "credentials"):
                    return f"{told} Nothing was run."
        if not isinstance(error, OmegaConfBaseException):
            return None
        what = str(error).splitlines()[0]
        return f"{error.full_key or 'A value'} cannot be read from {key}; nothing was run. {what}"

    def __setitem__(self, key: str, value: Any) -> None:
        self._known.pop(key, None)
        super().__setitem__(key, value)

    def store(self, project: Path) -> str:
        """The address of the store; a relative folder is one of the project."""
        address = str(self["globals"]["store"])
        if "://" in address:
            return address
        path = str(project / address)
        _check_path(path)
        return path

    def local_files(self) -> list[str]:
        """Names of the files of conf/local but for credentials, which are read in every environment."""
        found = sorted(file.name for file in (Path(self.conf_source) / "local").glob("*.y*ml"))
        return [name for name in found if not name.startswith("credentials")]

    def store_credentials(self) -> dict[str, Any]:
        """The block `store` of conf/local/credentials.yml, in every environment; none when there is no such file.

        Raises:
            RefusedError: When the file cannot be read; no part of it is shown.
        """
        folder, patterns = Path(self.conf_source) / "local", self.config_patterns["credentials"]
        try:
            found = self.load_and_merge_dir_config(str(folder), patterns, "credentials", set(), True)
        except MissingConfigException:
            return {}
        except Exception as error:
            told = (unreadable(file, shown=False) for file in sorted(folder.glob("credentials*")) if file.is_file())
            otherwise = f"{folder}/credentials.yml cannot be read: {type(error).__name__}."
            raise RefusedError(next(filter(None, told), otherwise)) from None
        return dict(found.get("store") or {})
