import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import binomtest

from cnn_transfer.evaluation import as_predictions, fit_sets, no_predictions, prediction_sets, wilson_interval
from cnn_transfer.evaluation.intervals import Units, proportion_interval
from cnn_transfer.evaluation.selective import (
    choose_threshold,
    draw_risk_coverage,
    independent_images,
    measure_threshold,
    risk_coverage_area,
    risk_coverage_table,
)
from cnn_transfer.transfer import fit_probe


def table_of(confidence, correct):
    """Predictions of two classes with the given confidences (at least one half), right or wrong."""
    confidence, correct = np.asarray(confidence, np.float32), np.asarray(correct, bool)
    return pd.DataFrame(
        {
            "id": [f"i{n}" for n in range(len(confidence))],
            "label": np.where(correct, "yes", "no"),
            "predicted": np.full(len(confidence), "yes"),
            "probability_no": 1 - confidence,
            "probability_yes": confidence,
        }
    )


def simulate(images, seed, power=2.0):
    """Predictions that are right as often as they say: higher powers are surer."""
    rng = np.random.default_rng(seed)
    confidence = 1 - rng.random(images) ** power / 2
    return table_of(confidence, rng.random(images) < confidence)


def render(figure):
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    assert np.ptp(np.asarray(Image.open(stream).convert("L"))) > 0


def test_risk_and_coverage_are_those_counted_by_hand():
    table = risk_coverage_table(table_of([0.9, 0.8, 0.8, 0.6], [True, True, False, False]))
    assert table.columns.tolist() == ["coverage", "threshold", "accuracy", "risk", "images"]
    assert table["coverage"].tolist() == [0.25, 0.75, 1.0]
    assert table["threshold"].tolist() == pytest.approx([0.9, 0.8, 0.6])
    assert table["accuracy"].tolist() == pytest.approx([1, 2 / 3, 1 / 2])
    assert table["risk"].tolist() == pytest.approx([0, 1 / 3, 1 / 2])
    assert table["images"].tolist() == [1, 3, 4]


def test_the_area_is_the_mean_risk_over_the_images():
    table = table_of([0.9, 0.8, 0.8, 0.6], [True, True, False, False])
    assert risk_coverage_area(table) == pytest.approx((0 + 1 / 3 + 1 / 3 + 1 / 2) / 4)
    assert risk_coverage_area(table_of([0.9, 0.8], [True, True])) == 0
    assert risk_coverage_area(table_of([0.9, 0.8], [False, False])) == 1
    sorted_well = table_of([0.9, 0.8, 0.7], [True, True, False])
    sorted_badly = table_of([0.9, 0.8, 0.7], [False, True, True])
    assert risk_coverage_area(sorted_well) < risk_coverage_area(sorted_badly)


def test_a_long_table_is_thinned_and_keeps_its_ends():
    table = risk_coverage_table(simulate(2000, 0))
    assert len(table) == 200
    assert table["threshold"].iloc[0] == pytest.approx(simulate(2000, 0)["probability_yes"].max())
    assert table["coverage"].iloc[-1] == 1
    assert (np.diff(table["coverage"]) > 0).all()
    assert (np.diff(table["threshold"]) < 0).all()


def test_no_predictions_have_no_risk(shapes):
    nothing = no_predictions(shapes)
    assert risk_coverage_table(nothing).empty
    assert risk_coverage_area(nothing) is None
    render(draw_risk_coverage(risk_coverage_table(nothing), measure_threshold(nothing, 0.9, 0.95)))
    measured = measure_threshold(nothing, 0.9, 0.95)
    assert measured["accuracy"] is measured["answered_share"] is None
    assert measured["statement"] == "There are no test images to measure the threshold on."


def test_the_bound_is_that_of_the_exact_binomial_test():
    chosen = choose_threshold(table_of(np.full(200, 0.96), np.arange(200) >= 4), 0.9, 0.95)
    expected = binomtest(196, 200, alternative="greater").proportion_ci(0.95, method="exact").low
    assert chosen["accuracy_low"] == pytest.approx(expected)
    assert chosen["threshold"] == 0.0
    assert "Answering all images keeps an accuracy of at least 0.9 with 95% confidence" in chosen["statement"]


def test_the_lowest_threshold_that_keeps_the_wish_is_taken():
    """Below 0.9 half are wrong: with them the bound falls below the wish."""
    confidence = np.r_[np.full(200, 0.95), np.full(100, 0.72)]
    correct = np.r_[np.ones(200), np.arange(100) % 2]
    chosen = choose_threshold(table_of(confidence, correct), 0.95, 0.95)
    assert chosen["threshold"] == 0.75
    assert chosen["answered"] == 200
    assert chosen["answered_share"] == pytest.approx(2 / 3)
    assert chosen["accuracy"] == 1
    assert chosen["images_needed"] is None


def test_a_look_that_fails_ends_the_search():
    """A lower threshold that would pass by itself is not looked at, or many looks would find one by chance."""
    confidence = np.r_[np.full(100, 0.95), np.full(5000, 0.72)]
    correct = np.r_[np.arange(100) >= 20, np.ones(5000)]
    chosen = choose_threshold(table_of(confidence[:150], correct[:150]), 0.95, 0.95)
    assert chosen["threshold"] is None
    assert chosen["accuracy"] == 0.8
    assert chosen["images_needed"] is None
    assert "more of them would not help" in chosen["statement"]


def test_too_few_images_are_told_how_many_would_do():
    chosen = choose_threshold(table_of(np.full(50, 0.99), np.ones(50)), 0.99, 0.95)
    assert chosen["threshold"] is None
    assert chosen["images_needed"] == 299  # 0.99 ** 299 < 0.05 < 0.99 ** 298
    assert "at least 299 are needed even when all are right" in chosen["statement"]
    enough = choose_threshold(table_of(np.full(299, 0.99), np.ones(299)), 0.99, 0.95)
    assert enough["threshold"] == 0.0


def test_an_accuracy_above_the_wish_that_is_not_sure_yet_says_how_many_images_would_do():
    table = table_of(np.full(200, 0.97), np.arange(200) >= 6)
    chosen = choose_threshold(table, 0.96, 0.95)
    assert chosen["threshold"] is None
    assert chosen["accuracy"] == 0.97
    needed = chosen["images_needed"]
    more = table_of(np.full(needed, 0.97), np.arange(needed) >= round(0.03 * needed))
    assert choose_threshold(more, 0.96, 0.95)["threshold"] is not None
    fewer = table_of(np.full(needed // 2, 0.97), np.arange(needed // 2) >= round(0.03 * needed / 2))
    assert choose_threshold(fewer, 0.96, 0.95)["threshold"] is None


def test_no_validation_images_answer_nothing():
    chosen = choose_threshold(simulate(0, 0), 0.9, 0.95, 0.5)
    assert chosen["threshold"] is chosen["accuracy"] is chosen["promised_accuracy"] is None
    assert chosen["images_needed"] == 29


@pytest.mark.parametrize(("images", "promised"), [(149, 0.98), (148, 0.97), (60, 0.95), (50, 0.9), (14, 0.8)])
def test_few_images_promise_the_highest_level_that_so_many_can_show(images, promised):
    """0.95 ** 58 > 0.05 > 0.95 ** 59, and so on."""
    chosen = choose_threshold(table_of(np.full(images, 0.9), np.ones(images)), 0.98, 0.95, 0.8)
    assert chosen["promised_accuracy"] == promised <= chosen["accuracy_low"]
    assert chosen["answered"] == images
    assert f"keeps an accuracy of at least {promised:g} with 95% confidence" in chosen["statement"]
    assert chosen["images_needed"] == (None if promised == 0.98 else 149)
    assert ("at least 149 are needed even when all are right" in chosen["statement"]) == (promised != 0.98)


def test_less_than_the_least_is_not_promised():
    table = table_of(np.full(50, 0.9), np.ones(50))
    assert choose_threshold(table, 0.98, 0.95, 0.91)["promised_accuracy"] is None
    assert choose_threshold(table, 0.98, 0.95, 0.9)["promised_accuracy"] == 0.9
    assert choose_threshold(table_of(np.full(13, 0.9), np.ones(13)), 0.98, 0.95, 0.8)["threshold"] is None


def test_a_first_look_that_fails_promises_its_own_bound_in_full_percent():
    """The surest 150 of 200 are looked at first, since 149 are needed."""
    confidence = np.r_[np.full(150, 0.955), np.full(50, 0.72)]
    table = table_of(confidence, np.r_[False, np.ones(199)])
    chosen = choose_threshold(table, 0.98, 0.95, 0.8)
    bound = binomtest(149, 150, alternative="greater").proportion_ci(0.95, method="exact").low
    assert chosen["accuracy_low"] == pytest.approx(bound)
    assert chosen["promised_accuracy"] == np.floor(100 * bound) / 100 == 0.96
    assert (chosen["threshold"], chosen["answered"]) == (0.95, 150)
    assert chosen["statement"].startswith("No threshold reaches an accuracy of 0.98 with 95% confidence: of the 150")
    assert "keeps an accuracy of at least 0.96 with 95% confidence" in chosen["statement"]
    assert choose_threshold(table, 0.98, 0.95, 0.97)["threshold"] is None
    assert choose_threshold(table, 0.98, 0.95)["threshold"] is None


@pytest.mark.slow
@pytest.mark.parametrize("wish", [0.85, 0.9, 0.95])
def test_a_threshold_misses_the_wish_no_more_often_than_stated(wish):
    """Where thresholds are chosen by looking at the bounds of all, misses are more frequent than that."""
    grid = np.linspace(0.5, 1, 20_001)
    draws = 1 - np.random.default_rng(1).random(400_000) ** 2 / 2
    truth = np.array([draws[draws >= low].mean() for low in grid[:-1:100]])
    missed = found = 0
    for seed in range(300):
        threshold = choose_threshold(simulate(150, seed), wish, 0.9)["threshold"]
        found += threshold is not None
        if threshold is not None and threshold < 0.999:
            missed += np.interp(threshold, grid[:-1:100], truth) < wish
    assert found > 15
    assert missed / 300 < 0.1 + 3 * np.sqrt(0.1 * 0.9 / 300)


@pytest.mark.slow
@pytest.mark.parametrize("images", [20, 40, 80, 160])
def test_a_promise_is_broken_no_more_often_than_stated(images):
    """Whether it is the wish, a lower level or a bound."""
    draws = np.sort(1 - np.random.default_rng(1).random(400_000) ** 3 / 2)
    above = draws[::-1].cumsum()[::-1] / np.arange(len(draws), 0, -1)  # mean confidence, which is the accuracy
    promises, broken = set(), 0
    for seed in range(400):
        chosen = choose_threshold(simulate(images, seed, power=3.0), 0.98, 0.9, 0.5)
        if chosen["threshold"] is not None:
            truth = above[min(np.searchsorted(draws, chosen["threshold"]), len(draws) - 1)]
            promises.add(chosen["promised_accuracy"])
            broken += truth < chosen["promised_accuracy"]
    assert len(promises) > 1
    assert broken / 400 < 0.1 + 3 * np.sqrt(0.1 * 0.9 / 400)


def test_a_confidence_below_everything_is_not_rounded_to_everything():
    right = table_of([0.99] * 1000, [True] * 1000)
    assert "with 99.9% confidence" in choose_threshold(right, 0.95, 0.999)["statement"]
    assert "with 99.9% confidence" in choose_threshold(right.head(10), 0.95, 0.999)["statement"]


def test_what_a_threshold_does_is_measured_with_intervals():
    table = table_of([0.9] * 40 + [0.6] * 10, [True] * 38 + [False] * 12)
    measured = measure_threshold(table, 0.8, 0.9)
    share, accuracy = wilson_interval(40, 50, 0.9), wilson_interval(38, 40, 0.9)
    assert [measured[f"answered_share{end}"] for end in ("", "_low", "_high")] == list(share)
    assert [measured[f"accuracy{end}"] for end in ("", "_low", "_high")] == list(accuracy)
    assert measured["statement"].startswith(
        "The network is sure enough of 80.0% of 50 test images, 95.0% of these right"
    )


@pytest.mark.parametrize(("threshold", "words"), [(None, "Without a threshold"), (0.99, "None of 10 test images")])
def test_nothing_answered_has_no_accuracy(threshold, words):
    measured = measure_threshold(table_of([0.9] * 10, [True] * 10), threshold, 0.95)
    assert measured["answered_share"] == 0
    assert measured["accuracy"] is measured["accuracy_low"] is None
    assert measured["statement"].startswith(words)


@given(st.integers(1, 80), st.integers(0, 20), st.sampled_from([0.6, 0.9, 0.99]))
def test_intervals_hold_the_estimate_and_figures_are_plain(images, seed, wish):
    table = simulate(images, seed)
    chosen = choose_threshold(table, wish, 0.95, 0.5)
    assert (chosen["promised_accuracy"] is None) == (chosen["threshold"] is None)
    assert {type(value) for value in chosen.values()} <= {float, int, str, type(None)}
    if chosen["accuracy"] is not None:
        assert chosen["accuracy_low"] < chosen["accuracy"] <= 1
    measured = measure_threshold(table, chosen["threshold"], 0.95)
    assert {type(value) for value in measured.values()} <= {float, int, str, type(None)}
    if chosen["threshold"] is not None:
        assert measured["answered"] == chosen["answered"]
        assert measured["accuracy_low"] <= measured["accuracy"] <= measured["accuracy_high"]


@pytest.mark.parametrize(("wish", "confidence"), [(1, 0.95), (0, 0.95), (0.9, 1), (0.9, 0.5)])
def test_impossible_wishes_are_refused(wish, confidence):
    with pytest.raises(ValueError, match=r"must be above 0.* and below 1\. Received"):
        choose_threshold(simulate(10, 0), wish, confidence)


def test_the_plot_marks_the_threshold_and_what_it_costs():
    table = risk_coverage_table(simulate(500, 0))
    measured = measure_threshold(simulate(500, 0), 0.9, 0.95)
    figure = draw_risk_coverage(table, measured)
    render(figure)
    (axes,) = figure.axes
    every, label = axes.get_legend_handles_labels()[1]
    share, wrong = 100 * measured["answered_share"], 100 * (1 - measured["accuracy"])
    assert label == f"at least 0.9 sure: {share:.1f}% answered, {wrong:.1f}% of them wrong"
    assert every == f"all answered: {100 * table['risk'].iloc[-1]:.1f}% wrong"


def test_the_plot_counts_the_images_that_are_sure_enough_and_none_below():
    few = table_of([0.95, 0.6], [True, False])
    (axes,) = draw_risk_coverage(risk_coverage_table(few), measure_threshold(few, 0.9, 0.95)).axes
    assert axes.get_legend_handles_labels()[1][1] == "at least 0.9 sure: 50.0% answered, 0.0% of them wrong"


@pytest.mark.parametrize("threshold", [None, 0.99, 0.1])
def test_one_image_and_thresholds_out_of_reach_are_drawn(threshold):
    for right in (True, False):
        one = table_of([0.9], [right])
        render(draw_risk_coverage(risk_coverage_table(one), measure_threshold(one, threshold, 0.95)))


def test_a_threshold_by_left_out_training_images_says_so():
    right = table_of([0.9995] * 300, [True] * 300).assign(left_out=True)
    chosen = choose_threshold(right, 0.98, 0.95)
    assert chosen["judged_on"] == "left-out training images"
    assert "of 300 left-out training images 300 are answered" in chosen["statement"]
    assert chosen["statement"].endswith("by a head that has not seen it, which makes the confidence approximate.")
    few = choose_threshold(right.iloc[:20], 0.98, 0.95)["statement"]
    assert "there are 20 left-out training images, at least 149 are needed" in few
    both = choose_threshold(right.assign(left_out=[False, True] * 150), 0.98, 0.95)
    assert both["judged_on"] == "validation and left-out training images"
    usual = choose_threshold(right.assign(left_out=False), 0.98, 0.95)
    assert usual["judged_on"] == "validation images"
    assert "has not seen" not in usual["statement"]


@pytest.mark.slow
def test_promises_by_left_out_training_images_are_kept():
    """Heads in closed form on 100 images of ten classes, judged by themselves; 2,000 others say what is true."""
    centres = np.random.default_rng(0).normal(size=(10, 30))
    names = [f"class {number}" for number in range(10)]

    def draw(per_class, rng):
        classes = np.arange(10).repeat(per_class)
        return centres[classes] + 1.2 * rng.normal(size=(len(classes), 30)), classes

    def predictions(values, classes):
        table = pd.DataFrame({"id": np.arange(len(classes)).astype(str), "label": np.asarray(names)[classes]})
        return as_predictions(table.assign(split="test"), "test", values, names)

    kept, covered, promised = [], [], 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        features, classes = draw(10, rng)
        probe = fit_probe(features, classes, [30])
        judged = predictions(probe.out_of_sample, classes).assign(left_out=True)
        new, truth = draw(200, rng)
        true = predictions(probe.probabilities(new), truth)
        choice = choose_threshold(judged, 0.98, 0.95, 0.8)
        if choice["threshold"] is not None:
            promised += 1
            kept.append(measure_threshold(true, choice["threshold"], 0.95)["accuracy"] >= choice["promised_accuracy"])
        covered.append(prediction_sets(true, fit_sets(judged, 0.9))["covered"].mean())
    assert promised > 50
    assert np.mean(kept) >= 0.88  # 95% of 60, less three standard errors
    assert 0.89 <= np.mean(covered) <= 0.95  # with one image less a head is a little worse: more than wished


def test_images_of_groups_are_worth_as_many_as_there_are_groups_of_a_size():
    assert independent_images(Units(None, 50)) == 50
    assert independent_images(Units(np.arange(50) // 5, 50)) == pytest.approx(10)
    assert independent_images(Units([0] * 8 + [1, 2], 10)) == pytest.approx(100 / 66)
    assert independent_images(Units(None, 0)) == 0


def test_what_is_measured_of_a_threshold_respects_groups():
    table = table_of([0.9] * 40 + [0.6] * 20, ([True] * 5 + [False] * 5) * 4 + [True] * 20)
    grouped = measure_threshold(table.assign(group=np.arange(60) // 5), 0.8, 0.95)
    single = measure_threshold(table, 0.8, 0.95)
    for key in ("answered_share", "accuracy"):
        assert grouped[key] == single[key]
        assert grouped[f"{key}_low"] < single[f"{key}_low"] - 0.05
    right = (table["label"] == "yes").to_numpy()[:40]
    assert grouped["accuracy_low"] == proportion_interval(right, 0.95, np.arange(40) // 5).low


def test_a_promise_that_rests_on_groups_is_that_of_so_many_images():
    table = table_of([0.9999] * 300, [True] * 300)
    grouped = choose_threshold(table.assign(group=[str(n // 5) for n in range(300)]), 0.98, 0.95, 0.8)
    single = choose_threshold(table.iloc[:60], 0.98, 0.95, 0.8)
    assert (grouped["images"], grouped["groups"], grouped["answered"]) == (300, 60, 300)
    for key in ("threshold", "promised_accuracy", "accuracy_low", "answered_share"):
        assert grouped[key] == pytest.approx(single[key])
    assert grouped["images_needed"] == 5 * single["images_needed"]
    assert "there are 300 validation images of 60 groups, at least 745 are needed" in grouped["statement"]
    assert "of 300 validation images of 60 groups 300 are answered" in grouped["statement"]


@pytest.mark.slow
def test_promises_hold_for_images_of_new_groups():
    """Images of one group are right or wrong together; the network is right of 93% of the groups, and always sure."""
    kept = {True: [], False: []}
    for seed in range(200):
        rng = np.random.default_rng(seed)
        right = (rng.random(60) < 0.93).repeat(10)
        table = table_of(np.full(600, 0.9995), right).assign(group=np.arange(60).repeat(10).astype(str))
        for respected, found in kept.items():
            known = table if respected else table.drop(columns="group")
            promised = choose_threshold(known, 0.95, 0.95, 0.8)["promised_accuracy"]
            found.append(promised is None or promised <= 0.93)
    assert np.mean(kept[True]) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 200)
    assert np.mean(kept[False]) < 0.9  # what is broken otherwise
