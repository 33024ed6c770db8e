import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn_transfer.evaluation import no_predictions, wilson_interval
from cnn_transfer.evaluation.conformal import conformal_rank, fit_sets, measure_sets, prediction_sets
from cnn_transfer.evaluation.intervals import Units

NAMES = ["ant", "bee", "cat"]


def table_of(values, labels, names=NAMES):
    values = np.asarray(values, np.float32)
    names = np.asarray(names[: values.shape[1]])
    table = pd.DataFrame({"id": [f"i{n}" for n in range(len(values))], "label": names[labels]})
    table["predicted"] = names[values.argmax(axis=1)]
    return table.assign(**{f"probability_{name}": values[:, index] for index, name in enumerate(names)})


def simulate(images, rng, sharpness=2.0):
    """Predictions that are surer than they should be, and know nothing of how much."""
    logits = rng.normal(size=(images, 3)) * sharpness
    values = np.exp(2 * logits) / np.exp(2 * logits).sum(axis=1, keepdims=True)
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (rng.random((images, 1)) > true.cumsum(axis=1)).sum(axis=1).clip(max=2)
    return table_of(values, labels)


def test_the_rank_counts_the_new_image_too():
    """Of 19 images and a coverage of 90%, the 18th smallest score; not the 17.1th."""
    of_label = np.linspace(0.5, 0.95, 19)
    values = np.stack([of_label, 1 - of_label, np.zeros(19)], axis=1)
    sets = fit_sets(table_of(values, np.zeros(19, int)), 0.9)
    assert sets["rank"] == 18
    assert sets["least_probability"] == pytest.approx(of_label[1])  # the score of the second lowest is the 18th
    assert "at least 90%, if the image is drawn like the 19 validation images" in sets["statement"]


@pytest.mark.parametrize(("n", "coverage", "rank"), [(19, 0.95, 19), (9, 0.9, 9), (99, 0.95, 95), (199, 0.9, 180)])
def test_a_rank_that_is_whole_is_not_rounded_up(n, coverage, rank):
    assert fit_sets(simulate(n, np.random.default_rng(0)), coverage)["rank"] == rank


@pytest.mark.parametrize(("coverage", "needed"), [(0.9, 9), (0.95, 19), (0.99, 99)])
def test_too_few_images_give_sets_of_all_classes(coverage, needed):
    rng = np.random.default_rng(0)
    sets = fit_sets(simulate(needed - 1, rng), coverage)
    assert sets["rank"] is None
    assert sets["images_needed"] == needed
    assert f"at least {needed} validation images, there are {needed - 1}" in sets["statement"]
    table = prediction_sets(simulate(50, rng), sets)
    assert (table["size"] == 3).all()
    assert table["covered"].all()
    assert fit_sets(simulate(needed, rng), coverage)["rank"] == needed


def test_sets_name_their_classes_the_most_probable_first():
    sets = {"classes": NAMES, "least_probability": 0.25}
    values = [[0.3, 0.6, 0.1], [0.05, 0.05, 0.9], [0.24, 0.5, 0.26]]
    table = prediction_sets(table_of(values, [0, 1, 2]), sets)
    assert table.columns.tolist() == ["id", "label", "size", "set", "covered"]
    assert table["set"].tolist() == ["bee · ant", "cat", "bee · cat"]
    assert table["size"].tolist() == [2, 1, 2]
    assert table["covered"].tolist() == [True, False, True]


def test_a_network_that_is_better_than_the_wish_has_sets_without_classes():
    sets = {"classes": NAMES, "least_probability": 0.5}
    table = prediction_sets(table_of([[0.4, 0.3, 0.3]], [0]), sets)
    assert table["set"].tolist() == [""]
    assert not table["covered"].any()
    assert measure_sets(table, sets, 0.95)["empty_share"] == 1


def test_sets_are_measured_with_an_interval():
    table = pd.DataFrame({"label": list("aabb"), "size": [1, 2, 1, 0], "covered": [True, True, True, False]})
    sets = {"classes": ["a", "b"], "least_probability": 0.4}
    measured = measure_sets(table, sets, 0.9)
    interval = wilson_interval(3, 4, 0.9)
    assert [measured[key] for key in ("coverage", "coverage_low", "coverage_high")] == list(interval)
    assert (measured["mean_size"], measured["single_share"], measured["empty_share"]) == (1.0, 0.5, 0.25)
    assert (measured["least_covered_class"], measured["least_class_coverage"]) == ("b", 0.5)
    assert "Least covered is b, 50.0%" in measured["statement"]
    one = measure_sets(table.head(1), sets, 0.9)["statement"]
    assert one.startswith("The sets of 1 image hold")
    assert one.endswith("1.00 on average.")  # no class is the least covered where all are


def test_no_images_have_no_coverage(shapes):
    nothing = no_predictions(shapes)
    sets = fit_sets(nothing, 0.9)
    assert sets["least_probability"] == 0
    table = prediction_sets(nothing, sets)
    assert table.empty
    measured = measure_sets(table, sets, 0.95)
    assert measured["coverage"] is measured["mean_size"] is None
    assert measured["images"] == 0


def test_one_class_is_always_covered():
    table = table_of(np.ones((30, 1)), np.zeros(30, int))
    sets = fit_sets(table, 0.9)
    assert measure_sets(prediction_sets(table, sets), sets, 0.95)["coverage"] == 1


def test_sets_of_all_classes_say_nothing():
    table = table_of([[0.4, 0.3, 0.3], [0.1, 0.8, 0.1]], [0, 1])
    sets = fit_sets(table, 0.9)  # two images are too few
    measured = measure_sets(prediction_sets(table, sets), sets, 0.95)
    assert (measured["coverage"], measured["mean_size"]) == (1, 3)
    assert measured["statement"] == "The sets of 2 images hold all classes, the true one among them: they say nothing."


@pytest.mark.parametrize("coverage", [0.5, 1.0, 90])
def test_an_impossible_coverage_is_refused(coverage):
    with pytest.raises(ValueError, match=r"coverage must be above 0\.5 and below 1\. Received"):
        fit_sets(simulate(20, np.random.default_rng(0)), coverage)


def test_predictions_of_other_classes_are_refused():
    sets = fit_sets(simulate(20, np.random.default_rng(0)), 0.9)
    with pytest.raises(ValueError, match="The predictions are of ant, bee"):
        prediction_sets(table_of([[0.5, 0.5]], [0]), sets)


@pytest.mark.slow
@pytest.mark.parametrize(("images", "coverage"), [(19, 0.9), (100, 0.9), (60, 0.95)])
def test_sets_cover_as_often_as_was_wished_over_many_draws(images, coverage):
    """On average over draws the coverage is k / (n + 1); its range over draws is that of the beta distribution."""
    rng = np.random.default_rng(0)
    covered, inside = [], []
    for _ in range(250):
        sets = fit_sets(simulate(images, rng), coverage)
        share = prediction_sets(simulate(400, rng), sets)["covered"].mean()
        covered.append(share)
        inside.append(sets["coverage_low"] - 0.03 <= share <= sets["coverage_high"] + 0.03)
    error = np.std(covered) / np.sqrt(len(covered))
    expected = sets["rank"] / (images + 1)
    assert coverage <= expected < coverage + 1 / (images + 1) + 1e-9
    assert np.mean(covered) == pytest.approx(expected, abs=4 * error)
    assert np.mean(inside) > 0.93


@given(st.integers(0, 60), st.sampled_from([0.8, 0.9, 0.95]), st.integers(0, 10))
def test_a_larger_wish_never_makes_a_set_smaller(images, coverage, seed):
    rng = np.random.default_rng(seed)
    validation, test = simulate(images, rng), simulate(20, rng)
    sets = fit_sets(validation, coverage)
    small = prediction_sets(test, sets)
    large = prediction_sets(test, fit_sets(validation, coverage + 0.04))
    assert (large["size"] >= small["size"]).all()
    assert (small["size"] == small["set"].str.split(" · ").map(len).where(small["set"] != "", 0)).all()
    figures = measure_sets(small, sets, 0.95)
    assert {type(value) for value in figures.values()} <= {float, int, str}
    assert figures["coverage_low"] <= figures["coverage"] <= figures["coverage_high"]


def test_sets_of_left_out_training_images_say_so():
    table = simulate(200, np.random.default_rng(0)).assign(left_out=True)
    statement = fit_sets(table, 0.9)["statement"]
    assert "drawn like the 200 left-out training images that the sets rest on" in statement
    assert "Each was judged by a head that has not seen it, which makes the guarantee approximate" in statement
    assert "needs at least 19 left-out training images, there are 9" in fit_sets(table.iloc[:9], 0.95)["statement"]


def test_images_of_a_group_share_the_weight_of_one():
    scores, groups = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), np.array([7, 7, 7, 7, 1, 2])
    # Of three groups and a new one, each weighs a quarter: 1/16 .. 4/16, then 2/4, then 3/4.
    assert [conformal_rank(scores, Units(groups, 6), level)[0] for level in (0.1, 0.25, 0.3, 0.5, 0.6, 0.75, 0.76)] == [
        2, 4, 5, 5, 6, 6, None,
    ]  # fmt: skip
    shuffled = np.array([3, 0, 5, 1, 4, 2])
    rank, place = conformal_rank(scores[shuffled], Units(groups[shuffled], 6), 0.3)
    assert (rank, scores[shuffled][place]) == (5, 0.5)


def grouped(images, groups, rng):
    """Predictions of images of groups with a difficulty of their own: of some, all are sure and wrong."""
    group = rng.integers(0, groups, images)
    hard = rng.random(groups) < 0.12
    table = simulate(images, rng, sharpness=3.0)
    turned = table["label"].map(dict(zip(NAMES, [*NAMES[1:], NAMES[0]], strict=True)))
    return table.assign(label=np.where(hard[group], turned, table["label"]), group=group.astype(str))


@pytest.mark.slow
def test_sets_hold_the_class_of_images_of_new_groups_as_often_as_stated():
    covered = {True: [], False: []}
    for seed in range(150):
        rng = np.random.default_rng(seed)
        known, new = grouped(240, 24, rng), grouped(2000, 400, rng)
        for respected, found in covered.items():
            table = known if respected else known.drop(columns="group")
            found.append(prediction_sets(new, fit_sets(table, 0.9))["covered"].mean())
    error = np.std(covered[True]) / np.sqrt(150)
    assert np.mean(covered[True]) > 0.9 - 3 * error
    assert np.mean(covered[True]) > np.mean(covered[False])


def test_of_groups_as_many_are_needed_as_of_single_images():
    table = simulate(40, np.random.default_rng(0)).assign(group=[str(n // 4) for n in range(40)])
    sets = fit_sets(table, 0.95)
    assert (sets["images"], sets["groups"], sets["rank"]) == (40, 10, None)
    assert "at least 19 validation images of as many groups, there are 40 of 10 groups." in sets["statement"]
    enough = fit_sets(table, 0.9)
    assert enough["rank"] is not None
    assert "like the 40 validation images of 10 groups that the sets rest on" in enough["statement"]
    assert "with so many groups the true coverage lies" in enough["statement"]
    assert enough["statement"].endswith(" in 95% of cases.")
    single = fit_sets(table[:10].drop(columns="group"), 0.9)
    for end in ("coverage_low", "coverage_high"):
        assert enough[end] == single[end]


def test_what_is_measured_of_sets_respects_groups():
    table = simulate(60, np.random.default_rng(0))
    five_times = table.loc[np.arange(60).repeat(5)].reset_index(drop=True)
    sets = fit_sets(table, 0.8)
    grouped = prediction_sets(five_times.assign(group=np.arange(60).repeat(5).astype(str)), sets)
    assert grouped["group"].nunique() == 60
    once, known, ignored = (
        measure_sets(found, sets, 0.95)
        for found in (prediction_sets(table, sets), grouped, grouped.drop(columns="group"))
    )
    assert known["coverage"] == once["coverage"]
    width = [found["coverage_high"] - found["coverage_low"] for found in (once, known, ignored)]
    assert width[1] == pytest.approx(width[0], rel=0.1)
    assert width[2] < 0.6 * width[0]
