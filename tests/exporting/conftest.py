"""The exports of the predictor of shapes, made once."""

import pytest

from cnn_transfer.exporting import FORMATS, export


@pytest.fixture(scope="session")
def training_pixels(shapes, shape_splits):
    return shapes.pixels(shapes.rows(shape_splits, "training"))


@pytest.fixture(scope="session")
def exported(predictor, training_pixels):
    return export(predictor, list(FORMATS), training_pixels)
