"""One fit, as each of the processes that train together runs it: `python together.py IMAGES RESULT [CHECKPOINTS]`.

In float64, so that two processes and one must agree in many digits: rounding to float32 would hide small mistakes, and
training makes every difference larger.
"""

import logging
import sys
from importlib import import_module
from pathlib import Path

import keras
import numpy as np

from cnn_transfer.images import Augmentation, open_image_set, split_examples
from cnn_transfer.models import add_head, surgery
from cnn_transfer.training import Checkpoints, Optimisation, fit
from cnn_transfer.training.workers import join

ODD_BATCH = 15  # which two processes share as 7 and 8


def in_float64(network, _):
    def change(_, config):
        config["dtype"] = "float64"

    copy = surgery._rebuild(network, change)
    copy.set_weights(network.get_weights())
    return copy


def network():
    inputs = keras.Input((28, 28, 1), dtype="uint8", name="pixels")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="rescaling")(inputs)
    for block, filters in enumerate((8, 16), start=1):
        initializer = keras.initializers.HeNormal(seed=block)
        x = keras.layers.Conv2D(filters, 3, strides=2, kernel_initializer=initializer, name=f"conv{block}")(x)
        x = keras.layers.BatchNormalization(momentum=0.5, name=f"normalisation{block}")(x)
        x = keras.layers.Activation("relu", name=f"block{block}")(x)
    return add_head(keras.Model(inputs, x, name="tiny"), 4, 0)


def examples(folder):
    images = open_image_set(Path(folder))
    position = images.table.groupby("label").cumcount()
    split = np.select([position < 24, position < 60], ["training", "validation"], "test")
    splits = images.table[["id", "label"]].assign(split=split)
    return [split_examples(images, splits, name) for name in ("training", "validation")]


def moves():
    fields = Augmentation.model_fields.items()
    nothing = {name: False if field.annotation is bool else 0.0 for name, field in fields}
    return Augmentation(**nothing | {"shift_fraction": 0.1, "mixup_alpha": 0.2})


def course(**changes):
    usual = {"learning_rate": 0.01, "batch_size": ODD_BATCH, "accumulated_batches": 2, "gradient_clip": 0.5}
    usual |= {"steps": 48, "validations": 8, "patience": 8, "warmup_fraction": 0.1, "label_smoothing": 0.1}
    return Optimisation(**usual | {"weight_decay": 0.01, "towards_start": 0.01, "depth_decay": 0.8} | changes)


def main(images, result, checkpoints=None):
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    keras.config.set_floatx("float64")
    fitting = import_module("cnn_transfer.training.fit")
    fitting.with_precision = fitting.for_training = in_float64
    team = join()

    def train():
        kept = checkpoints and Checkpoints(checkpoints)
        found = fit(network(), *examples(images), course(), moves(), "float64", 0, "the fit", kept)
        if team is None or team.index == 0:
            log = found.log.drop(columns="phase").to_numpy(float)
            np.savez(result, *found.network.get_weights(), log=log)

    if team is None:
        train()
    elif team.index == 0:
        with team.at_work("train"):
            train()
        team.dismiss()
    else:
        for _ in team.tasks():
            train()


if __name__ == "__main__":
    main(*sys.argv[1:])
