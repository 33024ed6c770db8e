"""Labelled images as versioned folders that grow part by part."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from cnn_transfer.datasets.local_folder import LocalFolder
from cnn_transfer.datasets.versions import find_files, remove, write_whole
from cnn_transfer.images.reasons import PASSING_REASONS
from cnn_transfer.prediction.labelling import (
    CONTENTS,
    REJECTED,
    ImagesToLabel,
    LabelledImages,
    open_labels,
    write_labels,
)


class LabelledImagesDataset(LocalFolder[ImagesToLabel, LabelledImages]):
    """A folder with a file a part: saving labels the images and keeps each part at once, loading opens it.

    A version grows under `<version>/.partial-<name>` and gets its name when it is complete; on an object store it grows
    in its place. It stays when the process ends before: the next run, of whatever version, takes every part from it
    that is made from the same images by the same predictor. Where it is not known whether images have changed (a
    manifest names them), only the run itself goes on with it.

    Args:
        filepath: Folder, on this machine or on a store.
        version: Kedro's version.
        credentials: For the file system.
        metadata: For Kedro's plugins.
    """

    LAST_FILE = CONTENTS
    KEEPS_UNFINISHED = True

    def load(self) -> LabelledImages:
        return self._open(Path(self._get_load_path()))

    def unread(self, version: str) -> int:
        """How many images a complete version lacks for what may have passed since, such as a store's silence."""
        rejected = open_labels(self._fs, str(self._get_versioned_path(version))).rejected()
        return int(rejected["reason"].isin(PASSING_REASONS).sum())

    def _open(self, folder: Path) -> LabelledImages:
        return open_labels(self._fs, str(folder))

    def _write(self, data: ImagesToLabel, folder: Path) -> None:
        self._label(data, str(folder))

    def _save_there(self, data: ImagesToLabel, final: str) -> None:
        self._label(data, final)

    def _label(self, data: ImagesToLabel, folder: str) -> None:
        wanted = {f"{folder}/{start}{name}" for name in data.part_names for start in ("", REJECTED)}
        files = set(find_files(self._fs, self._filepath))
        for file in files - wanted:
            if file.startswith(f"{folder}/"):  # of other images, or half written
                remove(self._fs, file)
        done = self._take_parts(data, folder, files)
        write_labels(data, done, lambda name, content: write_whole(self._fs, f"{folder}/{name}", content))

    def _take_parts(self, data: ImagesToLabel, folder: str, files: set[str]) -> int:
        """Copy the parts that unfinished versions hold; returns how many are there, from the first on."""
        places = {str(PurePosixPath(file).parent) for file in files if data.listing.fingerprint is not None}
        unfinished = [folder, *sorted(place for place in places if f"{place}/{CONTENTS}" not in files)]
        for number, name in enumerate(data.part_names):
            place = next((place for place in unfinished if f"{place}/{name}" in files), None)
            if place is None:
                return number
            for file in (REJECTED + name, name) if place != folder else ():
                write_whole(self._fs, f"{folder}/{file}", self._fs.cat_file(f"{place}/{file}"))
        return len(data.part_names)
