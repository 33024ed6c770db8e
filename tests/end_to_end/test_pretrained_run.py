"""Imported sources through the real command line, in new processes."""

import json

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cnn_transfer.exit_codes import REFUSED

LEVELS = {"dark": 50, "light": 200}
TINY = (  # a run that ends in figures, not good ones
    "migrate_model.copies=1,finetune_target.fine_tuning.strategy=auto,finetune_target.fine_tuning.steps=1,"
    "finetune_target.fine_tuning.validations=1,finetune_target.baseline.enabled=false,evaluate.bootstrap_samples=100"
)
SIZES = "preprocess.source.image_format.image_size_px={0},preprocess.target.image_format.image_size_px={0}"


def latest(path):
    return max(path.glob(f"*/{path.name}"))


def outputs(project):
    files = [file for file in (project / "data").rglob("*") if file.is_file()]
    return [file for file in files if "01_raw" not in file.parts and file.suffix not in {".png", ".keras"}]


@pytest.fixture
def photos(project):
    """A folder of class folders in the project, and its path as a parameter."""
    rng = np.random.default_rng(0)
    for label, level in LEVELS.items():
        (project / "data/photos" / label).mkdir(parents=True)
        for index in range(14):
            pixels = np.clip(level + rng.integers(-45, 45, (5, 6, 3)), 0, 255).astype(np.uint8)
            picture = Image.fromarray(pixels).resize((60, 50), Image.Resampling.BICUBIC)
            picture.save(project / f"data/photos/{label}/{index:02d}.png")
    return "target_images=data/photos,preprocess.target.split.labels_per_class=5"


@pytest.fixture
def run(project, kedro):
    def start(*parameters, pipelines="transfer_pretrained"):
        return kedro(project, "run", "--env", "imagenet", "--pipelines", pipelines, "--params", ",".join(parameters))

    return start


def card_of(project):
    return json.loads(latest(project / "data/06_models/source_model_card.json").read_text())


@pytest.mark.slow
def test_imagenet_moves_to_a_folder_of_images_without_a_source_set(project, photos, run):
    result = run(photos, TINY, SIZES.format(32))
    assert result.returncode == 0, result.stdout
    assert "Accuracy" in result.stdout
    card = card_of(project)
    assert (card["architecture"], card["trained_on"], card["licence"]) == (
        "efficientnet_lite0",
        "imagenet",
        "Apache-2.0",
    )
    assert (card["training_images"], card["image_shape"]) == (None, [32, 32, 3])
    assert json.loads(latest(project / "data/08_reporting/summary.json").read_text())["source"] == "imagenet"
    assert pd.read_parquet(latest(project / "data/08_reporting/source_training_log.parquet")).empty
    assert not (project / "data/02_intermediate/source_images").exists()


@pytest.mark.slow
def test_a_network_of_ones_own_is_imported_and_migrated(project, photos, run):
    inputs = keras.Input((None, None, 3))
    base = keras.Sequential(
        [keras.layers.Conv2D(4, 3, strides=2, name="conv"), keras.layers.ReLU(name="end")], name="base"
    )
    classes = keras.layers.Dense(7)(keras.layers.GlobalAveragePooling2D()(base(inputs)))
    keras.Model(inputs, classes, name="mine").save(project / "data/mine.keras")
    source = "import_source.network=data/mine.keras,import_source.licence=CC0"
    refused = run(photos, source, SIZES.format(32))
    assert refused.returncode == REFUSED
    assert "no layer that scales its pixels" in refused.stdout
    assert "Say with pixel_range" in refused.stdout
    assert outputs(project) == []
    config = project / "conf/imagenet/parameters.yml"
    config.write_text(config.read_text().replace("import_source:\n", "import_source:\n  pixel_range: [0, 1]\n"))
    result = run(photos, source, SIZES.format(32), pipelines="import_source")
    assert result.returncode == 0, result.stdout
    assert (card_of(project)["architecture"], card_of(project)["licence"]) == ("mine", "CC0")
    network = keras.models.load_model(latest(project / "data/06_models/source_model.keras"))
    assert [layer.name for layer in network.layers] == ["pixels", "rescaling", "conv", "end"]
    assert network.input_shape == (None, 32, 32, 3)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (
            "import_source.network=data/none.keras",
            ["import_source.network: There is no file data/none.keras"],
        ),
        pytest.param(
            SIZES.format(24),
            ["efficientnet_lite0 needs images of at least 32 px", "Received: 24", "Set image_size_px"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_source_that_cannot_be_imported_stops_the_run_before_anything_is_written(
    project, quick_kedro, parameters, expected
):
    result = quick_kedro(
        project, "run", "--env", "imagenet", "--pipelines", "transfer_pretrained", "--params", parameters
    )
    assert result.returncode == REFUSED
    assert "Traceback" not in result.stdout
    assert all(text in result.stdout for text in ["nothing was run", *expected]), result.stdout
    assert outputs(project) == []
