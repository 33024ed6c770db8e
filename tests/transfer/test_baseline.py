import dataclasses

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from cnn_transfer.images import split_examples
from cnn_transfer.models import build_network, reinitialise
from cnn_transfer.training import LOG_COLUMNS
from cnn_transfer.transfer import Baseline, train_baseline

RATES = (0.0001, 0.01)


@pytest.fixture(scope="module")
def search(schedule):
    def make(**changes):
        usual = schedule(steps=10).model_dump(exclude={"learning_rate"})
        own = {
            "enabled": True,
            "architecture": None,
            "learning_rates": RATES,
            "most_doublings": 1,
            "clear_steps": 0,
        }
        return Baseline(**usual | own | changes)

    return make


@pytest.fixture(scope="module")
def train(shapes, shape_splits, augmentation):
    def start(network, baseline, images=shapes):
        training, validation = (split_examples(images, shape_splits, split) for split in ("training", "validation"))
        return train_baseline(network, training, validation, baseline, augmentation(), "float32", 0)

    return start


@pytest.fixture(scope="module")
def result(train, search, tiny_network):
    return train(tiny_network(seed=5, normalised=False), search())


def test_every_learning_rate_is_tried_and_then_the_best_one_for_twice_the_steps(result):
    trials = result.trials
    assert trials["learning_rate"].tolist()[:2] == list(RATES)
    assert trials["steps"].tolist() == [10, 10, 20]
    assert trials["images_processed"].tolist() == [160, 160, 320]
    assert trials["stopped_by"].tolist() == ["length"] * 3
    first = trials.iloc[:2].sort_values("validation_loss")
    assert trials["learning_rate"].iloc[2] == first["learning_rate"].iloc[0]


def test_the_best_trial_is_delivered(result):
    trials = result.trials
    order = trials.sort_values("validation_loss")
    assert trials["delivered"].sum() == 1
    assert order["delivered"].iloc[0]
    delivered = trials[trials["delivered"]].iloc[0]
    assert result.fit.best["validation_accuracy"] == delivered["validation_accuracy"]
    assert result.fit.log["step"].iloc[-1] == delivered["steps"]


def test_the_logs_of_all_trials_are_kept_and_marked(result):
    log = result.log
    assert len(log) == 3 + 3 + 5
    delivered = log[log["delivered"]]
    pd.testing.assert_frame_equal(delivered[LOG_COLUMNS].reset_index(drop=True), result.fit.log)
    for number, trial in log.groupby("trial"):
        row = result.trials.iloc[number]
        assert trial["step"].max() == row["steps"]
        assert set(trial["delivered"]) == {row["delivered"]}
        assert f"{row['learning_rate']:g}" in trial["phase"].iloc[0]


def test_the_delivered_network_is_that_of_the_log(result, shapes, shape_splits):
    rows = shapes.rows(shape_splits, "validation")
    predicted = result.fit.network(shapes.pixels(rows)).numpy().argmax(axis=1)
    accuracy = (predicted == shapes.classes[rows]).mean()
    assert result.fit.best["validation_accuracy"] == pytest.approx(accuracy, abs=1e-6)


def test_neither_the_network_s_weights_nor_the_test_images_matter(
    result, train, search, tiny_network, shapes, shape_splits
):
    network = tiny_network(seed=5, normalised=False)
    network.set_weights([np.zeros_like(weights) for weights in network.get_weights()])
    unread = np.flatnonzero(shape_splits["split"].isin(["test", "unlabelled"]))
    pixels = shapes.pixels(np.arange(len(shapes)))
    pixels[unread] = 255 - pixels[unread]
    labels = shapes.table["label"].to_numpy().copy()
    labels[unread] = "blob"
    corrupt = dataclasses.replace(shapes, table=shapes.table.assign(label=labels), shards=(pixels,))
    pd.testing.assert_frame_equal(train(network, search(), images=corrupt).log, result.log)
    assert not any(weights.any() for weights in network.get_weights())


def test_doubling_stops_when_twice_the_steps_are_no_better(train, search, tiny_network):
    # A rate of 1e-12 changes no float32 weight that could change a figure, so that no trial beats another.
    still = search(learning_rates=(1e-12,), most_doublings=5, steps=2, validations=1, patience=1)
    trials = train(tiny_network(normalised=False), still).trials
    assert trials["steps"].tolist() == [2, 4]
    assert trials["delivered"].tolist() == [True, False]


def test_without_doublings_the_rates_alone_are_tried(train, search, tiny_network):
    short = search(learning_rates=(0.01,), most_doublings=0, steps=2, validations=1)
    assert train(tiny_network(), short).trials["steps"].tolist() == [2]


def test_a_disabled_baseline_is_an_untrained_network_with_empty_tables(train, search, tiny_network):
    network = tiny_network(seed=5)
    result = train(network, search(enabled=False))
    for mine, theirs in zip(result.fit.network.get_weights(), reinitialise(network, 0).get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert result.trials.empty
    assert result.log.empty
    assert {"delivered", "learning_rate", "trial", *LOG_COLUMNS} <= set(result.log.columns)


def test_a_disabled_and_an_enabled_baseline_have_the_same_columns(result, train, search, tiny_network):
    disabled = train(tiny_network(), search(enabled=False))
    assert disabled.trials.columns.tolist() == result.trials.columns.tolist()
    assert disabled.log.columns.tolist() == result.log.columns.tolist()


def test_a_search_without_a_learning_rate_is_refused(search):
    with pytest.raises(ValidationError, match="learning_rates"):
        search(learning_rates=())


@pytest.mark.parametrize("rates", [(0.0,), (5.0,), (0.01, -1.0)])
def test_an_impossible_learning_rate_is_refused_before_any_training(search, rates):
    with pytest.raises(ValidationError, match="learning_rates"):
        search(learning_rates=rates)


@pytest.mark.parametrize("change", [{"towards_start": 0.1}, {"depth_decay": 0.5}])
def test_a_baseline_that_would_stay_near_random_weights_is_refused(search, change):
    with pytest.raises(ValidationError, match="random weights are nothing to stay near"):
        search(**change)


def test_longer_trials_have_wider_bounds(search):
    course = search(steps=None, epochs=3, least_steps=10, most_steps=100).at(0.01, doublings=2)
    assert (course.epochs, course.least_steps, course.most_steps) == (12, 40, 400)


@pytest.mark.parametrize("enabled", [True, False])
def test_another_architecture_is_trained_in_the_place_of_the_migrated_one(train, search, tiny_network, shapes, enabled):
    other = search(architecture="compact_cnn", enabled=enabled, learning_rates=(1e-12,), steps=1, most_doublings=0)
    result = train(tiny_network(n_classes=7), other)
    expected = build_network("compact_cnn", shapes.image_shape, len(shapes.class_names), 0)
    assert [layer.name for layer in result.fit.network.layers] == [layer.name for layer in expected.layers]
    assert result.fit.network.output_shape == (None, len(shapes.class_names))
    assert len(result.trials) == enabled


def test_an_unknown_architecture_is_refused_with_the_nearest_name(search):
    with pytest.raises(ValidationError, match=r"null or one of .*compact_cnn.*Did you mean compact_cnn"):
        search(architecture="compact_cn")
