"""A release: a predictor's folder with exports as good as the network itself, and no worse than the release before.

everything of a predictor, see `prediction.predictor`
saved_model/, model.onnx, model.tflite, model_int8.tflite
class_names.json      in the order of the probabilities
exports.json          what each export was found to be, and how it compares with the release before; written last
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnn_transfer.exporting.challenge import check_not_worse
from cnn_transfer.exporting.conversion import FORMATS, Files
from cnn_transfer.prediction import Predictor

FORM = 2  # of exports.json
EXPORTS, CLASS_NAMES = "exports.json", "class_names.json"


class ToleranceError(ValueError):
    """An export differs more from the network than it may."""


@dataclass(frozen=True)
class Release:
    """What is given to other programs; holds no export that failed, and is no worse than asked for.

    Attributes:
        predictor: One that Keras computes, with the card of the release.
        files: Content of the exports by path, see `export`.
        exports: See `parity.compare`; one entry an export: `name`, `file`, `passed`, `verdict`, and its figures.
        comparison: With the release before, see `challenge.compare_with_champion`.

    Raises:
        ToleranceError: When an export did not pass.
        WorseReleaseError: When the comparison did not.
    """

    predictor: Predictor
    files: Files
    exports: tuple[Mapping[str, Any], ...]
    comparison: Mapping[str, Any]

    def __post_init__(self) -> None:
        failed = [f"{entry['name']}: {entry['verdict']}" for entry in self.exports if not entry["passed"]]
        if failed:
            raise ToleranceError(
                "Exports must be within their tolerances; nothing is released. Received: "
                + "; ".join(failed)
                + ". Leave them out of export.formats, or allow more with export.logits_tolerance and "
                "export.accuracy_loss. Of 8 bits, more training images show the ranges better. All figures are in "
                "export_table."
            )
        check_not_worse(self.comparison)


def write_files(files: Files, folder: Path) -> None:
    """Write exports into a folder that is there."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def read_files(folder: Path) -> dict[str, bytes]:
    """What `write_files` wrote, from a folder that may hold other files, too."""
    found = [folder / known.file for known in FORMATS.values()]
    files = [file for path in found for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files if file.is_file()}


def write_release(release: Release, folder: Path) -> None:
    """Write a release into a new folder, `exports.json` last."""
    release.predictor.save(folder)
    write_files(release.files, folder)
    names = list(release.predictor.facts.class_names)
    (folder / CLASS_NAMES).write_text(json.dumps(names, indent=2, ensure_ascii=False), encoding="utf-8")
    content = {
        "form": FORM,
        "predictor_version": release.predictor.version,
        "comparison": dict(release.comparison),
        "exports": list(release.exports),
    }
    (folder / EXPORTS).write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
