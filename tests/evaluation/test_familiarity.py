import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from cnn_transfer.evaluation import predict, wilson_interval
from cnn_transfer.evaluation.appearance import ASPECTS
from cnn_transfer.evaluation.embedding import (
    EmbeddedImages,
    embed_images,
)
from cnn_transfer.evaluation.familiarity import (
    _distances,
    _fit_tail,
    _kth_largest,
    _strangeness,
    familiarity_table,
    fit_familiarity,
    measure_familiarity,
    scaled,
)
from cnn_transfer.evaluation.familiarity_sheets import draw_nearest, draw_unfamiliar

RAW = Path(__file__).parents[2] / "data/01_raw"


def embedded(features, labels=None, prefix="i", logits=None):
    features = np.asarray(features, np.float32)
    labels = np.asarray(["a"] * len(features) if labels is None else labels, object)
    ids = np.asarray([f"{prefix}{n}" for n in range(len(features))], object)
    taken = np.zeros((len(features), len(ASPECTS)), np.float32)
    logits = features if logits is None else np.asarray(logits, np.float32)
    return EmbeddedImages(ids, labels, features, logits, taken, (features.shape[1],))


def angles(degrees, **arguments):
    radians = np.radians(degrees)
    return embedded(np.stack([np.cos(radians), np.sin(radians)], axis=1), **arguments)


def cloud(images, seed, prefix):
    return embedded(np.random.default_rng(seed).normal(size=(images, 10)) + 2, prefix=prefix)


def render(figure):
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    assert np.ptp(np.asarray(Image.open(stream).convert("L"))) > 0


@pytest.fixture(scope="module")
def digit_parts(digits, digit_network):
    order = np.arange(1200)
    training, validation, test = order[::6], order[1::6], np.concatenate([order[n::6] for n in (2, 3, 4, 5)])
    return [embed_images(digit_network, digits, rows) for rows in (training, validation, test)]


def test_foreign_images_are_told_from_digits(digit_network, digit_parts, open_some, tmp_path):
    training, validation, test = digit_parts
    clothes = open_some("fashion_mnist.parquet", 400, tmp_path / "clothes")
    familiarity = fit_familiarity(training, validation, 0.05, 0)
    familiar = familiarity_table(training, test, familiarity)
    foreign = familiarity_table(training, embed_images(digit_network, clothes, np.arange(400)), familiarity)
    truth = np.r_[np.zeros(len(familiar)), np.ones(len(foreign))]
    assert roc_auc_score(truth, np.r_[familiar["distance"], foreign["distance"]]) > 0.9
    assert familiar["unfamiliar"].mean() < familiarity["false_alarm_high"] + 0.02
    assert foreign["unfamiliar"].mean() > 0.5
    assert "differ from them" in measure_familiarity(foreign, familiarity, 0.95)["statement"]
    assert "differ from them" not in measure_familiarity(familiar, familiarity, 0.95)["statement"]


def test_nearest_images_mostly_have_the_predicted_class(digits, digit_network, digit_parts):
    training, validation, test = digit_parts
    table = familiarity_table(training, test, fit_familiarity(training, validation, 0.05, 0))
    splits = digits.table[["id", "label"]].assign(split="training")
    predicted = predict(digit_network, digits, splits, "training").set_index("id")["predicted"]
    first = table["nearest_labels"].str.split(" · ").str[0]
    agree = (first.to_numpy() == predicted[table["id"]].to_numpy()).mean()
    assert agree > 0.75
    assert table["label"].tolist() == test.labels.tolist()


def test_distances_are_those_of_unit_vectors():
    training = angles([0, 90, 180], labels=["a", "b", "c"], prefix="t")
    familiarity = fit_familiarity(training, angles([0, 60]), 0.4, 0)
    assert familiarity["neighbour"] == 1
    queries = embedded([[5.0, 5.0], [-3.0, 0.1]], prefix="q")
    table = familiarity_table(training, queries, familiarity)
    assert table["distance"].tolist() == pytest.approx([2 * np.sin(np.radians(22.5)), np.radians(1.9)], abs=1e-3)
    assert table["nearest_1"].tolist() == ["t0", "t2"]
    assert table["nearest_labels"].tolist() == ["a · b · c", "c · b · a"]


def test_each_depth_is_compared_by_itself():
    rng = np.random.default_rng(0)
    shallow, deep = 100 * rng.normal(size=(40, 3)), rng.normal(size=(40, 5))
    both = embedded(np.concatenate([shallow, deep], axis=1))._replace(parts=(3, 5))
    training, queries = (
        part._replace(
            **{name: getattr(part, name)[rows] for name in ("ids", "labels", "features", "logits", "appearance")}
        )
        for part, rows in ((both, slice(30)), (both, slice(30, None)))
    )
    distances = familiarity_table(training, queries, fit_familiarity(training, None, 0.4, 0))["distance"]

    def fifth(features):
        units = features / np.linalg.norm(features, axis=1, keepdims=True)
        return np.sort(np.linalg.norm(units[30:, None] - units[None, :30], axis=-1), axis=1)[:, 4]

    assert distances.tolist() == pytest.approx(np.sqrt(fifth(shallow) * fifth(deep)).tolist(), rel=1e-4)


@pytest.mark.parametrize("columns", [1, 4, 575, 576, 600, 625, 1000, 5003])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_the_kth_largest_is_that_of_all_columns(columns, k):
    rng = np.random.default_rng(columns)
    values = rng.normal(size=(50, columns)).astype(np.float32)
    values[:10] = np.sort(values[:10])[:, ::-1]  # all in one block
    values[10:20] = values[10:20].round(1)  # many are equal
    values[20:30, : columns // 2] = -np.inf
    values[30] = -np.inf
    k = min(k, columns)
    expected = np.sort(values, axis=1)[:, -k]
    np.testing.assert_array_equal(_kth_largest(values, k), expected)


def test_distances_in_appearance_are_those_of_standardised_figures():
    rng = np.random.default_rng(0)
    figures = rng.normal([100, 40, 2, 0.2, 3, 3, 0], [20, 8, 0.3, 0.1, 0.3, 0.3, 1], (730, 7)).astype(np.float32)
    training, queries = (
        embedded(np.ones((len(part), 10)), prefix=prefix)._replace(appearance=part)
        for prefix, part in (("t", figures[:700]), ("q", figures[700:]))
    )
    fitted = fit_familiarity(training, None, 0.4, 0)
    ours, theirs = ((part - fitted["centre"]) / fitted["spread"] for part in (figures[700:], figures[:700]))
    fifth = np.sort(np.linalg.norm(ours[:, None] - theirs[None], axis=-1), axis=1)[:, 4]
    found = _distances(scaled(training), scaled(queries), fitted)["appearance"]
    assert found.tolist() == pytest.approx(fifth.tolist(), rel=1e-6)


def test_what_was_trained_on_is_familiar_however_it_was_taken():
    def taken(images, noisy, seed, prefix):
        rng = np.random.default_rng(seed)
        figures = rng.normal([100, 40, 2, 0.2, 3, 3, 0], [20, 8, 0.3, 0.1, 0.3, 0.3, 0], (images, 7))
        figures[:noisy, 3] += 3
        return embedded(np.ones((images, 10)), prefix=prefix)._replace(appearance=figures.astype(np.float32))

    noisy = taken(50, 50, 2, "q")
    shares = []
    for known in (0, 50):
        training, validation = taken(100, known, 0, "t"), taken(100, known, 1, "v")
        familiarity = fit_familiarity(training, validation, 0.05, 0)
        shares.append(familiarity_table(training, noisy, familiarity)["unfamiliar"].mean())
    assert shares[0] == 1
    assert shares[1] < 0.2


def test_the_farther_the_stranger_and_beyond_all_others_unfamiliar():
    training, validation = cloud(60, 0, "t"), cloud(40, 1, "v")
    familiarity = fit_familiarity(training, validation, 0.1, 0)
    queries = embedded(np.random.default_rng(2).normal(size=(200, 10)) + np.linspace(2, -2, 200)[:, None], prefix="q")
    table = familiarity_table(training, queries, familiarity).sort_values("distance")
    for column in ("strangeness", "percentile", "unfamiliar"):
        assert table[column].is_monotonic_increasing, column
    compared = familiarity_table(training, validation, familiarity)
    assert familiarity["strangeness"] == pytest.approx(sorted(compared["strangeness"]))
    some = table[table["strangeness"] > 0]  # nearer than any left-out training image, none is stranger than another
    assert some["percentile"].tolist() == [np.mean(compared["distance"] < distance) for distance in some["distance"]]
    assert len(some) > 150
    assert (table["unfamiliar"] == (table["distance"] > np.sort(compared["distance"])[-4])).all()
    assert set(table["unlike"][table["unfamiliar"]]) == {"content"}
    assert set(table["unlike"][~table["unfamiliar"]]) == {""}


def test_strangeness_is_how_rare_such_a_distance_is():
    """Left-out images whose distances follow Pareto's law: a distance that one in 10 ^ s exceeds has strangeness s."""
    shares = (np.arange(2000) + 0.5) / 2000
    tail = _fit_tail(0.2 * shares ** (-1 / 8), 1e-3)
    assert tail["exponent"] == pytest.approx(8, rel=0.05)
    assert (tail["distances"][-1], tail["shares"][-1]) == (pytest.approx(0.2 * 10 ** (1 / 8), rel=1e-3), 0.1)
    wanted = np.array([0, 0.5, 1, 2, 4])
    distances = {"features": 0.2 * 10 ** (wanted / 8), "appearance": np.zeros(5)}
    of_view = _strangeness(distances, {"tails": {"features": tail, "appearance": tail}})
    strangeness = of_view["features"]
    assert strangeness == pytest.approx(wanted, abs=0.1)
    assert not of_view["appearance"].any()


def test_an_image_taken_in_another_way_is_unfamiliar_whatever_the_network_sees():
    def taken(images, seed, prefix):
        figures = np.random.default_rng(seed).normal(
            [100, 40, 2, 1, 3, 3, 0], [20, 8, 0.3, 0.3, 0.3, 0.3, 0], (images, 7)
        )
        return embedded(np.ones((images, 10)), prefix=prefix)._replace(appearance=figures.astype(np.float32))

    training, validation, test = taken(100, 0, "t"), taken(99, 1, "v"), taken(6, 2, "q")
    familiarity = fit_familiarity(training, validation, 0.05, 0)
    test.appearance[:] = np.mean(training.appearance, axis=0)
    test.appearance[1, 0] += 120
    test.appearance[2, 3] += 3
    test.appearance[3, 2] -= 3
    test.appearance[4, 6] += 30  # none of the training images is coloured: the spread is not 0
    test.appearance[5, 6] += 1
    table = familiarity_table(training, test, familiarity)
    assert table["unlike"].tolist() == ["", "brightness", "noise", "fine detail", "colour", ""]
    assert table["unfamiliar"].tolist() == [False, True, True, True, True, False]
    assert (table["distance"] < 1.1e-3).all()


def test_the_limit_for_features_alone_is_found_as_that_for_both():
    def taken(images, seed, prefix):
        figures = np.random.default_rng(seed).normal(100, 20, (images, len(ASPECTS)))
        return cloud(images, seed, prefix)._replace(appearance=figures.astype(np.float32))

    training, validation = taken(60, 0, "t"), taken(99, 1, "v")
    familiarity = fit_familiarity(training, validation, 0.1, 0)
    of_view = _strangeness(_distances(scaled(training), scaled(validation), familiarity), familiarity)
    assert (of_view["features"] > familiarity["features_limit"]).sum() == 9
    assert (np.hypot(*of_view.values()) > familiarity["limit"]).sum() == 9


def test_an_image_is_not_its_own_neighbour():
    training = angles([0, 10, 50], prefix="t")
    table = familiarity_table(training, training, fit_familiarity(training, None, 0.4, 0), nearest=2)
    assert table["nearest_1"].tolist() == ["t1", "t0", "t1"]
    assert (table["distance"] > 0.1).all()


def test_the_neighbour_is_limited_by_the_smallest_class():
    for images, neighbour in [(2, 1), (4, 3), (30, 5)]:
        training = cloud(images + 40, 0, "t")
        labels = np.r_[["rare"] * images, ["frequent"] * 40].astype(object)
        familiarity = fit_familiarity(training._replace(labels=labels), cloud(50, 1, "v"), 0.05, 0)
        assert familiarity["neighbour"] == neighbour


def test_false_alarms_are_as_frequent_as_stated():
    rates, inside = [], []
    for seed in range(60):
        training, validation, test = (cloud(n, 10 * seed + k, "tvq"[k]) for k, n in enumerate((50, 99, 400)))
        familiarity = fit_familiarity(training, validation, 0.1, 0)
        table = familiarity_table(training, test, familiarity)
        rates.append(table["unfamiliar"].mean())
        inside.append(familiarity["false_alarm_low"] - 0.03 <= rates[-1] <= familiarity["false_alarm_high"] + 0.03)
    assert np.mean(rates) == pytest.approx(0.1, abs=0.015)
    assert np.mean(inside) > 0.9


def test_without_validation_images_training_images_are_left_out_and_it_is_said():
    training = cloud(60, 0, "t")
    familiarity = fit_familiarity(training, None, 0.05, 0)
    assert familiarity == fit_familiarity(training, cloud(0, 1, "v"), 0.05, 0)
    assert not familiarity["held_out"]
    assert familiarity["images"] == 60
    assert "more new images will be called unfamiliar" in familiarity["statement"]
    assert "more new images" not in fit_familiarity(training, None, 0.05, 0, learnt=False)["statement"]
    table = familiarity_table(training, cloud(300, 2, "q"), familiarity)
    assert table["unfamiliar"].mean() < 0.2


def test_images_of_a_group_are_not_each_other_s_neighbours():
    training = angles([0, 1, 60, 61], prefix="t")._replace(groups=np.array(["one", "one", "two", "two"], object))
    familiarity = fit_familiarity(training, None, 0.4, 0)
    assert familiarity["neighbour"] == 2
    table = familiarity_table(training, training, familiarity, nearest=1)
    assert table["distance"].tolist() == pytest.approx(
        [2 * np.sin(np.radians(a / 2)) for a in (61, 60, 60, 61)], abs=1e-3
    )
    assert table["nearest_1"].tolist() == ["t2", "t2", "t1", "t1"]
    new = familiarity_table(training, angles([30], prefix="q"), familiarity)
    assert new["distance"][0] == pytest.approx(2 * np.sin(np.radians(15)), abs=1e-3)


@pytest.mark.slow
def test_false_alarms_are_as_rare_as_stated_among_images_of_new_groups():
    def grouped(groups, seed):
        rng = np.random.default_rng(seed)
        names = np.arange(groups).repeat(6).astype(str).astype(object)
        features = np.ones(10) + 0.4 * rng.normal(size=(groups, 10)).repeat(6, axis=0)
        return embedded(features + 0.02 * rng.normal(size=features.shape), prefix=f"{seed}-")._replace(groups=names)

    rates = {True: [], False: []}
    for seed in range(60):
        training, validation, test = (grouped(n, 10 * seed + k) for k, n in enumerate((20, 20, 100)))
        training = training._replace(groups=None)
        for respected, found in rates.items():
            known = validation if respected else validation._replace(groups=None)
            familiarity = fit_familiarity(training, known, 0.1, 0)
            found.append(familiarity_table(training, test, familiarity)["unfamiliar"].mean())
    assert np.mean(rates[True]) < 0.1 + 3 * np.std(rates[True]) / np.sqrt(60)
    assert np.mean(rates[False]) > np.mean(rates[True])
    few = fit_familiarity(training, validation, 0.02, 0)
    assert few["limit"] is None
    assert "needs at least 49 images of as many groups to compare with, there are 120 of 20 groups." in few["statement"]


def test_the_share_of_unfamiliar_images_respects_groups():
    training, validation = cloud(60, 0, "t"), cloud(60, 1, "v")
    test = cloud(40, 2, "q")
    repeated = embedded(test.features.repeat(5, axis=0), prefix="r")
    familiarity = fit_familiarity(training, validation, 0.3, 0)
    known = familiarity_table(training, repeated._replace(groups=np.arange(40).repeat(5).astype(str)), familiarity)
    assert known["group"].nunique() == 40
    respected, ignored = (
        measure_familiarity(table, familiarity, 0.95) for table in (known, known.drop(columns="group"))
    )
    assert respected["unfamiliar_share"] == ignored["unfamiliar_share"]
    assert respected["unfamiliar_share_low"] < ignored["unfamiliar_share_low"]


def test_too_few_images_call_nothing_unfamiliar():
    training = cloud(30, 0, "t")
    familiarity = fit_familiarity(training, cloud(18, 1, "v"), 0.05, 0)
    assert familiarity["limit"] is None
    assert familiarity["images_needed"] == 19
    assert "at least 19 images to compare with, there are 18" in familiarity["statement"]
    table = familiarity_table(training, embedded(-np.ones((4, 10)), prefix="q"), familiarity)
    assert not table["unfamiliar"].any()
    assert measure_familiarity(table, familiarity, 0.95)["statement"] == familiarity["statement"]
    assert fit_familiarity(training, cloud(19, 1, "v"), 0.05, 0)["limit"] is not None


def test_too_few_images_for_the_wish_keep_what_they_can():
    training, validation = cloud(30, 0, "t"), cloud(24, 1, "v")
    familiarity = fit_familiarity(training, validation, 0.01, 0.05)
    assert familiarity["false_alarm_rate"] == 1 / 25
    assert familiarity["limit"] == familiarity["strangeness"][-1]
    assert "than all but 4% of 24 validation images are" in familiarity["statement"]
    assert (
        "a false-alarm rate of 1% needs at least 99 images to compare with, there are 24." in familiarity["statement"]
    )
    assert fit_familiarity(training, validation, 0.01, 0.03)["limit"] is None
    grouped = cloud(48, 1, "v")._replace(groups=np.arange(24).repeat(2).astype(str).astype(object))
    of_groups = fit_familiarity(training, grouped, 0.01, 0.05)
    for figure in ("false_alarm_rate", "false_alarm_low", "false_alarm_high"):
        assert of_groups[figure] == familiarity[figure]
    assert fit_familiarity(training, cloud(99, 1, "v"), 0.01, 0.05)["false_alarm_rate"] == 0.01


def test_one_training_image_is_enough_to_compare_with():
    one = cloud(1, 0, "t")
    assert fit_familiarity(one, None, 0.05, 0)["images"] == 0
    table = familiarity_table(one, cloud(3, 1, "q"), fit_familiarity(one, cloud(20, 2, "v"), 0.05, 0))
    assert table.columns.tolist() == [
        "id", "label", "distance", "strangeness", "percentile", "unfamiliar", "unlike", "nearest_1", "nearest_labels",
    ]  # fmt: skip
    assert (table["nearest_1"] == "t0").all()


def test_what_is_unfamiliar_is_measured_with_an_interval():
    table = pd.DataFrame({"unfamiliar": [True] + [False] * 9})
    familiarity = fit_familiarity(cloud(30, 0, "t"), cloud(40, 1, "v"), 0.05, 0)
    measured = measure_familiarity(table, familiarity, 0.9)
    keys = ("unfamiliar_share", "unfamiliar_share_low", "unfamiliar_share_high")
    assert [measured[key] for key in keys] == list(wilson_interval(1, 10, 0.9))
    assert measured["statement"].startswith("1 of 10 images is unfamiliar: 10.0%")
    for unfamiliar, words in (
        (0, "None of 10 images is unfamiliar: 0.0%"),
        (2, "2 of 10 images are unfamiliar: 20.0%"),
    ):
        counted = measure_familiarity(pd.DataFrame({"unfamiliar": np.arange(10) < unfamiliar}), familiarity, 0.9)
        assert counted["statement"].startswith(words)
    nothing = measure_familiarity(table.iloc[:0], familiarity, 0.9)
    assert nothing["unfamiliar_share"] is None
    assert nothing["statement"] == "There are no images to judge."


def test_no_images_give_an_empty_table():
    training = cloud(30, 0, "t")
    familiarity = fit_familiarity(training, cloud(40, 1, "v"), 0.05, 0)
    empty, full = (familiarity_table(training, cloud(n, 2, "q"), familiarity) for n in (0, 2))
    assert empty.empty
    assert empty.columns.tolist() == full.columns.tolist()
    assert empty.dtypes.tolist() == full.dtypes.tolist()


def test_many_images_are_compared_in_parts(monkeypatch):
    training, queries = cloud(40, 0, "t"), cloud(50, 1, "q")
    familiarity = fit_familiarity(training, cloud(40, 2, "v"), 0.05, 0)
    whole = familiarity_table(training, queries, familiarity)
    monkeypatch.setattr("cnn_transfer.evaluation.familiarity.CHUNK_ROWS", 7)
    pd.testing.assert_frame_equal(familiarity_table(training, queries, familiarity), whole, atol=1e-6)


def test_what_cannot_be_compared_is_refused():
    training = cloud(30, 0, "t")
    with pytest.raises(ValueError, match=r"false_alarm_rate must be above 0 and below 0\.5\. Received: 5"):
        fit_familiarity(training, training, 5, 0)
    with pytest.raises(ValueError, match="at least one training image"):
        fit_familiarity(cloud(0, 0, "t"), training, 0.05, 0)
    broken = training.features.copy()
    broken[3] = np.nan
    with pytest.raises(ValueError, match="1 of 30 images have others"):
        fit_familiarity(training._replace(features=broken), training, 0.05, 0)


def test_mistakes_are_drawn_beside_their_nearest_training_images(digits, digit_network, digit_parts):
    training, validation, test = digit_parts
    table = familiarity_table(training, test, fit_familiarity(training, validation, 0.05, 0))
    splits = digits.table[["id", "label"]].assign(split="training")
    predictions = predict(digit_network, digits, splits, "training")
    test_predictions = predictions[predictions["id"].isin(table["id"])]
    wrong = test_predictions.query("label != predicted")["id"].head(3).tolist()
    figure = draw_nearest(digits, table, wrong, test_predictions)
    render(figure)
    (axes,) = figure.axes
    titles = [text.get_text() for text in axes.texts]
    assert len(axes.images) == len(titles) == 3 * 4
    row = table.set_index("id").loc[wrong[0]]
    at = pd.Series(range(len(digits)), index=digits.table["id"])
    names = [wrong[0], row["nearest_1"], row["nearest_2"], row["nearest_3"]]
    for picture, name in zip(axes.images, names, strict=False):
        np.testing.assert_array_equal(picture.get_array(), digits.pixels(np.array([at[name]]))[0, ..., 0])
    predicted = test_predictions.set_index("id").loc[wrong[0], "predicted"]
    assert titles[0] == f"{row['label']} → {predicted}"
    assert " · ".join(titles[1:4]) == row["nearest_labels"]
    render(draw_nearest(digits, table, wrong[:1]))
    render(draw_nearest(digits, table, []))
    with pytest.raises(ValueError, match="1 of 1 ids are not in the table, such as nobody"):
        draw_nearest(digits, table, ["nobody"])


def test_the_farthest_images_are_drawn_first(digits, digit_parts):
    training, validation, test = digit_parts
    table = familiarity_table(training, test, fit_familiarity(training, validation, 0.05, 0))
    figure = draw_unfamiliar(digits, table, shown=3)
    render(figure)
    titles = [text.get_text() for text in figure.axes[0].texts]
    assert [float(title.rsplit(" ", 1)[1]) for title in titles] == pytest.approx(
        sorted(table["strangeness"], reverse=True)[:3], abs=0.06
    )
    assert f"{table['unfamiliar'].sum():,} of {len(table):,} are unfamiliar" in figure.get_suptitle()
    nothing = draw_unfamiliar(digits, table.iloc[:0])
    render(nothing)
    assert nothing.get_suptitle() == "No images to judge"
    with pytest.raises(ValueError, match="All images must be of this set"):
        draw_unfamiliar(replace(digits, table=digits.table.assign(id="x" + digits.table["id"])), table)
