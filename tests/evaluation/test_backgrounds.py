"""Middles keep their place, partners are strangers, and a network that reads corners is found out."""

import numpy as np
import pandas as pd
import pytest

from cnn_transfer.evaluation import draw_backgrounds_exchanged, judge_backgrounds, measure_backgrounds
from cnn_transfer.evaluation.backgrounds import (
    describe_backgrounds,
    draw_backgrounds,
    exchange_backgrounds,
    warn_of_backgrounds,
)

NOT_CALIBRATED = {"method": "none", "classes": ["dark", "light"]}


@pytest.mark.parametrize("shape", [(20, 20, 1), (20, 30, 3), (7, 9, 3)])
@pytest.mark.parametrize("middle", [0.05, 0.5, 0.95])
def test_a_rectangle_in_the_middle_stays_and_the_rest_is_of_the_other_image(shape, middle):
    things, backgrounds = np.full((2, *shape), 200, np.uint8), np.full((2, *shape), 10, np.uint8)
    mixed = exchange_backgrounds(things, backgrounds, middle)
    kept = mixed == 200
    assert (kept | (mixed == 10)).all()
    np.testing.assert_array_equal(kept, kept[:, ::-1, ::-1])
    pixels = shape[0] * shape[1]
    assert kept.mean() == pytest.approx(middle, abs=2 * sum(shape[:2]) / pixels)  # whole pixels
    rows, columns = kept[0, ..., 0].any(axis=1), kept[0, ..., 0].any(axis=0)
    assert kept[0, ..., 0].sum() == rows.sum() * columns.sum()
    assert (things == 200).all()
    assert (backgrounds == 10).all()


def test_partners_are_of_other_groups_and_each_other_class_is_as_probable():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(["many", "few", "fewer"], [900, 60, 40]).astype(object))
    groups = rng.integers(0, 300, len(labels)).astype(str)  # many of them with images of several classes
    kept, own, other = draw_backgrounds(labels, groups, 1, 3)
    np.testing.assert_array_equal(kept, np.arange(len(labels)))
    assert (labels[own] == labels).all()
    assert (labels[other] != labels).all()
    assert (groups[own] != groups).all()
    assert (groups[other] != groups).all()
    of_many = pd.Series(labels[other[labels == "many"]]).value_counts(normalize=True)
    assert of_many["few"] == pytest.approx(0.5, abs=0.06)
    for first, again in zip((kept, own, other), draw_backgrounds(labels, groups, 1, 3), strict=True):
        np.testing.assert_array_equal(first, again)


def test_images_without_a_stranger_of_their_class_are_left_out():
    labels = np.array(["a", "a", "a", "b", "b", "c"], object)
    kept, own, other = draw_backgrounds(labels, np.array(["1", "1", "2", "3", "3", "4"]), 2, 0)
    assert kept.tolist() == [0, 0, 1, 1, 2, 2]
    assert own.tolist()[:4] == [2, 2, 2, 2]
    assert set(other) <= {3, 4, 5}
    _, alone, _ = draw_backgrounds(labels, np.array([None, None, "2", "3", "3", "4"], object), 20, 0)
    assert set(alone[:20]) == {1, 2}  # without a group an image is alone, and not its own partner
    assert draw_backgrounds(labels[:1], None, 1, 0)[0].size == 0
    assert draw_backgrounds(labels[:3], None, 1, 0)[0].size == 0  # one class has no other background


@pytest.fixture(scope="module")
def marked(shapes):
    """Images of two classes: the middle of half of them is dark, that of the others light, and so is their corner."""
    from dataclasses import replace

    rng, images = np.random.default_rng(0), 80
    labels = np.where(np.arange(images) % 2, "light", "dark").astype(object)
    pixels = rng.integers(0, 40, (images, *shapes.image_shape)).astype(np.uint8)
    pixels[1::2, 10:18, 10:18] += 200
    pixels[1::2, :3, :3] += 200
    table = shapes.table.iloc[:images].assign(label=labels)
    return replace(shapes, table=table, shards=(pixels,))


def reader(images, down, across):
    """A network that says what one place of the image is like."""
    import keras

    weights = np.zeros((*images.image_shape, 2), np.float32)
    weights[down, across, :, 1] = 1
    network = keras.Sequential(
        [
            keras.Input(images.image_shape, dtype="uint8"),
            keras.layers.Rescaling(1 / 25, offset=-4),
            keras.layers.Flatten(),
            keras.layers.Dense(2, activation="softmax", use_bias=False),
        ]
    )
    network.layers[-1].set_weights([weights.reshape(-1, 2)])
    return network


def told(images, predicted=None):
    table = images.table[["id", "label"]].reset_index(drop=True)
    said = table["label"] if predicted is None else predicted
    return table.assign(predicted=said, probability_dark=0.5, probability_light=0.5)


@pytest.mark.parametrize(("place", "follows"), [(slice(0, 3), True), (slice(10, 18), False)])
def test_a_network_that_reads_a_mark_in_the_corner_is_found_out(marked, place, follows):
    network = reader(marked, place, place)
    before = marked.pixels(np.arange(len(marked))).copy()
    table = measure_backgrounds(network, marked, told(marked), NOT_CALIBRATED, 1000, 0.5, 0)
    assert table.groupby("id").size().tolist() == [5] * len(marked)
    assert (table["on_own_background"] == table["label"]).all()
    assert (table["on_other_background"] == table["other_label" if follows else "label"]).all()
    np.testing.assert_array_equal(marked.pixels(np.arange(len(marked))), before)
    found = judge_backgrounds(table, 0.95)
    assert found["difference"] == follows
    assert (found["images"], found["backgrounds"]) == (80, 400)
    assert ("THE NETWORK GOES BY THE BACKGROUND" in describe_backgrounds(found)) is follows
    assert bool(warn_of_backgrounds(found)) is follows


def test_backgrounds_that_draw_the_network_to_any_class_are_seldom_taken_for_knowledge_of_theirs():
    """Each of 30 edges draws it to one of two classes, whatever its own: five things are put on each."""
    rng, gone_by = np.random.default_rng(0), []
    labels = np.arange(30) % 2
    for _ in range(100):
        kept, own, other = draw_backgrounds(labels, None, 5, int(rng.integers(1e6)))
        drawn_to = rng.normal(0, 1.5, 30)
        said = {
            name: (drawn_to[edges] + rng.normal(0, 1, len(kept)) + 2 * labels[kept] - 1 > 0).astype(int)
            for name, edges in (("on_own_background", own), ("on_other_background", other))
        }
        columns = {"id": kept, "label": labels[kept], "predicted": labels[kept], "other_label": labels[other]}
        table = pd.DataFrame(columns | said | {"own_background": own, "other_background": other}).astype("str")
        gone_by.append(judge_backgrounds(table, 0.95)["difference_low"] > 0)
    assert np.mean(gone_by) <= 0.05


def test_the_same_images_are_drawn_whatever_their_order(marked):
    network = reader(marked, slice(0, 3), slice(0, 3))
    once, again = (
        measure_backgrounds(network, marked, told(marked).iloc[order], NOT_CALIBRATED, 30, 0.5, 1)
        for order in (np.arange(80), np.random.default_rng(1).permutation(80))
    )
    pd.testing.assert_frame_equal(once, again)
    assert len(once) == 30


def test_images_are_put_on_backgrounds_of_other_groups(marked):
    groups = (np.arange(80) // 20).astype(str)
    network = reader(marked, slice(0, 3), slice(0, 3))
    table = measure_backgrounds(network, marked, told(marked).assign(group=groups), NOT_CALIBRATED, 30, 0.5, 1)
    for name in ("own_background", "other_background"):
        assert (groups[marked.rows_of(table[name])] != table["group"]).all()


def test_calibration_that_moves_classes_counts(marked):
    moved = {"method": "temperature_and_bias", "classes": ["dark", "light"], "temperature": 1.0, "bias": [0.0, -1e4]}
    network = reader(marked, slice(10, 18), slice(10, 18))
    table = measure_backgrounds(network, marked, told(marked), moved, 40, 0.5, 0)
    assert (table[["on_own_background", "on_other_background"]] == "dark").all(axis=None)


def judged(rows, groups=None, each=1):
    """Rows of (class, said as it is, on a background of its own class, on another one; class of that; images)."""
    names = ["label", "predicted", "on_own_background", "on_other_background", "other_label", "images"]
    table = pd.DataFrame(rows, columns=names)
    table = table.loc[table.index.repeat(table["images"])].reset_index(drop=True)
    table["id"] = [str(row) for row in table.index // each]
    for name in ("own_background", "other_background"):
        table[name] = [f"{name} {row}" for row in table.index]
    if groups:
        table["group"] = (table.index // groups).astype("str")
    return judge_backgrounds(table, 0.95)


SOME_FOLLOW = [
    ("a", "a", "a", "a", "b", 60),
    ("a", "a", "a", "b", "b", 20),
    ("a", "a", "a", "c", "b", 10),
    ("a", "a", "b", "a", "b", 5),
    ("a", "c", "c", "c", "c", 5),
]


def test_shares_are_counted():
    found = judged(SOME_FOLLOW)
    assert found["images"] == 100
    assert found["right"] == pytest.approx(0.95)
    assert found["right_on_own_background"] == pytest.approx(0.9)
    assert found["right_on_other_background"] == pytest.approx(0.65)
    assert found["taken_for_background"] == pytest.approx(0.25)
    assert found["taken_for_it_anyway"] == pytest.approx(0.1)
    assert found["difference"] == pytest.approx(0.15)
    assert found["difference_low"] < 0.15 < found["difference_high"]
    grouped = judged(SOME_FOLLOW, groups=10)
    assert grouped["difference"] == found["difference"]
    assert grouped["difference_low"] < found["difference_low"]
    several = judged(SOME_FOLLOW, each=5)
    assert (several["images"], several["backgrounds"]) == (20, 100)
    assert several["difference_low"] < found["difference_low"]


@pytest.mark.parametrize(
    ("rows", "said", "warns"),
    [
        ([("a", "a", "a", "b", "b", 9)], "Too few test images", False),
        (SOME_FOLLOW, "THE NETWORK GOES BY THE BACKGROUND, TOO.", True),
        (
            [("a", "a", "a", "a", "b", 960), ("a", "a", "a", "b", "b", 40)],
            "the network goes by the background a little.",
            False,
        ),
        ([("a", "a", "a", "a", "b", 12)], "too few to tell", False),
        ([("a", "a", "a", "a", "b", 300), ("a", "a", "b", "a", "b", 2)], "no sign", False),
    ],
)
def test_what_is_said_fits_the_figures(rows, said, warns):
    found = judged(rows)
    assert said in describe_backgrounds(found)
    assert bool(warn_of_backgrounds(found)) is warns


def test_backgrounds_that_only_disturb_are_not_gone_by():
    found = judged([("a", "a", "a", "a", "b", 50), ("a", "a", "a", "c", "b", 50)])
    assert found["right_on_other_background"] == 0.5
    assert describe_backgrounds(found).endswith("no sign that the network goes by the background.")


def test_all_figures_are_said():
    assert (
        "middles of 100 test images were put on 100 backgrounds of other images of their class, where 90.0% are right, "
        "and on as many of other classes, where 65.0% are. There 25.0% are taken for the class of the background, "
        "10.0% for that class anyway (+15.0 points, +"
    ) in describe_backgrounds(judged(SOME_FOLLOW))


@pytest.mark.parametrize(("images", "most"), [(1, 10), (80, 0)])
def test_nothing_to_exchange_is_said(marked, images, most):
    network = reader(marked, slice(0, 3), slice(0, 3))
    table = measure_backgrounds(network, marked, told(marked).iloc[:images], NOT_CALIBRATED, most, 0.5, 0)
    assert table.empty
    found = judge_backgrounds(table, 0.95)
    assert found["images"] == 0
    assert found["difference"] is None
    assert describe_backgrounds(found) == "No test image was put on another background."
    assert draw_backgrounds_exchanged(marked, table, 0.5).texts[0].get_text().startswith("No test image was put")


def test_those_that_follow_the_background_are_shown_first(marked):
    network = reader(marked, slice(0, 3), slice(0, 3))
    table = measure_backgrounds(network, marked, told(marked), NOT_CALIBRATED, 60, 0.5, 0)
    stays = table.index < 57
    table.loc[stays, "on_other_background"] = table.loc[stays, "label"]
    figure = draw_backgrounds_exchanged(marked, table, 0.5, shown=5)
    [axes] = figure.axes
    titles = [(text.get_text(), text.get_fontweight()) for text in axes.texts]
    assert len(axes.images) == 15
    assert [weight == "bold" for _, weight in titles[2::3]] == [True] * 3 + [False] * 2
    assert [name for name, _ in titles[2::3]][:3] == list(table["other_label"][57:])
