"""One fit of one network: AdamW, warm-up and cosine decay, validation at even intervals, the best weights kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator
from tqdm import tqdm

from cnn_transfer.images import Augmentation, Examples, ordered_batches, training_batches
from cnn_transfer.models import with_precision
from cnn_transfer.parameters import Parameters

if TYPE_CHECKING:
    import keras

LOG_COLUMNS = [
    "phase", "step", "images_processed", "training_loss", "training_accuracy", "validation_loss", "validation_accuracy",
]  # fmt: skip
STEPS_PER_CALL = range(13, 26)  # optimiser steps in one call of TensorFlow's runtime: nearly twice the speed at 32 px


class Pace(NamedTuple):
    """How the steps of a fit are grouped.

    Attributes:
        steps_per_call: Optimiser steps in one call of TensorFlow's runtime.
        interval: Steps from one validation to the next, a multiple of `steps_per_call`.
        validations: Number of validations.
    """

    steps_per_call: int
    interval: int
    validations: int


class Schedule(Parameters):
    """The course of one fit but for its learning rate; its length is given in `epochs` or in `steps`, not both."""

    batch_size: int = Field(ge=1, le=4096)
    epochs: int | None = Field(default=None, ge=1, le=10_000)
    steps: int | None = Field(default=None, ge=1, le=10_000_000)
    warmup_fraction: float = Field(ge=0, le=0.5)  # of all steps
    weight_decay: float = Field(ge=0, le=1)
    label_smoothing: float = Field(ge=0, lt=1)  # share of the target spread over all classes
    validations: int = Field(ge=1, le=10_000)  # during the fit, evenly spaced
    patience: int = Field(ge=1)  # validations without a better one before the fit stops

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either epochs or steps")
        return self

    def pace(self, training_images: int) -> Pace:
        """Group the steps so that validations are even and calls of the runtime are long.

        The length of the fit stays within a few per cent of what was asked, and is exact for short fits.
        """
        steps = self.steps or max(1, round((self.epochs or 1) * training_images / self.batch_size))
        interval = max(1, steps // self.validations)
        steps_per_call = interval
        if interval > STEPS_PER_CALL[-1]:
            steps_per_call = max(STEPS_PER_CALL, key=lambda calls: (interval // calls * calls, calls))
            interval = interval // steps_per_call * steps_per_call
        return Pace(steps_per_call, interval, max(1, round(steps / interval)))


class Optimisation(Schedule):
    """A schedule with its learning rate."""

    learning_rate: float = Field(gt=0, le=1)  # at the end of the warm-up


@dataclass(frozen=True)
class Fit:
    """The result of a fit.

    Attributes:
        network: The network with its best weights, in float32, not compiled.
        log: One row a validation, the first before any step; columns `LOG_COLUMNS`.
        precision: The Keras dtype policy of the fit.
    """

    network: keras.Model
    log: pd.DataFrame
    precision: str

    @property
    def best(self) -> pd.Series:
        """The row of the log whose weights were kept: the lowest validation loss.

        On a few hundred validation images the accuracy moves in steps as large as the differences between fits; the
        loss is continuous, and with smoothed labels it does not punish a network for being right but sure.
        """
        return self.log.iloc[int(self.log["validation_loss"].to_numpy().argmin())]


def fit(
    network: keras.Model,
    training: Examples,
    validation: Examples,
    optimisation: Optimisation,
    augmentation: Augmentation,
    precision: str,
    seed: int,
    phase: str,
) -> Fit:
    """Train the trainable layers of a network; the network itself is left as it is.

    Args:
        network: A network that returns class probabilities.
        training: What it learns from.
        validation: What it is judged by, for early stopping and for the weights that are kept.
        optimisation: The schedule.
        augmentation: How training images are changed.
        precision: Keras dtype policy, `float32` or `mixed_bfloat16`.
        seed: Seed of order and augmentation.
        phase: Name of the fit in its log and its progress bar.

    Raises:
        FloatingPointError: When the loss is not finite.
    """
    import keras

    pace = optimisation.pace(len(training))
    model = with_precision(network, precision)
    model.compile(
        optimizer=_optimizer(optimisation, pace.interval * pace.validations),
        # Smoothed targets: arXiv 1512.00567, section 7.
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=optimisation.label_smoothing),
        metrics=[keras.metrics.CategoricalAccuracy("accuracy")],  # of a mixed image: the class with the largest share
        steps_per_execution=pace.steps_per_call,
        jit_compile=False,
    )
    validation_batches = ordered_batches(validation)
    start_loss, start_accuracy = model.evaluate(validation_batches, verbose=0)
    start = [phase, 0, 0, np.nan, np.nan, start_loss, start_accuracy]
    watch = _watch(phase, pace, optimisation, precision, [start], model.get_weights())
    model.fit(
        training_batches(training, optimisation.batch_size, seed, augmentation),
        steps_per_epoch=pace.interval,
        epochs=pace.validations,
        validation_data=validation_batches,
        callbacks=[watch],
        shuffle=False,
        verbose=0,
    )
    result = with_precision(network, "float32")
    result.set_weights(watch.best_weights)
    return Fit(result, pd.DataFrame(watch.rows, columns=LOG_COLUMNS), precision)


def _optimizer(optimisation: Optimisation, steps: int) -> keras.optimizers.Optimizer:
    """AdamW (arXiv 1711.05101) with linear warm-up and cosine decay to 1% (arXiv 1608.03983)."""
    import keras

    warmup = max(1, round(optimisation.warmup_fraction * steps))
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        warmup_target=optimisation.learning_rate,
        warmup_steps=warmup,
        decay_steps=max(1, steps - warmup),
        alpha=0.01,
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=optimisation.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _watch(
    phase: str, pace: Pace, optimisation: Optimisation, precision: str, rows: list[list[Any]], weights: list[Any]
) -> Any:
    """A callback that logs each validation, keeps the best weights, stops early and shows progress.

    Keras's EarlyStopping cannot start from the validation before the first step, so that a fit could end worse than it
    began.
    """
    import keras

    class Watch(keras.callbacks.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.rows, self.best_weights = rows, weights
            self._best_loss, self._waited = float(rows[0][5]), 0
            total = pace.interval * pace.validations * optimisation.batch_size
            self._progress = tqdm(total=total, unit="images", desc=phase, disable=None)

        def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
            step = (epoch + 1) * pace.interval
            figures = [logs["loss"], logs["accuracy"], logs["val_loss"], logs["val_accuracy"]]
            if not all(math.isfinite(figure) for figure in figures):
                self._progress.close()
                raise FloatingPointError(
                    f"The loss of {phase} is not finite after {step} steps (precision {precision}, learning rate "
                    f"{optimisation.learning_rate}, batch size {optimisation.batch_size}). Lower learning_rate, or set "
                    "precision to float32."
                )
            self.rows.append([phase, step, step * optimisation.batch_size, *figures])
            self._progress.update(pace.interval * optimisation.batch_size)
            self._progress.set_postfix(validation_accuracy=f"{logs['val_accuracy']:.3f}")
            if logs["val_loss"] < self._best_loss:
                self._best_loss, self._waited = logs["val_loss"], 0
                self.best_weights = self.model.get_weights()
            else:
                self._waited += 1
                self.model.stop_training = self._waited >= optimisation.patience

        def on_train_end(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002 (Keras's signature)
            self._progress.close()

    return Watch()
