"""How many labels a transfer is worth, on curves that are known."""

import itertools
import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit, logit
from sklearn.isotonic import isotonic_regression

from cnn_transfer.evaluation import as_svg
from cnn_transfer.evaluation.curve_points import CurvePoint
from cnn_transfer.evaluation.learning_curve import (
    common_labels,
    curve_table,
    describe_labels_saved,
    draw_learning_curve,
    labels_saved,
    labels_to_reach,
    monotone,
    predictions_by_seed,
    saves_labels,
    verdict_over_seeds,
)
from cnn_transfer.evaluation.verdict import compare_over_seeds

IMAGES = 400
SCRATCH = {5: 0.5, 10: 0.6, 20: 0.7, 40: 0.8}


def predictions(accuracy, images=IMAGES, group=None):
    """Exactly so many right, the same ones by every network."""
    hits = np.arange(images) < round(accuracy * images)
    table = pd.DataFrame({"id": [f"i{n}" for n in range(images)], "label": "a", "predicted": np.where(hits, "a", "b")})
    return table if group is None else table.assign(group=group)


def points(transfer, scratch=SCRATCH, seeds=2, wobble=0.0, **settings):
    """Points whose accuracies are those of the curves, moved up and down by the seeds."""
    return [
        CurvePoint(side, labels, seed, predictions(accuracy + wobble * (-1) ** seed, **settings))
        for side, curve in (("transfer", transfer), ("scratch", scratch))
        for labels, accuracy in curve.items()
        for seed in range(seeds)
    ]


def reach(accuracies, level):
    """First and last labels at the level."""
    return tuple(float(end[0]) for end in labels_to_reach(list(SCRATCH), np.array([accuracies]), np.array([level])))


def saved(transfer, scratch=SCRATCH, headline=5, seeds=2, **settings):
    return labels_saved(points(transfer, scratch, seeds, **settings), headline, 0.95, 200, seed=0)


@pytest.mark.parametrize(
    ("accuracy", "labels"),
    [(0.6, 10), (0.65, math.sqrt(10 * 20)), (0.5, 5), (0.8, 40), (0.81, math.inf), (0.49, 0.0), (0.775, 20 * 2**0.75)],
)
def test_the_curve_is_read_backwards_in_the_logarithm_of_the_labels(accuracy, labels):
    assert reach(list(SCRATCH.values()), accuracy) == pytest.approx((labels, labels))


def test_a_curve_that_falls_is_made_monotone_first():
    # 0.75 and 0.625 become 0.6875 each, which is reached at both.
    assert reach([0.5, 0.75, 0.625, 0.875], 0.6875) == pytest.approx((10, 20))
    assert reach([0.5, 0.75, 0.625, 0.875], 0.78125) == pytest.approx((20 * math.sqrt(2),) * 2)


@pytest.mark.parametrize(
    ("accuracies", "level", "first", "last"),
    [
        ([1, 1, 1, 1], 1, 5, 40),
        ([1, 1, 1, 1], 0.9, 0, 0),
        ([0.9, 0.9, 0.9, 0.9], 1, math.inf, math.inf),
        ([0.5, 1, 1, 1], 1, 10, 40),
        ([0.7, 0.7, 0.8, 0.9], 0.7, 5, 10),
        ([0.7, 0.7, 0.8, 0.9], 0.75, 10 * math.sqrt(2), 10 * math.sqrt(2)),
        ([0.1, 0.2, 0.3, 0.3], 0.3, 20, 40),  # of which sums lose the last digits
    ],
)
def test_a_plateau_is_reached_at_its_beginning_and_left_at_its_end(accuracies, level, first, last):
    assert reach(accuracies, level) == pytest.approx((first, last))


@given(st.lists(st.lists(st.floats(0, 1), min_size=5, max_size=5), min_size=1, max_size=4))
def test_curves_are_made_monotone_as_by_scikit_learn(curves):
    expected = [isotonic_regression(np.array(curve)) for curve in curves]
    np.testing.assert_allclose(monotone(np.array(curves)), expected, atol=1e-9)


@given(
    st.lists(st.floats(0, 1), min_size=4, max_size=4),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_more_accuracy_is_worth_no_fewer_labels(accuracies, one, other):
    low, high = (reach(accuracies, level) for level in sorted((one, other)))
    assert low[0] <= high[0]
    assert low[1] <= high[1]
    assert low[0] <= low[1] + 1e-9
    assert all(end == 0 or 5 - 1e-9 <= end <= 40 + 1e-9 or end == math.inf for end in low)


def test_the_headline_says_what_the_labels_are_worth():
    result = saved({5: 0.65, 10: 0.75})
    row = result["headline"]
    assert (row["labels"], row["worth_is"]) == (5, "measured")
    assert row["worth"] == pytest.approx(math.sqrt(200))
    assert row["saved"] == pytest.approx(math.sqrt(200) - 5)
    assert row["worth_low"] <= row["worth"] <= row["worth_high"]
    assert result["sentence"].startswith("With 5 labels a class the transfer is worth 14 (")
    assert result["sentence"].endswith("labels from scratch.")
    assert result["rows"][1]["difference"] == pytest.approx(0.15)
    assert result["rows"][0]["difference"] == pytest.approx(0.15)
    assert (result["least_labels"], result["most_labels"], result["test_images"]) == (5, 40, IMAGES)


def test_beyond_the_end_nothing_is_read():
    result = saved({5: 0.95})
    row = result["headline"]
    assert (row["worth"], row["saved"], row["worth_is"], row["worth_low_is"]) == (None, None, "more_than", "more_than")
    assert "is worth more than 40 (at 95% confidence) labels from scratch." in result["sentence"]
    assert any("ends at 40 labels a class, and nothing is read beyond" in text for text in result["statements"])


def test_an_end_of_the_interval_may_lie_beyond_the_curve():
    result = saved({5: 0.795}, wobble=0.02)
    row = result["headline"]
    assert (row["worth_is"], row["worth_high_is"], row["worth_high"]) == ("measured", "more_than", None)
    assert row["text"].endswith("to more than 40)")
    assert any("ends at 40" in text for text in result["statements"])


def test_a_transfer_that_harms_is_called_that():
    result = saved({20: 0.52}, headline=20)
    assert result["headline"]["worth"] < 10
    assert "IT IS WORTH FEWER THAN IT WAS GIVEN" in result["sentence"]
    worse = saved({20: 0.3}, headline=20)
    assert worse["headline"]["worth_is"] == "at_most"
    assert "at most 5 (at 95% confidence)" in worse["sentence"]
    assert any("begins at 5 labels" in text for text in worse["statements"])


def test_a_worth_that_may_be_what_was_given_is_called_unclear():
    assert "whether it saves labels is not clear" in saved({10: 0.61}, headline=10, wobble=0.02)["sentence"]


ALWAYS_RIGHT = dict.fromkeys(SCRATCH, 1.0)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("images", [40, 2000])
def test_two_sides_that_are_always_right_save_and_cost_nothing(seeds, images):
    result = saved({5: 1.0, 10: 1.0}, ALWAYS_RIGHT, headline=10, seeds=seeds, images=images)
    for row in result["rows"]:
        assert saves_labels(row) is None
        assert (row["worth_is"], row["worth"], row["saved"]) == ("not_known", None, None)
        assert row["text"] == "not known (5.0 to 40 as measured)"
        assert row["accuracy_low"] < 1
    assert result["sentence"] == (
        "How many labels from scratch the transfer is worth with 10 labels a class is not known (5.0 to 40 as "
        "measured): whether it saves labels is not clear."
    )
    assert any(
        "before the curve from scratch, which begins at 5 labels a class" in text for text in result["statements"]
    )
    lines = describe_labels_saved(result | {"verdict_over_seeds": None})
    assert sum("what 5 are worth is not known (5.0 to 40 as measured); what 10" in line for line in lines) == 1
    assert any(line.startswith("Note            The worth may lie before the curve from scratch") for line in lines)


@pytest.mark.parametrize("seeds", [1, 3])
def test_one_image_does_not_tell_the_sides_apart(seeds):
    scratch = {5: 0.925, 10: 0.975, 20: 0.975, 40: 0.975}  # of 40 images
    better, worse = (saved({10: level}, scratch, 10, seeds, images=40)["headline"] for level in (1.0, 0.95))
    for row in (better, worse):
        assert saves_labels(row) is None
        assert row["difference_low"] < 0 < row["difference_high"]
    assert better["text"] == "not known (more than 40 as measured)"


def test_what_the_sides_differ_by_clearly_is_told_with_few_images():
    assert saves_labels(saved({10: 1.0}, {5: 0.5, 10: 0.6, 20: 0.8}, 10, images=40)["headline"]) is True
    assert saves_labels(saved({10: 0.6}, {5: 0.9, 10: 1.0, 20: 1.0}, 10, images=40)["headline"]) is False


def test_the_worth_of_a_plateau_is_all_of_it():
    scratch = {5: 0.5, 10: 0.7, 20: 0.7, 40: 0.8}
    row = saved({5: 0.7}, scratch, images=2000)["headline"]
    assert (row["worth_is"], row["worth"], row["saved"]) == ("plateau", None, None)
    assert 9 < row["worth_low"] < 10
    assert 20 < row["worth_high"] < 22
    assert re.fullmatch(r"10 to 20 \((9\.\d|10\.0) to 2\d\)", row["text"])
    assert saves_labels(row) is True
    for labels in (10, 20):  # the sides are the same
        assert saves_labels(saved({labels: 0.7}, scratch, labels, images=2000)["headline"]) is None


def test_an_interval_with_neither_end_is_not_told_as_a_bound():
    row = saved({5: 0.9}, {5: 0.9, 10: 0.8, 14: 0.87}, seeds=2, wobble=0.1, images=48)["headline"]
    assert (row["worth_low_is"], row["worth_high_is"]) == ("at_most", "more_than")
    assert row["text"] == "not known (more than 14 as measured)"


def test_a_headline_that_was_not_measured_is_replaced_and_said():
    result = saved({5: 0.65, 7: 0.7}, headline=10)
    assert result["headline"]["labels"] == 7
    assert "10 labels a class were not measured; the sentence is about 7." in result["statements"]
    first = saved({1: 0.65}, {1: 0.6, 10: 0.7}, headline=1)
    assert first["sentence"].startswith("With 1 label a class the transfer is worth")


def test_one_seed_is_said():
    assert any("With one seed" in text for text in saved({5: 0.65}, seeds=1)["statements"])
    assert not any("With one seed" in text for text in saved({5: 0.65}, seeds=2)["statements"])


def test_the_result_is_the_same_again_and_plain():
    one, other = saved({5: 0.65}), saved({5: 0.65})
    assert one == other

    def plain(value):
        if isinstance(value, dict):
            return all(plain(entry) for entry in value.values())
        if isinstance(value, list):
            return all(plain(entry) for entry in value)
        return value is None or type(value) in {str, int, bool} or (type(value) is float and math.isfinite(value))

    assert plain(one)


def test_images_of_a_group_count_as_one():
    groups = np.repeat(np.arange(IMAGES // 20), 20)
    alone, together = (saved({5: 0.65}, group=group)["curve"][0] for group in (np.arange(IMAGES), groups))
    widths = [row["accuracy_high"] - row["accuracy_low"] for row in (alone, together)]
    assert widths[1] > 2 * widths[0]


def test_seeds_move_a_side_by_student_s_t_with_the_freedom_of_all_its_points():
    made = points({5: 0.5}, dict.fromkeys(SCRATCH, 0.5), wobble=0.02, images=3000)  # of so many, images add little
    row = labels_saved(made, 5, 0.95, 600, seed=0)["curve"][-1]
    error = np.std(logit([0.52, 0.48]), ddof=1) / math.sqrt(2)
    width = logit(row["accuracy_high"]) - logit(row["accuracy_low"])
    assert width == pytest.approx(2 * stats.t.ppf(0.975, len(SCRATCH)) * error, rel=0.15)


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Images are hard or easy for all networks alike, with some noise; seeds move points and sides, as logits."""
    rng = np.random.default_rng(0)
    images, repetitions, held = 500, 120, 0
    curves = {"transfer": {2: 0.4, 5: 0.65, 10: 0.68}, "scratch": {5: 0.5, 10: 0.6, 20: 0.7}}
    for _ in range(repetitions):
        hardness, made = rng.random(images), []
        for side, seed in itertools.product(curves, range(3)):
            common = rng.normal(0, 0.07)
            for labels, accuracy in curves[side].items():
                limit = expit(logit(accuracy) + common + rng.normal(0, 0.07))
                hits = hardness + rng.normal(0, 0.05, images) < limit  # a share of `limit`, between 0.2 and 0.8
                table = {"id": np.arange(images), "label": "a", "predicted": np.where(hits, "a", "b")}
                made.append(CurvePoint(side, labels, seed, pd.DataFrame(table)))
        row = labels_saved(made, 5, 0.9, 200, seed=0)["headline"]
        ends = {"measured": lambda value: value, "more_than": lambda _: math.inf, "at_most": lambda _: 0.0}
        low, high = (ends[row[f"worth{end}_is"]](row[f"worth{end}"]) for end in ("_low", "_high"))
        held += low <= math.sqrt(200) <= high
    assert 0.83 <= held / repetitions <= 0.97


@pytest.mark.slow
def test_equal_sides_near_100_percent_of_few_images_seldom_seem_to_differ():
    """Three seeds that share most mistakes, as of networks that find the same images hard."""
    rng = np.random.default_rng(0)
    images, repetitions, claims, missed = 40, 200, 0, 0
    curve = {5: 0.95, 10: 0.97, 20: 0.98, 40: 0.985}
    for _ in range(repetitions):
        hardness, made = rng.random(images), []
        for side, seed in itertools.product(("transfer", "scratch"), range(3)):
            for labels, accuracy in curve.items():
                hits = hardness + rng.normal(0, 0.01, images) < accuracy
                table = {"id": np.arange(images), "label": "a", "predicted": np.where(hits, "a", "b")}
                made.append(CurvePoint(side, labels, seed, pd.DataFrame(table)))
        row = labels_saved(made, 10, 0.95, 200, seed=0)["headline"]
        claims += saves_labels(row) is not None
        missed += not row["accuracy_low"] <= curve[10] <= row["accuracy_high"]
    assert claims / repetitions <= 0.05
    assert missed / repetitions <= 0.07


@pytest.mark.parametrize("images", [1, 20])
def test_images_of_one_group_tell_nothing(images):
    row = saved({5: 1.0}, ALWAYS_RIGHT, images=images, group=np.zeros(images))["headline"]
    assert row["worth_is"] == "not_known"
    assert row["accuracy_low"] < 0.2


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda made: [point for point in made if point.side == "transfer"], "Missing: no point at all"),
        (lambda made: made[:-1], "Missing: 40 labels with seed 1"),
        (lambda made: [*made[:-1], CurvePoint("scratch", 40, 1, predictions(0.8, images=9))], "the same test images"),
        (lambda made: [point for point in made if point.labels == 5], "at least two numbers"),
    ],
)
def test_points_that_do_not_belong_together_are_refused(change, expected):
    with pytest.raises(ValueError, match=expected):
        labels_saved(change(points({5: 0.65})), 5, 0.95, 200, seed=0)


def test_the_table_has_a_row_a_point_with_its_interval():
    table = curve_table(points({5: 0.65}), 0.95)
    assert table["side"].tolist() == ["transfer"] * 2 + ["scratch"] * 8
    assert table["accuracy"].tolist()[:2] == [0.65, 0.65]
    assert (table["accuracy_low"] < table["accuracy"]).all()
    assert (table["accuracy"] < table["accuracy_high"]).all()
    grouped = curve_table(points({5: 0.65}, group=np.arange(IMAGES) // 20), 0.95)
    assert (grouped["accuracy_low"] < table["accuracy_low"]).all()


def test_points_are_handed_out_for_a_paired_comparison():
    made = points({5: 0.65, 7: 0.7, 40: 0.9}, seeds=3)
    assert common_labels(made) == [5, 40]
    pairs = [predictions_by_seed(made, side, 40) for side in ("transfer", "scratch")]
    assert [len(pair) for pair in pairs] == [3, 3]
    assert (pairs[0][0]["predicted"] == "a").mean() == 0.9
    backwards = predictions_by_seed(made[::-1], "scratch", 40)
    assert all(one is other for one, other in zip(backwards, pairs[1], strict=True))


@pytest.mark.parametrize("level", [0.65, 0.95, 0.3, 1])
def test_the_picture_shows_both_sides_and_the_headline(level):
    made = points({5: level}, ALWAYS_RIGHT if level == 1 else SCRATCH)
    result = labels_saved(made, 5, 0.95, 200, seed=0)
    (axes,) = draw_learning_curve(curve_table(made, 0.95), result).axes
    assert result["headline"]["text"] in axes.get_title()
    assert ("not known" in result["headline"]["text"]) == (level == 1)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["transfer", "from scratch"]
    assert axes.get_xscale() == "log"
    (alone,) = (lines for lines in axes.collections if hasattr(lines, "get_segments"))  # the interval of the one point
    (row,) = (row for row in result["curve"] if row["side"] == "transfer")
    assert alone.get_segments()[0][:, 1].tolist() == [row["accuracy_low"], row["accuracy_high"]]
    svg = as_svg(axes.figure)
    for colour in re.findall("#[0-9a-f]{6}", svg):
        assert max(bytes.fromhex(colour[1:])) > 0x80, f"{colour} is not seen on a dark page"


def test_the_terminal_gets_the_curve_and_the_headline():
    curve = {5: 0.65, 10: 0.75}
    verdict = verdict_over_seeds(points(curve, wobble=0.01), 0.95)
    lines = describe_labels_saved(saved(curve) | {"verdict_over_seeds": verdict})
    assert lines[0].split() == ["Labels", "a", "class", "5", "10", "20", "40"]
    assert lines[1].split() == ["Transfer", "65.0%", "75.0%"]
    assert lines[2].split() == ["From", "scratch", "50.0%", "60.0%", "70.0%", "80.0%"]
    assert any(line.startswith("Headline        With 5 labels a class") for line in lines)
    assert any(line.startswith("Verdict         With 10 labels a class, over 2 trainings: ") for line in lines)
    (difference,) = (line for line in lines if line.startswith("Difference"))
    assert re.fullmatch(r"Difference      with 5 labels a class \+15\.0 points \(\+\d+\.\d to \+\d+\.\d\)", difference)
    without = describe_labels_saved(saved(curve) | {"verdict_over_seeds": None})
    assert not any(line.startswith("Verdict") for line in without)
    assert any(line.startswith("Difference      with 5 ") and "; with 10 labels" in line for line in without)


def test_one_label_is_one():
    (worth,) = (
        line
        for line in describe_labels_saved(saved({1: 0.65, 10: 0.75}) | {"verdict_over_seeds": None})
        if line.startswith("Labels  ")
    )
    assert worth.startswith("Labels          1 is worth ")
    assert "; 10 are worth " in worth


def test_the_verdict_over_seeds_is_that_at_the_most_common_labels():
    made = points({5: 0.65, 10: 0.75}, wobble=0.01, seeds=3)
    verdict = verdict_over_seeds(made, 0.95)
    sides = [predictions_by_seed(made, side, 10) for side in ("transfer", "scratch")]
    assert verdict == {"labels": 10} | compare_over_seeds(*sides, 0.95)
    assert verdict["seeds"] == 3
    assert verdict["difference"] == pytest.approx(0.15)


def test_without_two_seeds_of_both_sides_there_is_no_verdict_over_seeds():
    assert verdict_over_seeds(points({5: 0.65}, seeds=1), 0.95) is None
    assert verdict_over_seeds(points({7: 0.65}, seeds=3), 0.95) is None
