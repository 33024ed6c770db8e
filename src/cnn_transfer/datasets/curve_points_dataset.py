"""The points of a learning curve as versioned folders that grow point by point."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from cnn_transfer.datasets.cache import FETCHED_AT_ONCE
from cnn_transfer.datasets.local_folder import MOST_FETCHED, LocalFolder
from cnn_transfer.datasets.versions import PARTIAL, find_files, is_local, modified
from cnn_transfer.evaluation.curve_points import (
    CONTENTS,
    CurvePoint,
    PlannedPoint,
    open_curve_points,
    write_curve_points,
)


class CurvePointsDataset(LocalFolder[list[PlannedPoint], list[CurvePoint]]):
    """A folder with one file a point: saving measures the points and keeps each at once, loading reads them.

    A version grows under `<version>/.partial-<name>` and gets its name when it is complete; on an object store it grows
    in its place. Unlike other datasets, it stays when the process ends before, by an error or killed: the next run, of
    whatever version, takes every point from it, and from finished versions, that is made from the same.

    Args:
        filepath: Folder, on this machine or on a store.
        version: Kedro's version.
        credentials: For the file system.
        metadata: For Kedro's plugins.
    """

    LAST_FILE = CONTENTS
    KEEPS_UNFINISHED = True
    NOT_CONTENT = ("written.json",)

    def _open(self, folder: Path) -> list[CurvePoint]:
        return open_curve_points(folder)

    def _write(self, data: list[PlannedPoint], folder: Path) -> None:
        if is_local(self._fs):
            earlier = self._earlier() if self._version else [Path(self._filepath)]
            write_curve_points(data, folder, [*earlier, *self._unfinished()])
            return
        final, beside = self._get_save_path(), folder.parent
        known = [*self._linked(beside), *self._fetched_unfinished(beside)]
        write_curve_points(data, folder, known, lambda file: self._fs.put_file(str(file), str(final / file.name)))

    def _upload(self, folder: Path, final: str) -> None:
        """Each file has been uploaded as soon as it was complete, the last file last."""

    def _unfinished(self) -> list[Path]:
        path = Path(self._filepath)
        return sorted(path.glob(f"*/{PARTIAL}{path.name}"), reverse=True)

    def _linked(self, folder: Path) -> Iterator[Path]:
        """Earlier versions under names of their own: a copy in the cache may go while points are measured."""
        for number, copy in enumerate(self._earlier()):
            yield shutil.copytree(copy, folder / f"finished-{number}", copy_function=os.link)

    def _fetched_unfinished(self, folder: Path) -> Iterator[Path]:
        """What the store holds of the newest versions that are not complete."""
        files = find_files(self._fs, self._filepath)
        by_version: dict[str, list[str]] = defaultdict(list)
        for path in sorted(files, key=lambda path: modified(files[path]) or 0.0, reverse=True):
            by_version[PurePosixPath(path).relative_to(self._filepath).parts[0]].append(path)
        finished = {PurePosixPath(path).parent.name for path in self._get_versions()}
        for version in [version for version in by_version if version not in finished][:MOST_FETCHED]:
            target = folder / f"unfinished-{version}"
            local = [str(target / PurePosixPath(path).name) for path in by_version[version]]
            self._fs.get(by_version[version], local, batch_size=FETCHED_AT_ONCE)
            yield target
