import json
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    balanced_accuracy_score,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
    top_k_accuracy_score,
)

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
    assert confusion.columns.tolist() == ["label", *(f"predicted_{name}" for name in NAMES)]
    assert confusion.to_numpy().tolist() == [["a", 2, 1, 0], ["b", 1, 1, 0], ["c", 0, 0, 0]]


def test_the_confusion_of_classes_that_are_called_like_columns_has_every_column_once():
    names = ["id", "label", "path", "predicted", "split"]
    confusion = confusion_table(pd.DataFrame({"label": names, "predicted": names}), names)
    assert confusion.columns.is_unique
    assert confusion["label"].tolist() == names
    assert confusion["predicted_label"].tolist() == [0, 1, 0, 0, 0]


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
    """Resampling images one by one, as slowly as it can be done, gives nearly the same interval."""
    rng = np.random.default_rng(1)
    scores = []
    for _ in range(400):
        drawn = random_table.iloc[rng.integers(0, 200, 200)]
        scores.append(f1_score(drawn["label"], drawn["predicted"], average="macro"))
    found = measure(random_table, NAMES, 0.8, 4000, 0)
    centre = 2 * found["macro_f1"] - np.mean(scores)
    ends = centre + stats.norm.ppf([0.1, 0.9]) * np.std(scores)
    np.testing.assert_allclose([found["macro_f1_low"], found["macro_f1_high"]], ends, atol=0.008)


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


LETTERS = list("abcdefgh")
RANGED = ("accuracy", "balanced_accuracy", "macro_f1", "top_2_accuracy", "auroc", "brier", "ece", "classwise_ece")


def classified(images, class_names, seed=0, sharpness=1.0, groups=None, shift=1.5):
    """Predictions with probabilities; calibrated where `sharpness` is 1."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(class_names), images)
    logits = rng.normal(size=(images, len(class_names)))
    logits[np.arange(images), labels] += shift
    odds = np.exp(shift * sharpness * logits)
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    names = np.array(class_names)
    found = table(names[labels], names[probabilities.argmax(axis=1)])
    found.insert(0, "id", [f"i{n}" for n in range(images)])
    if groups is not None:
        found["group"] = rng.integers(0, groups, images)
    columns = [f"probability_{name}" for name in class_names]
    return pd.concat([found, pd.DataFrame(probabilities.astype(np.float32), columns=columns)], axis=1)


def probabilities_of(predictions):
    return predictions.filter(like="probability_").to_numpy(float)


def test_figures_of_probabilities_are_scikit_learn_s():
    predictions = classified(500, LETTERS)
    found, true, scores = (
        measure(predictions, LETTERS, 0.95, 100, 0),
        predictions["label"],
        probabilities_of(predictions),
    )
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(true, predictions["predicted"]))
    assert found["log_loss"] == pytest.approx(log_loss(true, scores / scores.sum(axis=1, keepdims=True)), rel=1e-5)
    normalised = scores / scores.sum(axis=1, keepdims=True)
    assert found["auroc"] == pytest.approx(roc_auc_score(true, normalised, multi_class="ovr"), abs=1e-6)
    for k in (2, 3, 5):
        assert found[f"top_{k}_accuracy"] == pytest.approx(top_k_accuracy_score(true, scores, k=k, labels=LETTERS))
    one_hot = (true.to_numpy()[:, None] == np.array(LETTERS)).astype(float)
    assert found["brier"] == pytest.approx(np.mean(np.sum((scores - one_hot) ** 2, axis=1)))


def test_the_auroc_of_each_class_is_scikit_learn_s():
    predictions = classified(300, NAMES)
    found = per_class_table(predictions, NAMES, 0.95)
    for place, name in enumerate(NAMES):
        expected = roc_auc_score(predictions["label"] == name, probabilities_of(predictions)[:, place])
        assert found["auroc"][place] == pytest.approx(expected)
    assert (found["auroc_low"] < found["auroc"]).all()
    assert (found["auroc"] < found["auroc_high"]).all()


def test_the_interval_of_an_auroc_has_delong_s_variance_and_hall_s_form():
    predictions = classified(60, ["a", "b"], shift=0.7)
    found = per_class_table(predictions, ["a", "b"], 0.95).iloc[1]
    scores, positive = predictions["probability_b"].to_numpy(), (predictions["label"] == "b").to_numpy()
    order = (scores[positive][:, None] > scores[~positive]).astype(float)
    assert found["auroc"] == pytest.approx(order.mean())
    placements = [order.mean(axis=1), order.mean(axis=0)]  # of the positives, of the negatives
    variance = sum(values.var(ddof=1) / len(values) for values in placements) * 60 / 59  # of the jackknife
    parts = np.concatenate(
        [(values - order.mean()) / np.sqrt(len(values) * (len(values) - 1)) for values in placements]
    )
    skewness = np.sum(parts**3) / np.sum(parts**2) ** 1.5
    quantile = stats.t.ppf(0.975, min(map(len, placements)) - 1)
    for end, sign in (("auroc_low", 1), ("auroc_high", -1)):
        corrected = 3 / skewness * (np.cbrt(1 + skewness * (sign * quantile - skewness / 6)) - 1)
        assert found[end] == pytest.approx(found["auroc"] - np.sqrt(variance) * corrected)


def test_the_calibration_error_is_that_of_scikit_learn_s_curve():
    predictions = classified(600, NAMES, sharpness=2)
    found = measure(predictions, NAMES, 0.95, 100, 0)
    confidence = probabilities_of(predictions).max(axis=1)
    right = (predictions["label"] == predictions["predicted"]).to_numpy()
    happened, said = calibration_curve(right, confidence, n_bins=15, strategy="quantile")
    assert found["ece"] == pytest.approx(np.mean(np.abs(happened - said)), abs=1e-6)  # 15 bins of 40
    assert found["ece_bins"] == 15


def test_calibration_errors_of_a_written_out_case():
    # 20 images, two bins of 10. Said: 0.6 and 0.9. Right: 5 and 10. (|0.5 - 0.6| + |1 - 0.9|) / 2.
    confidence = np.repeat([0.6, 0.9], 10)
    right = np.array([True] * 5 + [False] * 5 + [True] * 10)
    predictions = table(np.where(right, "a", "b"), ["a"] * 20).assign(
        probability_a=confidence, probability_b=1 - confidence
    )
    found = measure(predictions, ["a", "b"], 0.95, 100, 0)
    assert found["ece"] == pytest.approx(0.1)
    assert found["classwise_ece"] == pytest.approx(0.1)  # of both classes alike
    assert found["ece_bins"] == 2
    assert "20 test images are few for calibration errors: 2 bins instead of 15" in " ".join(found["statements"])


def test_equal_confidences_share_a_bin_in_whatever_order_they_come():
    predictions = classified(300, NAMES)
    rough = predictions.assign(probability_a=0.5, probability_b=0.25, probability_c=0.25, predicted="a")
    found = measure(rough, NAMES, 0.95, 100, 0)
    assert found["ece"] == pytest.approx(abs((rough["label"] == "a").mean() - 0.5))


def test_a_calibration_error_that_chance_explains_has_an_interval_down_to_0():
    assert measure(classified(300, NAMES), NAMES, 0.95, 200, 0)["ece_low"] == 0
    assert measure(classified(300, NAMES, sharpness=4), NAMES, 0.95, 200, 0)["ece_low"] > 0.05


def test_what_a_calibrated_network_s_error_would_be_is_that_of_drawn_labels():
    predictions = classified(400, NAMES)
    scores = probabilities_of(predictions)
    found = measure(predictions, NAMES, 0.95, 100, 0)["ece_if_calibrated"]
    rng, errors = np.random.default_rng(5), []
    for _ in range(200):
        drawn = (scores.cumsum(axis=1) < rng.random((400, 1)) * scores.sum(axis=1, keepdims=True)).sum(axis=1)
        errors.append(measure(predictions.assign(label=np.array(NAMES)[drawn]), NAMES, 0.95, 2, 0)["ece"])
    assert found == pytest.approx(np.mean(errors), rel=0.05)


@given(images=st.integers(2, 60), seed=st.integers(0, 30), groups=st.one_of(st.none(), st.integers(1, 20)))
def test_intervals_contain_what_they_are_about_and_are_plain_numbers(images, seed, groups):
    found = measure(classified(images, list("abcd"), seed, groups=groups), list("abcd"), 0.9, 50, seed)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    for name in RANGED:
        if found[name] is None:
            assert name == "auroc"
            continue
        assert 0 <= found[f"{name}_low"] <= found[name] <= found[f"{name}_high"] <= (2 if name == "brier" else 1)
    if found["groups"] > 1:
        assert 0 <= found["log_loss_low"] <= found["log_loss"] <= found["log_loss_high"]
    else:
        assert found["log_loss_high"] is None
        assert any("how sure the figures are cannot be said" in sentence for sentence in found["statements"])


@given(order=st.permutations(range(4)), seed=st.integers(0, 10))
def test_the_order_of_the_classes_does_not_matter(order, seed):
    names = list("abcd")
    predictions = classified(80, names, seed)
    other = [names[place] for place in order]
    figures = [measure(predictions, classes, 0.95, 50, seed) for classes in (names, other)]
    for name, value in figures[0].items():
        if isinstance(value, float):
            assert figures[1][name] == pytest.approx(value, abs=1e-6)
    tables = [per_class_table(predictions, classes, 0.95).set_index("label") for classes in (names, other)]
    pd.testing.assert_frame_equal(tables[0], tables[1].loc[names])


def test_the_order_of_the_images_changes_no_estimate():
    predictions = classified(200, NAMES, groups=40)
    there, back = (measure(part, NAMES, 0.95, 50, 0) for part in (predictions, predictions.iloc[::-1]))
    for name in (*RANGED, "log_loss", "accuracy_low", "auroc_high", "log_loss_high", "balanced_accuracy_low"):
        if name in there:
            assert there[name] == pytest.approx(back[name])


def test_recall_precision_and_f1_have_intervals_that_contain_them():
    found = per_class_table(classified(200, NAMES), NAMES, 0.95)
    for name in ("recall", "precision", "f1", "auroc"):
        assert (found[f"{name}_low"] < found[name]).all()
        assert (found[name] < found[f"{name}_high"]).all()


def test_precision_has_wilson_s_interval_and_f1_that_of_its_proportion(random_table):
    found = per_class_table(random_table, NAMES, 0.9).set_index("label")
    true, predicted = random_table["label"] == "b", random_table["predicted"] == "b"
    both = int((true & predicted).sum())
    expected = wilson_interval(both, int(predicted.sum()), 0.9)
    np.testing.assert_allclose(found.loc["b", ["precision", "precision_low", "precision_high"]].astype(float), expected)
    jaccard = np.array(wilson_interval(both, int((true | predicted).sum()), 0.9))
    np.testing.assert_allclose(found.loc["b", ["f1", "f1_low", "f1_high"]].astype(float), 2 * jaccard / (1 + jaccard))


def test_copies_of_images_make_no_interval_shorter_when_their_groups_are_known():
    predictions = classified(100, NAMES)
    copies = predictions.loc[predictions.index.repeat(10)].assign(group=np.repeat(np.arange(100), 10))
    once, known, unknown = (
        measure(part, NAMES, 0.95, 500, 0) for part in (predictions, copies, copies.drop(columns="group"))
    )
    assert (once["groups"], known["groups"], unknown["groups"]) == (100, 100, 1000)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "log_loss", "brier", "top_2_accuracy"):
        widths = [found[f"{name}_high"] - found[f"{name}_low"] for found in (once, known, unknown)]
        assert widths[1] == pytest.approx(widths[0], rel=0.12), name
        assert widths[2] < 0.5 * widths[1], name
    assert "of 100 groups, which the intervals take into account" in known["statements"][0]
    of_classes = [per_class_table(part, NAMES, 0.95) for part in (predictions, copies, copies.drop(columns="group"))]
    for name in ("recall", "precision", "f1", "auroc"):
        once, known, unknown = (table[f"{name}_high"] - table[f"{name}_low"] for table in of_classes)
        assert known.tolist() == pytest.approx(once.tolist(), rel=0.15), name
        assert (unknown < 0.5 * known).all(), name


def test_few_groups_are_said_to_be_few():
    said = measure(classified(100, NAMES, groups=4), NAMES, 0.95, 50, 0)["statements"]
    assert any("So few groups make the intervals wide." in sentence for sentence in said)


def test_one_group_has_estimates_and_no_certainty():
    found = measure(classified(50, NAMES).assign(group="film"), NAMES, 0.95, 50, 0)
    assert (found["accuracy_low"], found["accuracy_high"], found["groups"]) == (0, 1, 1)
    assert found["log_loss"] > 0
    assert found["log_loss_high"] is None
    assert "All test images are of one group: how sure the figures are cannot be said." in found["statements"]


def test_a_class_without_test_images_is_named_and_left_out():
    predictions = classified(200, NAMES)
    rest = predictions[predictions["label"] != "b"]
    found = measure(rest, NAMES, 0.95, 100, 0)
    assert "No test image is of class b: averages over classes leave it out." in found["statements"]
    recalls = recall_score(rest["label"], rest["predicted"], labels=["a", "c"], average=None)
    assert found["balanced_accuracy"] == pytest.approx(recalls.mean())
    areas = [roc_auc_score(rest["label"] == name, rest[f"probability_{name}"]) for name in "ac"]
    assert found["auroc"] == pytest.approx(np.mean(areas))
    lacking = per_class_table(rest, NAMES, 0.95).set_index("label").loc["b"]
    assert lacking[["recall", "recall_low", "auroc", "auroc_low", "auroc_high"]].isna().all()
    assert lacking["f1"] == 0  # it was predicted, always wrongly


@pytest.mark.parametrize("wrong", [1, 6, 30])
def test_where_classes_have_equally_many_images_balanced_accuracy_is_about_as_sure_as_accuracy(wrong):
    names = [f"c{k}" for k in range(10)]
    labels = np.repeat(names, 12)
    predicted = labels.copy()
    mistaken = np.linspace(0, 119, wrong).astype(int)  # some of every class
    predicted[mistaken] = np.repeat(np.roll(names, 1), 12)[mistaken]
    found = measure(pd.DataFrame({"id": range(120), "label": labels, "predicted": predicted}), names, 0.95, 2, 0)
    for end in ("low", "high"):
        assert found[f"balanced_accuracy_{end}"] == pytest.approx(found[f"accuracy_{end}"], abs=0.01)


def test_one_image_of_a_class_says_nothing_of_the_auroc_of_others():
    predictions = classified(60, ["a", "b"], shift=0.7)
    few = pd.concat([predictions[predictions["label"] == "a"], predictions[predictions["label"] == "b"].head(1)])
    found = per_class_table(few, ["a", "b"], 0.95)
    assert found["auroc"].notna().all()
    assert (found["auroc_low"].tolist(), found["auroc_high"].tolist()) == ([0, 0], [1, 1])
    of_all = measure(few, ["a", "b"], 0.95, 2, 0)
    assert (of_all["auroc_low"], of_all["auroc_high"]) == (0, 1)


def test_one_class_alone_has_no_auroc():
    predictions = classified(100, NAMES)
    found = measure(predictions[predictions["label"] == "a"], NAMES, 0.95, 100, 0)
    assert (found["auroc"], found["auroc_low"], found["auroc_high"]) == (None, None, None)
    assert "All test images are of class a: there is no AUROC." in found["statements"]
    assert 0 < found["accuracy"] == found["balanced_accuracy"] < 1


def test_one_image_is_measured_and_proves_nothing():
    found = measure(classified(1, NAMES), NAMES, 0.95, 100, 0)
    assert found["ece_bins"] == 1
    assert any(sentence.startswith("There is one test image: how sure") for sentence in found["statements"])
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_without_probabilities_what_needs_them_is_none_and_said_to_be(random_table):
    found = measure(random_table, NAMES, 0.95, 100, 0)
    assert {found[name] for name in ("auroc", "log_loss", "brier", "ece", "classwise_ece", "top_2_accuracy")} == {None}
    assert any(sentence.startswith("The predictions hold no probabilities") for sentence in found["statements"])
    assert per_class_table(random_table, NAMES, 0.95)["auroc"].isna().all()


def beside_one_answer(labels, predicted, groups=None):
    found = measure(table(labels, predicted).assign(**({"group": groups} if groups else {})), NAMES[:2], 0.95, 50, 0)
    return next((text for text in found["statements"] if "lways saying " in text), "")


def test_who_always_gives_one_answer_is_not_shown_to_tell_the_classes_apart():
    assert beside_one_answer("a" * 35 + "b" * 5, "a" * 40).startswith(
        "NOTHING SHOWS THAT THE NETWORK TELLS THE CLASSES APART: always saying a would have 87.5% of the test images "
        "right, the network has 87.5%. Where every class counts the same, that would have 50.0%, the network has 50.0% "
        "("
    )
    assert beside_one_answer("a" * 35 + "b" * 5, "b" * 40).startswith("NOTHING SHOWS")


def test_who_knows_a_rare_class_at_the_cost_of_a_frequent_one_is_told_apart_from_that():
    said = beside_one_answer("a" * 190 + "b" * 10, "a" * 181 + "b" * 9 + "b" * 9 + "a")
    assert said.startswith("Always saying a would have 95.0% of the test images right, the network has 95.0%. Where")
    assert "that would have 50.0%, the network has 92.6% (" in said


def test_of_who_is_clearly_better_than_one_answer_nothing_is_said_and_copies_prove_nothing():
    labels, predicted = "a" * 60 + "b" * 20, "a" * 58 + "b" * 2 + "b" * 14 + "a" * 6
    assert beside_one_answer(labels, predicted) == ""
    few = [0, 0, 1, 2, 3, 60, 60, 61, 62, 75]  # ten pictures, eight times each
    copied = [8 * [text[place] for place in few] for text in (labels, predicted)]
    assert beside_one_answer(*copied) == ""
    assert beside_one_answer(*copied, groups=8 * list(range(10)))


def test_guessing_is_seldom_taken_for_knowledge():
    rng = np.random.default_rng(0)
    draws = [rng.choice(["a", "b"], (2, 100), p=[0.8, 0.2]) for _ in range(200)]
    assert np.mean([beside_one_answer(*draw).startswith("NOTHING SHOWS") for draw in draws]) > 0.93


def test_top_k_stops_below_the_number_of_classes():
    assert {key for key in measure(classified(50, NAMES), NAMES, 0.95, 50, 0) if key.startswith("top_")} == {
        "top_2_accuracy",
        "top_2_accuracy_low",
        "top_2_accuracy_high",
    }
    assert not [key for key in measure(classified(50, ["a", "b"]), ["a", "b"], 0.95, 50, 0) if key.startswith("top_")]


def test_a_probability_of_zero_for_the_true_class_counts_as_the_smallest_and_is_said():
    predictions = table("aab", "aaa").assign(probability_a=[1.0, 1, 1], probability_b=[0.0, 0, 0])
    found = measure(predictions, ["a", "b"], 0.95, 50, 0)
    assert found["log_loss"] == pytest.approx(-np.log(np.finfo(np.float32).eps) / 3)
    assert any("The true class of 1 image got a probability of 0" in sentence for sentence in found["statements"])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.nan, r"between 0 and 1\. Received: others for 2 of 20 images, first i3 \("),
        (1.5, "between 0 and 1"),
        (-0.1, "between 0 and 1"),
        (np.inf, "between 0 and 1"),
        (0.99, r"adding up to 1\. Received: others for 2 of 20 images, first i3 \("),
    ],
)
def test_probabilities_that_are_none_are_refused_with_the_first_image(value, said):
    predictions = classified(20, NAMES)
    predictions.loc[[3, 7], "probability_b"] = value
    predictions.loc[[3, 7], "probability_a"] = 0.9
    for judge in (lambda: measure(predictions, NAMES, 0.95, 50, 0), lambda: per_class_table(predictions, NAMES, 0.95)):
        with pytest.raises(ValueError, match=said) as failure:
            judge()
        assert "lower the learning rate and train again" in str(failure.value)


def test_labels_and_columns_of_another_network_are_refused():
    predictions = classified(20, NAMES)
    with pytest.raises(ValueError, match=r"must be one of the 2 classes of the network\. Received: 'c'"):
        measure(predictions, ["a", "b"], 0.95, 50, 0)
    with pytest.raises(ValueError, match=r"Missing: probability_c\. Run evaluate again"):
        measure(predictions.drop(columns="probability_c"), NAMES, 0.95, 50, 0)
    with pytest.raises(ValueError, match="no predictions to measure"):
        measure(predictions.iloc[:0], NAMES, 0.95, 50, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("images", "groups", "figures"),
    [
        (100, None, ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "log_loss", "brier")),
        (300, 40, ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "log_loss", "brier")),
    ],
)
def test_intervals_hold_the_truth_as_often_as_they_promise(images, groups, figures):
    """A small version of benchmarks/intervals.py."""
    truth = measure(classified(200_000, NAMES, 99), NAMES, 0.95, 2, 0)
    held = dict.fromkeys(figures, 0)
    for seed in range(200):
        found = measure(classified(images, NAMES, seed, groups=groups), NAMES, 0.95, 60, seed)
        for name in figures:
            held[name] += found[f"{name}_low"] <= truth[name] <= found[f"{name}_high"]
    for name, count in held.items():
        assert 0.93 - 0.036 < count / 200 < 0.97 + 0.024, name  # 93-97% and two standard errors of 200 draws


def test_two_thousand_images_are_measured_within_seconds():
    predictions = classified(2000, [f"c{n}" for n in range(10)])
    start = time.process_time()
    measure(predictions, [f"c{n}" for n in range(10)], 0.95, 2000, 0)
    assert time.process_time() - start < 3  # half a second on a machine with nothing else to do


def test_classes_with_hardly_any_test_image_are_told():
    names = [f"c{n:02d}" for n in range(20)]

    def said(counts):
        labels = np.repeat(names, counts)
        table = pd.DataFrame({"id": np.arange(len(labels)), "label": labels, "predicted": labels})
        return " ".join(measure(table, names, 0.95, 20, 0)["statements"])

    assert "2 of 20 classes have fewer than 3 test images: macro F1 and AUROC" in said([1, 2, *[3] * 18])
    assert "1 of 3 classes has fewer than 3 test images" in said([1, 3, 3, *[0] * 17])
    assert "fewer than 3" not in said([1, *[3] * 19])
