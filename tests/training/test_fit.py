import dataclasses
import importlib

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from cnn_transfer.images import split_examples, training_batches
from cnn_transfer.models import reinitialise, tracing, unfreeze
from cnn_transfer.training import Fit, evaluate, fit
from cnn_transfer.training.fit import LOG_COLUMNS
from freezing import freeze

pytestmark = pytest.mark.usefixtures("traces_kept")

# Courses of several tests, so that most fits need no tracing of their own: ten steps a call of the runtime, three.
TEN = {"label_smoothing": 0.1, "steps": 60, "validations": 6, "patience": 6}
THREE = {"steps": 6, "validations": 2, "weight_decay": 0.1, "gradient_clip": 0.5, "depth_decay": 0.7, "batch_size": 32}


@pytest.fixture(scope="module")
def splits(shapes):
    """24 training images and 70 for validation of each class: more than one batch of validation, the last one small."""
    position = shapes.table.groupby("label").cumcount()
    split = np.select([position < 24, position < 94], ["training", "validation"], "test")
    return shapes.table[["id", "label"]].assign(split=split)


@pytest.fixture(scope="module")
def run(shapes, splits, augmentation, schedule):
    """Fit a network on the shapes; name what a test is about."""

    def start(network, images=shapes, optimisation=None, precision="float32", seed=0, augment=None):
        training, validation = (split_examples(images, splits, split) for split in ("training", "validation"))
        how = optimisation or schedule(), augment or augmentation()
        return fit(network, training, validation, *how, precision, seed, "phase")

    return start


def probabilities(network, images, splits, split="validation"):
    rows = images.rows(splits, split)
    return network(images.pixels(rows)).numpy(), images.classes[rows]


def figures(network, images, splits, label_smoothing=0.0):
    """Validation loss and accuracy, computed by hand."""
    found, classes = probabilities(network, images, splits)
    targets = np.eye(found.shape[1])[classes] * (1 - label_smoothing) + label_smoothing / found.shape[1]
    loss = -(targets * np.log(np.clip(found, 1e-7, 1))).sum(axis=1).mean()
    return loss, (found.argmax(axis=1) == classes).mean()


@pytest.fixture(scope="module")
def learnt(run, tiny_network, schedule):
    """A fit that learns, and what the network that went into it was before."""
    network = tiny_network()
    before = network.get_weights()
    result = run(network, optimisation=schedule(**TEN))
    return result, network, before


def test_a_fit_learns(learnt):
    result, _, _ = learnt
    assert result.best["validation_accuracy"] > 0.85
    assert result.log["validation_accuracy"].iloc[0] < 0.6
    assert result.log["training_loss"].iloc[-1] < result.log["training_loss"].iloc[1]


def test_the_network_handed_in_is_left_as_it_is(learnt):
    result, network, before = learnt
    for now, then in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert result.network is not network
    assert not network.compiled


def test_the_network_that_comes_out_has_the_layers_of_the_one_that_went_in(learnt):
    result, network, _ = learnt
    assert [type(layer) for layer in result.network.layers] == [type(layer) for layer in network.layers]


def test_the_log_has_a_row_before_the_first_step_and_one_a_validation(learnt):
    log = learnt[0].log
    assert log.columns.tolist() == LOG_COLUMNS
    assert log["step"].tolist() == [0, 10, 20, 30, 40, 50, 60]
    assert log["images_processed"].tolist() == [16 * step for step in log["step"]]
    assert log["training_loss"].isna().tolist() == [True] + [False] * 6
    assert set(log["phase"]) == {"phase"}


def test_the_first_and_the_best_row_are_those_of_the_networks_themselves(learnt, shapes, splits):
    result, network, _ = learnt
    for row, measured in ((result.log.iloc[0], network), (result.best, result.network)):
        loss, accuracy = figures(measured, shapes, splits, label_smoothing=0.1)
        assert row["validation_loss"] == pytest.approx(loss, rel=1e-4)
        assert row["validation_accuracy"] == pytest.approx(accuracy, abs=1e-6)


def test_the_best_row_is_the_first_with_the_lowest_loss():
    log = pd.DataFrame(
        {
            "step": range(6),
            "validation_accuracy": [0.5, 0.9, 0.8, 0.9, 0.9, 0.9],
            "validation_loss": [0.9, 0.5, 0.3, 0.3, 0.4, 0.4],
        }
    )
    assert Fit(None, log, "float32").best["step"] == 2


@pytest.fixture(scope="module")
def in_bfloat16(run, tiny_network, schedule):
    """A fit in bfloat16, the network that went into it, and its course."""
    network = tiny_network(seed=3)
    course = schedule(
        steps=40, validations=2, depth_decay=0.9, towards_start=0.01, gradient_clip=5.0, label_smoothing=0.1
    )
    return run(network, optimisation=course, precision="mixed_bfloat16"), network, course


@pytest.fixture(scope="module")
def short(run, tiny_network, augmentation, schedule):
    """Fit a network without batch normalisation, which TensorFlow compiles faster, for a few steps."""

    def start(**changes):
        return run(
            tiny_network(normalised=False),
            **{"optimisation": schedule(**THREE), "seed": 1, "augment": augmentation(shift_fraction=0.1)} | changes,
        )

    return start


@pytest.fixture(scope="module")
def usual(short):
    return short()


def test_the_same_seed_gives_the_same_result_and_another_seed_another(usual, short):
    same, other = short(), short(seed=2)
    pd.testing.assert_frame_equal(usual.log, same.log)
    for mine, equal in zip(usual.network.get_weights(), same.network.get_weights(), strict=True):
        np.testing.assert_allclose(mine, equal, rtol=1e-6, atol=1e-7)
    assert not np.allclose(usual.log["validation_loss"], other.log["validation_loss"], rtol=1e-4)


def test_a_fit_never_ends_worse_than_it_began(learnt, run, shapes, splits, schedule):
    good = learnt[0].network
    labels = shapes.table["label"].to_numpy().copy()
    training = shapes.rows(splits, "training")
    labels[training] = np.roll(labels[training], 24)  # each training image says that it is of the next class
    misleading = dataclasses.replace(shapes, table=shapes.table.assign(label=labels))
    result = run(good, images=misleading, optimisation=schedule(**TEN | {"steps": 20, "validations": 2}))
    assert result.log["validation_accuracy"].iloc[-1] < result.log["validation_accuracy"].iloc[0] - 0.1
    assert result.best["step"] == 0
    for kept, begun in zip(result.network.get_weights(), good.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, begun)


@pytest.mark.parametrize("patience", [1, 3])
def test_a_fit_stops_after_as_many_validations_without_a_better_one_as_patience_allows(
    run, tiny_network, schedule, patience
):
    network = tiny_network()
    freeze(network)  # with a rate of 1e-12 the head's float32 weights stay as they are, and so does every figure
    slow = schedule(steps=8, validations=8, learning_rate=1e-12, patience=patience)
    assert run(network, optimisation=slow).log["step"].tolist() == list(range(patience + 1))


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 4, "validations": 4, "patience": 4},
        {"weight_decay": 0.5, "towards_start": 0.5, "depth_decay": 0.5, "gradient_clip": 1.0, "accumulated_batches": 2},
    ],
)
def test_frozen_layers_and_batch_statistics_keep_every_bit(run, tiny_network, schedule, changes):
    network = tiny_network()
    freeze(network)
    result = run(network, optimisation=schedule(**changes)).network
    assert [weights.path for weights in result.trainable_weights] == [
        weights.path for weights in network.trainable_weights
    ]
    for layer in network.layers:
        for before, after in zip(layer.get_weights(), result.get_layer(layer.name).get_weights(), strict=True):
            assert np.array_equal(before, after) == (not layer.name.startswith("head_"))


def test_a_fit_in_bfloat16_learns_and_hands_back_a_float32_network(in_bfloat16, shapes, splits):
    result, _, _ = in_bfloat16
    assert result.precision == "mixed_bfloat16"
    assert {layer.compute_dtype for layer in result.network.layers if layer.weights} == {"float32"}
    _, accuracy = figures(result.network, shapes, splits)
    assert accuracy == pytest.approx(result.best["validation_accuracy"], abs=0.05)
    assert accuracy > 0.6


def test_a_network_is_judged_as_the_first_row_of_its_fit_has_it(learnt, in_bfloat16, shapes, splits, schedule):
    validation, training = (split_examples(shapes, splits, split) for split in ("validation", "training"))
    for result, network, course in ((*learnt[:2], schedule(**TEN)), in_bfloat16):
        found = evaluate(network, validation, course, len(training), result.precision)
        assert found == tuple(result.log[["validation_loss", "validation_accuracy"]].iloc[0])


@pytest.mark.parametrize("mixing", [{"mixup_alpha": 0.2}, {"cutmix_alpha": 1.0}])
def test_a_fit_learns_from_mixed_images(run, tiny_network, schedule, augmentation, shapes, splits, mixing):
    result = run(tiny_network(), optimisation=schedule(**TEN), augment=augmentation(**mixing))
    loss, accuracy = figures(result.network, shapes, splits, label_smoothing=0.1)
    assert accuracy > 0.7
    assert result.best["validation_loss"] == pytest.approx(loss, rel=1e-4)  # validation images are never mixed
    assert 0.5 < result.log["training_accuracy"].iloc[-1] <= 1  # of the class with the larger share


def test_only_training_and_validation_images_are_read(usual, short, shapes, splits):
    unread = np.flatnonzero(~splits["split"].isin(["training", "validation"]))
    assert len(unread) > 20
    pd.testing.assert_frame_equal(short(images=with_noise(shapes, unread)).log, usual.log)
    # The same noise in the training images shows that it would have been noticed.
    noticed = short(images=with_noise(shapes, shapes.rows(splits, "training"))).log
    assert not np.allclose(noticed["validation_loss"].iloc[1:], usual.log["validation_loss"].iloc[1:], rtol=1e-3)


def with_noise(images, rows):
    """The same images with random pixels and rotated labels in some rows."""
    pixels = images.pixels(np.arange(len(images)))
    pixels[rows] = np.random.default_rng(0).integers(0, 256, pixels[rows].shape, np.uint8)
    labels = images.table["label"].to_numpy().copy()
    labels[rows] = np.roll(labels[rows], len(rows) // 2)
    return dataclasses.replace(images, table=images.table.assign(label=labels), shards=(pixels,))


def test_batch_statistics_that_are_frozen_stay_while_all_else_is_trained(run, tiny_network):
    network = tiny_network()
    unfreeze(network, batch_statistics=False)
    result = run(network).network
    for layer in network.layers:
        for before, after in zip(layer.get_weights(), result.get_layer(layer.name).get_weights(), strict=True):
            assert np.array_equal(before, after) == layer.name.startswith("normalisation"), layer.name


def test_accumulated_batches_are_one_large_batch(run, tiny_network, schedule):
    large, small = (
        run(tiny_network(normalised=False), optimisation=schedule(**THREE | sizes))
        for sizes in ({}, {"batch_size": 8, "accumulated_batches": 4})
    )
    pd.testing.assert_frame_equal(small.log, large.log, rtol=1e-4)
    assert small.log["images_processed"].tolist() == [0, 96, 192]
    for mine, theirs in zip(small.network.get_weights(), large.network.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("steps", "patience", "reason"), [(2, 9, "length"), (8, 1, "patience"), (1, 1, "length")])
def test_a_fit_says_what_ended_it(run, tiny_network, schedule, steps, patience, reason):
    slow = schedule(steps=steps, validations=steps, learning_rate=1e-12, patience=patience)
    network = tiny_network()
    freeze(network)
    assert run(network, optimisation=slow).stopped_by == reason


@pytest.fixture
def breaks_at(monkeypatch):
    """Let a batch of training images have targets that are no numbers, and all after it."""

    def start(batch):
        def broken(*arguments):
            batches = training_batches(*arguments).enumerate()
            return batches.map(
                lambda step, pair: (pair[0], tf.where(step < batch, pair[1], np.nan * tf.ones_like(pair[1])))
            )

        monkeypatch.setattr(importlib.import_module("cnn_transfer.training.fit"), "training_batches", broken)

    return start


def test_the_weights_before_a_loss_that_is_not_finite_are_kept_when_they_were_better_than_the_start(
    run, tiny_network, schedule, shapes, splits, breaks_at, caplog
):
    breaks_at(4 * 7)
    more = {"batch_size": 8, "accumulated_batches": 4, "steps": 12, "validations": 4, "patience": 4}
    course = schedule(**THREE | more)
    result = run(tiny_network(normalised=False), optimisation=course)
    assert result.stopped_by == "not_finite"
    assert result.log["step"].tolist() == [0, 3, 6]
    assert result.best["step"] > 0
    loss, accuracy = figures(result.network, shapes, splits)
    assert result.best["validation_loss"] == pytest.approx(loss, rel=1e-4)
    assert result.best["validation_accuracy"] == pytest.approx(accuracy, abs=1e-6)
    (record,) = caplog.records
    assert "phase is not finite after 9 steps" in record.getMessage()
    assert "set gradient_clip to 1" in record.getMessage()
    assert "best weights before it are kept" in record.getMessage()


def test_a_loss_that_is_not_finite_is_an_error_when_no_validation_was_better_than_the_start(
    run, tiny_network, schedule, breaks_at
):
    breaks_at(1)
    network = tiny_network()
    freeze(network)
    slow = schedule(steps=4, validations=4, learning_rate=1e-12)
    with pytest.raises(FloatingPointError) as caught:
        run(network, optimisation=slow)
    message = str(caught.value)
    assert "phase is not finite after 2 steps" in message
    assert "precision float32, learning rate 1e-12, batch size 16" in message
    assert "Lower learning_rate, set gradient_clip to 1, or set precision to float32" in message


def test_a_network_whose_loss_is_not_finite_is_refused_before_its_first_step(run, tiny_network):
    network = tiny_network(normalised=False)
    network.set_weights([weights * 1e20 for weights in network.get_weights()])
    with pytest.raises(FloatingPointError, match=r"not finite after 0 steps .* make it again"):
        run(network)


class NoRoom:
    """A shard that cannot be read for want of memory."""

    def __getitem__(self, rows):
        raise MemoryError


def test_too_little_memory_is_an_error_that_says_how_to_need_less(run, tiny_network, shapes, schedule):
    with pytest.raises(MemoryError) as caught:
        run(tiny_network(), images=dataclasses.replace(shapes, shards=(NoRoom(),)))
    message = str(caught.value)
    assert "too small for phase with batches of 16 images of 28 × 28 px" in message
    assert "Lower batch_size, and raise accumulated_batches (now 1)" in message
    assert "image_size_px" in message


def test_a_fit_after_others_is_the_one_it_would_have_been_alone(run, tiny_network, schedule, monkeypatch):
    import keras

    start = tiny_network()
    *_, flat, last = start.layers
    dropped = last(keras.layers.Dropout(0.3, name="head_dropout")(flat.output))
    start = keras.Model(start.input, dropped, name="with_dropout")
    course = {"towards_start": 0.1, "gradient_clip": 1.0, "accumulated_batches": 2}  # all that an optimiser keeps
    long = schedule(steps=20, validations=4, learning_rate=0.003, **course)

    monkeypatch.setattr(tracing, "_spare", {})
    alone = run(start, optimisation=long)
    monkeypatch.setattr(tracing, "_spare", {})
    run(reinitialise(start, 9), optimisation=schedule(steps=10, validations=2, learning_rate=0.02, **course), seed=4)
    (used,) = tracing._spare.values()
    after_others = run(start, optimisation=long)

    assert [*tracing._spare.values()] == [used]
    pd.testing.assert_frame_equal(after_others.log, alone.log)
    for one, other in zip(after_others.network.get_weights(), alone.network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
