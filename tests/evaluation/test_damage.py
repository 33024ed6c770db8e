"""Damage leaves sizes and names alone, is stronger by degrees, and what becomes of damaged images is counted."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cnn_transfer.evaluation import draw_damage, measure_damage
from cnn_transfer.evaluation.damage import COLUMNS, DAMAGES, Damage, damaged, describe_damage, drawn_test_images

KINDS = list(dict.fromkeys(damage.kind for damage in DAMAGES))
GREYER = Damage("grey", "all", lambda image, _: image.point(lambda value: 127))


@pytest.fixture(scope="module")
def pictures(shapes):
    return shapes.pixels(np.arange(0, len(shapes), 40))


def coloured(pictures):
    return np.concatenate([pictures, pictures[:, ::-1], 255 - pictures], axis=-1)


@pytest.mark.parametrize("kind", KINDS)
def test_each_degree_changes_more_than_the_one_before(pictures, kind):
    for pixels in (pictures, coloured(pictures)):
        before = pixels.copy()
        changes = [
            np.abs(damaged(pixels, damage, 0).astype(float) - pixels).mean()
            for damage in DAMAGES
            if damage.kind == kind
        ]
        assert 0 < changes[0] < changes[1] < changes[2]
        np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: f"{damage.kind}, {damage.degree}")
def test_sizes_stay_and_the_same_seed_does_the_same(pictures, damage):
    for pixels in (pictures, coloured(pictures)):
        once, again = damaged(pixels, damage, 1), damaged(pixels, damage, 1)
        assert (once.shape, once.dtype) == (pixels.shape, np.uint8)
        np.testing.assert_array_equal(once, again)
    assert damaged(pictures[:0], damage, 1).shape == (0, *pictures.shape[1:])


def test_what_is_turned_has_no_foreign_corners():
    white = np.full((1, 28, 28, 3), [250, 240, 230], np.uint8)
    [turned] = [damage for damage in DAMAGES if (damage.kind, damage.degree) == ("turned", "30 degrees")]
    np.testing.assert_array_equal(damaged(white, turned, 0), white)


def judging(unfamiliar_below=0.0):
    """Takes bright images for blobs and dark ones for rows; answers none whose brightness is low."""

    def judge(pixels):
        light = pixels.mean(axis=(1, 2, 3))
        withheld = np.where(light < unfamiliar_below, "unfamiliar", "").astype(object)
        return SimpleNamespace(predicted=np.where(light > 126, "blob", "row").astype(object), withheld=withheld)

    return judge


def test_shares_are_those_of_the_images(shapes, shape_splits):
    splits = shape_splits.assign(label=np.where(np.arange(len(shape_splits)) % 2, "blob", "row"))
    table = measure_damage(judging(), shapes, splits, 40, 0, 0.95, [GREYER])
    rows = drawn_test_images(shapes, splits, 40, 0)
    of_class = splits.set_index("id")["label"].loc[shapes.table["id"].iloc[rows]].eq("blob").mean()
    whole, grey = table.to_dict("records")
    assert list(table) == COLUMNS
    assert (whole["damage"], grey["damage"], grey["degree"]) == ("as they are", "grey", "all")
    assert whole["images"] == grey["images"] == 40
    assert whole["right"] == 1 - of_class  # shapes are dark
    assert grey["right"] == grey["right_answers"] == of_class
    assert grey["wrong_answers"] == 1 - of_class
    assert grey["wrong_answers_low"] < grey["wrong_answers"] < grey["wrong_answers_high"]
    silent = measure_damage(judging(200), shapes, splits, 40, 0, 0.95, [GREYER]).iloc[1]
    assert (silent["unfamiliar"], silent["answered"], silent["wrong_answers"]) == (1, 0, 0)
    assert silent["right"] == of_class  # what would be right if all were answered
    grouped = splits.assign(group=splits["label"])
    respected = measure_damage(judging(), shapes, grouped, 40, 0, 0.95, [GREYER]).iloc[1]
    assert respected["right_low"] < grey["right_low"]
    assert respected["wrong_answers_high"] > grey["wrong_answers_high"]


def test_images_are_drawn_whatever_their_order(shapes, shape_splits):
    drawn = drawn_test_images(shapes, shape_splits, 10, 0)
    mixed = drawn_test_images(shapes, shape_splits.sample(frac=1, random_state=0), 10, 0)
    assert len(drawn) == 10
    np.testing.assert_array_equal(drawn, mixed)
    assert len(drawn_test_images(shapes, shape_splits, 1000, 0)) == 80


def table_of(wrong, low):
    rows = [["as they are", "", 100, 0.9, 0.8, 1, 0, 0.9, 0.9, 0.01, 0, 0.05]]
    rows += [["noise", "strong", 100, 0.5, 0.4, 0.6, 0, 0.9, 0.9 - wrong, wrong, low, 1]]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_what_breaks_the_promise_is_told():
    statement, broken = describe_damage(table_of(0.04, 0.01), 0.98)
    assert "at most 4.0% are answered wrongly (noise, strong)" in statement
    assert statement.startswith("Of 100 test images as they are")
    alone = describe_damage(table_of(0.04, 0.01).assign(images=1), 0.98)[0]
    assert alone.startswith("Of 1 test image as it is 90.0% are")
    assert broken == []  # four of a hundred may be chance
    assert "by degrees, none is answered wrongly; they are answered rightly" in describe_damage(table_of(0, 0), 0.98)[0]
    _, broken = describe_damage(table_of(0.2, 0.13), 0.98)
    assert broken[0].startswith("noise, strong: 20.0% of the images are answered wrongly, where at most 2%")
    assert "where at most 0.04% of the answers were" in describe_damage(table_of(0.2, 0.13), 0.9996)[1][0]


def test_no_answers_and_no_images_are_said(shapes, shape_splits):
    assert describe_damage(table_of(0, 0), None) == ("Nothing is answered, whatever the images are like.", [])
    splits = shape_splits.assign(split="training")
    none = measure_damage(judging(), shapes, splits, 10, 0, 0.95)
    assert list(none) == COLUMNS
    assert describe_damage(none, 0.98) == ("No test images were damaged.", [])
    assert "No test images were damaged" in draw_damage(shapes, splits, none, 10, 0).get_suptitle()


def test_drawing_has_every_kind_and_degree(predictor, shapes, shape_splits):
    table = measure_damage(predictor.judge, shapes, shape_splits, 4, 0, 0.95)
    figure = draw_damage(shapes, shape_splits, table, 4, 0)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert {*KINDS, "as they are"} <= set(texts)
    assert {damage.degree for damage in DAMAGES} <= set(texts)
    assert len(figure.axes[0].images) == 1 + len(DAMAGES)
