import numpy as np
import pytest

from cnn_transfer.transfer.groups import clear_errors, mean_and_error, rows_left_out


def test_rows_of_an_image_and_of_its_group_are_left_out_together():
    assert [rows.tolist() for rows in rows_left_out(3, copies=2)] == [[[0, 1], [2, 3], [4, 5]]]
    groups = np.array([7, 3, 7, 5])
    assert [rows.tolist() for rows in rows_left_out(4, 2, groups)] == [[[2, 3], [6, 7]], [[0, 1, 4, 5]]]


def test_the_error_of_a_mean_of_single_images_is_the_usual_one():
    values = np.random.default_rng(0).normal(size=50)
    expected = values.mean(), values.std(ddof=1) / np.sqrt(50)
    assert mean_and_error(values) == pytest.approx(expected)
    assert mean_and_error(values, np.arange(50)[::-1]) == pytest.approx(expected)


def test_images_that_are_repeated_make_no_mean_surer():
    values = np.random.default_rng(0).normal(size=40)
    known, ignored = mean_and_error(values.repeat(4), np.arange(40).repeat(4)), mean_and_error(values.repeat(4))
    assert known == pytest.approx(mean_and_error(values))
    assert ignored[1] < 0.6 * known[1]


def test_the_error_is_the_deviation_of_means_over_draws_of_groups():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), rng.integers(1, 8, 30))
    draws = [rng.normal(size=30)[groups] + rng.normal(size=len(groups)) for _ in range(2000)]
    found = [mean_and_error(values, groups) for values in draws]
    assert np.sqrt(np.mean([error**2 for _, error in found])) == pytest.approx(np.std([m for m, _ in found]), rel=0.06)


@pytest.mark.parametrize("sizes", [[20, 20], [20] * 5, [50, 10, 10, 5], [80] + 9 * [2], [50, 30] + 20 * [1]])
def test_a_mean_over_few_groups_is_seldom_clear_where_it_is_0(sizes):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    clear = clear_errors(len(groups), groups)
    draws = [rng.normal(size=len(sizes))[groups] + rng.normal(size=len(groups)) for _ in range(400)]
    seemed = [mean > clear * error for mean, error in (mean_and_error(values, groups) for values in draws)]
    assert np.mean(seemed) <= 0.045  # 2.5%, and three standard errors of so many draws


def test_a_gain_is_clear_from_students_quantile_on_for_all_tests_together():
    assert clear_errors(100_000) == pytest.approx(1.96, abs=1e-3)
    assert clear_errors(40, np.repeat(np.arange(10), 4)) == pytest.approx(2.262, abs=1e-3)
    assert clear_errors(100_000, tests=10) == pytest.approx(2.807, abs=1e-3)
