"""What was tried and borne is familiar, and nothing else: neither harsher damage nor what is strange in content."""

import numpy as np
import pandas as pd
import pytest

from cnn_transfer.evaluation import (
    TriedDamage,
    embed_images,
    familiarity_table,
    fit_calibration,
    fit_familiarity,
    predict,
    try_damage,
)
from cnn_transfer.evaluation.appearance import ASPECTS, appearance
from cnn_transfer.evaluation.damage import DAMAGES, damage_at_random, damaged
from cnn_transfer.evaluation.tried_damage import NAMES, NEIGHBOURS, NOTHING_TRIED, bears, fit_tried

SPREAD = {"centre": [0.0] * len(ASPECTS), "spread": [1.0] * len(ASPECTS)}


def cloud(images, place, wrong=0.0, seed=0):
    """Copies whose appearances lie around a place, some of them answered wrongly."""
    rng = np.random.default_rng(seed)
    return TriedDamage(rng.normal(place, 0.3, (images, len(ASPECTS))).astype(np.float32), rng.random(images) < wrong)


def together(*clouds):
    return TriedDamage(*(np.concatenate(part) for part in zip(*clouds, strict=True)))


def test_only_what_lies_among_copies_that_kept_the_promise_is_borne():
    tried = together(cloud(400, 0.0), cloud(400, 5.0, wrong=0.5, seed=1))
    familiarity = {**SPREAD, "tried": fit_tried(tried, SPREAD, 0.98)}
    assert familiarity["tried"] == {
        "copies": 800, "wrong": int(tried.wrong.sum()), "farthest": pytest.approx(1.0, abs=0.4),
        "most_wrong": pytest.approx(0.02),
    }  # fmt: skip
    at = {place: cloud(100, place, seed=2).appearance for place in (0.0, 2.5, 5.0, 50.0)}
    found = {place: bears(taken, tried, familiarity).mean() for place, taken in at.items()}
    assert found[0.0] > 0.8
    assert found[2.5] == found[5.0] == found[50.0] == 0  # between them, where it is wrong, far away


@pytest.mark.parametrize(("wrong", "promised", "borne"), [(1, 0.98, True), (2, 0.98, False), (5, 0.9, True)])
def test_as_many_neighbours_may_be_wrong_as_the_promise_allows(wrong, promised, borne):
    copies = np.arange(NEIGHBOURS + 1)
    places = np.repeat(np.where(copies < NEIGHBOURS, 0, 9)[:, None], len(ASPECTS), axis=1)
    tried = TriedDamage(places.astype(np.float32), copies < wrong)
    familiarity = {**SPREAD, "tried": fit_tried(tried, SPREAD, promised)}
    assert bears(np.zeros((1, len(ASPECTS))), tried, familiarity).tolist() == [borne]


def test_too_few_copies_bear_nothing():
    few = cloud(NEIGHBOURS, 0.0)
    assert fit_tried(few, SPREAD, 0.98) == fit_tried(NOTHING_TRIED, SPREAD, 0.98) == {}
    assert not bears(few.appearance, few, {**SPREAD, "tried": {}}).any()
    assert bears(few.appearance[:0], few, {**SPREAD, "tried": {}}).shape == (0,)


def test_damage_at_random_leaves_sizes_and_is_of_every_strength(shapes):
    pixels = shapes.pixels(np.arange(0, 400, 4))
    for images in (pixels, np.repeat(pixels, 3, axis=-1)):
        copies = damage_at_random(images, np.random.default_rng(0))
        assert (copies.shape, copies.dtype) == (images.shape, np.uint8)
        np.testing.assert_array_equal(copies, damage_at_random(images, np.random.default_rng(0)))
        changes = np.abs(copies.astype(float) - images).mean(axis=(1, 2, 3))
        assert changes.min() < 5
        assert np.median(changes) > 15


@pytest.fixture(scope="module")
def calibration(shapes_network, shapes, shape_splits):
    return fit_calibration(predict(shapes_network, shapes, shape_splits, "validation"))


def test_copies_that_would_be_answered_are_kept(shapes_network, shapes, shape_splits, calibration):
    table = try_damage(shapes_network, shapes, shape_splits, calibration, 0.5, 300, 0)
    assert list(table) == [*NAMES, "wrong"]
    assert 0 < len(table) <= 240  # 80 validation images, 3 copies each
    assert 0 < table["wrong"].mean() < 1
    pd.testing.assert_frame_equal(table, try_damage(shapes_network, shapes, shape_splits, calibration, 0.5, 300, 0))
    every = try_damage(shapes_network, shapes, shape_splits, calibration, 0.0, 300, 0)
    assert len(every) == 240
    assert len(try_damage(shapes_network, shapes, shape_splits, calibration, 0.0, 100_000, 0)) == 20 * 80
    assert len(try_damage(shapes_network, shapes, shape_splits, calibration, 0.0, 30, 0)) == 30  # fewer than images


@pytest.mark.parametrize(("threshold", "most", "drop"), [(None, 300, False), (0.5, 0, False), (0.5, 300, True)])
def test_nothing_is_tried_without_answers_copies_or_images(
    shapes_network, shapes, shape_splits, calibration, threshold, most, drop
):
    splits = shape_splits.replace({"split": {"validation": "unused"}}) if drop else shape_splits
    table = try_damage(shapes_network, shapes, splits, calibration, threshold, most, 0)
    assert (len(table), list(table)) == (0, [*NAMES, "wrong"])
    assert TriedDamage.of(table).appearance.shape == (0, len(ASPECTS))


@pytest.fixture(scope="module")
def seen(shapes_network, shapes, shape_splits, calibration):
    """Training and validation images as the network sees them, damaged copies, and how to judge pixels."""
    training, validation = (
        embed_images(shapes_network, shapes, shapes.rows(shape_splits, name), shape_splits)
        for name in ("training", "validation")
    )
    tried = TriedDamage.of(try_damage(shapes_network, shapes, shape_splits, calibration, 0.6, 1600, 0))
    test = shapes.rows(shape_splits, "test")
    embedded = embed_images(shapes_network, shapes, test, shape_splits)

    def judge(change, familiarity, tried):
        """Test images whose features are as they are, and whose appearance is that of damaged ones."""
        pixels = change(shapes.pixels(test))
        return familiarity_table(training, embedded._replace(appearance=appearance(pixels)), familiarity, tried=tried)

    return training, validation, tried, judge


def by_name(kind, degree):
    [found] = [damage for damage in DAMAGES if damage.kind == kind and damage.degree.startswith(degree)]
    return lambda pixels: damaged(pixels, found, 1)


def test_borne_damage_is_familiar_and_harsher_damage_is_not(seen):
    training, validation, tried, judge = seen
    strict = fit_familiarity(training, validation, 0.05, 0.05)
    familiarity = fit_familiarity(training, validation, 0.05, 0.05, tried=tried, promised=0.8)
    assert strict["tried"] == {}
    assert familiarity["limit"] == strict["limit"]
    assert f"of {len(tried.wrong):,} damaged copies of validation images" in familiarity["statement"]
    slight, harsh = by_name("darker", "80%"), by_name("flatter", "20%")
    before, after = (
        judge(slight, *how)["unfamiliar"].mean() for how in ((strict, NOTHING_TRIED), (familiarity, tried))
    )
    assert after < 0.5 * before
    table = judge(harsh, familiarity, tried)
    assert table["unfamiliar"].mean() > 0.9
    assert (table["unlike"][table["unfamiliar"]] != "").all()


def test_what_is_strange_in_content_stays_so(seen):
    training, validation, tried, _ = seen
    familiarity = fit_familiarity(training, validation, 0.05, 0.05, tried=tried, promised=0.8)
    rng = np.random.default_rng(0)
    strangers = validation._replace(features=rng.normal(size=validation.features.shape).astype(np.float32))
    assert familiarity_table(training, strangers, familiarity, tried=tried)["unfamiliar"].mean() > 0.9


def test_nothing_is_borne_where_nothing_is_promised_or_called_unfamiliar(seen):
    training, validation, tried, _ = seen
    assert fit_familiarity(training, validation, 0.05, 0.05, tried=tried, promised=None)["tried"] == {}
    few = validation._replace(
        **{name: getattr(validation, name)[:3] for name in ("ids", "labels", "features", "logits")}
    )
    few = few._replace(appearance=validation.appearance[:3], groups=None)
    none = fit_familiarity(training, few, 0.01, 0, tried=tried, promised=0.8)
    assert (none["limit"], none["features_limit"], none["tried"]) == (None, None, {})
