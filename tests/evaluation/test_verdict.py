import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn_transfer.evaluation import compare, paired_difference, training_cost_ratio

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


def test_the_interval_of_a_difference_follows_agresti_and_min():
    # 100 images: 20 only the first has right, 10 only the second. (20.5 - 10.5)/102 with
    # sqrt(31 - 10^2/102)/102 as its deviation.
    first = np.array([True] * 20 + [False] * 10 + [True] * 60 + [False] * 10)
    second = np.array([False] * 20 + [True] * 10 + [True] * 60 + [False] * 10)
    centre, margin = 10 / 102, 1.959964 * np.sqrt(31 - 100 / 102) / 102
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
    cost = training_cost_ratio(TARGET_LOG, lucky)
    assert (cost["baseline_validation_accuracy"], cost["baseline_images"], cost["ratio"]) == (0.9, 200.0, 1.0)


def test_the_cost_is_counted_to_the_first_validation_that_reached_the_baseline_s_best():
    assert training_cost_ratio(TARGET_LOG, BASELINE_LOG) == {
        "baseline_validation_accuracy": 0.9,
        "baseline_images": 400.0,
        "target_images": 200.0,
        "ratio": 0.5,
    }


def test_the_cheapest_trial_counts_on_both_sides_but_the_level_is_the_delivered_one_s():
    other = log([0, 50, 900], [0.1, 0.92, 0.99], delivered=False)
    cost = training_cost_ratio(
        pd.concat([TARGET_LOG, other], ignore_index=True), pd.concat([other, BASELINE_LOG], ignore_index=True)
    )
    assert cost == {
        "baseline_validation_accuracy": 0.9,
        "baseline_images": 50.0,
        "target_images": 50.0,
        "ratio": 1.0,
    }


def test_a_level_that_was_never_reached_has_no_cost():
    cost = training_cost_ratio(log([0, 100], [0.3, 0.89]), BASELINE_LOG)
    assert (cost["baseline_images"], cost["target_images"], cost["ratio"]) == (400.0, None, None)


def test_a_network_that_starts_at_the_level_costs_nothing():
    cost = training_cost_ratio(log([0, 100], [0.92, 0.95]), BASELINE_LOG)
    assert (cost["target_images"], cost["ratio"]) == (0.0, 0.0)


def test_a_baseline_that_was_not_trained_has_no_cost():
    cost = training_cost_ratio(TARGET_LOG, BASELINE_LOG.iloc[:0])
    assert set(cost.values()) == {None}


def test_an_accuracy_that_differs_in_rounding_only_counts_as_reached():
    cost = training_cost_ratio(log([0, 100], [0.3, 0.9 - 1e-12]), BASELINE_LOG)
    assert cost["target_images"] == 100.0


def test_a_clear_win_is_positive_transfer(predictions):
    right, wrong = predictions([True] * 95 + [False] * 5), predictions([True] * 60 + [False] * 40)
    verdict = compare(right, wrong, NOTHING, TARGET_LOG, BASELINE_LOG, 0.95)
    assert verdict["verdict"] == "positive"
    assert verdict["difference"] == pytest.approx(0.35)
    assert 0 < verdict["difference_low"] < 0.35 < verdict["difference_high"]
    assert verdict["sentence"].startswith("Transfer is better than training from scratch: +35.0 points of accuracy (+")
    assert "cheaper: it reached the same validation accuracy after 50% of the images" in verdict["sentence"]


def test_a_clear_loss_is_called_negative_transfer(predictions):
    wrong, right = predictions([False] * 40 + [True] * 60), predictions([True] * 100)
    verdict = compare(wrong, right, NOTHING, TARGET_LOG, BASELINE_LOG, 0.95)
    assert verdict["verdict"] == "negative"
    assert verdict["sentence"].startswith("NEGATIVE TRANSFER: it is worse than training from scratch: -40.0 points")


def test_a_difference_within_chance_is_neutral(predictions):
    one, other = predictions([True] * 80 + [False] * 20), predictions([True] * 79 + [False] * 21)
    verdict = compare(one, other, NOTHING, TARGET_LOG, BASELINE_LOG, 0.95)
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
    there = compare(first, second, random, TARGET_LOG, BASELINE_LOG, 0.95)
    back = compare(second, first, random, TARGET_LOG, BASELINE_LOG, 0.95)
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
    verdict = compare(target, baseline, predictions(random), TARGET_LOG, BASELINE_LOG, 0.95)
    assert said in verdict["sentence"]
    assert verdict["sentence"].endswith(f"the method by itself {100 * (np.mean(random) - 0.6):+.1f}.")
    assert verdict["knowledge"]["estimate"] == pytest.approx(0.8 - np.mean(random))
    assert verdict["method"]["estimate"] == pytest.approx(np.mean(random) - 0.6)


def test_without_random_weights_nothing_is_said_about_them(predictions):
    target = predictions([True] * 10)
    verdict = compare(target, target, NOTHING, TARGET_LOG, BASELINE_LOG, 0.95)
    assert (verdict["knowledge"], verdict["method"]) == (None, None)
    assert "random" not in verdict["sentence"]


def test_without_a_baseline_what_the_source_brings_is_still_said(predictions):
    target, random = predictions([True] * 80 + [False] * 20), predictions([True] * 50 + [False] * 50)
    verdict = compare(target, NOTHING, random, TARGET_LOG, BASELINE_LOG.iloc[:0], 0.95)
    assert (verdict["verdict"], verdict["method"]) == (None, None)
    assert verdict["knowledge"]["estimate"] == pytest.approx(0.3)
    assert "nothing to compare with. The source's weights bring +30.0 points" in verdict["sentence"]
    assert "the method by itself" not in verdict["sentence"]


def test_predictions_of_other_images_or_in_another_order_are_refused(predictions):
    target = predictions([True] * 10)
    for other in (target.iloc[::-1], target.iloc[:-1], target.assign(id="x" + target["id"])):
        for baseline, random in ((other, NOTHING), (target, other), (NOTHING, other)):
            with pytest.raises(ValueError, match=r"judged on the same images\. Received: 10 predictions of one"):
                compare(target, baseline, random, TARGET_LOG, BASELINE_LOG, 0.95)


def test_without_a_baseline_there_is_no_verdict(predictions):
    target = predictions([True] * 10)
    verdict = compare(target, NOTHING, NOTHING, TARGET_LOG, BASELINE_LOG.iloc[:0], 0.95)
    assert verdict["verdict"] is None
    assert verdict["difference"] is None
    assert verdict["training_cost"]["ratio"] is None
    assert "No baseline was trained" in verdict["sentence"]


def test_every_verdict_has_the_same_keys_and_is_json(predictions):
    target = predictions([True] * 10)
    pairs = [(baseline, random) for baseline in (target, NOTHING) for random in (target, NOTHING)]
    verdicts = [compare(target, *pair, TARGET_LOG, BASELINE_LOG, 0.95) for pair in pairs]
    assert len({tuple(verdict) for verdict in map(sorted, verdicts)}) == 1
    assert [json.loads(json.dumps(verdict)) for verdict in verdicts] == verdicts


@pytest.mark.parametrize(
    ("target_log", "said"),
    [
        (log([0, 100], [0.3, 0.5]), "It never reached the final validation accuracy of training from scratch."),
        (log([0, 800], [0.3, 0.95]), "It was not cheaper: it reached the same validation accuracy after 200%"),
    ],
)
def test_the_sentence_says_when_transfer_was_not_cheaper(predictions, target_log, said):
    same = predictions([True] * 8 + [False] * 2)
    assert said in compare(same, same, NOTHING, target_log, BASELINE_LOG, 0.95)["sentence"]


def test_a_level_reached_by_both_before_any_training_is_not_called_unreached(predictions):
    same = predictions([True] * 8 + [False] * 2)
    at_once = log([0, 200], [0.9, 0.8], delivered=True)
    sentence = compare(same, same, NOTHING, log([0, 100], [0.95, 0.95]), at_once, 0.95)["sentence"]
    assert "never reached" not in sentence
