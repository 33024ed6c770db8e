import numpy as np
import pytest

from cnn_transfer.models import reinitialise
from cnn_transfer.transfer import FeatureExtraction
from cnn_transfer.transfer.feature_collection import open_feature_collection, write_feature_collection


@pytest.fixture
def extract(shapes, tiny_network, augmentation):
    """Make the extraction of ten images by a network of a seed."""

    def make(seed, images=10):
        network = reinitialise(tiny_network(), seed)
        rows = np.arange(images)
        return lambda: FeatureExtraction(network, shapes, rows, rows[:0], ("block1", "block2"), (2,), 0, augmentation())

    return make


def computed(folder):
    return {name: features.computed for name, features in open_feature_collection(folder).items()}


def test_each_network_has_features_of_its_own_in_the_order_given(extract, tmp_path):
    write_feature_collection({"second": extract(2), "first": extract(1)}, tmp_path / "all")
    opened = open_feature_collection(tmp_path / "all")
    assert list(opened) == ["second", "first"]
    assert opened["first"].values.shape == (10, 2 * (4 * 8 + 4 * 16))
    assert np.abs(opened["first"].values - opened["second"].values).max() > 0.01


def test_one_network_under_two_names_is_computed_once(extract, tmp_path):
    write_feature_collection({"one": extract(1), "other": extract(1)}, tmp_path / "all")
    assert computed(tmp_path / "all") == {"one": 10, "other": 0}
    opened = open_feature_collection(tmp_path / "all")
    np.testing.assert_array_equal(opened["one"].values, opened["other"].values)


def test_only_new_networks_and_new_images_are_computed(extract, tmp_path):
    write_feature_collection({"one": extract(1), "gone": extract(2)}, tmp_path / "earlier")
    wanted = {"renamed": extract(1, images=13), "new": extract(3)}
    write_feature_collection(wanted, tmp_path / "later", [tmp_path / "earlier"])
    assert computed(tmp_path / "later") == {"renamed": 3, "new": 10}


def test_networks_are_built_one_at_a_time(extract, tmp_path):
    built = []

    def build(name, seed):
        def extraction():
            built.append((name, sorted(path.name for path in (tmp_path / "all").iterdir())))
            return extract(seed)()

        return extraction

    write_feature_collection({"one": build("one", 1), "two": build("two", 2)}, tmp_path / "all")
    assert built == [("one", []), ("two", ["one"])]
