import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score, precision_score, recall_score

from cnn_transfer.evaluation import confusion_table, measure, per_class_table, wilson_interval

NAMES = ["a", "b", "c"]


def table(labels, predicted):
    return pd.DataFrame({"label": list(labels), "predicted": list(predicted)})


@pytest.fixture(scope="module")
def random_table():
    rng = np.random.default_rng(0)
    labels = rng.choice(NAMES, 200, p=[0.6, 0.3, 0.1])
    return table(labels, np.where(rng.random(200) < 0.7, labels, rng.choice(NAMES, 200)))


def test_wilson_s_interval_of_8_in_10():
    interval = wilson_interval(8, 10, 0.95)
    np.testing.assert_allclose(interval, (0.8, 0.490162, 0.943318), atol=1e-6)


@given(trials=st.integers(1, 5000), share=st.floats(0, 1), confidence=st.floats(0.5, 0.999))
def test_wilson_s_interval_contains_the_estimate_and_follows_its_formula(trials, share, confidence):
    successes = round(share * trials)
    estimate, low, high = wilson_interval(successes, trials, confidence)
    z = stats.norm.ppf((1 + confidence) / 2)
    centre = (successes + z**2 / 2) / (trials + z**2)
    half = z / (trials + z**2) * np.sqrt(estimate * (1 - estimate) * trials + z**2 / 4)
    np.testing.assert_allclose((low, high), (max(0, centre - half), min(1, centre + half)), atol=1e-9)
    assert 0 <= low <= estimate + 1e-12
    assert estimate - 1e-12 <= high <= 1


def test_the_confusion_counts_true_classes_in_rows_and_predictions_in_columns():
    confusion = confusion_table(table("aaabb", "aabba"), NAMES)
    assert confusion.columns.tolist() == ["label", *NAMES]
    assert confusion.to_numpy().tolist() == [["a", 2, 1, 0], ["b", 1, 1, 0], ["c", 0, 0, 0]]


def test_figures_of_each_class_are_scikit_learn_s(random_table):
    found = per_class_table(random_table, NAMES, 0.9)
    true, predicted = random_table["label"], random_table["predicted"]
    np.testing.assert_allclose(found["recall"], recall_score(true, predicted, average=None))
    np.testing.assert_allclose(found["precision"], precision_score(true, predicted, average=None))
    np.testing.assert_allclose(found["f1"], f1_score(true, predicted, average=None))
    assert found["images"].tolist() == [int((true == name).sum()) for name in NAMES]


def test_recall_has_wilson_s_interval(random_table):
    found = per_class_table(random_table, NAMES, 0.9).set_index("label")
    of_b = random_table[random_table["label"] == "b"]
    expected = wilson_interval(int((of_b["predicted"] == "b").sum()), len(of_b), 0.9)
    np.testing.assert_allclose(found.loc["b", ["recall", "recall_low", "recall_high"]].astype(float), expected)


def test_what_a_class_does_not_have_is_missing_and_not_zero():
    found = per_class_table(table("aab", "aaa"), NAMES, 0.95).set_index("label")
    assert found.loc["b", "recall"] == 0  # it has images, all wrong
    assert found.loc["b", "recall_high"] < 1
    assert np.isnan(found.loc["b", "precision"])  # it was never predicted
    assert found.loc["c", "images"] == 0
    assert found.loc["c", ["recall", "recall_low", "recall_high", "precision"]].isna().all()


def test_accuracy_and_macro_f1_are_scikit_learn_s(random_table):
    found = measure(random_table, NAMES, 0.95, 200, 0)
    true, predicted = random_table["label"], random_table["predicted"]
    assert found["images"] == 200
    assert found["macro_f1"] == pytest.approx(f1_score(true, predicted, average="macro"))
    expected = wilson_interval(int((true == predicted).sum()), 200, 0.95)
    np.testing.assert_allclose([found["accuracy"], found["accuracy_low"], found["accuracy_high"]], expected)


def test_macro_f1_averages_over_the_classes_that_have_images():
    # Class c has no image. a: 1 right of 2, predicted once: 2/3. b: 1 right of 1, predicted once: 1.
    found = measure(table("aab", "acb"), NAMES, 0.95, 50, 0)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)


def test_macro_f1_counts_a_class_that_is_never_predicted_as_zero():
    # a: 2 right of 2, predicted three times: 4/5. b: 0.
    found = measure(table("aab", "aaa"), NAMES, 0.95, 50, 0)
    assert found["macro_f1"] == pytest.approx(0.4)


@given(
    pairs=st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), min_size=20, max_size=80),
    seed=st.integers(0, 100),
)
def test_all_intervals_contain_their_estimates_and_stay_within_0_and_1(pairs, seed):
    found = measure(table(*zip(*pairs, strict=True)), NAMES, 0.99, 300, seed)
    for name in ("accuracy", "macro_f1"):
        assert 0 <= found[f"{name}_low"] <= found[name] + 1e-12
        assert found[name] - 1e-12 <= found[f"{name}_high"] <= 1 + 1e-12


def test_the_bootstrap_is_that_of_images(random_table):
    """Resampling images one by one, as slowly as it can be done, gives nearly the same ends."""
    rng = np.random.default_rng(1)
    scores = []
    for _ in range(400):
        drawn = random_table.iloc[rng.integers(0, 200, 200)]
        scores.append(f1_score(drawn["label"], drawn["predicted"], average="macro"))
    found = measure(random_table, NAMES, 0.8, 4000, 0)
    np.testing.assert_allclose(
        [found["macro_f1_low"], found["macro_f1_high"]], np.quantile(scores, [0.1, 0.9]), atol=0.012
    )


def test_the_bootstrap_is_drawn_by_its_seed(random_table):
    assert measure(random_table, NAMES, 0.95, 200, 3) == measure(random_table, NAMES, 0.95, 200, 3)
    assert measure(random_table, NAMES, 0.95, 200, 3) != measure(random_table, NAMES, 0.95, 200, 4)


def test_more_confidence_makes_wider_intervals(random_table):
    narrow, wide = (measure(random_table, NAMES, confidence, 500, 0) for confidence in (0.8, 0.99))
    for name in ("accuracy", "macro_f1"):
        assert wide[f"{name}_low"] < narrow[f"{name}_low"]
        assert narrow[f"{name}_high"] < wide[f"{name}_high"]


def test_a_perfect_network_is_not_certain_either():
    found = measure(table("abcabc", "abcabc"), NAMES, 0.95, 100, 0)
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):
        assert found[name] == found[f"{name}_high"] == 1
        assert found[f"{name}_low"] == pytest.approx(wilson_interval(6, 6, 0.95).low)
