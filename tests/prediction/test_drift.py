"""Drift is called where images differ by enough and evidently, and seldom where they do not."""

import itertools
import json
import re

import numpy as np
import pandas as pd
import pytest
from drift_samples import CLASS_NAMES, draw_predictions, make_facts, make_references
from scipy import stats

from cnn_transfer.prediction import Predictor
from cnn_transfer.prediction.drift import THRESHOLDS, DriftCounts, describe_drift, drift_report, drift_table

FACTS = make_facts()


@pytest.fixture(scope="module")
def references():
    return make_references()


@pytest.fixture(scope="module")
def judge(references):
    """Report on predictions."""

    def report(predictions, known=references, confidence=0.99, facts=FACTS):
        counts = DriftCounts.empty(facts, known).add(predictions)
        return drift_report(counts, known, facts, confidence)

    return report


def aspect_of(report, name):
    return next(row for row in report["aspects"] if row["aspect"] == name)


def test_counts_of_parts_are_the_same_in_any_order(references):
    table = draw_predictions(1000, 1)
    empty = DriftCounts.empty(FACTS, references)
    whole = empty.add(table)
    parts = [empty.add(table.iloc[start : start + 350]) for start in (0, 350, 700)]
    for order in itertools.permutations(parts):
        assert order[0].merge(order[1]).merge(order[2]) == whole
    assert empty.add(table.iloc[:500]).add(table.iloc[500:]).add(table.iloc[:0]) == whole
    assert whole.images == 1000


def test_counts_survive_json(references):
    counts = DriftCounts.empty(FACTS, references).add(draw_predictions(50, 1))
    assert DriftCounts.from_json(json.loads(json.dumps(counts.to_json()))) == counts


def test_counts_take_no_more_room_for_more_images(references):
    empty = DriftCounts.empty(FACTS, references)
    few, many = (len(json.dumps(empty.add(draw_predictions(images, 1)).to_json())) for images in (10, 100_000))
    assert many < 1.5 * few
    assert many < 20_000


def test_counts_of_different_predictors_are_not_mixed(references):
    empty = DriftCounts.empty(FACTS, references)
    other = make_references(seed=5)
    with pytest.raises(ValueError, match="one predictor"):
        empty.merge(DriftCounts.empty(FACTS, other))
    with pytest.raises(ValueError, match="one predictor"):
        drift_report(empty, other, FACTS)
    with pytest.raises(ValueError, match="one predictor"):
        drift_report(empty, references, make_facts(("cat", "dog")))
    with pytest.raises(ValueError, match="Received: z"):
        empty.add(draw_predictions(3, 1, predicted=["a", "z", "b"]))


@pytest.mark.parametrize("confidence", [0.4, 1.0, float("nan")])
def test_rejects_a_confidence_out_of_bounds(judge, confidence):
    with pytest.raises(ValueError, match="confidence must be"):
        judge(draw_predictions(5, 1), confidence=confidence)


def false_alarms(images, repetitions, confidence, references=100):
    """Repetitions with images like the references in which drift is called, and in which p values alone would."""
    alarms = evident = 0
    for seed in range(repetitions):
        known = make_references(references, references, seed=10_000 + 10 * seed)
        new = draw_predictions(images, 500_000 + seed)
        report = drift_report(DriftCounts.empty(FACTS, known).add(new), known, FACTS, confidence)
        alarms += bool(report["drift"])
        evident += any(row["p"] is not None and row["p"] <= 1 - confidence for row in report["aspects"])
    return alarms, evident


@pytest.mark.slow
def test_false_alarms_are_as_rare_as_promised():
    alarms, evident = false_alarms(images=60, repetitions=120, confidence=0.9)
    assert alarms <= evident
    assert stats.binomtest(evident, 120, 0.1, alternative="greater").pvalue > 0.01
    assert evident > 0  # p values are no larger than need be


@pytest.mark.slow
@pytest.mark.parametrize("images", [20, 200, 5000])
def test_false_alarms_are_as_rare_as_promised_with_any_number_of_images(images):
    _, evident = false_alarms(images, repetitions=300, confidence=0.95)
    assert stats.binomtest(evident, 300, 0.05, alternative="greater").pvalue > 0.01


def test_p_values_are_those_of_an_exact_test(judge):
    same = {"brightness": 0.1, "sharpness": 0.1, "predicted": "a", "confidence": 0.9, "distance": 0.5}
    known = make_references(height_px=np.repeat([28, 40], [190, 10]), **same)
    new = draw_predictions(60, 1, height_px=np.repeat([28, 40], [51, 9]), **same)
    exact = stats.fisher_exact([[190, 10], [51, 9]])[1]
    found = aspect_of(judge(new, known), "size")
    assert found["p"] == pytest.approx(exact * 2 * 6, rel=0.2)  # two figures, and six aspects
    assert found["effect"] == pytest.approx(9 / 60 - 10 / 200)


@pytest.mark.parametrize(
    ("aspect", "changes"),
    [
        ("size", {"width_px": np.full(100, 56)}),
        ("size", {"height_px": np.full(100, 14)}),
        ("brightness", {"brightness": np.random.default_rng(0).beta(5, 30, 100) / 2}),
        ("sharpness", {"sharpness": np.random.default_rng(0).gamma(15, 0.006, 100)}),
        ("classes predicted", {"predicted": np.resize(list("acegi"), 100)}),
        ("confidence", {"confidence": np.random.default_rng(0).beta(5, 1, 100)}),
        ("features", {"distance": np.random.default_rng(0).normal(0.6, 0.07, 100)}),
    ],
)
def test_finds_what_has_changed_and_nothing_else(judge, aspect, changes):
    report = judge(draw_predictions(100, 7, **changes))
    assert report["drift"] == [aspect]
    found = aspect_of(report, aspect)
    assert found["effect"] >= found["threshold"] == THRESHOLDS[aspect]
    assert found["p"] <= 0.01
    assert found["statement"] in report["statement"]


@pytest.mark.parametrize("images", [200, 1000, 20_000])
def test_finds_a_tenth_of_strange_images(judge, images):
    distance = np.random.default_rng(1).normal(0.5, 0.07, images)
    distance[: images // 10] = 0.9
    assert judge(draw_predictions(images, 3, distance=distance))["drift"] == ["features"]


def test_one_image_is_never_drift(judge):
    report = judge(draw_predictions(1, 1, width_px=4000, brightness=1.0, confidence=0.1, distance=2.0))
    assert report["drift"] == []
    assert all(row["drift"] is None for row in report["aspects"])
    assert report["statement"].startswith("1 new image cannot show")


@pytest.mark.parametrize("images", [2, 5, 20])
def test_few_images_do_not_alarm(judge, images):
    assert not any(judge(draw_predictions(images, seed))["drift"] for seed in range(30))


def test_few_images_of_another_size_are_drift(judge):
    assert judge(draw_predictions(5, 1, width_px=64, height_px=64))["drift"] == ["size"]


def test_negligible_differences_do_not_alarm_however_many_images_show_them(judge):
    known = make_references(10_000, 10_000)
    new = draw_predictions(100_000, 1)
    new["brightness"] *= 1.02
    new["distance"] += 0.003
    report = judge(new, known)
    assert report["drift"] == []
    brightness = aspect_of(report, "brightness")
    assert brightness["p"] <= 0.01
    assert "too little to matter" in brightness["statement"]


def test_equal_sizes_are_no_difference(judge):
    size = aspect_of(judge(draw_predictions(1000, 1)), "size")
    assert (size["effect"], size["p"], size["drift"]) == (0, 1, False)


def test_rounding_of_another_runtime_is_no_difference(judge, references):
    known = make_references(confidence=np.float32(1), distance=0.25)
    new = draw_predictions(500, 1, confidence=1 - 2e-7, distance=0.25 + 2e-5)
    report = judge(new, known)
    assert aspect_of(report, "confidence")["p"] == aspect_of(report, "features")["p"] == 1


def test_nothing_new_is_judged_as_nothing(judge):
    report = judge(draw_predictions(0, 1))
    assert report["statement"] == "There are no new images to compare."
    assert drift_table(report)["drift"].isna().all()


def test_without_validation_images_the_rest_is_judged(judge):
    known = make_references(validation=0)
    report = judge(draw_predictions(100, 1, width_px=56), known)
    assert report["drift"] == ["size"]
    for name in ("classes predicted", "confidence", "features"):
        assert aspect_of(report, name)["drift"] is None
        assert "keeps no validation images" in aspect_of(report, name)["statement"]
    assert "Not judged: classes predicted, confidence, features." in report["statement"]


def test_what_the_network_says_is_compared_with_what_it_said_of_left_out_training_images(judge):
    report = judge(draw_predictions(200, 1, confidence=np.full(200, 0.5)), facts=make_facts(held_out=False))
    assert report["drift"] == ["confidence"]
    assert "; among the left-out training images " in aspect_of(report, "confidence")["statement"]
    assert "Like the training images" in aspect_of(report, "size")["statement"]


def test_figures_that_are_missing_are_left_out(judge):
    distance = np.full(100, np.nan)
    assert aspect_of(judge(draw_predictions(100, 1, distance=distance)), "features")["drift"] is None
    distance[:50] = 0.9
    assert judge(draw_predictions(100, 1, distance=distance))["drift"] == ["features"]


def test_pictures_of_the_training_are_left_out(judge):
    notes = np.resize(["grey", "grey training_image"], 200)
    table = draw_predictions(200, 1, distance=0.01, notes=notes)
    table.loc[table["notes"] == "grey", "distance"] = draw_predictions(100, 2)["distance"].to_numpy()
    report = judge(table)
    assert (report["images"], report["training_images"], report["drift"]) == (100, 100, [])
    assert report["statement"] == "No drift found in 100 new images. Left out: 100 that the network was trained on."
    assert describe_drift(report) == [
        "No drift found in 100 new images.",
        "Left out: 100 that the network was trained on.",
    ]
    nothing = judge(table[table["notes"] != "grey"])
    assert nothing["statement"].startswith("There are no new images to compare. Left out: 100")


def test_more_images_than_can_be_dealt_are_scaled_down(references):
    counts = DriftCounts.empty(FACTS, references).add(draw_predictions(100_000, 1))
    for _ in range(14):
        counts = counts.merge(counts)
    report = drift_report(counts, references, FACTS)
    assert counts.images == 100_000 * 2**14
    assert report["drift"] == []


def test_report_is_plain_and_repeatable(judge):
    table = draw_predictions(300, 1, brightness=0.01)
    report = judge(table)
    assert json.loads(json.dumps(report, allow_nan=False)) == report == judge(table)


def test_table_has_a_row_an_aspect_and_survives_parquet(judge, tmp_path):
    table = drift_table(judge(draw_predictions(100, 1), make_references(validation=0)))
    assert list(table["aspect"]) == list(THRESHOLDS)
    assert list(table) == ["aspect", "reference", "new", "effect", "threshold", "p", "drift", "statement"]
    table.to_parquet(tmp_path / "drift.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "drift.parquet"), table)


@pytest.mark.parametrize(("brightness", "share"), [(0.0, "all"), (0.13, "about [5-9][0-9]% or more")])
def test_statement_says_what_was_and_is_and_how_many_images_are_otherwise(judge, brightness, share):
    report = judge(draw_predictions(1000, 1, brightness=brightness))
    words = rf"Brightness: {brightness:.3f} on average; among the training images 0\.1[34]\d: {share} of the new images"
    assert re.search(words, report["statement"])


@pytest.mark.parametrize(("others", "said"), [(0, r"a \(100%\);"), (1, r"a \(> 99%\), b \(< 1%\);")])
def test_only_classes_that_were_predicted_are_said_to_be(judge, others, said):
    report = judge(draw_predictions(1000, 1, predicted=np.repeat(["a", "b"], [1000 - others, others])))
    assert re.search(f"Classes predicted: {said} among", report["statement"])


def test_nearly_all_images_are_not_said_to_be_all(judge):
    report = judge(draw_predictions(1000, 1, brightness=np.repeat([0.0, 1.0], [997, 3])))
    assert "nearly all of the new images are otherwise" in report["statement"]


def test_statement_on_classes_says_that_validation_images_may_be_balanced(judge):
    report = judge(draw_predictions(200, 1, predicted=np.resize(list("aab"), 200)))
    assert "Classes predicted: a (67%), b (33%); among the validation images " in report["statement"]
    assert "often hold all classes equally by design" in report["statement"]


def test_real_images_are_judged_by_a_real_predictor(predictor_folder, class_folder, shapes, shape_splits):
    predictor = Predictor.load(predictor_folder)
    rows = shapes.rows(shape_splits, "test")
    pixels = shapes.pixels(rows)
    empty = DriftCounts.empty(predictor.facts, predictor.references)
    reports = [
        drift_report(empty.add(predictor(list(images))), predictor.references, predictor.facts)
        for images in (pixels, pixels // 3)
    ]
    assert reports[0]["drift"] == []
    assert "brightness" in reports[1]["drift"]
    assert reports[1]["images"] == len(rows)
    assert list(reports[0]["shares"]["classes predicted"]["classes"]) == list(predictor.facts.class_names)
    assert len(CLASS_NAMES) != len(predictor.facts.class_names)
