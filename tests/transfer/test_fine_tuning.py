import dataclasses

import keras
import numpy as np
import pandas as pd
import pytest

from cnn_transfer.images import split_examples
from cnn_transfer.training import LOG_COLUMNS
from cnn_transfer.transfer import WholeNetwork, fine_tune


@pytest.fixture(scope="module")
def migrated(tiny_network):
    """A network with batch statistics that are not 0 and 1. It is not frozen: fine-tuning has to see to that itself."""
    network = tiny_network()
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights([gamma, beta, mean + 0.05, variance * 0.4])
    return network


@pytest.fixture(scope="module")
def tune(migrated, shapes, shape_splits, schedule, augmentation):
    course = schedule(steps=40, validations=4, batch_size=20, patience=4)

    def start(images=shapes, splits=shape_splits, batch_statistics=False, learning_rates=(1e-12, 0.005)):
        return fine_tune(
            migrated,
            split_examples(images, splits, "training"),
            split_examples(images, splits, "validation"),
            head=schedule(steps=12, validations=2),
            whole=WholeNetwork(
                **course.model_dump(exclude={"learning_rate"}),
                learning_rates=learning_rates,
                most_doublings=0,
                batch_statistics=batch_statistics,
            ),
            augmentation=augmentation(shift_fraction=0.05),
            precision="float32",
            seed=0,
        )

    return start


@pytest.fixture(scope="module")
def before(migrated):
    return [layer.get_weights() for layer in migrated.layers], [layer.trainable for layer in migrated.layers]


@pytest.fixture(scope="module")
def tuned(before, tune):
    """`before` is asked for first, so that it is taken before anything is trained."""
    return tune()


def test_the_log_counts_steps_and_images_over_both_phases(tuned):
    log = tuned.fit.log
    assert log["phase"].tolist() == ["head"] * 3 + ["whole network"] * 5
    assert log["step"].tolist() == [0, 6, 12, 12, 22, 32, 42, 52]
    assert log["images_processed"].tolist() == [0, 96, 192, 192, 392, 592, 792, 992]


def test_the_rate_that_is_best_on_validation_is_delivered_and_all_are_reported(tuned):
    assert tuned.trials["learning_rate"].tolist() == [1e-12, 0.005]
    assert tuned.trials["delivered"].tolist() == [False, True]
    assert tuned.trials["steps"].tolist() == [52, 52]
    delivered = tuned.log[tuned.log["delivered"]]
    pd.testing.assert_frame_equal(delivered[LOG_COLUMNS].reset_index(drop=True), tuned.fit.log)


def test_fine_tuning_learns(tuned):
    assert tuned.fit.best["validation_accuracy"] > max(0.7, tuned.fit.log["validation_accuracy"].iloc[0])


def test_the_best_row_of_both_phases_is_that_of_the_network(tuned, shapes, shape_splits):
    rows = shapes.rows(shape_splits, "validation")
    predicted = tuned.fit.network(shapes.pixels(rows)).numpy().argmax(axis=1)
    accuracy = (predicted == shapes.classes[rows]).mean()
    assert tuned.fit.best["validation_accuracy"] == pytest.approx(accuracy, abs=1e-6)


def test_the_second_phase_trains_the_base_but_no_batch_normalisation(tuned, migrated):
    for layer in migrated.layers:
        after = tuned.fit.network.get_layer(layer.name).get_weights()
        for mine, theirs in zip(layer.get_weights(), after, strict=True):
            frozen = isinstance(layer, keras.layers.BatchNormalization)
            assert np.array_equal(mine, theirs) == frozen, layer.name


def test_the_head_alone_is_delivered_when_the_rest_only_harms(tune, shapes, shape_splits):
    # A rate of 1 destroys the network.
    harmed = tune(learning_rates=(1.0,))
    assert harmed.fit.best["phase"] == "head"
    rows = shapes.rows(shape_splits, "validation")
    predicted = harmed.fit.network(shapes.pixels(rows)).numpy().argmax(axis=1)
    assert (predicted == shapes.classes[rows]).mean() == pytest.approx(harmed.fit.best["validation_accuracy"], abs=1e-6)


def test_the_network_handed_in_is_left_as_it_is(tuned, before, migrated):
    weights, trainable = before
    assert [layer.trainable for layer in migrated.layers] == trainable
    for layer, then in zip(migrated.layers, weights, strict=True):
        for mine, theirs in zip(layer.get_weights(), then, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_the_result_is_one_flat_graph(tuned):
    assert not any(isinstance(layer, keras.Model) for layer in tuned.fit.network.layers)


def test_test_and_unlabelled_images_are_never_read(tuned, tune, shapes, shape_splits):
    unread = np.flatnonzero(shape_splits["split"].isin(["test", "unlabelled"]))
    assert len(unread) > 100
    pixels = shapes.pixels(np.arange(len(shapes)))
    pixels[unread] = 255 - pixels[unread]
    labels = shapes.table["label"].to_numpy().copy()
    labels[unread] = "blob"
    corrupt = dataclasses.replace(shapes, table=shapes.table.assign(label=labels), shards=(pixels,))
    again = tune(images=corrupt, splits=shape_splits.assign(label=labels))
    pd.testing.assert_frame_equal(again.log, tuned.log)
    for mine, theirs in zip(again.fit.network.get_weights(), tuned.fit.network.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-7)
