import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cnn_transfer.evaluation.intervals import (
    Units,
    anytime_interval,
    effective_number,
    mean_interval,
    proportion_interval,
    resampled_sums,
    resampling_weights,
    score_interval,
    wilson_interval,
)

successes = st.lists(st.booleans(), min_size=1, max_size=100).map(np.array)


def test_units_are_the_groups_in_any_form():
    for groups in (["b", "a", "b", "c"], np.array([5, 2, 5, 9]), [0.5, 1, 0.5, 7]):
        units = Units(groups, 4)
        assert units.codes.tolist() == [0, 1, 0, 2]
        assert (units.number, units.grouped) == (3, True)
    assert not Units(None, 4).grouped
    assert not Units(["x", "y"], 2).grouped


def test_images_without_a_group_are_units_by_themselves():
    assert Units(["a", None, "a", None], 4).codes.tolist() == [0, 1, 0, 2]


def test_the_variance_of_a_mean_of_images_is_the_usual_one():
    values = np.random.default_rng(0).normal(size=50)
    influences = (values - values.mean()) / 50
    assert Units(None, 50).variance(influences) == pytest.approx(values.var(ddof=1) / 50, rel=1e-12)


def test_the_variance_of_groups_is_the_jackknife_that_leaves_one_out():
    """Of a ratio of sums; the formula is its first-order form."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), rng.integers(1, 8, 30))
    values = rng.normal(size=30)[groups] + rng.normal(size=len(groups))
    influences = (values - values.mean()) / len(values)
    left_out = np.array([values[groups != group].mean() for group in range(30)])
    expected = 29 / 30 * np.sum((left_out - values.mean()) ** 2)
    assert Units(groups, len(values)).variance(influences) == pytest.approx(expected, rel=1e-9)


@given(right=successes, confidence=st.floats(0.5, 0.999))
def test_without_groups_a_proportion_has_wilson_s_interval(right, confidence):
    expected = wilson_interval(int(right.sum()), len(right), confidence)
    assert proportion_interval(right, confidence) == expected
    assert proportion_interval(right, confidence, np.arange(len(right))) == expected


@given(right=successes, confidence=st.floats(0.5, 0.999), groups=st.integers(1, 30), seed=st.integers(0, 10))
def test_an_interval_contains_the_estimate_and_stays_within_0_and_1(right, confidence, groups, seed):
    drawn = np.random.default_rng(seed).integers(0, groups, len(right))
    estimate, low, high = proportion_interval(right, confidence, drawn)
    assert estimate == pytest.approx(right.mean())
    assert 0 <= low <= estimate <= high <= 1


@given(share=st.floats(0, 1), trials=st.floats(0.5, 1e6))
def test_a_score_interval_turns_round_with_success_and_failure(share, trials):
    _, low, high = score_interval(share, trials, 1.96)
    np.testing.assert_allclose(score_interval(1 - share, trials, 1.96)[1:], (1 - high, 1 - low), atol=1e-9)


def test_a_score_interval_of_whole_trials_is_wilson_s():
    np.testing.assert_allclose(score_interval(0.3, 20, stats.norm.ppf(0.975)), wilson_interval(6, 20, 0.95), atol=1e-12)


def test_copies_of_an_image_add_nothing_when_they_are_one_group():
    right = np.random.default_rng(0).random(40) < 0.8
    one = proportion_interval(right, 0.95)
    many = proportion_interval(right.repeat(25), 0.95, np.repeat(np.arange(40), 25))
    quantiles = stats.norm.ppf(0.975), stats.t.ppf(0.975, 39)  # the only difference, with 40 / 39 in the variance
    assert (many.high - many.low) / (one.high - one.low) == pytest.approx(quantiles[1] / quantiles[0], rel=0.02)


def test_groups_whose_images_are_unlike_each_other_make_no_interval_shorter():
    right = np.tile([True, False], 20)
    one, pairs = proportion_interval(right, 0.95), proportion_interval(right, 0.95, np.arange(40) // 2)
    assert pairs.low < one.low
    assert pairs.high > one.high


def test_where_nothing_varies_groups_count_and_not_images():
    _, low, high = proportion_interval(np.ones(100, bool), 0.95, np.arange(100) // 10)
    assert high == 1
    assert low == pytest.approx(score_interval(1, 10, stats.t.ppf(0.975, 9)).low)


def test_one_group_says_nothing():
    assert proportion_interval(np.array([True, False]), 0.95, ["a", "a"]) == (0.5, 0, 1)
    assert mean_interval(np.array([1.0, 3.0]), 0.95, ["a", "a"], least=0) == (2, 0, np.inf)


def test_without_skewness_a_mean_has_student_s_interval():
    values = np.array([-3.0, -1, 0, 0, 1, 3])
    estimate, low, high = mean_interval(values, 0.9)
    expected = stats.t.interval(0.9, 5, 0, stats.sem(values))
    assert (estimate, low, high) == pytest.approx((0, *expected))


def test_the_interval_of_a_mean_reaches_further_to_the_side_of_the_long_tail():
    values = np.array([0.0] * 45 + [5.0] * 5)
    estimate, low, high = mean_interval(values, 0.95, least=0)
    assert high - estimate > 1.2 * (estimate - low)
    mirrored = mean_interval(-values, 0.95)
    np.testing.assert_allclose(mirrored, (-estimate, -high, -low))


@given(
    values=st.lists(st.floats(0, 50), min_size=2, max_size=60).map(np.array),
    seed=st.integers(0, 10),
    groups=st.one_of(st.none(), st.integers(1, 20)),
)
def test_the_interval_of_a_mean_contains_it_and_keeps_to_its_bounds(values, seed, groups):
    drawn = None if groups is None else np.random.default_rng(seed).integers(0, groups, len(values))
    estimate, low, high = mean_interval(values, 0.95, drawn, least=0, most=50)
    assert estimate == pytest.approx(values.mean())
    assert 0 <= low <= estimate <= high <= 50


def test_the_interval_of_a_skewed_mean_covers_better_than_student_s():
    rng = np.random.default_rng(0)
    covered = {"hall": 0, "student": 0}
    for _ in range(600):
        values = rng.exponential(size=40) ** 1.5
        truth = 1.3293404  # the gamma function at 2.5
        _, low, high = mean_interval(values, 0.95, least=0)
        covered["hall"] += low <= truth <= high
        low, high = stats.t.interval(0.95, 39, values.mean(), stats.sem(values))
        covered["student"] += low <= truth <= high
    assert covered["hall"] > covered["student"]
    assert covered["hall"] / 600 > 0.91


@pytest.mark.parametrize(("groups", "size", "correlation"), [(40, 5, 0.5), (12, 15, 0.3), (100, 3, 0.9)])
def test_a_proportion_of_grouped_images_is_covered_as_often_as_promised(groups, size, correlation):
    rng = np.random.default_rng(0)
    members = np.repeat(np.arange(groups), size)
    covered = 0
    for _ in range(400):
        latent = np.sqrt(correlation) * rng.normal(size=groups)[members]
        latent += np.sqrt(1 - correlation) * rng.normal(size=len(members))
        _, low, high = proportion_interval(latent < 1, 0.95, members)
        covered += low <= stats.norm.cdf(1) <= high
    assert 0.92 < covered / 400 < 0.985  # 93-97%, give or take a standard error (1.1%) of 400 draws


def test_a_proportion_is_covered_where_few_groups_are_large_and_the_others_single_images():
    rng = np.random.default_rng(0)
    members = np.repeat(np.arange(22), [50, 30] + 20 * [1])
    truth, missed = stats.norm.cdf(1), 0
    for _ in range(300):
        _, low, high = proportion_interval(rng.normal(size=22)[members] < 1, 0.95, members)
        missed += not low <= truth <= high
    assert missed / 300 < 0.05  # 24% with one degree of freedom less than there are groups
    assert Units(np.repeat(np.arange(6), 7), 42).freedom == pytest.approx(5)
    assert Units(np.array([0] * 99 + [1]), 100).freedom == 1


def test_as_many_units_are_drawn_as_there_are_each_as_often():
    weights = resampling_weights(50, 4000, np.random.default_rng(0))
    assert weights.shape == (50, 4000)
    assert set(weights.sum(axis=0)) == {50}
    np.testing.assert_allclose(weights.mean(axis=1), 1, atol=0.08)
    np.testing.assert_allclose(weights.var(axis=1), 49 / 50, atol=0.1)  # of a binomial with 50 trials


def test_sums_are_drawn_with_whole_groups():
    groups = ["a", "a", "a", "b", "c"]
    values = np.array([[1.0, 0], [1, 0], [1, 0], [0, 10], [0, 100]])
    chunks = list(resampled_sums(values, Units(groups, 5), 250, np.random.default_rng(0)))
    sums = np.concatenate(chunks)
    assert [len(chunk) for chunk in chunks] == [100, 100, 50]
    assert set(sums[:, 0]) == {0, 3, 6, 9}
    assert set(sums[:, 0] / 3 + sums[:, 1] // 100 + sums[:, 1] % 100 / 10) == {3}


@given(right=successes, confidence=st.floats(0.5, 0.999))
def test_an_interval_for_every_look_contains_that_for_one_and_turns_round_with_success_and_failure(right, confidence):
    trials = len(right)
    share, low, high = anytime_interval(sum(right), trials, confidence)
    once = stats.binomtest(sum(right), trials).proportion_ci(confidence, method="exact")
    assert 0 <= low <= once.low <= share == sum(right) / trials <= once.high <= high <= 1
    _, turned_low, turned_high = anytime_interval(trials - sum(right), trials, confidence)
    assert (1 - turned_high, 1 - turned_low) == pytest.approx((low, high), abs=1e-9)


@given(trials=st.integers(1, 10**9), failures=st.integers(0, 10**9))
def test_an_interval_for_every_look_is_there_for_any_number_of_trials(trials, failures):
    share, low, high = anytime_interval(trials - min(failures, trials), trials, 0.95)
    assert 0 <= low <= share <= high <= 1


@pytest.mark.slow
@pytest.mark.parametrize("truth", [0.8, 0.9])
def test_an_interval_for_every_look_loses_the_truth_at_none_as_often_as_promised(truth):
    """Looked at after each of 120 trials; one for a single look loses it much more often."""
    successes = (np.random.default_rng(0).random((1000, 120)) < truth).cumsum(axis=1)
    lost = {"any": np.zeros(1000, bool), "one": np.zeros(1000, bool)}
    intervals = {
        "any": lambda count, trials: anytime_interval(count, trials, 0.95),
        "one": lambda count, trials: stats.binomtest(count, trials).proportion_ci(method="exact"),
    }
    for trials, column in enumerate(successes.T, start=1):
        counts = np.unique(column)
        for name, interval in intervals.items():
            for from_the_end in (counts, counts[::-1]):
                for count in from_the_end:
                    if interval(count, trials).low <= truth <= interval(count, trials).high:
                        break
                    lost[name] |= column == count
    assert lost["any"].mean() <= 0.05
    assert lost["one"].mean() >= 0.1


def test_successes_of_a_group_are_worth_one_where_they_go_together():
    together, apart = np.repeat([True, False] * 10, 5), np.tile([True, False, True, False, True], 20)
    groups = pd.Series(np.repeat([f"g{number}" for number in range(20)], 5))
    assert 15 < effective_number(together, groups) < 20
    assert effective_number(apart, groups) == len(apart)
    assert effective_number(together, None) == len(together)
    assert effective_number(together, pd.Series(["one"] * 100)) == 1
