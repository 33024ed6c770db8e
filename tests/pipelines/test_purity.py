"""Nodes are pure: inputs stay as they are, the same inputs give the same outputs."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog, MemoryDataset, Version
from kedro.runner import SequentialRunner
from matplotlib.figure import Figure

from cnn_transfer.datasets import EnvironmentDataset, FeaturesDataset, ImageSetDataset
from cnn_transfer.datasets.matplotlib_dataset import MatplotlibDataset
from cnn_transfer.evaluation import as_svg
from cnn_transfer.images import DecodedImages, ImageListing, ImageSet, list_images
from cnn_transfer.pipeline_registry import register_pipelines
from cnn_transfer.prediction import Predictor
from cnn_transfer.settings import CONFIG_LOADER_ARGS
from cnn_transfer.transfer import FeatureExtraction, FeatureSet

pytestmark = pytest.mark.slow  # the whole graph, its nodes twice
ROOT = Path(__file__).parents[2]
PICTURES = ("_plot", "_sheet", "_curves", "_histograms")
TRANSFER = register_pipelines()["transfer"]


def state(value):  # noqa: PLR0911 (one form a type)
    """All that a node could change in a value, in comparable form."""
    match value:
        case ImageSet():
            return value.fingerprint, state(value.table), state(value.rejected), value.pixels(np.arange(3)).tobytes()
        case ImageListing():
            return state(value.table)
        case DecodedImages():
            return state(value.listing), value.rows.tolist(), value.image_format
        case FeatureSet():
            return value.network_digest, state(value.table), np.asarray(value.values).tobytes(), value.widths
        case FeatureExtraction():
            table = state(value.table())
            return value.network_digest, table, value.taps, value.grids, value.copies, value.augmentation
        case Predictor():
            references = value.references
            training = state(references.training.assign(thumbnail=references.training["thumbnail"].map(bytes.hex)))
            return (
                value.facts.model_dump(), value.card, training, state(references.validation),
                references.features.tobytes(), references.kernel.tobytes(), state(value.runtime.network),
            )  # fmt: skip
        case pd.DataFrame():
            return value.columns.tolist(), value.dtypes.astype(str).tolist(), value.astype(str).to_numpy().tolist()
        case keras.Model():
            trainable = [layer.trainable for layer in value.layers]
            return value.to_json(), trainable, [weight.tobytes() for weight in value.get_weights()]
        case dict():
            return {key: state(entry) for key, entry in value.items()}
        case list() | tuple():
            return [state(entry) for entry in value]
        case _:
            return value


@pytest.fixture(scope="module")
def parameters():
    loader = OmegaConfigLoader(str(ROOT / "conf"), env="test", **CONFIG_LOADER_ARGS)
    return loader["parameters"]


class Kept(MemoryDataset):
    """Data in memory that a runner does not throw away after its last use."""

    def _release(self) -> None:
        pass


def in_memory_catalog(parameters: dict, folder: Path) -> DataCatalog:
    """Everything in memory but image sets and features, which are folders by nature, and pictures."""
    catalog = DataCatalog()
    for name in sorted(TRANSFER.datasets()):
        if name == "parameters":
            catalog[name] = Kept(parameters)
        elif name.startswith("params:"):
            value = parameters
            for part in name.removeprefix("params:").split("."):
                value = value[part]
            catalog[name] = Kept(value)
        elif name in {"source_images", "target_images"}:
            catalog[name] = ImageSetDataset(filepath=str(folder / name))
        elif name.endswith(PICTURES):  # saved as figures, loaded as vectors
            catalog[name] = MatplotlibDataset(filepath=str(folder / f"{name}.png"), version=Version(None, "1"))
        elif name.endswith("_checkpoints"):  # else a node that is run again would take its result from there
            catalog[name] = Kept(None)
        elif name == "environment":
            catalog[name] = EnvironmentDataset()
        elif name in {"target_features", "random_features"}:
            catalog[name] = FeaturesDataset(filepath=str(folder / name))
        else:
            catalog[name] = Kept(copy_mode="assign")
    catalog["source_raw_images"].save(list_images(ROOT / "data/01_raw/fashion_mnist.parquet"))
    catalog["target_raw_images"].save(list_images(ROOT / "data/01_raw/mnist_digits.parquet"))
    record = {"seconds": 1.0, "peak_memory_mb": 900.0, "images_per_second": None, "reused_from": None}
    catalog["run_records"].save({"a.node": record})
    return catalog


@pytest.fixture(scope="module")
def finished_catalog(parameters, tmp_path_factory):
    """The catalog after the whole graph ran in this process."""
    catalog = in_memory_catalog(parameters, tmp_path_factory.mktemp("images"))
    SequentialRunner().run(TRANSFER, catalog)
    return catalog


def test_whole_graph_runs_on_an_in_memory_catalog(finished_catalog):
    summary = finished_catalog.load("summary")
    assert 0 <= summary["target_accuracy"] <= 1
    assert summary["seconds"] == {"a.node": 1.0}
    assert summary["source"] == "fashion_mnist"


@pytest.mark.parametrize("node", TRANSFER.nodes, ids=lambda node: node.name)
def test_node_leaves_its_inputs_and_repeats_its_outputs(finished_catalog, node):
    inputs = {name: finished_catalog.load(name) for name in node.inputs}
    before = {name: state(value) for name, value in inputs.items()}
    outputs = node.run(inputs)
    assert {name: state(value) for name, value in inputs.items()} == before
    for name, value in outputs.items():
        if isinstance(value, FeatureExtraction):  # computed while it is written
            written = finished_catalog.load(name)
            assert value.network_digest == written.network_digest
            assert state(value.table().drop(columns=["row", "background"])) == state(written.table)
        elif isinstance(value, Figure):
            assert as_svg(value) == finished_catalog.load(name), name
        elif not isinstance(value, DecodedImages):
            assert state(value) == state(finished_catalog.load(name)), name


def test_another_seed_gives_another_draw(finished_catalog):
    node = next(node for node in TRANSFER.nodes if node.name == "preprocess.target.split_images")
    inputs = {name: finished_catalog.load(name) for name in node.inputs}
    other = node.run(inputs | {"params:seed": 1})
    assert state(other["target_splits"]) != state(finished_catalog.load("target_splits"))
