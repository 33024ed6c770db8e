"""`kedro run --pipelines export` through the real command line: a release that other programs use, or none."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from PIL import Image

from cnn_transfer.exporting import FORMATS
from cnn_transfer.prediction import Predictor

pytestmark = pytest.mark.slow

RUN = ("run", "--env", "test", "--pipelines", "export")


def latest(path: Path) -> Path:
    return max(path.glob(f"*/{path.name}"))


def releases(project: Path) -> list[Path]:
    return sorted((project / "data/06_models/release").glob("*/release/exports.json"))


@pytest.fixture(scope="module")
def own_project(finished_project, tmp_path_factory):
    """A copy of a project in which a run has finished."""
    folder = tmp_path_factory.mktemp("exporting") / "project"
    shutil.copytree(finished_project, folder, symlinks=True)
    return folder


@pytest.fixture(scope="module")
def exported(own_project, kedro):
    """The release of that run, and what was printed."""
    result = kedro(own_project, *RUN)
    assert result.returncode == 0, result.stdout
    return releases(own_project)[-1].parent, result.stdout


def test_release_holds_the_predictor_and_all_exports(exported, own_project):
    release, printed = exported
    content = json.loads((release / "exports.json").read_text())
    predictor = latest(own_project / "data/06_models/predictor")
    assert content["predictor_version"] == predictor.parent.name
    assert [entry["name"] for entry in content["exports"]] == list(FORMATS)
    assert all(entry["passed"] for entry in content["exports"])
    for file in ("predictor.json", "model.keras", "training.parquet", "validation.parquet", "features.npz"):
        assert (release / file).read_bytes() == (predictor / file).read_bytes()
    assert json.loads((release / "class_names.json").read_text()) == [str(digit) for digit in range(10)]
    for name in FORMATS:
        assert f"\n{name} " in printed
    assert f"Released        {release}" in printed
    assert "export_table.parquet" in printed


def test_card_has_limits_figures_and_front_matter(exported):
    card = (exported[0] / "README.md").read_text()
    assert card.startswith("---\nlicense: ")
    headings = [line for line in card.splitlines() if line.startswith("## ")]
    assert headings[-4:] == ["## Out of scope", "## Limitations", "## Exports", "## Compared with the release before"]
    assert "| `model_int8.tflite` | LiteRT, 8 bits |" in card


def test_code_in_the_card_labels_images(exported, tmp_path, monkeypatch):
    release = exported[0]
    with_package, without, *_ = re.findall(r"```python\n(.*?)```", (release / "README.md").read_text(), re.DOTALL)
    picture = Image.radial_gradient("L").resize((28, 28))
    (tmp_path / "photos").mkdir()
    picture.save(tmp_path / "photos/a.png")
    monkeypatch.chdir(tmp_path)
    labelled = {}
    exec(with_package.replace("FOLDER", str(release)), labelled)
    monkeypatch.chdir(release)
    computed = {"images": np.asarray(picture)[None, ..., None]}
    exec(without, computed)
    classes = json.loads((release / "class_names.json").read_text())
    first, sure = (
        classes[int(np.argmax(computed["outputs"]["probabilities"]))],
        np.max(computed["outputs"]["probabilities"]),
    )
    assert labelled["table"]["predicted"].tolist() == [first]
    assert labelled["table"]["confidence"].tolist() == pytest.approx([sure], abs=1e-4)


def test_table_and_plot_are_written(exported, own_project):
    reporting = own_project / "data/08_reporting"
    table = pd.read_parquet(latest(reporting / "export_table.parquet"))
    assert table["name"].tolist() == ["keras predict", "keras call", *FORMATS]
    assert latest(reporting / "export_plot.png").stat().st_size > 10_000


def test_program_without_this_package_gets_the_same_probabilities(exported):
    release = exported[0]
    session = onnxruntime.InferenceSession(str(release / "model.onnx"))
    pixels = np.asarray(Image.radial_gradient("L").resize((28, 28)))[None, ..., None]
    (probabilities,) = session.run(["probabilities"], {"pixels": pixels})
    found = Predictor.load(release).compute(pixels)
    np.testing.assert_allclose(probabilities, found.probabilities, atol=1e-5)
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)


def test_export_outside_its_tolerance_fails_the_run_and_is_not_released(exported, own_project, kedro):
    before = releases(own_project)
    result = kedro(own_project, *RUN, "--params", "export.logits_tolerance.onnx=1e-12")
    assert result.returncode != 0
    said = " ".join(result.stdout.split())
    assert "Traceback" not in result.stdout
    assert "nothing is released. Received: onnx: logits differ by at most" in said
    assert "(allowed: 1e-12)" in said
    assert "export.logits_tolerance" in said
    assert releases(own_project) == before
    table = pd.read_parquet(latest(own_project / "data/08_reporting/export_table.parquet"))
    assert table["passed"].dropna().tolist() == [True, False, True, True]
    assert latest(own_project / "data/08_reporting/export_plot.png").exists()


def test_next_run_is_compared_with_that_release_and_refused_when_it_is_worse(exported, own_project, kedro):
    """Fewer labels of worse pictures, as a night with broken data would bring them."""
    before = releases(own_project)
    champion = before[-1].parents[1].name
    spoilt = "preprocess.target.split.labels_per_class=1,preprocess.target.split.validation_ratio=1"
    result = kedro(own_project, "run", "--env", "test", "--params", spoilt)
    assert result.returncode == 0, result.stdout
    result = kedro(own_project, *RUN)
    assert result.returncode != 0
    said = " ".join(result.stdout.split())
    assert "Traceback" not in result.stdout
    assert f"nothing is released, and {champion} stays" in said
    assert "test images that neither has seen are right" in said
    assert releases(own_project) == before
    reporting = own_project / "data/08_reporting"
    comparison = json.loads(latest(reporting / "champion_comparison.json").read_text())
    assert (comparison["champion"], comparison["passed"], comparison["verdict"]) == (champion, False, "worse")
    changes = pd.read_parquet(latest(reporting / "champion_changes.parquet"))
    lost, gained = (int((changes["change"] == name).sum()) for name in ("lost", "gained"))
    assert (gained - lost) / comparison["images"] == pytest.approx(comparison["difference"])
    for picture in ("champion_plot.png", "champion_sheet.png"):
        assert latest(reporting / picture).stat().st_size > 10_000
    result = kedro(own_project, *RUN, "--params", "export.champion.refuse=never")
    assert result.returncode == 0, result.stdout
    assert f"before          {comparison['statement'][:40]}" in result.stdout
    assert len(releases(own_project)) == len(before) + 1


def test_whole_run_ends_with_a_release_of_its_own_network(exported, own_project, kedro):
    """The network of before, which is better than what was released last; all that it took is taken over."""
    champion = releases(own_project)[-1].parents[1].name
    result = kedro(own_project, "run", "--env", "test", "--pipelines", "release")
    assert result.returncode == 0, result.stdout
    released = releases(own_project)[-1]
    run = released.parents[1].name
    content = json.loads(released.read_text())
    assert content["predictor_version"] == run == latest(own_project / "data/06_models/predictor").parent.name
    assert (content["comparison"]["champion"], content["comparison"]["verdict"]) == (champion, "better")
    assert "results are taken over" in " ".join(result.stdout.split())
    assert result.stdout.index("\nAccuracy ") < result.stdout.index("\nbefore ") < result.stdout.index("\nReleased ")
    result = kedro(own_project, "run", "--env", "test", "--pipelines", "release")
    assert result.returncode == 0, result.stdout
    assert f"before          The network is that of the release before, {run}." in result.stdout


def test_unknown_version_lists_those_that_are_there_once(exported, own_project, kedro):
    result = kedro(own_project, *RUN, "--params", "model_version=yesterday")
    assert result.returncode == 1
    said = " ".join(result.stdout.split())
    assert said.count("There is no version yesterday of") == 1
    assert latest(own_project / "data/06_models/predictor").parent.name in said
    assert "--params model_version=RUN" in said


def test_images_that_are_gone_are_named(exported, own_project, kedro):
    images = latest(own_project / "data/02_intermediate/target_images").parent
    away = images.with_name(".away")
    images.rename(away)
    try:
        result = kedro(own_project, *RUN)
    finally:
        away.rename(images)
    assert result.returncode == 1
    said = " ".join(result.stdout.split())
    assert f"There is no version {latest(own_project / 'data/06_models/predictor').parent.name} of" in said
    assert "target_images" in said
    assert "nothing was run" in said


def test_without_any_run_it_says_how_to_make_one(project, kedro):
    result = kedro(project, *RUN)
    assert result.returncode == 1
    assert "nothing was run" in result.stdout
    assert "make one with: kedro run" in " ".join(result.stdout.split())
