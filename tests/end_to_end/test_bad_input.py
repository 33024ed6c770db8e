"""What a user sees who gives bad input, and that nothing is written before the first node."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cnn_transfer.exit_codes import REFUSED


def outputs(project: Path) -> list[Path]:
    return [file for file in (project / "data").rglob("*") if file.is_file() and "01_raw" not in file.parts]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (
            "sed=1,pretrain_source.optimisation.learning_rate=-1",
            [
                "sed is not a parameter",
                "Did you mean seed?",
                "optimisation.learning_rate",
                "greater than 0",
                "-1",
                "What parameters mean: conf/base/parameters.yml and conf/base/parameters_pretrain_source.yml.",
            ],
        ),
        ("model_version=1", ["model_version: 1 was asked for, but nothing of this run uses the network of another"]),
    ],
)
def test_wrong_parameters_stop_the_run_before_anything_is_written(project, quick_kedro, parameters, expected):
    result = quick_kedro(project, "run", "--env", "test", "--params", parameters)
    assert result.returncode == REFUSED
    assert "Traceback" not in result.stdout
    assert all(text in result.stdout for text in ["nothing was run", *expected]), result.stdout
    assert outputs(project) == []


def test_missing_raw_file_names_the_command_that_makes_it(project, quick_kedro):
    (project / "data/01_raw").unlink()
    result = quick_kedro(project, "run", "--env", "test")
    assert result.returncode == 1
    assert "Traceback" not in result.stdout
    assert "data/01_raw/fashion_mnist.parquet" in result.stdout
    assert "make data" in result.stdout
    assert outputs(project) == []


def test_stage_without_its_inputs_names_them_and_the_remedy(project, quick_kedro):
    result = quick_kedro(project, "run", "--env", "test", "--pipelines", "migrate_model")
    assert result.returncode == 1
    assert "Traceback" not in result.stdout
    assert all(text in result.stdout for text in ("source_model", "target_splits", "Run the stages before this one"))
    assert outputs(project) == []


@pytest.mark.parametrize("flag", ["--pipelines", pytest.param("--pipeline", marks=pytest.mark.slow)])
def test_unknown_pipeline_suggests_the_nearest(project, quick_kedro, flag):
    result = quick_kedro(project, "run", "--env", "test", flag, "transfr")
    assert result.returncode == REFUSED
    assert "Traceback" not in result.stdout
    assert (
        "Error: There is no pipeline transfr. Did you mean transfer? There are: audit, audit_sample, compare_runs, "
        in result.stdout
    )
    assert outputs(project) == []


def test_unknown_environment_is_named(project, quick_kedro):
    result = quick_kedro(project, "run", "--env", "produktion")
    assert result.returncode == REFUSED
    assert "Traceback" not in result.stdout
    assert "Error: There is no environment produktion" in result.stdout
    assert "Did you mean production? There are: article, cifar10, " in result.stdout
    assert outputs(project) == []


def test_class_with_too_few_images_is_named_with_counts(project, quick_kedro):
    target = "--namespaces=preprocess.target"
    result = quick_kedro(
        project, "run", "--env", "test", target, "--params", "preprocess.target.split.labels_per_class=30"
    )
    assert result.returncode == REFUSED
    assert "Traceback" not in result.stdout
    needed = "60 images, needed 78 (30 training + 30 validation + 18 test)"
    assert f"Error: Too few images in 0, 1, 2, 3, 4 and 5 more: {needed}" in result.stdout
    assert "labels_per_class" in result.stdout


@pytest.mark.slow
def test_damaged_images_in_class_folders_are_set_aside_and_the_run_goes_on(project, quick_kedro):
    folder = project / "data/my_images"
    random = np.random.default_rng(0)
    for name, level in (("dark", 40), ("light", 200)):
        (folder / name).mkdir(parents=True)
        for index in range(30):
            pixels = random.integers(level - 40, level + 40, (32, 24, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index:02d}.png")
    whole = (folder / "dark/00.png").read_bytes()
    (folder / "dark/00.png").write_bytes(whole[: len(whole) // 2])
    (folder / "light/00.png").write_bytes(b"not an image")
    catalog = "target_raw_images:\n  type: cnn_transfer.datasets.RawImagesDataset\n  filepath: data/my_images\n"
    (project / "conf/test/catalog.yml").write_text(catalog)
    result = quick_kedro(project, "run", "--env", "test", "--pipelines", "preprocess")
    assert result.returncode == 0, result.stdout
    rejected = pd.read_parquet(next((project / "data/08_reporting/target_rejected_images.parquet").glob("*/*")))
    assert rejected["id"].tolist() == ["dark/00.png", "light/00.png"]
    assert rejected["reason"].tolist() == ["truncated", "not_an_image"]
    counts = pd.read_parquet(next((project / "data/08_reporting/target_image_counts.parquet").glob("*/*")))
    assert counts.set_index("label")["total"].to_dict() == {"dark": 29, "light": 29}
