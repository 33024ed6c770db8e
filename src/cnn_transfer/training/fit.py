"""One fit of one network: AdamW, warm-up and cosine decay, validation at even intervals, the best weights kept."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from cnn_transfer.images import Augmentation, Examples, ordered_batches, training_batches
from cnn_transfer.models import for_training, traced, with_precision
from cnn_transfer.training.checkpoints import Checkpoints, FitState, NoCheckpoints, StoppedBy, key_of_fit
from cnn_transfer.training.optimizer import build_optimizer
from cnn_transfer.training.schedule import Optimisation, Pace
from cnn_transfer.training.workers import Team, cluster, team_at_work

if TYPE_CHECKING:
    import keras

LOGGER = logging.getLogger(__name__)

SAME = (
    "Code, libraries, parameters and images must be the same on all, and checkpoints must lie where all of them look."
)
SET_ANEW = {
    "learning_rate",
    "warmup_fraction",
    "epochs",
    "least_steps",
    "most_steps",
    "steps",
    "validations",
    "patience",
}  # fields of a schedule that may differ from fit to fit of one traced network
LOG_COLUMNS = [
    "phase", "step", "images_processed", "training_loss", "training_accuracy", "validation_loss", "validation_accuracy",
]  # fmt: skip


@dataclass(frozen=True)
class Fit:
    """The result of a fit.

    Attributes:
        network: The network with its best weights, in float32, not compiled.
        log: One row a validation, the first before any step; columns `LOG_COLUMNS`.
        precision: The Keras dtype policy of the fit.
        stopped_by: What ended it: its length, its patience, or a loss that was not finite any more.
    """

    network: keras.Model
    log: pd.DataFrame
    precision: str
    stopped_by: StoppedBy = "length"

    @property
    def best(self) -> pd.Series:
        """The row of the log whose weights were kept: the lowest validation loss.

        On a few hundred validation images the accuracy moves in steps as large as the differences between fits; the
        loss is continuous, and with smoothed labels it does not punish a network for being right but sure.
        """
        return self.log.iloc[int(self.log["validation_loss"].fillna(np.inf).to_numpy().argmin())]


def fit(
    network: keras.Model,
    training: Examples,
    validation: Examples,
    optimisation: Optimisation,
    augmentation: Augmentation,
    precision: str,
    seed: int,
    phase: str,
    checkpoints: Checkpoints | None = None,
    workers: int = 1,
) -> Fit:
    """Train the trainable layers of a network; the network itself is left as it is.

    A loss that is not finite ends the fit. When a validation before it was better than the start, its weights are the
    result, with a logged warning and `stopped_by` in the result; otherwise there is nothing to hand back.

    With checkpoints, a fit that was cut off goes on after the last validation whose state was kept, and ends with the
    same result as one that was not; one that was finished is not repeated. The newest state is written when the fit
    ends by an exception, such as the `SystemExit` of a process that is told to stop.

    Args:
        network: A network that returns class probabilities.
        training: What it learns from.
        validation: What it is judged by, for early stopping and for the weights that are kept.
        optimisation: The schedule.
        augmentation: How training images are changed.
        precision: Keras dtype policy, `float32` or `mixed_bfloat16`.
        seed: Seed of order, augmentation and dropout.
        phase: Name of the fit in its log and its progress bar.
        checkpoints: Where its state is kept; None: nowhere.
        workers: Machines that train together. Those that TF_CONFIG names are used whatever it says (`workers.py`);
            without TF_CONFIG, more than one are started on a Ray cluster, for this fit (`ray_training.py`).

    Raises:
        FloatingPointError: When the loss is not finite before any validation is better than the start.
        MemoryError: When a batch does not fit into the memory of the processor or the graphics card.
        WorkerLostError: When one of the machines is gone.
    """
    given = Given(network, training, validation, optimisation, augmentation, precision, seed, phase)
    if workers > 1 and cluster() is None:
        from cnn_transfer.training.ray_training import train_on_ray

        state = train_on_ray(given, checkpoints, workers)
    else:
        state = train(given, checkpoints)
    best = with_precision(network, "float32")
    best.set_weights(state.best_weights)
    return Fit(best, pd.DataFrame(state.rows, columns=LOG_COLUMNS), precision, state.stopped_by)


class Given(NamedTuple):
    """What `fit` is given, but for where its state is kept; nothing else decides on its result."""

    network: keras.Model
    training: Examples
    validation: Examples
    optimisation: Optimisation
    augmentation: Augmentation
    precision: str
    seed: int
    phase: str

    @property
    def pace(self) -> Pace:
        """How its steps are grouped."""
        return self.optimisation.pace(len(self.training))


def train(given: Given, checkpoints: Checkpoints | None) -> FitState:
    """Train in this process, and in the others of its team at work; see `fit`."""
    import tensorflow as tf

    checkpoints, team = checkpoints or NoCheckpoints(), team_at_work()
    key, state = find_state(given, checkpoints)
    if team:
        team.agree(f"{key} {state and (state.epoch, state.finished)}", SAME)
        if team.index:
            checkpoints = NoCheckpoints()  # the chief writes
    if state and state.finished:
        return state
    watch = _watch(given, partial(checkpoints.write, key), team)
    try:
        with (
            team.losses_named(watch.goes_on_later) if team else nullcontext(),
            _compiled(given.network, given.optimisation, given.pace, given.precision, team) as model,
        ):
            _train(model, given, watch, state, team)
    except FloatingPointError as error:
        if not watch.improved:
            checkpoints.flush()
            raise
        LOGGER.warning("%s The best weights before it are kept.", error)
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        height, width, _ = given.training.images.image_shape
        batch, accumulated = given.optimisation.batch_size, given.optimisation.accumulated_batches
        raise MemoryError(
            f"The memory is too small for {given.phase} with batches of {batch} images of {height} × {width} px. Lower "
            f"batch_size, and raise accumulated_batches (now {accumulated}) by the same factor to keep the images a "
            "step; or lower image_size_px."
        ) from error
    except BaseException:
        checkpoints.flush()
        raise
    finally:
        watch.close()
    finished: FitState = watch.finished()
    checkpoints.write(key, finished)
    return finished


def find_state(given: Given, checkpoints: Checkpoints) -> tuple[str, FitState | None]:
    """Key and kept state of a fit, with a logged line on what it is."""
    key = key_of_fit(*given)
    state = checkpoints.read(key)
    if state and state.finished:
        LOGGER.info("%s was finished before.", given.phase)
    elif state:
        LOGGER.info("%s goes on after epoch %d of %d.", given.phase, state.epoch, given.pace.validations)
    return key, state


def evaluate(
    network: keras.Model, validation: Examples, optimisation: Optimisation, training_images: int, precision: str
) -> tuple[float, float]:
    """Loss and accuracy of a network as it is, as the first row of the log of its fit has them.

    Args:
        network: A network that returns class probabilities.
        validation: What it is judged by.
        optimisation: The schedule of the fit.
        training_images: Images that the fit would learn from.
        precision: Keras dtype policy.
    """
    with _compiled(network, optimisation, optimisation.pace(training_images), precision, None) as model:
        loss, accuracy = model.evaluate(ordered_batches(validation), verbose=0)
    return loss, accuracy


@contextmanager
def _compiled(
    network: keras.Model, optimisation: Optimisation, pace: Pace, precision: str, team: Team | None
) -> Iterator[keras.Model]:
    """A copy of the network in the precision, ready for its first step."""
    if team:  # its tracing is of one cluster
        model = team.model(with_precision(network, precision), optimisation.batch_size)
        _compile(model, optimisation, pace)
        yield model
        return

    def make() -> keras.Model:
        model = for_training(network, precision)
        _compile(model, optimisation, pace)
        return model

    fixed = optimisation.model_dump_json(exclude=SET_ANEW)
    with traced(network, f"fit {precision} {pace.steps_per_call} {fixed}", make) as model:
        for generator in _random_states(model):
            generator.assign(0 * generator)
        model.optimizer.begin(optimisation, pace.interval * pace.validations)
        yield model


def _random_states(model: keras.Model) -> list[Any]:
    """Of dropout and other random layers: seed, and the numbers drawn so far."""
    return [variable for variable in model.variables if variable.name == "seed_generator_state"]


def _seed_layers(model: keras.Model, seed: int, part: int) -> None:
    """Let dropout and other random layers draw from the seed of the fit; Keras draws theirs anew in each process.

    Each part of a batch that several machines share has random numbers of its own.
    """
    for index, generator in enumerate(_random_states(model)):
        draws = int(np.array(generator)[1])
        generator.assign([(1000 * seed + index + 1_000_003 * part) % 2**32, draws])


def _compile(model: keras.Model, optimisation: Optimisation, pace: Pace) -> None:
    import keras

    model.compile(
        optimizer=build_optimizer(model, optimisation, pace.interval * pace.validations),
        # Smoothed targets: arXiv 1512.00567, section 7.
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=optimisation.label_smoothing),
        metrics=[keras.metrics.CategoricalAccuracy("accuracy")],  # of a mixed image: the class with the largest share
        steps_per_execution=pace.steps_per_call * optimisation.accumulated_batches,
        jit_compile=False,
    )


def _train(model: keras.Model, given: Given, watch: Any, state: FitState | None, team: Team | None) -> None:
    validation_batches = ordered_batches(given.validation)
    if state:
        watch.go_on(model, state)
    else:
        watch.start(model.get_weights(), *model.evaluate(validation_batches, verbose=0))
    if watch.is_over:
        return
    _seed_layers(model, given.seed, team.index if team else 0)
    batch_size, accumulated = given.optimisation.batch_size, given.optimisation.accumulated_batches
    batches_an_epoch = given.pace.interval * accumulated
    batches = training_batches(
        given.training, batch_size, given.seed, given.augmentation, watch.epoch * batches_an_epoch
    )
    model.fit(
        team.part(batches, batch_size) if team else batches,
        steps_per_epoch=batches_an_epoch,
        initial_epoch=watch.epoch,
        epochs=given.pace.validations,
        validation_data=validation_batches,  # all of it on each machine
        callbacks=[watch],
        shuffle=False,
        verbose=0,
    )


def _watch(given: Given, keep: Callable[[FitState], None], team: Team | None) -> Any:
    """A callback that logs each validation, keeps the best weights and all else, stops early and shows progress.

    Keras's EarlyStopping cannot start from the validation before the first step, so that a fit could end worse than it
    began; its TerminateOnNaN forgets the weights; its BackupAndRestore restores no other callback.
    """
    import keras

    optimisation, pace, phase = given.optimisation, given.pace, given.phase
    images_per_step = optimisation.images_per_step

    class Watch(keras.callbacks.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.rows: list[list[Any]] = []
            self.best_weights: list[np.ndarray] = []
            self.improved = False  # whether a validation was better than the start
            self.stopped_by: StoppedBy = "length"
            self.epoch = 0  # validations that are done
            self._best_loss, self._waited = math.nan, 0
            total = pace.interval * pace.validations * images_per_step
            self._progress = tqdm(total=total, unit="images", desc=phase, disable=None)

        def start(self, weights: list[np.ndarray], loss: float, accuracy: float) -> None:
            """Take note of the network before its first step."""
            loss, accuracy = team.share([loss, accuracy]) if team else (loss, accuracy)
            self._check(0, loss)
            self.rows.append([phase, 0, 0, np.nan, np.nan, loss, accuracy])
            self.best_weights, self._best_loss = weights, loss

        def go_on(self, model: keras.Model, state: FitState) -> None:
            """Take everything back to where it was when its state was kept."""
            self.rows, self.best_weights, self._best_loss = state.rows, state.best_weights, state.best_loss
            self.improved, self._waited = state.improved, state.waited
            self.stopped_by, self.epoch = state.stopped_by, state.epoch
            model.optimizer.build(model.trainable_variables)
            for variables, values in ((model.variables, state.variables), (model.optimizer.variables, state.optimizer)):
                for variable, value in zip(variables, values, strict=True):
                    variable.assign(value)
            self._progress.update(self.epoch * pace.interval * images_per_step)

        @property
        def is_over(self) -> bool:
            """Whether there is nothing left to train."""
            return self.stopped_by != "length" or self.epoch == pace.validations

        def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
            self._check(self.rows[-1][1] + (batch + 1) // optimisation.accumulated_batches, logs["loss"])

        def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
            self.epoch = epoch + 1
            step = self.epoch * pace.interval
            figures = [logs[name] for name in ("loss", "accuracy", "val_loss", "val_accuracy")]
            figures = team.share(figures) if team else figures
            loss, _, validation_loss, validation_accuracy = figures
            self._check(step, loss, validation_loss)
            self.rows.append([phase, step, step * images_per_step, *figures])
            self._progress.update(pace.interval * images_per_step)
            self._progress.set_postfix(validation_accuracy=f"{validation_accuracy:.3f}")
            if validation_loss < self._best_loss:
                self._best_loss, self._waited, self.improved = validation_loss, 0, True
                self.best_weights = self.model.get_weights()
            else:
                self._waited += 1
                if self._waited >= optimisation.patience and self.epoch < pace.validations:
                    self.model.stop_training, self.stopped_by = True, "patience"
            model, optimizer = self.model.variables, self.model.optimizer.variables
            keep(replace(self._state(), variables=_values(model), optimizer=_values(optimizer)))

        def goes_on_later(self) -> str:
            """What to do when a machine is gone."""
            return f"Start the same command again: {phase} goes on after epoch {self.epoch} of {pace.validations}."

        def finished(self) -> FitState:
            """What is left when there is nothing more to do."""
            return replace(self._state(), finished=True)

        def close(self) -> None:
            """Leave the progress bar as it is."""
            self._progress.close()

        def _state(self) -> FitState:
            return FitState(
                [*self.rows],
                self.best_weights,
                self._best_loss,
                self.improved,
                self._waited,
                self.stopped_by,
                self.epoch,
            )

        def _check(self, step: int, *losses: float) -> None:
            if all(math.isfinite(loss) for loss in losses):
                return
            self.stopped_by = "not_finite"
            remedy = (
                "Lower learning_rate, set gradient_clip to 1, or set precision to float32."
                if step
                else "The network has weights that are not finite or far too large: make it again."
            )
            raise FloatingPointError(
                f"The loss of {phase} is not finite after {step} steps (precision {given.precision}, learning rate "
                f"{optimisation.learning_rate}, batch size {optimisation.batch_size}). {remedy}"
            )

    return Watch()


def _values(variables: Iterable[Any]) -> list[np.ndarray]:
    """Copies of their values; NumPy's view of a variable would change with it."""
    return [np.array(variable) for variable in variables]
