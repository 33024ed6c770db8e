import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cnn_transfer.evaluation import compare, paired_difference, training_cost_ratio
from cnn_transfer.evaluation.verdict import compare_over_seeds, mcnemar, paired_difference_over_seeds

NAMES = ["a", "b"]


def log(images, accuracy, delivered=True):
    loss = [1 - value for value in accuracy]
    columns = {"images_processed": images, "validation_accuracy": accuracy, "validation_loss": loss}
    return pd.DataFrame(columns | {"delivered": delivered})


TARGET_LOG = log([0, 100, 200, 300], [0.3, 0.7, 0.9, 0.95])
NOTHING = pd.DataFrame({"id": [], "label": [], "predicted": []})
BASELINE_LOG = log([0, 200, 400, 600], [0.1, 0.6, 0.9, 0.9], delivered=True)


@pytest.fixture
def predictions(predictions_table):
    """Predictions on images of class a that are right where they should be."""

    def make(correct):
        return predictions_table(["a"] * len(correct), np.where(correct, "a", "b"), NAMES)

    return make


def test_the_interval_of_a_difference_follows_bonett_and_price():
    # 100 images: 20 only the first has right, 10 only the second. (21 - 11)/102 with
    # sqrt(32 - 10^2/102)/102 as its deviation.
    first = np.array([True] * 20 + [False] * 10 + [True] * 60 + [False] * 10)
    second = np.array([False] * 20 + [True] * 10 + [True] * 60 + [False] * 10)
    centre, margin = 10 / 102, 1.984217 * np.sqrt(32 - 100 / 102) / 102  # Student's, 99 df
    interval = paired_difference(first, second, 0.95)
    np.testing.assert_allclose(interval, (0.1, centre - margin, centre + margin), atol=1e-7)


outcomes = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200).map(np.array)


@given(outcomes=outcomes, confidence=st.floats(0.9, 0.999))
def test_the_interval_of_a_difference_contains_it(outcomes, confidence):
    estimate, low, high = paired_difference(outcomes[:, 0], outcomes[:, 1], confidence)
    assert estimate == pytest.approx(outcomes[:, 0].mean() - outcomes[:, 1].mean())
    assert -1 <= low <= estimate <= high <= 1


@given(outcomes=outcomes, confidence=st.floats(0.5, 0.999))
def test_a_difference_changes_its_sign_with_the_order_of_the_two(outcomes, confidence):
    estimate, low, high = paired_difference(outcomes[:, 0], outcomes[:, 1], confidence)
    np.testing.assert_allclose(paired_difference(outcomes[:, 1], outcomes[:, 0], confidence), (-estimate, -high, -low))


@pytest.mark.parametrize(
    ("images", "only_first", "only_second"), [(60, 0.12, 0.12), (60, 0.2, 0.05), (300, 0.04, 0.02), (40, 0.3, 0.1)]
)
def test_the_interval_covers_the_true_difference_as_often_as_it_says(images, only_first, only_second):
    rng = np.random.default_rng(0)
    drawn = rng.random((1500, images))
    first, second = drawn < only_first, (drawn >= only_first) & (drawn < only_first + only_second)
    intervals = np.array([paired_difference(one, other, 0.95) for one, other in zip(first, second, strict=True)])
    difference = only_first - only_second
    covered = (intervals[:, 1] <= difference) & (difference <= intervals[:, 2])
    assert 0.92 < covered.mean() < 0.98


def test_the_level_is_that_of_the_delivered_weights_not_a_lucky_accuracy_with_a_higher_loss():
    lucky = BASELINE_LOG.assign(validation_accuracy=[0.1, 0.97, 0.9, 0.9])
    cost = training_cost_ratio(TARGET_LOG, lucky, 100)
    assert (cost["baseline_validation_accuracy"], cost["baseline_images"], cost["ratio"]) == (0.9, 200.0, 1.0)


def test_the_cost_is_counted_to_the_first_validation_that_reached_the_baseline_s_best():
    cost = training_cost_ratio(TARGET_LOG, BASELINE_LOG, 100)
    error = math.sqrt(90.5 / 101 * (10.5 / 101) / 101)
    assert cost == {
        "baseline_validation_accuracy": 0.9,
        "standard_error": pytest.approx(error),
        "baseline_images": 400.0,
        "target_images": 200.0,
        "ratio": 0.5,
        "ratio_low": 0.5,
        "ratio_high": 0.75,
    }


def test_the_cheapest_trial_counts_on_both_sides_but_the_level_is_the_delivered_one_s():
    other = log([0, 50, 900], [0.1, 0.92, 0.99], delivered=False)
    cost = training_cost_ratio(
        pd.concat([TARGET_LOG, other], ignore_index=True), pd.concat([other, BASELINE_LOG], ignore_index=True), 100
    )
    assert [cost[name] for name in ("baseline_validation_accuracy", "baseline_images", "target_images", "ratio")] == [
        0.9,
        50.0,
        50.0,
        1.0,
    ]


def test_the_standard_error_is_that_of_repeated_validations():
    repeated = np.random.default_rng(0).binomial(200, 0.95, 100_000) / 200
    cost = training_cost_ratio(TARGET_LOG, log([0, 200], [0.1, 0.95]), 200)
    assert cost["standard_error"] == pytest.approx(repeated.std(), rel=0.03)


def test_what_is_right_on_all_of_a_few_validation_images_is_not_certain():
    cost = training_cost_ratio(log([0, 100, 200], [0.3, 0.9, 1.0]), log([0, 200], [0.1, 1.0]), 10)
    assert (cost["ratio_low"], cost["ratio"], cost["ratio_high"]) == (1.0, 1.0, None)
    assert cost["standard_error"] > 0.05


def test_a_level_that_was_never_reached_has_no_cost():
    cost = training_cost_ratio(log([0, 100], [0.3, 0.89]), BASELINE_LOG, 100)
    assert (cost["baseline_images"], cost["target_images"], cost["ratio"]) == (400.0, None, None)


def test_a_network_that_starts_at_the_level_costs_nothing():
    cost = training_cost_ratio(log([0, 100], [0.92, 0.95]), BASELINE_LOG, 100)
    assert (cost["target_images"], cost["ratio"]) == (0.0, 0.0)


def test_a_baseline_that_was_not_trained_has_no_cost():
    cost = training_cost_ratio(TARGET_LOG, BASELINE_LOG.iloc[:0], 0)
    assert set(cost.values()) == {None}


def test_an_accuracy_that_differs_in_rounding_only_counts_as_reached():
    cost = training_cost_ratio(log([0, 100], [0.3, 0.9 - 1e-12]), BASELINE_LOG, 100)
    assert cost["target_images"] == 100.0


def test_a_clear_win_is_positive_transfer(predictions):
    right, wrong = predictions([True] * 95 + [False] * 5), predictions([True] * 60 + [False] * 40)
    verdict = compare(right, wrong, NOTHING, TARGET_LOG, BASELINE_LOG, 100, 0.95)
    assert verdict["verdict"] == "positive"
    assert verdict["difference"] == pytest.approx(0.35)
    assert 0 < verdict["difference_low"] < 0.35 < verdict["difference_high"]
    assert verdict["sentence"].startswith("Transfer is better than training from scratch: +35.0 points of accuracy (+")
    assert "cheaper: it reached the final validation accuracy of training from scratch after 50%" in verdict["sentence"]


def test_a_clear_loss_is_called_negative_transfer(predictions):
    wrong, right = predictions([False] * 40 + [True] * 60), predictions([True] * 100)
    verdict = compare(wrong, right, NOTHING, TARGET_LOG, BASELINE_LOG, 100, 0.95)
    assert verdict["verdict"] == "negative"
    assert verdict["sentence"].startswith("NEGATIVE TRANSFER: it is worse than training from scratch: -40.0 points")


def test_a_difference_within_chance_is_neutral(predictions):
    one, other = predictions([True] * 80 + [False] * 20), predictions([True] * 79 + [False] * 21)
    verdict = compare(one, other, NOTHING, TARGET_LOG, BASELINE_LOG, 100, 0.95)
    assert verdict["verdict"] == "neutral"
    assert "neither better nor worse" in verdict["sentence"]
    assert verdict["difference_low"] < 0 < verdict["difference_high"]


three_outcomes = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=2, max_size=200)


@given(outcomes=three_outcomes.map(np.array))
def test_the_verdict_turns_round_with_the_two_networks(outcomes):
    ids = [str(n) for n in range(len(outcomes))]
    first, second, random = (
        pd.DataFrame({"id": ids, "label": "a", "predicted": np.where(correct, "a", "b")}) for correct in outcomes.T
    )
    there = compare(first, second, random, TARGET_LOG, BASELINE_LOG, 100, 0.95)
    back = compare(second, first, random, TARGET_LOG, BASELINE_LOG, 100, 0.95)
    opposite = {"positive": "negative", "negative": "positive", "neutral": "neutral"}
    assert back["verdict"] == opposite[there["verdict"]]
    assert back["difference"] == pytest.approx(-there["difference"])
    assert [back["difference_low"], back["difference_high"]] == pytest.approx(
        [-there["difference_high"], -there["difference_low"]]
    )
    # What the first has over random weights, the second has; what random weights have over the second, the first has.
    for one, other in ((there["knowledge"], back["method"]), (there["method"], back["knowledge"])):
        assert one["estimate"] == pytest.approx(-other["estimate"])
        assert (one["low"], one["high"]) == pytest.approx((-other["high"], -other["low"]))
    assert there["knowledge"]["estimate"] + there["method"]["estimate"] == pytest.approx(there["difference"])


@pytest.mark.parametrize(
    ("random", "said"),
    [
        ([True] * 50 + [False] * 50, " The source's weights bring +30.0 points (+"),
        ([True] * 78 + [False] * 22, " THE SOURCE ADDS NOTHING CLEAR: the source's weights bring +2.0 points (-"),
        ([True] * 100, " THE SOURCE HARMS: the source's weights bring -20.0 points (-"),
    ],
)
def test_the_sentence_says_what_the_source_brings_and_what_the_method(predictions, random, said):
    target, baseline = predictions([True] * 80 + [False] * 20), predictions([True] * 60 + [False] * 40)
    verdict = compare(target, baseline, predictions(random), TARGET_LOG, BASELINE_LOG, 100, 0.95)
    assert said in verdict["sentence"]
    assert verdict["sentence"].endswith(f"the method by itself {100 * (np.mean(random) - 0.6):+.1f}.")
    assert verdict["knowledge"]["estimate"] == pytest.approx(0.8 - np.mean(random))
    assert verdict["method"]["estimate"] == pytest.approx(np.mean(random) - 0.6)


def test_without_random_weights_nothing_is_said_about_them(predictions):
    target = predictions([True] * 10)
    verdict = compare(target, target, NOTHING, TARGET_LOG, BASELINE_LOG, 100, 0.95)
    assert (verdict["knowledge"], verdict["method"]) == (None, None)
    assert "random" not in verdict["sentence"]


def test_without_a_baseline_what_the_source_brings_is_still_said(predictions):
    target, random = predictions([True] * 80 + [False] * 20), predictions([True] * 50 + [False] * 50)
    verdict = compare(target, NOTHING, random, TARGET_LOG, BASELINE_LOG.iloc[:0], 0, 0.95)
    assert (verdict["verdict"], verdict["method"]) == (None, None)
    assert verdict["knowledge"]["estimate"] == pytest.approx(0.3)
    assert "nothing to compare with. The source's weights bring +30.0 points" in verdict["sentence"]
    assert "the method by itself" not in verdict["sentence"]


def test_predictions_of_other_images_or_in_another_order_are_refused(predictions):
    target = predictions([True] * 10)
    for other in (target.iloc[::-1], target.iloc[:-1], target.assign(id="x" + target["id"])):
        for baseline, random in ((other, NOTHING), (target, other), (NOTHING, other)):
            with pytest.raises(ValueError, match=r"judged on the same images\. Received: 10 predictions of one"):
                compare(target, baseline, random, TARGET_LOG, BASELINE_LOG, 100, 0.95)


def test_without_a_baseline_there_is_no_verdict(predictions):
    target = predictions([True] * 10)
    verdict = compare(target, NOTHING, NOTHING, TARGET_LOG, BASELINE_LOG.iloc[:0], 0, 0.95)
    assert verdict["verdict"] is None
    assert verdict["difference"] is None
    assert verdict["training_cost"]["ratio"] is None
    assert "No baseline was trained" in verdict["sentence"]


def test_every_verdict_has_the_same_keys_and_is_json(predictions):
    target = predictions([True] * 10)
    pairs = [(baseline, random) for baseline in (target, NOTHING) for random in (target, NOTHING)]
    verdicts = [compare(target, *pair, TARGET_LOG, BASELINE_LOG, 100, 0.95) for pair in pairs]
    assert len({tuple(verdict) for verdict in map(sorted, verdicts)}) == 1
    assert [json.loads(json.dumps(verdict)) for verdict in verdicts] == verdicts


@pytest.mark.parametrize(
    ("target_log", "said"),
    [
        (log([0, 100], [0.3, 0.5]), "It never reached the final validation accuracy of training from scratch. "),
        (
            log([0, 100], [0.3, 0.89]),
            "It never reached the final validation accuracy of training from scratch, and 3.0 points, a standard "
            "error, below it after 25% of its images. ",
        ),
        (
            log([0, 800, 900], [0.3, 0.91, 0.99]),
            "It was not cheaper: it reached the final validation accuracy of "
            "training from scratch after 200% of its images (200% to 225% for a level 3.0 points, a "
            "standard error, lower or higher). ",
        ),
        (
            log([0, 200, 800], [0.3, 0.88, 0.91]),
            "It seems no cheaper: it reached the final validation accuracy of "
            "training from scratch after 200% of its images (50% to never for a level 3.0 points, a "
            "standard error, lower or higher). ",
        ),
        (
            log([0, 200, 800], [0.3, 0.91, 0.99]),
            "It seems cheaper: it reached the final validation accuracy of "
            "training from scratch after 50% of its images (50% to 200% for a level 3.0 points, a "
            "standard error, lower or higher). ",
        ),
        (
            log([0, 200], [0.3, 0.99]),
            "It was cheaper: it reached the final validation accuracy of "
            "training from scratch after 50% of its images (the same for a level 3.0 points, a "
            "standard error, lower or higher). ",
        ),
        (
            log([2, 200], [0.91, 0.99]),
            "It was cheaper: it reached the final validation accuracy of "
            "training from scratch after 0.5% of its images (0.5% to 50% for a level 3.0 points, a "
            "standard error, lower or higher). ",
        ),
    ],
)
def test_the_sentence_says_whether_transfer_was_cheaper_and_how_surely(predictions, target_log, said):
    same = predictions([True] * 80 + [False] * 20)
    assert said in compare(same, same, NOTHING, target_log, BASELINE_LOG, 100, 0.95)["sentence"]


def test_a_level_reached_by_both_before_any_training_is_not_called_unreached(predictions):
    same = predictions([True] * 8 + [False] * 2)
    at_once = log([0, 200], [0.9, 0.8], delivered=True)
    sentence = compare(same, same, NOTHING, log([0, 100], [0.95, 0.95]), at_once, 100, 0.95)["sentence"]
    assert "never reached" not in sentence


def test_images_of_one_group_are_worth_fewer_than_they_are():
    """Ten images of each group that are all alike are as good as one."""
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 60)) < [[0.8], [0.6]]
    groups = np.repeat(np.arange(60), 10)
    one_each = paired_difference(first, second, 0.95, np.arange(60))
    grouped = paired_difference(first.repeat(10), second.repeat(10), 0.95, groups)
    assert grouped.estimate == pytest.approx(one_each.estimate)
    assert one_each.high - one_each.low == pytest.approx(grouped.high - grouped.low, rel=0.06)
    careless = paired_difference(first.repeat(10), second.repeat(10), 0.95)
    assert careless.high - careless.low < 0.4 * (grouped.high - grouped.low)


def test_groups_of_one_image_change_nothing():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 50)) < 0.7
    assert paired_difference(first, second, 0.9, list("abcde" * 10)) != paired_difference(first, second, 0.9)
    assert paired_difference(first, second, 0.9, np.arange(50)) == paired_difference(first, second, 0.9)
    assert mcnemar(first, second, np.arange(50)) == mcnemar(first, second)


def test_one_group_alone_proves_nothing():
    first, second = np.ones(20, bool), np.zeros(20, bool)
    assert paired_difference(first, second, 0.95, ["film"] * 20) == (1, -1, 1)


@given(outcomes=outcomes, seed=st.integers(0, 20))
def test_with_groups_a_difference_changes_its_sign_too(outcomes, seed):
    groups = np.random.default_rng(seed).integers(0, 12, len(outcomes))
    first, second = outcomes.T
    estimate, low, high = paired_difference(first, second, 0.95, groups)
    np.testing.assert_allclose(paired_difference(second, first, 0.95, groups), (-estimate, -high, -low), atol=1e-12)
    assert -1 <= low <= estimate <= high <= 1
    assert mcnemar(first, second, groups) == pytest.approx(mcnemar(second, first, groups))


def test_the_interval_of_a_difference_covers_with_groups_and_the_careless_one_does_not():
    """30 groups of 8, whose images share their difficulty and which network suits them."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 8)
    covered = {True: 0, False: 0}
    for _ in range(400):
        of_group = rng.normal(size=(2, 30))[:, groups]
        first, second = 0.5 + of_group + rng.normal(size=(2, 240)) > 0
        for grouped in covered:
            _, low, high = paired_difference(first, second, 0.95, groups if grouped else None)
            covered[grouped] += low <= 0 <= high
    assert 0.92 < covered[True] / 400 < 0.98  # 95% or 94-96%, give or take two standard errors (1.1%) of 400 draws
    assert covered[False] / 400 < 0.85


def test_two_large_groups_beside_single_images_do_not_tell_equal_networks_apart():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(22), [50, 30] + 20 * [1])
    told = 0
    for _ in range(200):
        first, second = rng.normal(size=(2, 22))[:, groups] > 0
        _, low, high = paired_difference(first, second, 0.95, groups)
        told += not low <= 0 <= high
    assert told / 200 < 0.05


@pytest.mark.parametrize(("images", "differing"), [(25, 0.4), (40, 0.3), (100, 0.3), (200, 0.1)])
def test_two_equal_networks_are_told_apart_in_at_most_one_case_in_twenty(images, differing):
    """Counted exactly: of the images that only one has right, each has any number with its binomial probability."""
    false = 0.0
    for count in range(images + 1):
        for first in range(count + 1):
            chance = stats.binom.pmf(count, images, differing) * stats.binom.pmf(first, count, 0.5)
            if chance < 1e-6:
                continue
            correct = np.zeros((2, images), bool)
            correct[0, :first] = correct[1, first:count] = True
            _, low, high = paired_difference(*correct, 0.95)
            false += chance * (not low <= 0 <= high)
    assert 0.03 < false <= 0.05


def test_mcnemar_s_test_is_the_exact_binomial_one(predictions):
    first = np.array([True] * 12 + [False] * 3 + [True] * 60)
    second = np.array([False] * 12 + [True] * 3 + [True] * 60)
    expected = stats.binomtest(3, 15, 0.5).pvalue
    assert mcnemar(first, second) == pytest.approx(expected)
    verdict = compare(predictions(first), predictions(second), NOTHING, TARGET_LOG, BASELINE_LOG, 100, 0.95)
    assert verdict["mcnemar_p"] == pytest.approx(expected)
    assert mcnemar(first, first) == 1


def test_mcnemar_s_test_of_groups_is_durkalski_s():
    # Two images a group; sums of differences 2, 2, 1, -1: 4^2 / (4 + 4 + 1 + 1).
    first = np.array([True, True, True, True, True, False, False, False])
    second = np.array([False, False, False, False, False, False, True, False])
    assert mcnemar(first, second, [0, 0, 1, 1, 2, 2, 3, 3]) == pytest.approx(stats.chi2.sf(1.6, 1))


def test_the_verdict_respects_the_groups_of_the_predictions(predictions):
    first, second = predictions([True] * 80 + [False] * 20), predictions([True] * 60 + [False] * 40)
    grouped = first.assign(group=np.arange(100) // 20)
    careless, careful = (
        compare(table, second, NOTHING, TARGET_LOG, BASELINE_LOG, 100, 0.95) for table in (first, grouped)
    )
    assert (careless["verdict"], careful["verdict"]) == ("positive", "neutral")
    assert careful["difference"] == careless["difference"]
    correct = (np.arange(100) < right for right in (80, 60))
    assert careful["mcnemar_p"] == mcnemar(*correct, grouped["group"]) > careless["mcnemar_p"]


def balanced(predictions_table, correct):
    """Predictions of images of two classes in turn."""
    labels = np.array(["a", "b"])[np.arange(len(correct)) % 2]
    return predictions_table(labels, np.where(correct, labels, np.where(labels == "a", "b", "a")), NAMES)


def test_a_baseline_no_better_than_the_most_common_class_is_called_failed(predictions_table):
    target, baseline = (balanced(predictions_table, np.arange(200) < right) for right in (180, 100))
    verdict = compare(target, baseline, NOTHING, TARGET_LOG, BASELINE_LOG, 100, 0.95)
    assert (verdict["verdict"], verdict["baseline_failed"]) == ("positive", True)
    assert not verdict["baseline_unproven"]
    assert verdict["sentence"].startswith(
        "THE BASELINE FAILED: 50.0% right is not better than always saying a (50.0%)."
    )
    assert "proves little" in verdict["sentence"]
    assert "cheaper" not in verdict["sentence"]  # than what has learnt nothing
    assert verdict["training_cost"]["ratio"] is None
    assert "baseline.learning_rates" in verdict["advice"][0]


def test_a_baseline_that_too_few_images_speak_for_is_not_called_failed_but_unproven(predictions_table):
    target, baseline = (balanced(predictions_table, np.arange(20) < right) for right in (18, 12))
    verdict = compare(target, baseline, NOTHING, TARGET_LOG, BASELINE_LOG, 100, 0.95)
    assert verdict["baseline_failed"]
    assert verdict["baseline_unproven"]
    assert verdict["sentence"].startswith(
        "THE BASELINE IS NOT SHOWN TO HAVE LEARNT ANYTHING: 60.0% right is not clearly"
    )
    assert "cheaper" not in verdict["sentence"]
    assert verdict["training_cost"]["ratio"] is None
    many = [balanced(predictions_table, np.arange(200) < right) for right in (180, 130)]
    grouped = [table.assign(group=np.arange(200) // 20) for table in many]
    found = [
        compare(*tables, NOTHING, TARGET_LOG, BASELINE_LOG, 100, 0.95)["baseline_unproven"]
        for tables in (many, grouped)
    ]
    assert found == [False, True]  # ten groups are few


def test_a_baseline_whose_validation_accuracy_never_rose_is_called_failed(predictions_table):
    tables = [balanced(predictions_table, np.arange(200) < right) for right in (180, 150)]
    still = log([0, 200, 400], [0.25, 0.25, 0.25])
    verdict = compare(*tables, NOTHING, TARGET_LOG, still, 100, 0.95)
    assert verdict["baseline_failed"]
    assert "on validation it was never better than before training (25.0%)" in verdict["sentence"]
    assert not compare(*tables, NOTHING, TARGET_LOG, BASELINE_LOG, 100, 0.95)["baseline_failed"]
    unknown = still.assign(validation_accuracy=np.nan)
    assert not compare(*tables, NOTHING, TARGET_LOG, unknown, 100, 0.95)["baseline_failed"]


DEPTHS = pd.DataFrame(
    {
        "tap": ["block1", "block2", "block3"],
        "used": [True, False, True],
        "accuracy": [0.4, 0.7, 0.6],
        "random_accuracy": [0.39, 0.5, 0.55],
    }
)
PLAN = {"source_helps": False, "evidence": {"knowledge": {"gain": 0.002, "standard_error": 0.011}}}


def test_negative_transfer_is_followed_by_what_to_try_with_its_evidence(predictions):
    wrong, right = predictions([False] * 40 + [True] * 60), predictions([True] * 100)
    random = predictions([True] * 62 + [False] * 38)
    verdict = compare(wrong, right, random, TARGET_LOG, BASELINE_LOG, 100, 0.95, DEPTHS, PLAN)
    advice = " ".join(verdict["advice"])
    assert "Use the network trained from scratch" in advice
    assert "kedro run --pipelines rank_sources" in advice
    assert "left-out training images +0.2 points, standard error 1.1" in advice
    assert (
        "Try another cut: block2 alone gets 70.0% of left-out training images right (+20.0 points over random" in advice
    )
    assert "block3 alone gets 60.0% of left-out training images right (+5.0 points over random weights)" in advice
    assert "migrate_model.taps to [block1, block2]" in advice
    drawn = {"accuracy": 0.9, "images": 200, "depths_chosen_on": {"images": 100, "accuracy": 0.72}}
    together = {**PLAN, "evidence": {**PLAN["evidence"], "transferred": drawn}}
    advice = " ".join(compare(wrong, right, random, TARGET_LOG, BASELINE_LOG, 100, 0.95, DEPTHS, together)["advice"])
    assert (
        "No other cut promises more: the chosen depths together get 72.0% of left-out training images right" in advice
    )


def test_a_baseline_that_only_few_test_images_speak_for_is_not_told_to_train_more(predictions_table):
    both = predictions_table(["a", "b"], ["a", "b"], NAMES)
    advice = compare(both, both, both, TARGET_LOG, BASELINE_LOG, 2, 0.95)["advice"]
    assert advice[0].startswith("More test images would tell whether training from scratch has learnt anything")
    assert not any("fair chance" in sentence for sentence in advice)


def test_where_left_out_images_say_nothing_no_advice_rests_on_them(predictions):
    target, baseline = predictions([True] * 60 + [False] * 40), predictions([True] * 100)
    knowledge = {"gain": 0.0, "standard_error": 0.0}
    blind = {
        "source_helps": None,
        "evidence": {"knowledge": knowledge, "transferred": {"images": 10, "lone_images": 10}},
    }
    for other in (baseline, predictions([])):
        verdict = compare(target, other, target, TARGET_LOG, BASELINE_LOG, 100, 0.95, DEPTHS, blind)
        advice = " ".join(verdict["advice"])
        assert "left-out training images right" not in advice
        assert "on left-out training images" not in advice
    assert advice.startswith("Label a second image of each class")


def test_a_source_that_helps_is_not_blamed_for_a_method_that_loses(predictions):
    target, baseline = predictions([True] * 60 + [False] * 40), predictions([True] * 100)
    random = predictions([False] * 70 + [True] * 30)
    verdict = compare(target, baseline, random, TARGET_LOG, BASELINE_LOG, 100, 0.95, DEPTHS)
    advice = " ".join(verdict["advice"])
    assert "The source does help over random weights; the method loses to training from scratch (-70.0 points" in advice
    assert "rank_sources" not in advice


def test_a_source_that_adds_nothing_is_named_even_where_transfer_is_better(predictions):
    target, baseline = predictions([True] * 90 + [False] * 10), predictions([True] * 60 + [False] * 40)
    verdict = compare(
        target, baseline, target, TARGET_LOG, BASELINE_LOG, 100, 0.95, DEPTHS.assign(used=[True, True, False])
    )
    assert verdict["verdict"] == "positive"
    assert "adds nothing that is clear" in verdict["advice"][0]
    assert verdict["advice"][1].startswith("No other cut promises more: block2 alone")


def test_a_cut_that_is_not_better_is_not_recommended(predictions):
    target, baseline = predictions([True] * 90 + [False] * 10), predictions([True] * 60 + [False] * 40)
    as_good = DEPTHS.assign(accuracy=[0.4, 0.7, 0.7])
    verdict = compare(target, baseline, target, TARGET_LOG, BASELINE_LOG, 100, 0.95, as_good)
    assert verdict["advice"][1] == (
        "No other cut promises more: block3 alone gets 70.0% of left-out training images right (+15.0 points over "
        "random weights), and block2 alone gets 70.0% of left-out training images right (+20.0 points over random "
        "weights)."
    )


@pytest.mark.parametrize(
    ("mistakes", "words"), [(0, "none of 100 is"), (1, "1 of 100 is"), (5, "5 of 100 are"), (6, "")]
)
def test_where_hardly_an_image_is_mistaken_nothing_else_could_be_clearly_better(predictions, mistakes, words):
    target = predictions([False] * mistakes + [True] * (100 - mistakes))
    advice = compare(target, target, target, TARGET_LOG, BASELINE_LOG, 100, 0.95, DEPTHS, PLAN)["advice"]
    few = f"no other source or cut could be clearly better: {words} mistaken. More test images would tell."
    assert (few in advice[0]) == (mistakes < 6)
    assert (len(advice) == 1) == (mistakes < 6)


def test_a_transfer_that_is_worth_it_needs_no_advice(predictions):
    target, other = predictions([True] * 90 + [False] * 10), predictions([True] * 60 + [False] * 40)
    assert compare(target, other, other, TARGET_LOG, BASELINE_LOG, 100, 0.95, DEPTHS, PLAN)["advice"] == []


def over_seeds(rng, seeds, images, means, training, groups=None):
    """Correct answers of two networks: images differ in difficulty, trainings in luck."""
    difficulty = rng.normal(size=images) if groups is None else rng.normal(size=groups.max() + 1)[groups]
    own = rng.normal(size=(2, 1, images)) * 0.7
    luck, noise = rng.normal(size=(2, seeds, 1)) * training, rng.normal(size=(2, seeds, images))
    return np.array(means)[:, None, None] + difficulty + own + luck + noise > 0


@pytest.mark.parametrize(("seeds", "training"), [(2, 0.2), (5, 0.1), (5, 0.0), (10, 0.2)])
def test_the_interval_over_seeds_holds_both_kinds_of_chance(seeds, training):
    rng = np.random.default_rng(1)
    spread = np.sqrt(1 + 1 + 0.7**2 + training**2)
    truth = stats.norm.cdf(1 / spread) - stats.norm.cdf(0.8 / spread)
    intervals = [
        paired_difference_over_seeds(*over_seeds(rng, seeds, 300, (1, 0.8), training), 0.95) for _ in range(300)
    ]
    covered = np.mean([low <= truth <= high for _, low, high in intervals])
    assert covered > 0.92  # 95%, less two standard errors of 300 draws
    if seeds > 2:
        assert covered < 0.99


def test_training_that_varies_makes_the_interval_wider():
    rng = np.random.default_rng(0)
    steady, varying = (
        paired_difference_over_seeds(*over_seeds(rng, 5, 500, (1, 1), training), 0.95) for training in (0, 0.5)
    )
    assert varying.high - varying.low > 3 * (steady.high - steady.low)


def test_over_seeds_the_two_change_sides(predictions):
    rng = np.random.default_rng(3)
    groups = rng.integers(0, 20, 100)
    for grouping in (None, groups):
        first, second = over_seeds(rng, 3, 100, (1, 0.7), 0.1)
        estimate, low, high = paired_difference_over_seeds(first, second, 0.95, grouping)
        back = paired_difference_over_seeds(second, first, 0.95, grouping)
        np.testing.assert_allclose(back, (-estimate, -high, -low), atol=1e-12)
        assert low <= estimate == pytest.approx(first.mean() - second.mean())


def test_two_that_never_differ_over_seeds_are_not_called_equal_for_certain():
    same = np.ones((3, 50), bool)
    estimate, low, high = paired_difference_over_seeds(same, same, 0.95)
    assert estimate == 0
    assert low == pytest.approx(-high)
    assert 0.03 < high < 0.06  # at least the margin of one image more or less in 52: 1.96 / 52


def test_a_comparison_over_seeds_says_where_the_chance_lies(predictions):
    rng = np.random.default_rng(0)
    first, second = over_seeds(rng, 6, 800, (1.5, 0.5), 0.1)
    targets, baselines = ([predictions(row) for row in side] for side in (first, second))
    found = compare_over_seeds(targets, baselines, 0.95)
    interval = paired_difference_over_seeds(first, second, 0.95)
    assert (found["difference"], found["difference_low"], found["difference_high"]) == pytest.approx(interval)
    assert (found["verdict"], found["seeds"]) == ("positive", 6)
    by_seed = first.mean(axis=1) - second.mean(axis=1)
    assert found["training_deviation"] == pytest.approx(by_seed.std(ddof=1))
    differences = first.astype(float) - second
    of_images = differences.mean(axis=0)
    rest = differences - differences.mean(axis=1, keepdims=True) - of_images + differences.mean()
    between_images = of_images.var(ddof=1) / 800 - (rest**2).sum() / (5 * 799) / (
        6 * 800
    )  # of the analysis of variance
    assert found["test_deviation"] == pytest.approx(np.sqrt(between_images))
    assert found["sentence"].startswith("Over 6 trainings: Transfer is better than training from scratch: +")
    assert json.loads(json.dumps(found)) == found
    back = compare_over_seeds(baselines, targets, 0.95)
    assert (back["verdict"], back["difference"]) == ("negative", pytest.approx(-found["difference"]))
    groups = np.arange(800) // 20
    grouped = compare_over_seeds(
        *([table.assign(group=groups) for table in side] for side in (targets, baselines)), 0.95
    )
    assert grouped["difference_low"] == paired_difference_over_seeds(first, second, 0.95, groups).low


def test_over_seeds_copies_of_images_add_nothing_when_they_are_one_group():
    first, second = over_seeds(np.random.default_rng(3), 10, 100, (1, 0.7), 0.0)
    once = paired_difference_over_seeds(first, second, 0.95)
    copies = first.repeat(10, axis=1), second.repeat(10, axis=1)
    assert paired_difference_over_seeds(*copies, 0.95, np.arange(100).repeat(10)) == pytest.approx(once)
    careless = paired_difference_over_seeds(*copies, 0.95)
    assert careless.high - careless.low < 0.7 * (once.high - once.low)
    assert paired_difference_over_seeds(first, second, 0.95, ["film"] * 100)[1:] == (-1, 1)


def test_one_seed_says_nothing_of_training(predictions):
    with pytest.raises(ValueError, match=r"Two trainings or more .* Received: 1\. Run again"):
        compare_over_seeds([predictions([True] * 5)], [predictions([True] * 5)], 0.95)
    with pytest.raises(ValueError, match=r"Received: 0\. Run again"):
        compare_over_seeds([], [], 0.95)
    with pytest.raises(ValueError, match=r"2 trainings, 1 baselines"):
        compare_over_seeds([predictions([True] * 5)] * 2, [predictions([True] * 5)], 0.95)
    other = predictions([True] * 5).assign(id=list("vwxyz"))
    with pytest.raises(ValueError, match="judged on the same images"):
        compare_over_seeds([predictions([True] * 5), other], [other, other], 0.95)


def test_a_baseline_that_was_not_at_its_end_is_said_to_be_none(predictions):
    right, wrong = predictions(np.ones(300, bool)), predictions(np.arange(300) % 2 == 0)
    verdict = compare(right, wrong, NOTHING, TARGET_LOG, BASELINE_LOG, 100, 0.95, baseline_gain=0.023)
    assert "TRAINING FROM SCRATCH WAS NOT AT ITS END: twice the steps still brought +2.3 points" in verdict["sentence"]
    assert verdict["baseline_gain"] == 0.023
    longer = "Train from scratch for longer before you trust the difference: raise "
    assert longer + "finetune_target.baseline.most_doublings." in verdict["advice"]
    ended = compare(right, wrong, NOTHING, TARGET_LOG, BASELINE_LOG, 100, 0.95)
    assert "AT ITS END" not in ended["sentence"]
    assert not any(longer in advice for advice in ended["advice"])
