"""Several fits of one network at different learning rates; the best on validation is delivered."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
import pandas as pd
from pydantic import Field

from cnn_transfer.images import Examples, image_batches
from cnn_transfer.models import predict_batches
from cnn_transfer.training import LOG_COLUMNS, Fit, Optimisation, Schedule
from cnn_transfer.transfer.probe import calibrate, calibrated_loss

if TYPE_CHECKING:
    import keras

LOGGER = logging.getLogger(__name__)

TRIAL_COLUMNS = [
    "strategy", "learning_rate", "steps", "images_processed", "validation_loss", "validation_accuracy",
    "validation_log_loss", "stopped_by", "delivered",
]  # fmt: skip


class Search(Schedule):
    """A schedule that is tried at several learning rates, then for longer at the best one until it converges."""

    learning_rates: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(min_length=1)
    most_doublings: int = Field(ge=0, le=10)  # of the length, while that makes it better on validation
    clear_steps: int = Field(ge=0)  # doubled up to so many, too, while that makes it better by more than chance

    def at(self, learning_rate: float, doublings: int = 0) -> Optimisation:
        """The schedule at one learning rate, its length doubled so many times; validations stay as far apart."""
        factor = 2**doublings
        course = {name: getattr(self, name) for name in Schedule.model_fields}
        changes = {
            "epochs": self.epochs and self.epochs * factor,
            "least_steps": self.least_steps and self.least_steps * factor,
            "most_steps": self.most_steps and self.most_steps * factor,
            "steps": self.steps and self.steps * factor,
            "validations": self.validations * factor,
            "patience": self.patience * factor,
        }
        return Optimisation(**(course | changes), learning_rate=learning_rate)

    def on(self, labelled_images: int) -> Self:
        """The same search, as long as so many images ask for, whatever else is drawn besides."""
        return self.model_copy(update={"steps": self.length(labelled_images)})


@dataclass(frozen=True)
class Trial:
    """One fit of a search, or a network that was judged without training.

    Attributes:
        strategy: What was done, in a word.
        learning_rate: Its learning rate.
        doublings: How many times its length was doubled.
        fit: Its result; None when its loss was not finite before it was better than the start.
        log_loss: On validation, at the best temperature; see `judge`.
    """

    strategy: str
    learning_rate: float
    doublings: int
    fit: Fit | None
    log_loss: float = math.nan

    @property
    def loss(self) -> float:
        """Its lowest validation loss."""
        return float(self.fit.best["validation_loss"]) if self.fit else math.inf

    @property
    def improved(self) -> bool:
        """Whether any step made it better than its start."""
        return self.fit is not None and bool(self.fit.best["step"] > 0)

    @property
    def accuracy(self) -> float:
        """Its validation accuracy at the lowest loss."""
        return float(self.fit.best["validation_accuracy"]) if self.fit else 0.0

    @property
    def steps(self) -> int:
        """How many it took."""
        return int(self.fit.log["step"].iloc[-1]) if self.fit else 0


@dataclass(frozen=True)
class SearchFit:
    """The delivered fit and all that was tried.

    Attributes:
        fit: The best trial's fit.
        trials: One row a trial, columns `TRIAL_COLUMNS`; without figures where the loss was not finite.
        log: The logs of all trials, with the columns `trial` (a number), `learning_rate` and `delivered`.
    """

    fit: Fit
    trials: pd.DataFrame
    log: pd.DataFrame

    @property
    def delivered(self) -> pd.Series:
        """The row of the delivered trial."""
        return self.trials[self.trials["delivered"].astype(bool)].iloc[0]


def no_search(network: keras.Model, precision: str) -> SearchFit:
    """A network that nobody trains, and empty tables."""
    log = pd.DataFrame(columns=LOG_COLUMNS, dtype=float)
    trials = pd.DataFrame(columns=TRIAL_COLUMNS, dtype=float)
    return SearchFit(Fit(network, log, precision), trials, log.assign(trial=0, learning_rate=0.0, delivered=False))


Train = Callable[[Optimisation, Fit | None], Fit]


def run_search(search: Search, train: Train, strategy: str, validation: Examples) -> SearchFit:
    """Try each learning rate, then the best one for longer while that makes it better on validation.

    Args:
        search: Schedule and learning rates.
        train: Makes one fit; a longer one is told the best so far, from which it may go on.
        strategy: Its name in the table of trials.
        validation: What the trials are judged by.

    Raises:
        FloatingPointError: When the loss is not finite at any rate.
    """
    trials = run_rates(search, train, strategy)
    trials = judge(trials + run_longer(search, train, ahead(trials), len(validation.rows)), validation)
    return collect(trials, min(trials, key=lambda trial: trial.loss))


def run_rates(search: Search, train: Train, strategy: str) -> list[Trial]:
    """One trial a learning rate; one whose loss was not finite has no fit."""
    return [_attempt(search, train, strategy, rate) for rate in search.learning_rates]


def ahead(trials: Sequence[Trial]) -> Trial:
    """The lowest loss, where there are some among those that were better than their start.

    A head in closed form may have a lower loss than any network after a first, short fit from it, and after one that is
    twice as long as well.
    """
    return min(trials, key=lambda trial: (not trial.improved, trial.loss))


def run_longer(search: Search, train: Train, best: Trial, validation_images: int) -> list[Trial]:
    """Further trials, each twice as long as the one before it, as long as that makes them better.

    After `most_doublings` of them only while the last was better than its half by more than chance, up to
    `clear_steps`.

    Args:
        search: As for `run_search`.
        train: As for `run_search`.
        best: What goes on; see `ahead`.
        validation_images: How many they are judged on.
    """
    half = None
    added: list[Trial] = []
    while best.fit and (
        len(added) < search.most_doublings
        or (
            half is not None
            and best.accuracy > half.accuracy + _chance(half.accuracy, validation_images)
            and 2 * best.steps <= search.clear_steps
        )
    ):
        added.append(longer := _attempt(search, train, best.strategy, best.learning_rate, best))
        if longer.loss >= best.loss:
            break
        best, half = longer, best
    return added


def _attempt(search: Search, train: Train, strategy: str, rate: float, half: Trial | None = None) -> Trial:
    """One trial, twice as long as another where there is one; without a fit when its loss is not finite."""
    doublings = half.doublings + 1 if half else 0
    try:
        return Trial(strategy, rate, doublings, train(search.at(rate, doublings), half.fit if half else None))
    except FloatingPointError as error:
        LOGGER.warning("%s The search goes on without this trial.", error)
        return Trial(strategy, rate, doublings, None)


def judge(trials: list[Trial], validation: Examples) -> list[Trial]:
    """The trials with their log loss on validation, each at its own best temperature.

    How sure a network is depends on how it was made: one trained on smoothed labels is less sure than it could be, a
    head in closed form is as sure as it should be. The loss that a fit watches compares fits of one kind; this one
    compares all. Where all images are right, it is not 0 (see `calibrated_loss`): who is right by far has less.
    """
    classes = validation.targets.argmax(axis=1)

    def log_loss(fit: Fit) -> float:
        probabilities = predict_batches(fit.network, image_batches(validation.images, validation.rows))
        scores = np.log(np.maximum(probabilities.astype(float), 1e-12))
        return calibrated_loss(calibrate(scores, classes) * scores, classes)

    return [replace(trial, log_loss=log_loss(trial.fit)) if trial.fit else trial for trial in trials]


def collect(trials: list[Trial], best: Trial) -> SearchFit:
    """Put the tables of trials together.

    Raises:
        FloatingPointError: When the best one has no fit.
    """
    if best.fit is None:
        rates = ", ".join(f"{trial.learning_rate:g}" for trial in trials)
        raise FloatingPointError(
            f"The loss was not finite at any of the learning rates {rates}. Lower learning_rates, or set precision to "
            "float32."
        )
    logs = [
        trial.fit.log.assign(trial=number, learning_rate=trial.learning_rate, delivered=trial is best)
        for number, trial in enumerate(trials)
        if trial.fit
    ]
    table = pd.DataFrame([_row(trial) for trial in trials], columns=TRIAL_COLUMNS[:-1])
    return SearchFit(
        best.fit, table.assign(delivered=[trial is best for trial in trials]), pd.concat(logs, ignore_index=True)
    )


def _row(trial: Trial) -> list[Any]:
    """Figures of one trial, columns `TRIAL_COLUMNS` but for the last."""
    if trial.fit is None:
        return [trial.strategy, trial.learning_rate, *[math.nan] * 5, "not_finite"]
    return [
        trial.strategy,
        trial.learning_rate,
        *trial.fit.log[["step", "images_processed"]].iloc[-1],
        *trial.fit.best[["validation_loss", "validation_accuracy"]],
        trial.log_loss,
        trial.fit.stopped_by,
    ]


def last_doubling(trials: pd.DataFrame, validation_images: float) -> float | None:
    """What the last doubling of a search brought, when the search ended with one that helped: it might help again.

    Args:
        trials: One row a trial, columns `TRIAL_COLUMNS`.
        validation_images: How many they were judged on, or that these are worth.

    Returns:
        Validation accuracy of the delivered trial less that of half its length at the same rate; None where twice as
        long did not help, where nothing was doubled, and where the gain may be chance (see `is_clearly_better`).
    """
    for _, longest in trials[trials["delivered"].astype(bool)].iterrows():
        shorter = trials[trials["learning_rate"].eq(longest["learning_rate"]) & (trials["steps"] < longest["steps"])]
        if longest["steps"] == trials["steps"].max() and len(shorter):
            half = shorter.loc[shorter["steps"].idxmax()]
            long, short = (
                {name: float(trial[name]) for name in ("validation_accuracy", "validation_log_loss")}
                for trial in (longest, half)
            )
            if is_clearly_better(long, short | {"validation_images": validation_images}):
                return long["validation_accuracy"] - short["validation_accuracy"]
    return None


def is_clearly_better(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Whether a network is better than another on validation by more than chance.

    Args:
        one: `validation_log_loss` and `validation_accuracy` of the first.
        other: Those of the second, and `validation_images`: how many, or what they are worth where some are alike.
    """
    accuracy, images = other["validation_accuracy"], other["validation_images"]
    least = accuracy + _chance(accuracy, images)
    return one["validation_log_loss"] < other["validation_log_loss"] and one["validation_accuracy"] > least


def _chance(accuracy: float, images: float) -> float:
    """Standard error of an accuracy on so many images; never that of none wrong."""
    return math.sqrt(max(accuracy * (1 - accuracy), 1 / images) / images)
