from types import SimpleNamespace

import numpy as np
import pytest

from cnn_transfer.evaluation import no_predictions, predict


@pytest.fixture(scope="module")
def network(tiny_network):
    return tiny_network()


@pytest.fixture(scope="module")
def predictions(network, shapes, shape_splits):
    return predict(network, shapes, shape_splits, "test")


def test_each_image_of_the_split_has_one_row_in_the_order_of_the_set(predictions, shape_splits):
    test = shape_splits[shape_splits["split"] == "test"]
    assert predictions["id"].tolist() == test["id"].tolist()
    assert predictions["label"].tolist() == test["label"].tolist()


def test_probabilities_are_those_of_the_network(predictions, network, shapes, shape_splits):
    columns = [f"probability_{name}" for name in shapes.class_names]
    expected = network(shapes.pixels(shapes.rows(shape_splits, "test"))).numpy()
    assert predictions.columns.tolist() == ["id", "label", "group", "predicted", *columns]
    np.testing.assert_allclose(predictions[columns], expected, rtol=1e-4, atol=1e-6)
    assert {dtype.name for dtype in predictions[columns].dtypes} == {"float32"}


def test_the_predicted_class_has_the_highest_probability(predictions, shapes):
    columns = [f"probability_{name}" for name in shapes.class_names]
    best = predictions[columns].idxmax(axis=1).str.removeprefix("probability_")
    assert predictions["predicted"].tolist() == best.tolist()


def test_an_empty_split_is_refused(network, shapes, shape_splits):
    with pytest.raises(ValueError, match="split test has no images to predict"):
        predict(network, shapes, shape_splits.assign(split="training"), "test")


def test_a_network_with_other_classes_is_refused(tiny_network, shapes, shape_splits):
    with pytest.raises(ValueError, match=r"network has 3 classes, the images have 4\. Run migrate_model"):
        predict(tiny_network(n_classes=3), shapes, shape_splits, "test")


def test_no_predictions_have_the_same_columns_and_no_rows(predictions, shapes):
    nothing = no_predictions(shapes)
    assert nothing.empty
    assert nothing.columns.tolist() == predictions.columns.tolist()
    assert nothing.dtypes.tolist() == predictions.dtypes.tolist()


def test_no_predictions_of_many_classes_are_made_at_once():
    names = tuple(f"class {n:03d}" for n in range(300))  # column by column, pandas warns of it, and warnings are errors
    assert no_predictions(SimpleNamespace(class_names=names)).shape == (0, 304)
