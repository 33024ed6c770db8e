"""The stage `rank_sources` by itself."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from cnn_transfer.datasets import FeatureCollectionDataset
from cnn_transfer.models import ImportedNetwork
from cnn_transfer.parameters import ParameterError
from cnn_transfer.pipelines.rank_sources.nodes import draw_ranks, extract_candidates, rank

IMAGES = {"image_size_px": 28, "channels": 1}
CANDIDATES = {"candidates": {"mine": {"network": "mine.keras"}, "same": {"network": "same.keras"}}}


@pytest.fixture
def read(tiny_network):
    def reader(source, image_shape):
        assert image_shape == (28, 28, 1)
        return ImportedNetwork(tiny_network(seed=3), "tiny", source.network, "mine", "unknown")

    return reader


@pytest.fixture
def head(augmentation):
    rule = {
        "taps": ["elsewhere"],
        "grids": [2],
        "depth_steepness": 0,
        "copies": 3,
        "most_unlabelled": None,
        "class_shares": "estimated",
    }
    return rule | {"augmentation": augmentation().model_dump(), "random_weights": False}


@pytest.fixture
def wanted(read, shapes, shape_splits, head):
    return partial(extract_candidates, read, shapes, shape_splits, head=head, image_format=IMAGES, seed=0)


def test_features_of_training_images_only_are_wanted(wanted, shapes, shape_splits):
    candidates, random = wanted(CANDIDATES)
    assert list(candidates) == list(random) == ["mine", "same"]
    for extract in (candidates["mine"], random["mine"]):
        extraction = extract()
        assert set(shapes.table["id"].iloc[extraction.rows]) == set(
            shape_splits["id"][shape_splits["split"] == "training"]
        )
        assert (extraction.copies, extraction.taps) == (0, ("block1", "block2"))


def test_no_network_is_read_before_its_turn(wanted, monkeypatch):
    def refuse(*_):
        raise AssertionError

    candidates, _ = partial(extract_candidates, refuse, *wanted.args[1:], **wanted.keywords)(CANDIDATES)
    with pytest.raises(AssertionError):
        candidates["mine"]()


def test_ranking_choice_and_plot_come_of_the_features(wanted, shape_splits, head, tmp_path):
    opened = []
    for name, part in zip(("candidates", "random"), wanted(CANDIDATES), strict=True):
        dataset = FeatureCollectionDataset(filepath=str(tmp_path / name))
        dataset.save(part)
        opened.append(dataset.load())
    table, choice = rank(*opened, shape_splits, CANDIDATES, head, 0)
    assert table["candidate"].tolist() == ["mine", "same"]
    assert table["computed"].tolist() == [160, 0]  # one network under two names
    assert table["loss"].nunique() == 1
    assert table["behind"].tolist() == [0, 0]
    assert choice["candidate"] in {"mine", None}
    again, _ = rank(*opened, shape_splits, CANDIDATES, head, 0)
    pd.testing.assert_frame_equal(table, again)
    left, right = draw_ranks(table).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["1. mine", "2. same"]
    widths = np.array([bar.get_width() for bar in right.patches[:2]])
    np.testing.assert_allclose(widths, table["accuracy"])


def test_a_mistyped_parameter_is_refused(wanted):
    with pytest.raises(ParameterError, match=r"rank_sources\.candidats is not a parameter\. Did you mean candidates\?"):
        wanted(CANDIDATES | {"candidats": {}})
