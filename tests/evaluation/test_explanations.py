"""Which images are explained, what is said of the methods, and what is drawn."""

import io
import itertools
import json
from dataclasses import replace

import keras
import numpy as np
import pytest
from planted_networks import corner_network, linear_network

from cnn_transfer.evaluation import explanations as module
from cnn_transfer.evaluation.explanations import SCORE_COLUMNS, draw_explanations, explain
from cnn_transfer.evaluation.predictions import no_predictions, predict
from cnn_transfer.models import add_linear_head


@pytest.fixture(scope="module")
def trained(tiny_network, shapes, shape_splits):
    """A network that has learnt the four shapes a little, and its predictions."""
    network = tiny_network()
    rows = shapes.rows(shape_splits, "training")
    network.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    network.fit(shapes.pixels(rows), shapes.classes[rows], batch_size=16, epochs=4, verbose=0, shuffle=False)
    return network, predict(network, shapes, shape_splits, "test")


@pytest.fixture(scope="module")
def explained(trained, shapes):
    network, predictions = trained
    return explain(network, shapes, predictions, shown=6, judged=40, steps=8, path_steps=8, seed=0)


def test_every_method_has_maps_and_figures(explained):
    assert list(explained.maps) == ["grad_cam", "integrated_gradients"]
    assert all(maps.shape == (6, 28, 28) for maps in explained.maps.values())
    assert explained.scores.columns.tolist() == SCORE_COLUMNS
    for _, row in explained.scores.iterrows():
        assert row["images"] == 40
        for curve, sign in (("insertion", 1), ("deletion", -1)):
            assert row[f"{curve}_gain"] == pytest.approx(sign * (row[curve] - row[f"{curve}_random"]), abs=1e-6)
            assert row[f"{curve}_gain_low"] < row[f"{curve}_gain"] < row[f"{curve}_gain_high"]
        surely = row["insertion_gain_low"] > 0 and row["deletion_gain_low"] > 0 and row["randomisation_passes"]
        assert row["passes"] == surely
        assert ("FAILED its tests" in row["statement"]) == (not surely)


def test_integrated_gradients_pass_on_a_network_that_has_learnt(explained):
    row = explained.scores.set_index("method").loc["integrated_gradients"]
    assert row["passes"]
    assert row["insertion_gain_low"] > 0.05


def test_figures_are_plain_json(explained):
    figures = json.loads(json.dumps(explained.describe(), allow_nan=False))
    assert figures["statement"] == explained.statement
    assert [method["method"] for method in figures["methods"]] == list(explained.maps)
    assert set(figures["shown"][0]) == {"id", "label", "predicted", "probability", "correct"}


def test_same_seed_gives_the_same_and_inputs_stay(trained, shapes, explained):
    network, predictions = trained
    before = predictions.copy()
    again = explain(network, shapes, predictions, shown=6, judged=40, steps=8, path_steps=8, seed=0)
    assert again.describe() == explained.describe()
    for name, maps in explained.maps.items():
        np.testing.assert_array_equal(again.maps[name], maps)
    assert predictions.equals(before)


def test_most_confident_mistakes_come_first_then_right_ones_of_different_classes(predictions_table):
    labels = ["a", "b", "c", "a", "b", "c", "a", "b", "c"]
    predicted = ["b", "b", "c", "a", "b", "a", "a", "c", "c"]
    table = predictions_table(labels, predicted, ["a", "b", "c"], np.linspace(0.5, 0.9, 9))
    positions = module._pictured(table, np.linspace(0.5, 0.9, 9), 5, np.random.default_rng(0))
    assert positions[:2].tolist() == [7, 5]
    assert (table["label"] == table["predicted"])[positions[2:]].all()
    assert sorted(table["label"][positions[2:]]) == ["a", "b", "c"]
    everything = module._pictured(table, np.linspace(0.5, 0.9, 9), 50, np.random.default_rng(0))
    assert sorted(everything) == list(range(9))


def test_network_without_convolution_says_why_it_has_no_grad_cam(shapes, shape_splits):
    network = linear_network((28, 28, 1), n_classes=4)
    predictions = predict(network, shapes, shape_splits, "test")
    found = explain(network, shapes, predictions, shown=2, judged=8, steps=4, path_steps=4)
    assert list(found.maps) == ["integrated_gradients"]
    scores = found.scores.set_index("method")
    assert "this network has none" in scores.loc["grad_cam", "statement"]
    assert scores.loc["grad_cam"].drop("statement").isna().all()
    assert "this network has none" in found.statement
    json.dumps(found.describe(), allow_nan=False)
    assert draw_explanations(shapes, found).axes
    nothing = explain(network, shapes, predictions, methods=["grad_cam"])
    assert not nothing.maps
    assert nothing.shown.empty
    assert "this network has none" in draw_explanations(shapes, nothing).get_suptitle().replace("\n", " ")


def test_without_predictions_or_methods_there_is_nothing_to_explain(trained, shapes):
    network, predictions = trained
    for found in (explain(network, shapes, no_predictions(shapes)), explain(network, shapes, predictions, methods=[])):
        assert not found.maps
        assert found.scores.empty
        assert "nothing to explain" in found.statement
        json.dumps(found.describe(), allow_nan=False)
        draw_explanations(shapes, found)


def test_one_image_is_explained_and_not_judged(trained, shapes):
    network, predictions = trained
    found = explain(network, shapes, predictions.iloc[:1], shown=4, steps=4, path_steps=4)
    assert len(found.shown) == 1
    assert found.scores["passes"].isna().all()
    assert found.scores["statement"].str.contains("could not be judged").all()
    json.dumps(found.describe(), allow_nan=False)
    assert "not judged" in draw_explanations(shapes, found).axes[1].get_title()


def test_network_that_looks_at_one_corner_only_is_seen_through(shapes, shape_splits):
    planted = corner_network(side=28)
    kernel, bias = planted.layers[-1].get_weights()
    four = add_linear_head(planted, ["block1"], 28, np.repeat(kernel, 2, axis=1), np.repeat(bias, 2))
    predictions = predict(four, shapes, shape_splits, "test")
    found = explain(four, shapes, predictions, ["integrated_gradients"], shown=4, judged=8, steps=4, path_steps=4)
    shares = np.abs(found.maps["integrated_gradients"])
    np.testing.assert_allclose(shares[:, :4, :4].sum(axis=(1, 2)), shares.sum(axis=(1, 2)), rtol=1e-4)


def test_what_does_not_fit_is_named(trained, shapes, tiny_network):
    network, predictions = trained
    with pytest.raises(ValueError, match="Did you mean grad_cam"):
        explain(network, shapes, predictions, methods=["grad_can"])
    with pytest.raises(ValueError, match="network has 3 classes, the predictions have 4"):
        explain(tiny_network(n_classes=3), shapes, predictions)
    with pytest.raises(ValueError, match="1 of 80 are not in it, such as elsewhere"):
        explain(network, shapes, predictions.assign(id=["elsewhere", *predictions["id"][1:]]))
    with pytest.raises(ValueError, match=r"between 0 and 1\. Received: others for 80 of 80 images"):
        explain(network, shapes, predictions.assign(probability_row=np.nan))
    with pytest.raises(ValueError, match="Received: star"):
        explain(network, shapes, predictions.assign(predicted="star"))


def test_drawing_has_one_row_an_image_and_the_figures_of_each_method(explained, shapes):
    figure = draw_explanations(shapes, explained)
    assert len(figure.axes) == 6 * 3
    titles = [axes.get_title() for axes in figure.axes[:3]]
    score = explained.scores.iloc[1]
    assert f"insertion {score['insertion_gain']:+.2f}" in titles[2]
    assert "randomisation passed" in titles[2]
    labels = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert f"true: {explained.shown['label'][0]}" in labels[0]
    for form in ("png", "svg"):
        figure.savefig(stream := io.BytesIO(), format=form)
        assert len(stream.getvalue()) > 5000


@pytest.mark.parametrize("name", ["Convallaria_majalis_lily_of_the_valley_A1", "W" * 40])
@pytest.mark.parametrize("methods", [1, 2])
def test_what_is_said_of_an_image_is_not_cut_at_the_edge(explained, shapes, name, methods):
    maps = dict(itertools.islice(explained.maps.items(), methods))
    long = replace(explained, shown=explained.shown.assign(label=name, predicted=name), maps=maps)
    figure = draw_explanations(shapes, long)
    figure.savefig(io.BytesIO(), format="png")
    assert min(text.get_window_extent().x0 for axes in figure.axes for text in axes.texts) >= 0


def test_what_is_said_of_methods_stays_apart_beside_long_names(explained, shapes):
    shown = explained.shown.assign(predicted="Japanese (katakana) 42")
    figure = draw_explanations(shapes, replace(explained, shown=shown))
    figure.savefig(io.BytesIO(), format="png")
    boxes = [axes.title.get_window_extent() for axes in figure.axes[:3]]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
    assert boxes[-1].x1 < figure.bbox.x1


def test_method_that_failed_is_marked_in_the_drawing(explained, shapes):
    failed = explained.scores.copy()
    failed["passes"] = [False, True]
    titles = [
        axes.get_title()
        for axes in draw_explanations(
            shapes, module.Explanations(explained.shown, explained.maps, failed, explained.statement)
        ).axes[:3]
    ]
    assert "NOT TO BE TRUSTED" in titles[1]
    assert "NOT TO BE TRUSTED" not in titles[2]


def test_overlay_is_orange_for_and_blue_against():
    image = np.full((4, 4, 3), 128, np.uint8)
    values = np.zeros((4, 4))
    values[0, 0], values[3, 3] = 1, -1
    mixed = module._overlaid(image, values)
    assert mixed.min() >= 0
    assert mixed.max() <= 1
    assert mixed[0, 0, 0] > mixed[0, 0, 2]
    assert mixed[3, 3, 2] > mixed[3, 3, 0]
    assert np.ptp(mixed[1, 1]) == 0
    assert np.ptp(module._overlaid(image[..., :1], np.zeros((4, 4)))) == 0
