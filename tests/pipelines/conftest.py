"""What a stage is given by the catalog, made of the small images and networks of the tests."""

from pathlib import Path

import pytest

from cnn_transfer.models import ModelCard
from cnn_transfer.transfer import open_features, write_features

ROOT = Path(__file__).parents[2]


@pytest.fixture
def parameters():
    """Those of the environment test; each test may change its own."""
    # Kedro sets up its logging when it is imported, which must not happen while pytest loads this file.
    from kedro.config import OmegaConfigLoader

    from cnn_transfer.settings import CONFIG_LOADER_ARGS

    return OmegaConfigLoader(str(ROOT / "conf"), env="test", **CONFIG_LOADER_ARGS)["parameters"]


@pytest.fixture(scope="session")
def card(shapes):
    """Of a network that was trained on the images of shapes."""
    return ModelCard(
        architecture="tiny",
        image_shape=shapes.image_shape,
        class_names=shapes.class_names,
        trained_on="shapes",
        training_fingerprint=shapes.fingerprint,
        training_images=1,
        precision="float32",
        initialised_from="random weights",
        strategy="from scratch",
        metrics={},
        licence="MIT",
    ).model_dump(mode="json")


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Features as the next node opens them."""

    def write(extraction):
        folder = tmp_path_factory.mktemp("features") / "set"
        write_features(extraction, folder)
        return open_features(folder)

    return write
