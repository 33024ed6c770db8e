"""Versioned folders whose content is memory-mapped, and which reuse what earlier versions hold.

On a remote store they are written into a local folder and uploaded, and fetched into the local cache to be opened.
"""

from __future__ import annotations

import shutil
from abc import abstractmethod
from collections.abc import Generator
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, TypeVar

from kedro.io import AbstractVersionedDataset, Version

from cnn_transfer.datasets.cache import keep, local_copy, working_folder
from cnn_transfer.datasets.versions import PART_BYTES, PARTIAL, VersionsByTime, is_local, open_path, remove

MOST_FETCHED = 3  # earlier versions that are fetched to save computing

Saved = TypeVar("Saved")
Loaded = TypeVar("Loaded")


class LocalFolder(VersionsByTime, AbstractVersionedDataset[Saved, Loaded]):
    """The part that such datasets share; each says what its folders hold, and writes and opens them."""

    LAST_FILE: ClassVar[str]  # a version that has it is complete

    def __init__(
        self,
        filepath: str,
        version: Version | None = None,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._fs, path = open_path(filepath, version, credentials)
        self.metadata = metadata
        super().__init__(path, version, self._is_complete, self._fs.glob)

    @abstractmethod
    def _open(self, folder: Path) -> Loaded:
        """Open a complete folder."""

    @abstractmethod
    def _write(self, data: Saved, folder: Path) -> None:
        """Write into a folder, the last file last."""

    def load(self) -> Loaded:
        path = self._get_load_path()
        if is_local(self._fs):
            return self._open(Path(path))
        with local_copy(self._fs, str(path), self.LAST_FILE) as folder:
            return self._open(folder)

    def save(self, data: Saved) -> None:
        final = self._get_save_path()
        if is_local(self._fs):
            self._save_here(data, Path(final))
        else:
            self._save_there(data, str(final))

    def _save_here(self, data: Saved, final: Path) -> None:
        """Write to a temporary name, then rename; nothing is left when writing fails."""
        partial = final.with_name(f"{PARTIAL}{final.name}")
        if not self.KEEPS_UNFINISHED:
            shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        partial.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._write(data, partial)
            shutil.rmtree(final, ignore_errors=True)  # there without versions only
            partial.rename(final)
        except BaseException:
            if not self.KEEPS_UNFINISHED:
                shutil.rmtree(partial, ignore_errors=True)
            raise

    def _save_there(self, data: Saved, final: str) -> None:
        """Write into the cache and upload, the last file last; what comes of it is the local copy as well."""
        with working_folder(self._filepath.name) as folder:
            self._write(data, folder / self._filepath.name)
            self._upload(folder / self._filepath.name, final)
            keep(folder / self._filepath.name, self._fs, final, self.LAST_FILE)

    def _upload(self, folder: Path, final: str) -> None:
        files = [file for file in folder.rglob("*") if file.is_file()]
        last = folder / self.LAST_FILE
        remove(
            self._fs, final, first=f"{final}/{self.LAST_FILE}"
        )  # of a process that was killed, or there without versions
        try:
            for file in sorted(files, key=lambda file: (file == last, file)):
                path = f"{final}/{file.relative_to(folder).as_posix()}"
                self._fs.put_file(str(file), path, chunksize=PART_BYTES)
        except BaseException:
            remove(self._fs, final, first=f"{final}/{self.LAST_FILE}")
            raise

    def _earlier(self) -> Generator[Path]:
        """Local folders of complete versions, the newest first; of a store a few of them, fetched when asked for."""
        if self._version is None:
            return
        paths = [PurePosixPath(path) for path in self._get_versions()]
        if is_local(self._fs):
            yield from map(Path, paths)
            return
        for path in paths[:MOST_FETCHED]:
            with local_copy(self._fs, str(path), self.LAST_FILE) as folder:
                yield folder

    def _exists(self) -> bool:
        return self._is_complete(self._get_load_path())

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "version": self._version}
