import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from cnn_transfer.evaluation import confusion_table, no_predictions
from cnn_transfer.evaluation.mistakes import (
    confused_pairs,
    draw_confused_pairs,
    draw_suspected_labels,
    suspected_labels,
)

NAMES = ["a", "b", "c"]


def table_of(values, labels, names=NAMES):
    values = np.asarray(values, np.float32)
    table = pd.DataFrame({"id": [f"i{n}" for n in range(len(values))], "label": np.asarray(names)[labels]})
    table["predicted"] = np.asarray(names)[values.argmax(axis=1)]
    return table.assign(**{f"probability_{name}": values[:, index] for index, name in enumerate(names)})


def random_table(images, seed):
    rng = np.random.default_rng(seed)
    return table_of(rng.dirichlet([1, 1, 1], images), rng.integers(0, 3, images))


def render(figure):
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    assert np.ptp(np.asarray(Image.open(stream).convert("L"))) > 0


def test_pairs_are_counted_with_the_most_frequent_first():
    values = [[0.6, 0.4, 0], [0.7, 0.3, 0], [0.1, 0.9, 0], [0, 0.8, 0.2], [0.2, 0.2, 0.6]]
    pairs = confused_pairs(table_of(values, [1, 1, 1, 2, 2]))
    assert pairs.columns.tolist() == ["label", "predicted", "images", "share_of_label", "examples"]
    assert pairs[["label", "predicted"]].to_numpy().tolist() == [["b", "a"], ["c", "b"]]
    assert pairs["images"].tolist() == [2, 1]
    assert pairs["share_of_label"].tolist() == pytest.approx([2 / 3, 1 / 2])
    assert pairs["examples"].tolist() == [["i1", "i0"], ["i3"]]  # the most confident first


@given(st.integers(0, 80), st.integers(0, 10))
def test_pairs_are_those_of_the_confusion_matrix(images, seed):
    table = random_table(images, seed)
    pairs = confused_pairs(table, most=6)
    counts = confusion_table(table, NAMES).set_index("label") if images else pd.DataFrame()
    for row in pairs.itertuples():
        assert row.images == counts.loc[row.label, f"predicted_{row.predicted}"]
        assert len(row.examples) == min(8, row.images)
        chosen = table.set_index("id").loc[row.examples]
        assert (chosen["label"] == row.label).all()
        assert (chosen["predicted"] == row.predicted).all()
    assert pairs["images"].sum() == (table["label"] != table["predicted"]).sum()
    assert pairs["images"].is_monotonic_decreasing
    assert len(confused_pairs(table, most=2)) <= 2


def test_no_mistakes_have_no_pairs(shapes):
    right = table_of(np.eye(3), [0, 1, 2])
    for table in (right, no_predictions(shapes)):
        pairs = confused_pairs(table)
        assert pairs.empty
        assert pairs.dtypes.tolist() == confused_pairs(random_table(50, 0)).dtypes.tolist()
        figure = draw_confused_pairs(shapes, pairs)
        render(figure)
        assert figure.get_suptitle() == "No mistakes"
    with pytest.raises(ValueError, match="most must be at least 1"):
        confused_pairs(right, most=0)


def test_pairs_are_drawn_with_their_pictures_and_counts(shapes, predictions_table):
    table = predictions_table(
        ["row", "row", "row", "blob"], ["blob", "blob", "row", "row"], shapes.class_names, [0.6, 0.9, 0.9, 0.8]
    ).assign(id=shapes.table["id"].iloc[[350, 351, 352, 1]].tolist())
    figure = draw_confused_pairs(shapes, confused_pairs(table))
    render(figure)
    pictures = [np.asarray(image.get_array()) for image in figure.axes[0].images]
    np.testing.assert_array_equal(pictures, shapes.pixels(np.array([351, 350, 1]))[..., 0])
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["row → blob\n2 images, 66.7%", "blob → row\n1 image, 100.0%"]
    with pytest.raises(ValueError, match="1 of 2 are not in it, such as nobody"):
        draw_confused_pairs(shapes, confused_pairs(table.replace({"id": {table["id"][0]: "nobody"}})))


def test_a_small_case_is_judged_as_written_out():
    """Thresholds .7, .6, .5: the third image counts for b, the sixth for none, the last for both a and b."""
    values = [[0.9, 0.1, 0], [0.8, 0.2, 0], [0.4, 0.6, 0], [0.2, 0.8, 0], [0.3, 0.7, 0], [0.5, 0.3, 0.2], [0, 0.5, 0.5]]
    table = table_of(values, [0, 0, 0, 1, 1, 1, 2])
    suspects = suspected_labels(table)
    assert suspects["id"].tolist() == ["i2"]
    row = suspects.iloc[0]
    assert (row["label"], row["suggested"]) == ("a", "b")
    assert (row["probability_of_label"], row["probability_of_suggested"]) == pytest.approx((0.4, 0.6))
    assert row["margin"] == pytest.approx(0.2)
    with_origin = suspected_labels(table.assign(origin=[f"photos/{n}.png" for n in range(7)]))
    assert with_origin["origin"].tolist() == ["photos/2.png"]
    assert with_origin.columns.tolist() == [
        "id", "origin", "label", "suggested", "probability_of_label", "probability_of_suggested", "margin",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def planted():
    """Real digits of which 5% got another label, and probabilities that are cross-validated on these labels."""
    pixels, digits = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    wrong = rng.choice(len(digits), len(digits) // 20, replace=False)
    labels = digits.copy()
    labels[wrong] = (digits[wrong] + rng.integers(1, 10, len(wrong))) % 10
    model = KNeighborsClassifier(10, weights="distance")
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    values = cross_val_predict(model, pixels, labels, cv=folds, method="predict_proba")
    table = table_of(values, labels, [str(n) for n in range(10)])
    return table, {f"i{n}": str(digits[n]) for n in wrong}


def test_planted_label_errors_are_found(planted):
    table, truth = planted
    suspects = suspected_labels(table)
    found = suspects["id"].isin(truth.keys())
    assert found.sum() / len(truth) > 0.75
    assert found.mean() > 0.9
    right = [truth[row.id] == row.suggested for row in suspects[found].itertuples()]
    assert np.mean(right) > 0.95


def test_the_clearest_errors_come_first(planted):
    table, truth = planted
    suspects = suspected_labels(table)
    assert suspects["margin"].is_monotonic_decreasing
    assert suspects["id"].head(40).isin(truth.keys()).mean() > 0.95


def test_suspects_are_fewer_than_mistakes(planted):
    """What the network is not sure of is no evidence against a label."""
    table, _ = planted
    suspects = suspected_labels(table)
    wrong = table[table["label"] != table["predicted"]]
    assert set(suspects["id"]) < set(wrong["id"])


@given(st.integers(0, 60), st.integers(0, 10))
def test_classes_in_another_order_have_the_same_suspects(images, seed):
    table = random_table(images, seed)
    turned = table[["id", "label", "predicted", *[f"probability_{name}" for name in NAMES[::-1]]]]
    pd.testing.assert_frame_equal(suspected_labels(turned), suspected_labels(table))


@pytest.mark.parametrize(("probability", "listed"), [(0.49, 0), (0.51, 1)])
def test_a_network_that_is_often_wrong_is_believed_only_where_it_is_surer_of_a_class_than_of_all_others(
    probability, listed
):
    unsure = [[0.3, 0.25, 0.25, 0.2], [0.25, 0.3, 0.2, 0.25]] * 10  # thresholds of 0.3
    values = [*unsure, [0.1, probability, 0.1, 0.8 - probability]]
    assert len(suspected_labels(table_of(values, [0, 1] * 10 + [0], list("abcd")))) == listed


def test_a_class_without_images_is_never_suggested():
    values = [[0.05, 0.05, 0.9]] * 4
    assert suspected_labels(table_of(values, [0, 0, 1, 1])).empty
    assert suspected_labels(table_of(np.ones((3, 1)), [0, 0, 0], ["only"])).empty


def test_nothing_suspected_is_said(shapes):
    nothing = suspected_labels(no_predictions(shapes))
    assert nothing.empty
    assert nothing.columns.tolist() == suspected_labels(random_table(50, 0)).columns.tolist()
    figure = draw_suspected_labels(shapes, nothing)
    render(figure)
    assert figure.get_suptitle() == "No label looks wrong"


def test_suspects_are_drawn_with_what_they_are_called_and_rather_are(shapes, predictions_table):
    labels = ["row"] * 5 + ["blob"] * 5
    table = predictions_table(labels, ["blob", *labels[1:]], shapes.class_names, [0.9] + [0.8] * 9)
    table = table.assign(id=shapes.table["id"].iloc[np.r_[350:355, 0:5]].tolist())
    figure = draw_suspected_labels(shapes, suspected_labels(table))
    render(figure)
    (axes,) = figure.axes
    (picture,), (title,) = axes.images, axes.texts
    np.testing.assert_array_equal(picture.get_array(), shapes.pixels(np.array([350]))[0, ..., 0])
    assert title.get_text() == "row?\nrather blob, 90.0%"
