import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.special import softmax
from sklearn.metrics import log_loss

from cnn_transfer.evaluation import no_predictions, wilson_interval
from cnn_transfer.evaluation.calibration import (
    calibrate,
    calibration_error,
    draw_reliability,
    fit_calibration,
    reliability_table,
)
from cnn_transfer.evaluation.probabilities import read_probabilities

NAMES = ["a", "b", "c", "d"]


def table_of(values, labels, names=NAMES):
    """A table of predictions from (n, c) probabilities and indices of the true classes."""
    values = np.asarray(values, np.float32)
    names = names[: values.shape[1]]
    table = pd.DataFrame({"id": [f"i{n}" for n in range(len(values))], "label": np.asarray(names)[labels]})
    table["predicted"] = np.asarray(names)[values.argmax(axis=1)]
    return table.assign(**{f"probability_{name}": values[:, index] for index, name in enumerate(names)})


def simulate(images, temperature, seed, bias=(0, 0, 0, 0), spread=3.0):
    """Predictions whose true probabilities are those after division by `temperature` and addition of `bias`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(images, 4)) * spread
    true = softmax(logits / temperature + np.asarray(bias), axis=1)
    labels = (rng.random((images, 1)) > true.cumsum(axis=1)).sum(axis=1).clip(max=3)
    return table_of(softmax(logits, axis=1), labels)


def render(figure):
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    assert np.ptp(np.asarray(Image.open(stream).convert("L"))) > 0


@pytest.mark.parametrize("temperature", [0.6, 2.0])
def test_the_temperature_that_the_images_were_drawn_with_is_found(temperature):
    calibration = fit_calibration(simulate(3000, temperature, seed=0))
    assert calibration["method"] == "temperature"
    assert calibration["temperature"] == pytest.approx(temperature, rel=0.1)
    assert calibration["bias"] is None
    assert calibration["log_loss_after"] < calibration["log_loss_before"]
    assert ("surer" if temperature < 1 else "less sure") in calibration["statement"]


def test_a_class_that_is_named_too_often_gets_a_bias_and_predictions_change():
    bias = (0, 0, 0, -2.5)
    calibration = fit_calibration(simulate(1000, 1.0, seed=0, bias=bias))
    assert calibration["method"] == "temperature_and_bias"
    assert np.array(calibration["bias"]) - np.mean(calibration["bias"]) == pytest.approx(
        np.array(bias) - np.mean(bias), abs=0.5
    )
    assert "can change the predicted class" in calibration["statement"]
    test = simulate(2000, 1.0, seed=1, bias=bias)
    after = calibrate(test, calibration)
    columns = [f"probability_{name}" for name in NAMES]
    assert after["predicted"].tolist() == after[columns].idxmax(axis=1).str.removeprefix("probability_").tolist()
    assert (after["predicted"] == after["label"]).mean() > (test["predicted"] == test["label"]).mean() + 0.02


def test_the_loss_before_is_that_of_scikit_learn():
    table = simulate(200, 2.0, seed=0)
    columns = [f"probability_{name}" for name in NAMES]
    values = table[columns].to_numpy(np.float64)
    expected = log_loss(table["label"], values / values.sum(axis=1, keepdims=True), labels=NAMES)
    assert fit_calibration(table)["log_loss_before"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_few_images_halve_the_error_of_an_unsure_network():
    test = simulate(4000, 0.5, seed=100)
    before = calibration_error(reliability_table(test))
    after = [
        calibration_error(reliability_table(calibrate(test, fit_calibration(simulate(100, 0.5, seed=seed)))))
        for seed in range(10)
    ]
    assert before > 0.08
    assert np.mean(after) < before / 3
    assert max(after) < before / 2


@pytest.mark.slow
def test_few_images_do_a_calibrated_network_no_harm():
    test = simulate(4000, 1.0, seed=100)
    before = calibration_error(reliability_table(test))
    calibrations = [fit_calibration(simulate(images, 1.0, seed)) for images in (20, 50, 100) for seed in range(10)]
    after = [calibration_error(reliability_table(calibrate(test, calibration))) for calibration in calibrations]
    assert np.mean([calibration["method"] == "none" for calibration in calibrations]) > 0.7
    assert np.mean(after) < before + 0.01


def test_what_is_left_alone_says_so():
    calibration = fit_calibration(simulate(60, 1.0, seed=2))
    assert calibration["method"] == "none"
    assert calibration["temperature"] == 1.0
    assert calibration["log_loss_after"] == calibration["log_loss_before"] > 0
    assert calibration["statement"].startswith("The probabilities are left as they are: on 60 validation images")


def test_all_images_right_do_not_make_the_network_sure_of_everything():
    values = np.full((200, 4), 0.1)
    labels = np.arange(200) % 4
    values[np.arange(200), labels] = 0.7
    temperature = fit_calibration(table_of(values, labels))["temperature"]
    assert 0.15 < temperature < 0.7


def test_images_of_a_group_are_left_out_together():
    """Copies of the same image on both sides would be evidence for a calibration that there is not."""
    chosen = {"images": 0, "groups": 0}
    for seed in range(10):
        few = simulate(22, 1.0, seed)
        copies = pd.concat([few] * 10, ignore_index=True)
        chosen["images"] += fit_calibration(copies)["method"] != "none"
        chosen["groups"] += fit_calibration(copies.assign(group=copies["id"]))["method"] != "none"
    assert chosen["groups"] <= 3
    assert chosen["images"] >= chosen["groups"] + 4
    copies = pd.concat([simulate(60, 1.4, 5)] * 5, ignore_index=True)  # less sure is better, by less than 60 can show
    assert fit_calibration(copies.assign(group=copies["id"]))["method"] == "none"
    few = simulate(100, 0.5, seed=0)
    alone = fit_calibration(few)
    assert fit_calibration(few.assign(group=None)) == alone  # images without a group are by themselves


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (simulate(0, 1.0, 0), "no validation images"),
        (simulate(19, 3.0, 0), "there are 19 validation images, at least 20"),
        (simulate(200, 3.0, 0).query("label == 'b'"), "validation images are of the class b"),
        (simulate(200, 3.0, 0).assign(group="one"), "all 200 validation images are of one group"),
        (table_of(np.ones((30, 1)), np.zeros(30, int)), "there is one class only"),
    ],
)
def test_too_little_to_fit_on_is_said(table, words):
    calibration = fit_calibration(table)
    assert calibration["method"] == "none"
    assert words in calibration["statement"]
    assert (calibration["log_loss_before"] is None) == table.empty


def test_a_class_without_validation_images_does_no_harm():
    table = simulate(400, 0.5, seed=0).query("label != 'd'").reset_index(drop=True)
    calibration = fit_calibration(table)
    after = calibrate(simulate(1000, 0.5, seed=1), calibration)
    assert np.isfinite(after[[f"probability_{name}" for name in NAMES]]).all(axis=None)


def test_probabilities_of_zero_are_no_obstacle():
    values = np.eye(4)[np.arange(100) % 4]
    labels = np.arange(100) % 4
    labels[:10] = 0
    calibration = fit_calibration(table_of(values, labels))
    assert calibration["temperature"] > 1
    after = calibrate(table_of(values, labels), calibration)
    assert np.isfinite(after.filter(like="probability_")).all(axis=None)
    assert calibration["log_loss_after"] < calibration["log_loss_before"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.1, 2.0])
def test_what_is_no_probability_is_refused_with_its_image(value):
    table = simulate(30, 1.0, seed=0)
    table.loc[3, "probability_b"] = value
    for function in (fit_calibration, reliability_table, read_probabilities):
        with pytest.raises(ValueError, match=r"Received: others for 1 of 30 images, first i3 \("):
            function(table)


def test_a_label_that_is_no_class_is_refused_with_its_image():
    with pytest.raises(ValueError, match=r"among the classes a, b, c, d\. 1 of 30 images have others, such as i4: z"):
        fit_calibration(simulate(30, 1.0, 0).assign(label=lambda t: t["label"].where(t["id"] != "i4", "z")))
    with pytest.raises(ValueError, match="must have a column probability_"):
        fit_calibration(pd.DataFrame({"id": [], "label": []}))


def test_calibrated_predictions_have_the_same_form():
    test = simulate(500, 2.0, seed=3).assign(group="g")
    calibration = fit_calibration(simulate(500, 2.0, seed=4))
    original = test.copy()
    after = calibrate(test, calibration)
    pd.testing.assert_frame_equal(test, original)
    assert after.columns.tolist() == test.columns.tolist()
    assert after.dtypes.tolist() == test.dtypes.tolist()
    columns = [f"probability_{name}" for name in NAMES]
    np.testing.assert_allclose(after[columns].sum(axis=1), 1, atol=1e-6)
    pd.testing.assert_frame_equal(after.drop(columns=columns), test.drop(columns=columns))
    logits = np.log(test[columns].to_numpy(np.float64)) / calibration["temperature"]
    np.testing.assert_allclose(after[columns], softmax(logits, axis=1), atol=1e-6)


def test_no_predictions_stay_no_predictions(shapes):
    table = no_predictions(shapes)
    calibration = fit_calibration(table) | {"method": "temperature", "temperature": 2.0}
    pd.testing.assert_frame_equal(calibrate(table, calibration), table)


def test_predictions_of_other_classes_are_refused():
    calibration = fit_calibration(simulate(100, 1.0, seed=0))
    with pytest.raises(ValueError, match="The predictions are of a, b, c"):
        calibrate(table_of(np.full((2, 3), 1 / 3), [0, 1]), calibration)


def test_classes_in_another_order_give_the_same_calibration():
    table = simulate(300, 2.0, seed=0)
    turned = table[["id", "label", "predicted", *[f"probability_{name}" for name in NAMES[::-1]]]]
    one, other = fit_calibration(table), fit_calibration(turned)
    assert other["classes"] == NAMES[::-1]
    assert other["temperature"] == pytest.approx(one["temperature"], rel=1e-4)


def test_the_bins_of_a_small_table_are_those_counted_by_hand():
    confidence = np.r_[np.full(10, 0.6), np.full(10, 0.9)]
    values = np.stack([confidence, 1 - confidence], axis=1)
    labels = np.r_[[0] * 6, [1] * 4, [0] * 10]
    table = reliability_table(table_of(values, labels), bins=2, confidence_level=0.9)
    assert table["images"].tolist() == [10, 10]
    assert table["accuracy"].tolist() == [0.6, 1.0]
    assert table["confidence"].tolist() == pytest.approx([0.6, 0.9])
    assert table["low"].tolist() == table["high"].tolist() == pytest.approx([0.6, 0.9])
    assert tuple(table.loc[0, ["accuracy", "accuracy_low", "accuracy_high"]]) == wilson_interval(6, 10, 0.9)
    assert calibration_error(table) == pytest.approx(0.05)


@given(st.integers(0, 400), st.integers(1, 30), st.integers(0, 5), st.booleans())
def test_bins_hold_every_image_once_and_do_not_overlap(images, bins, seed, rounded):
    table = simulate(images, 1.0, seed)
    if rounded:  # many images with the same confidence
        values = table.filter(like="probability_").to_numpy(np.float64).round(1) + 0.1
        table = table_of(values / values.sum(axis=1, keepdims=True), np.zeros(images, int))
    reliability = reliability_table(table, bins)
    assert reliability["images"].sum() == images
    assert len(reliability) <= bins
    assert (reliability["low"].to_numpy()[1:] > reliability["high"].to_numpy()[:-1]).all()
    assert (reliability["accuracy_low"] <= reliability["accuracy"] + 1e-12).all()
    assert (reliability["accuracy"] <= reliability["accuracy_high"] + 1e-12).all()
    if images >= 10 * bins and not rounded:
        assert len(reliability) == bins


def test_no_images_have_no_error():
    table = reliability_table(simulate(0, 1.0, 0))
    assert table.empty
    assert table.columns.tolist() == [
        "bin", "low", "high", "images", "confidence", "accuracy", "accuracy_low", "accuracy_high",
    ]  # fmt: skip
    assert calibration_error(table) is None
    with pytest.raises(ValueError, match="bins must be at least 1"):
        reliability_table(simulate(0, 1.0, 0), bins=0)


def test_the_plot_tells_before_from_after_and_counts_every_image():
    before = reliability_table(simulate(500, 0.5, seed=0))
    after = reliability_table(simulate(500, 1.0, seed=0))
    figure = draw_reliability(before, after)
    render(figure)
    upper, lower = figure.axes
    labels = upper.get_legend_handles_labels()[1]
    assert labels == ["as it should be", "before calibration", "after calibration"]
    heights = [bar.get_height() for bar in lower.patches]
    assert sum(heights[:20]) == pytest.approx(1)
    assert sum(heights[20:]) == pytest.approx(1)


@pytest.mark.parametrize("images", [0, 1, 12])
def test_a_plot_of_hardly_any_images_is_a_plot(images):
    nothing, few = reliability_table(simulate(0, 1.0, 0)), reliability_table(simulate(images, 1.0, 0))
    for tables in [(nothing, few), (few, nothing), (few, few)]:
        render(draw_reliability(*tables))


@pytest.mark.parametrize(("least", "said"), [(0.55, True), (0.75, False)])
def test_the_first_bar_says_that_it_holds_those_that_are_less_sure(least, said):
    sure = np.linspace(least, 0.95, 40)
    table = reliability_table(table_of(np.stack([sure, 1 - sure], axis=1), np.zeros(40, int)), 2)
    _, lower = draw_reliability(table, table).axes
    assert lower.get_xlabel().endswith("; first bar: with all below") == said


def test_left_out_training_images_are_called_so():
    table = simulate(3000, 2.0, seed=0).assign(left_out=True)
    assert "on 3,000 left-out training images the cross-validated log loss falls" in fit_calibration(table)["statement"]
    few = fit_calibration(table.iloc[:5])
    assert "there are 5 left-out training images, at least 20 are needed" in few["statement"]
    assert "on 3,000 validation images" in fit_calibration(table.assign(left_out=False))["statement"]


def test_bins_of_the_reliability_respect_groups():
    table = simulate(100, 1.0, seed=0)
    five_times = table.loc[np.arange(100).repeat(5)].reset_index(drop=True)
    known = reliability_table(five_times.assign(group=np.arange(100).repeat(5).astype(str)), 4)
    ignored = reliability_table(five_times, 4)
    assert known["accuracy"].tolist() == ignored["accuracy"].tolist()
    uncertain = known["accuracy"].between(0.01, 0.99)
    assert (known["accuracy_low"] < ignored["accuracy_low"])[uncertain].all()
