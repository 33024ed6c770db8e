"""Features for the tests of heads and plans: planted ones without a network, and those of a small network."""

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from cnn_transfer.transfer import FeatureSet, HeadRule, open_features, plan_extraction, write_features

CLASSES = ("blob", "column", "diagonal", "row")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small systems, for which the threads of OpenBLAS wait for one another on cores that others use, too."""
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture(scope="session")
def planted_splits():
    """Of four classes 100 training, 40 unlabelled, 20 validation and 20 test images, mixed."""
    split = np.repeat(["training", "unlabelled", "validation", "test"], [100, 40, 20, 20])
    table = pd.DataFrame({"label": np.resize(CLASSES, len(split)), "split": split})
    table = table.assign(id=[f"{label}/{number}.png" for number, label in enumerate(table["label"])])
    return table.sample(frac=1, random_state=1).reset_index(drop=True)[["id", "label", "split"]]


@pytest.fixture(scope="session")
def planted_features(planted_splits):
    """Make features from how much each tap at each grid knows of the classes, 0: nothing; of images that heads read."""

    def make(strengths, width=12, copies=0, seed=0):
        read = planted_splits[planted_splits["split"].isin(["training", "unlabelled"])]
        classes = pd.Index(CLASSES).get_indexer(pd.Index(read["label"]))
        rng = np.random.default_rng(seed)
        grids = list(dict.fromkeys(grid for _, grid in strengths))
        taps = list(dict.fromkeys(tap for tap, _ in strengths))
        parts, widths = [], {grid: [width * grid**2] * len(taps) for grid in grids}
        for grid in grids:
            for tap in taps:
                centres = rng.normal(size=(len(CLASSES), width * grid**2))
                parts.append(strengths[tap, grid] * centres[classes] + rng.normal(size=(len(read), centres.shape[1])))
        values = np.concatenate(parts, axis=1).astype(np.float32)
        table = pd.DataFrame({"id": read["id"], "copy": 0}).reset_index(drop=True)
        copied = np.flatnonzero(read["split"] == "training").repeat(copies)
        moved = values[copied] + 0.5 * rng.normal(size=(len(copied), values.shape[1])).astype(np.float32)
        number = np.resize(np.arange(1, copies + 1), len(copied)) if copies else []
        table = pd.concat([table, table.iloc[copied].assign(copy=number)], ignore_index=True)
        return FeatureSet(table, np.concatenate([values, moved]), tuple(taps), widths, "d1", copies)

    return make


@pytest.fixture(scope="session")
def head_rule(augmentation):
    """Make the rule of a head that may choose everything; name what a test is about."""

    def make(**changes):
        usual = {
            "taps": None,
            "grids": (1,),
            "depth_steepness": 0.0,
            "copies": 0,
            "most_unlabelled": None,
            "class_shares": "estimated",
        }
        return HeadRule(**usual | {"augmentation": augmentation()} | changes)

    return make


@pytest.fixture(scope="session")
def network_features(shapes, shape_splits, augmentation, tmp_path_factory):
    """Make the features of a network on the images of shapes, at grids 1 and 2, with a copy of each."""

    def make(network):
        moves = augmentation(shift_fraction=0.05)
        extraction = plan_extraction(network, shapes, shape_splits, (1, 2), 1, moves, 40, seed=0)
        folder = tmp_path_factory.mktemp("features") / "set"
        write_features(extraction, folder)
        return open_features(folder)

    return make
