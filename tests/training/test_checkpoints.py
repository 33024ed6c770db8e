"""A fit that was cut off goes on after its last validation and ends with the same result, bit for bit."""

import dataclasses
import errno
import json
import logging
import time

import fsspec
import keras
import numpy as np
import pandas as pd
import pytest

from cnn_transfer.images import split_examples
from cnn_transfer.models import add_head, reinitialise
from cnn_transfer.training import Checkpoints, fit
from cnn_transfer.training.checkpoints import FitState, key_of_fit
from freezing import freeze


class StoppedError(BaseException):
    """What a signal handler raises."""


class StopsAt(Checkpoints):
    """Keeps the state of each epoch and stops the process after one of them."""

    def __init__(self, folder, epoch):
        super().__init__(folder)
        self.epoch = epoch

    def write(self, key, state):
        super().write(key, state)
        if state.epoch == self.epoch and not state.finished:
            raise StoppedError


@pytest.fixture(scope="module")
def splits(shapes):
    position = shapes.table.groupby("label").cumcount()
    split = np.select([position < 24, position < 40], ["training", "validation"], "test")
    return shapes.table[["id", "label"]].assign(split=split)


@pytest.fixture(scope="module")
def network():
    """Everything that has a state: batch statistics and dropout."""
    inputs = keras.Input((28, 28, 1), dtype="uint8", name="pixels")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, dtype="float32", name="rescaling")(inputs)
    x = keras.layers.Conv2D(8, 3, strides=3, kernel_initializer=keras.initializers.HeNormal(seed=1), name="conv")(x)
    x = keras.layers.BatchNormalization(momentum=0.5, name="normalisation")(x)
    x = keras.layers.Activation("relu", name="block1")(x)
    x = keras.layers.Dropout(0.3, name="dropout")(x)
    return add_head(keras.Model(inputs, x, name="tiny"), 4, 0)


@pytest.fixture(scope="module")
def run(shapes, splits, augmentation, schedule, network):
    def start(checkpoints=None, seed=0, precision="float32", of=network, **changes):
        training, validation = (split_examples(shapes, splits, split) for split in ("training", "validation"))
        course = {"steps": 4, "validations": 2, "patience": 3, "learning_rate": 0.02} | changes
        moved = augmentation(shift_fraction=0.1, mixup_alpha=0.2)
        return fit(of, training, validation, schedule(**course), moved, precision, seed, "phase", checkpoints)

    return start


def assert_same(one, other):
    pd.testing.assert_frame_equal(one.log, other.log, check_exact=True)
    assert one.stopped_by == other.stopped_by
    for mine, theirs in zip(one.network.get_weights(), other.network.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def said(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "cnn_transfer.training.fit"]


@pytest.fixture(scope="module")
def undisturbed(run):
    return run()


def test_training_goes_on_without_checkpoints_on_a_full_disk_with_one_warning(run, undisturbed, tmp_path, caplog):
    class Full(type(fsspec.filesystem("file"))):
        def pipe_file(self, path, value, mode="overwrite", **_):
            super().pipe_file(path, value[:10])
            raise OSError(errno.ENOSPC, "No space left on device")

    result = run(Checkpoints(tmp_path, Full(auto_mkdir=True)))
    assert_same(result, undisturbed)
    (record,) = (record for record in caplog.records if record.name.startswith("cnn_transfer"))
    assert "No space left on device. Training goes on without" in record.getMessage()
    assert list(tmp_path.iterdir()) == []


def test_a_fit_stopped_after_each_epoch_in_turn_writes_its_newest_state_and_ends_as_one_that_was_not(
    run, undisturbed, tmp_path, caplog
):
    class Slow(StopsAt):
        def write(self, key, state):
            self._due = float("inf")
            super().write(key, state)

    caplog.set_level(logging.INFO, "cnn_transfer")
    for epoch, stops in ((1, StopsAt), (2, Slow)):
        with pytest.raises(StoppedError):
            run(stops(tmp_path, epoch))
        (file,) = tmp_path.iterdir()
        assert Checkpoints(tmp_path).read(file.stem).epoch == epoch
    assert_same(run(Checkpoints(tmp_path)), undisturbed)
    assert said(caplog) == [f"phase goes on after epoch {epoch} of 2." for epoch in (1, 2)]
    # It is finished now, and is not repeated.
    assert_same(run(StopsAt(tmp_path, 1)), undisturbed)
    assert said(caplog)[-1] == "phase was finished before."


def test_so_does_one_with_all_that_has_a_state(run, tmp_path):
    changes = {
        "precision": "mixed_bfloat16",
        "accumulated_batches": 2,
        "gradient_clip": 0.5,
        "steps": 8,
        "validations": 4,
        "learning_rate": 0.5,
        "patience": 2,
        "weight_decay": 0.1,
        "towards_start": 0.1,
        "depth_decay": 0.5,
    }
    undisturbed = run(**changes)
    assert undisturbed.stopped_by == "patience"
    with pytest.raises(StoppedError):
        run(StopsAt(tmp_path, len(undisturbed.log) - 2), **changes)
    assert_same(run(Checkpoints(tmp_path), **changes), undisturbed)


def test_another_fit_has_another_key(shapes, splits, network, schedule, augmentation):
    training, validation = (split_examples(shapes, splits, split) for split in ("training", "validation"))
    fewer = split_examples(shapes, splits.drop(index=splits.index[splits["split"] == "training"][:1]), "training")
    frozen = keras.models.clone_model(network)
    frozen.set_weights(network.get_weights())
    same = network, training, validation, schedule(), augmentation(), "float32", 0, "phase"
    others = [
        (0, reinitialise(network, 5)),
        (0, frozen),
        (1, fewer),
        (1, dataclasses.replace(training, weights=np.arange(1.0, 97.0))),
        (1, dataclasses.replace(training, targets=training.targets[:, ::-1])),
        (2, training),
        (3, schedule(steps=12)),
        (4, augmentation(cutout_fraction=0.1)),
        (5, "mixed_bfloat16"),
        (6, 1),
        (7, "another"),
    ]
    assert key_of_fit(*same[:0], frozen, *same[1:]) == key_of_fit(*same)
    freeze(frozen)
    keys = {key_of_fit(*same[:place], other, *same[place + 1 :]) for place, other in others}
    assert len(keys | {key_of_fit(*same)}) == 1 + len(others)


def a_state(epoch=1, size=3):
    values = np.arange(size, dtype=np.float32)
    row = ["phase", 1, 16, float("nan"), 0.1, 1 / 3, 0.5]
    return FitState([row], [values], 1 / 3, epoch=epoch, variables=[values, np.array([1, 2], np.uint32)])


def assert_equal(one, other):
    assert json.dumps(one.rows) == json.dumps(other.rows)
    assert (one.epoch, one.best_loss, one.finished) == (other.epoch, other.best_loss, other.finished)
    for mine, theirs in zip(one.best_weights + one.variables, other.best_weights + other.variables, strict=True):
        np.testing.assert_array_equal(mine, theirs, strict=True)


@pytest.mark.parametrize("protocol", ["file", "memory"])
def test_a_state_comes_back_as_it_was_and_is_gone_when_cleared(tmp_path, protocol):
    checkpoints = Checkpoints(tmp_path / "new", fsspec.filesystem(protocol, auto_mkdir=True))
    checkpoints.clear()
    assert checkpoints.read("key") is None
    checkpoints.write("key", a_state())
    assert_equal(checkpoints.read("key"), a_state())
    assert checkpoints.read("other") is None
    checkpoints.clear()
    assert checkpoints.read("key") is None


@pytest.mark.parametrize(
    "damage", [lambda whole: whole[: len(whole) // 2], lambda _: b"", lambda whole: whole.replace(b"\x80?", b"\x80@")]
)
def test_a_damaged_checkpoint_is_ignored_with_a_warning(tmp_path, damage, caplog):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.write("key", a_state())
    file = tmp_path / "key.npz"
    whole = file.read_bytes()
    assert damage(whole) != whole
    file.write_bytes(damage(whole))
    assert checkpoints.read("key") is None
    assert "key.npz cannot be read" in caplog.text
    assert "starts anew" in caplog.text


def test_a_store_that_does_not_answer_is_not_taken_for_one_without_the_checkpoint(tmp_path):
    class Unreachable(type(fsspec.filesystem("file"))):
        def cat_file(self, path, start=None, end=None, **_):
            raise ConnectionError("the store does not answer")

    with pytest.raises(ConnectionError, match="does not answer"):
        Checkpoints(tmp_path, Unreachable(auto_mkdir=True)).read("key")


def test_a_write_that_takes_long_is_not_repeated_soon_but_the_newest_state_can_be_flushed(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    checkpoints = Checkpoints(tmp_path)
    write = checkpoints._write

    def slow(*arguments):
        write(*arguments)
        now[0] += 2

    monkeypatch.setattr(checkpoints, "_write", slow)
    checkpoints.write("key", a_state(1))
    now[0] = 39.0
    checkpoints.write("key", a_state(2))
    assert checkpoints.read("key").epoch == 1
    checkpoints.flush()
    assert checkpoints.read("key").epoch == 2
    now[0] = 80.0
    checkpoints.write("key", a_state(3))
    assert checkpoints.read("key").epoch == 3
    checkpoints.write("key", dataclasses.replace(a_state(3), finished=True))
    assert checkpoints.read("key").finished, "whatever it takes"
