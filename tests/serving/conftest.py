"""A release of shapes, and a service on it that answers over a real socket."""

import shutil

import pytest
from services import VERSION, serving

from cnn_transfer.exporting import Release, export, write_release

EXPORTS = ({"name": "onnx", "file": "model.onnx", "passed": True},)


@pytest.fixture(scope="session")
def release_folder(predictor, shapes, first_release, tmp_path_factory):
    """A release with ONNX alone, where a catalog has it."""
    folder = tmp_path_factory.mktemp("releases") / VERSION / "release"
    folder.parent.mkdir()
    pixels = shapes.pixels([0, 1])
    predictor.compute(pixels)  # Keras exports what has been called
    write_release(Release(predictor, export(predictor, ["onnx"], pixels), EXPORTS, first_release), folder)
    return folder


@pytest.fixture
def releases(release_folder, tmp_path):
    """A folder with that release, to add others to."""
    shutil.copytree(release_folder.parents[1], tmp_path / "releases")
    return tmp_path / "releases"


@pytest.fixture
def copy_release(releases):
    """Copy the release to another version, `exports.json` last."""

    def copy(version):
        target = releases / version / "release"
        shutil.copytree(releases / VERSION / "release", target, ignore=shutil.ignore_patterns("exports.json"))
        shutil.copy(releases / VERSION / "release/exports.json", target)
        return target

    return copy


@pytest.fixture(scope="module")
def client(release_folder):
    """A service with usual settings, but for small limits."""
    with serving(release_folder.parents[1], most_files=4, most_file_mb=1, most_request_mb=1.5, upload_seconds=1) as it:
        yield it
