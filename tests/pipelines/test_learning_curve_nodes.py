"""The stage `learning_curve` by itself."""

import numpy as np
import pandas as pd
import pytest

from cnn_transfer.datasets import CurvePointsDataset
from cnn_transfer.images import UnusableSetError
from cnn_transfer.models import UnusableNetworkError
from cnn_transfer.parameters import ParameterError
from cnn_transfer.pipelines.learning_curve.nodes import draw, extract_curve_features, measure, plan

CURVE = {
    "labels_per_class": [3, 10],
    "scratch_labels_per_class": [3, 10, 500],  # 40 are there
    "headline_labels": 3,
    "validation_ratio": 1.0,
    "seeds": 2,
    "fine_tune": False,
}


@pytest.fixture(scope="module")
def network(tiny_network):
    return tiny_network()


@pytest.fixture
def migration(parameters):
    return parameters["migrate_model"] | {"grids": [1], "copies": 1, "most_unlabelled": 20}


@pytest.fixture
def tuning(parameters):
    short = {"steps": 6, "validations": 2, "most_doublings": 0, "learning_rates": [0.01]}
    block = parameters["finetune_target"]
    return block | {"fine_tuning": block["fine_tuning"] | short, "baseline": block["baseline"] | short}


def checked_images(splits, asked=()):
    """What the checks leave: sides are drawn, but images that were asked about are for training only."""
    given = np.where(splits["id"].isin(asked), "training_only", None)
    return splits[["id", "label"]].assign(split=pd.Series(given, splits.index, "str"))


@pytest.fixture
def planned(network, shapes, shape_splits, migration, tuning, written):
    """Plan points; name what a test is about. Features are computed only where points are measured."""

    def make(
        curve=CURVE,
        migration=migration,
        tuning=tuning,
        splits=shape_splits,
        asked=(),
        network=network,
        seed=0,
        measured=False,
    ):
        checked = checked_images(splits, asked)
        wanted = extract_curve_features(network, shapes, splits, checked, curve, migration, seed)
        features = written(wanted) if measured else wanted
        return plan(network, network, shapes, splits, checked, features, curve, migration, tuning, "float32", seed)

    return make


def files(points, side=None):
    return {point.file for point in points if side in {None, point.side}}


def test_both_sides_are_planned_the_cheap_points_first_and_the_curve_ends_where_labels_end(planned):
    places = [(point.side, point.labels, point.seed) for point in planned()]
    assert places[:4] == [("transfer", labels, seed) for seed in (0, 1) for labels in (3, 10)]
    assert places[4:] == [("scratch", labels, seed) for seed in (0, 1) for labels in (3, 10, 40)]


def test_labels_that_were_asked_for_are_no_random_sample_and_count_for_nothing(
    planned, network, shapes, shape_splits, migration
):
    labelled = shape_splits[shape_splits["split"] != "test"]
    asked = labelled.groupby("label").head(40)["id"]  # of 80 a class
    assert max(point.labels for point in planned(asked=asked)) == 20
    wanted = extract_curve_features(
        network, shapes, shape_splits, checked_images(shape_splits, asked), CURVE, migration, 0
    )
    trained = shapes.table["id"].iloc[wanted.copied]
    assert len(trained)
    assert not trained.isin(asked).any()
    assert shapes.table["id"].iloc[wanted.rows].isin(asked).any()  # without a label they serve as others do


def test_points_become_a_table_a_headline_and_a_picture(planned, tmp_path):
    points = planned(CURVE | {"scratch_labels_per_class": [3, 10], "seeds": 1}, measured=True)
    dataset = CurvePointsDataset(filepath=str(tmp_path / "points"))
    dataset.save(points)
    measured = dataset.load()
    table, saved = measure(measured, CURVE, 0.95, 200, 0)
    assert table["test_images"].tolist() == [80] * 4
    by_head = table[table["side"] == "transfer"].set_index("labels")["accuracy"]
    assert by_head[10] > 0.4  # of four classes
    assert saved["headline"]["labels"] == 3
    assert saved["sentence"].startswith("With 3 labels a class the transfer is worth")
    assert draw(table, saved).axes
    assert "group" in measured[0].predictions
    again = points[1].measure()
    np.testing.assert_array_equal(again["predicted"], measured[1].predictions["predicted"])


def test_what_a_point_is_made_from_is_in_its_name(planned, tuning, migration, shape_splits, tiny_network):
    before = planned()
    assert files(planned()) == files(before)

    def changed(**settings):
        after = planned(**settings)
        return {side: not files(after, side) & files(before, side) for side in ("transfer", "scratch")}

    longer = tuning | {"baseline": tuning["baseline"] | {"steps": 7}}
    assert changed(tuning=longer) == {"transfer": False, "scratch": True}
    assert changed(migration=migration | {"class_shares": "free"}) == {"transfer": True, "scratch": False}
    assert changed(network=tiny_network(seed=5)) == {"transfer": True, "scratch": False}
    assert changed(network=tiny_network(seed=5, normalised=False)) == {"transfer": True, "scratch": True}
    assert changed(curve=CURVE | {"fine_tune": True}) == {"transfer": True, "scratch": False}
    assert changed(curve=CURVE | {"validation_ratio": 0.5}) == {"transfer": True, "scratch": True}
    assert changed(seed=5) == {"transfer": True, "scratch": True}
    other = shape_splits.copy()
    test, training = (other.index[other["split"] == side][0] for side in ("test", "training"))
    other.loc[[test, training], "split"] = ["training", "test"]
    assert changed(splits=other) == {"transfer": True, "scratch": True}


@pytest.mark.parametrize(
    ("images", "allowed", "remedy"),
    [
        (6, 3, r"Begin below that, such as with \[1, 3\]\. Or lower validation_ratio, or add images with labels\."),
        (3, 1, r"Lower validation_ratio, or add images with labels\."),
    ],
)
def test_labels_too_few_for_a_curve_from_scratch_are_said_before_anything_is_measured(
    network, shapes, shape_splits, migration, images, allowed, remedy
):
    labelled = shape_splits[shape_splits["split"] != "test"]
    kept = labelled.groupby("label").head(images)
    splits = shape_splits[(shape_splits["split"] == "test") | shape_splits["id"].isin(kept["id"])]
    curve = CURVE | {"scratch_labels_per_class": [5, 10]}
    expected = rf"scratch_labels_per_class \[5, 10\], of which the labels allow {allowed} a class .*{remedy}"
    with pytest.raises(UnusableSetError, match=expected):
        extract_curve_features(network, shapes, splits, checked_images(splits), curve, migration, 0)


def test_a_network_of_other_classes_is_refused_before_anything_is_measured(
    network, shapes, shape_splits, migration, tuning
):
    three = shape_splits[shape_splits["label"] != shape_splits["label"].iloc[0]]
    with pytest.raises(UnusableNetworkError, match="has 4 classes, the images have 3"):
        plan(network, network, shapes, three, checked_images(three), None, CURVE, migration, tuning, "float32", 0)


def test_one_more_number_or_seed_leaves_the_other_points_as_they_are(planned):
    before = planned()
    more = planned(CURVE | {"labels_per_class": [3, 5, 10], "seeds": 3, "headline_labels": 5})
    assert files(before) < files(more)


def test_the_transfer_can_be_fine_tuned(planned):
    curve = CURVE | {"labels_per_class": [10], "headline_labels": 10, "seeds": 1, "fine_tune": True}
    point = planned(curve, measured=True)[0]
    predictions = point.measure()
    assert (predictions["predicted"] == predictions["label"]).mean() > 0.4
    assert len(predictions) == 80


def test_a_baseline_that_is_switched_off_in_the_run_is_trained_all_the_same(planned, tuning):
    off = tuning | {"baseline": tuning["baseline"] | {"enabled": False}}
    assert files(planned(tuning=off), "scratch") == files(planned(), "scratch")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"headline_labels": 5}, r"headline_labels must be one of labels_per_class, \[3, 10\]"),
        ({"labels_per_class": [10, 3]}, r"labels_per_class.*must rise from number to number, such as \[3, 10\]"),
        ({"scratch_labels_per_class": [10]}, r"scratch_labels_per_class"),
        ({"validation_ratio": 0.0}, r"validation_ratio"),
        ({"sedes": 2}, r"learning_curve\.sedes is not a parameter\. Did you mean seeds\?"),
    ],
)
def test_impossible_curves_are_refused(planned, change, expected):
    with pytest.raises(ParameterError, match=expected):
        planned(CURVE | change)
