from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from cnn_transfer.images import DecodedImages, ImageFormat, list_images, open_image_set, write_image_set
from cnn_transfer.models import add_linear_head
from cnn_transfer.models.taps import tap_network

RAW = Path(__file__).parents[2] / "data/01_raw"


def opened(file, images, folder):
    """An image set of evenly spaced images of a bundled file."""
    listing = list_images(RAW / file)
    rows = np.linspace(0, len(listing.table) - 1, images).astype(int)
    write_image_set(DecodedImages(listing, ImageFormat(image_size_px=28, channels=1), rows), folder)
    return open_image_set(folder)


@pytest.fixture(scope="session")
def open_some():
    """Opens evenly spaced images of a bundled file."""
    return opened


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    return opened("mnist_digits.parquet", 1200, tmp_path_factory.mktemp("digits") / "set")


@pytest.fixture(scope="session")
def digit_network(digits, tiny_network):
    """A head in closed form on random features: 10 classes of digits from 200 images."""
    base = tiny_network(10)
    taps = ["block1", "block2"]
    rows = np.arange(0, 1200, 6)
    features = tap_network(base, taps, 3).predict(digits.pixels(rows), verbose=0)
    head = Ridge(alpha=10).fit(features, 4 * np.eye(10)[digits.classes[rows]])
    return add_linear_head(base, taps, 3, head.coef_.T, head.intercept_)
