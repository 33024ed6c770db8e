"""A release is a predictor's folder that each runtime opens, and holds nothing that failed."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnn_transfer.exporting import FORMATS, Release, ToleranceError, WorseReleaseError, write_release
from cnn_transfer.prediction import Predictor

DOCS = (Path(__file__).parents[2] / "docs/export.md").read_text(encoding="utf-8")
ENTRIES = tuple({"name": name, "file": known.file, "passed": True} for name, known in FORMATS.items())


@pytest.fixture(scope="module")
def folder(predictor, exported, first_release, tmp_path_factory):
    folder = tmp_path_factory.mktemp("releases") / "7" / "release"
    write_release(Release(replace(predictor, version="6"), exported, ENTRIES, first_release), folder)
    return folder


@pytest.mark.parametrize("runtime", ["keras", *FORMATS])
def test_every_runtime_labels_images_from_its_folder(folder, runtime, class_folder, predictor):
    table = Predictor.load(folder, runtime=runtime)([class_folder / name / "000.png" for name in ("blob", "row")])
    assert table["predicted"].tolist() == ["blob", "row"]


def test_says_what_it_holds(folder, predictor, first_release):
    assert json.loads((folder / "class_names.json").read_text()) == ["blob", "column", "diagonal", "row"]
    content = json.loads((folder / "exports.json").read_text())
    assert content == {"form": 2, "predictor_version": "6", "comparison": first_release, "exports": list(ENTRIES)}
    assert (folder / "README.md").read_text() == predictor.card
    last = max(folder.rglob("*"), key=lambda path: path.stat().st_mtime_ns if path.is_file() else 0)
    assert last.name == "exports.json"


def test_program_of_the_docs_sees_what_the_predictor_sees(folder, class_folder, tmp_path, monkeypatch):
    """The one without this package, on a picture that a camera held upright has turned."""
    [program] = re.findall(r"```python\n(import json.*?)```", DOCS, re.DOTALL)
    (tmp_path / "release").symlink_to(folder)
    exif = Image.Exif()
    exif[0x0112] = 6  # a row becomes a column
    with Image.open(class_folder / "row" / "000.png") as image:
        image.save(tmp_path / "photo.png", exif=exif)
    monkeypatch.chdir(tmp_path)
    found = {}
    exec(program, found)
    [expected] = Predictor.load(folder, "onnx")([tmp_path / "photo.png"]).to_dict("records")
    probabilities = [expected[f"probability_{name}"] for name in ("blob", "column", "diagonal", "row")]
    np.testing.assert_allclose(found["probabilities"][0], probabilities, atol=1e-6)
    assert expected["predicted"] == "column"


def test_failed_export_is_never_part_of_it(predictor, exported, first_release):
    failed = {**ENTRIES[2], "passed": False, "verdict": "logits differ by 2"}
    entries = (*ENTRIES[:2], failed, ENTRIES[3])
    message = r"nothing is released\. Received: litert: logits differ by 2\. Leave them out of export\.formats"
    with pytest.raises(ToleranceError, match=message):
        Release(predictor, exported, entries, first_release)


def test_worse_than_the_release_before_is_never_released(predictor, exported):
    rule = {"refuse": "clearly_worse", "most_loss": 0.01, "confidence": 0.95}
    worse = {"champion": "5", "passed": False, "statement": "80% instead of 90%.", "rule": rule}
    worse |= {"notes": [], "gone_classes": [], "silenced": False, "blunt": False}
    message = (
        r"must not be clearly worse than the one before \(1 points of loss are allowed\); nothing is released, and 5 "
        r"stays\. 80% instead of 90%\..*export\.champion\.refuse=never"
    )
    with pytest.raises(WorseReleaseError, match=message):
        Release(predictor, exported, ENTRIES, worse)
