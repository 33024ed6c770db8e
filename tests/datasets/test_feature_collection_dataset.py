"""Features by several networks on disk, versioned and reused."""

import numpy as np
import pytest
from kedro.io import DatasetError, Version

from cnn_transfer.datasets import FeatureCollectionDataset
from cnn_transfer.transfer import FeatureExtraction


@pytest.fixture
def wanted(shapes, tiny_network, augmentation):
    rows = np.arange(5)
    taps = ("block1", "block2")
    return {"mine": lambda: FeatureExtraction(tiny_network(), shapes, rows, rows[:0], taps, (1,), 0, augmentation())}


def dataset(folder, version):
    return FeatureCollectionDataset(filepath=str(folder / "features"), version=Version(None, version))


def test_features_are_opened_and_a_second_version_computes_nothing(wanted, tmp_path):
    for version, computed in (("1", 5), ("2", 0)):
        dataset(tmp_path, version).save(wanted)
        opened = dataset(tmp_path, version).load()["mine"]
        assert (opened.values.shape, opened.computed) == ((5, 2 * (8 + 16)), computed)


def test_nothing_is_left_of_a_version_whose_network_cannot_be_read(wanted, tmp_path):
    def fail():
        raise ValueError("no such weights")

    with pytest.raises(DatasetError, match="no such weights"):
        dataset(tmp_path, "1").save(wanted | {"broken": fail})
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not dataset(tmp_path, "1").exists()
