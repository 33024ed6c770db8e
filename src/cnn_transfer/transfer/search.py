"""Several fits of one network at different learning rates; the best on validation is delivered."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import pandas as pd
from pydantic import Field

from cnn_transfer.training import Fit, Optimisation, Schedule

LOGGER = logging.getLogger(__name__)

TRIAL_COLUMNS = [
    "learning_rate", "steps", "images_processed", "validation_loss", "validation_accuracy", "stopped_by", "delivered",
]  # fmt: skip


class Search(Schedule):
    """A schedule that is tried at several learning rates, then for longer at the best one until it converges."""

    learning_rates: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(min_length=1)
    most_doublings: int = Field(ge=0, le=10)  # of the length, while that makes it better on validation

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


@dataclass(frozen=True)
class Trial:
    """One fit of a search.

    Attributes:
        learning_rate: Its learning rate.
        doublings: How many times its length was doubled.
        fit: Its result; None when its loss was not finite before it was better than the start.
    """

    learning_rate: float
    doublings: int
    fit: Fit | None

    @property
    def loss(self) -> float:
        """Its lowest validation loss."""
        return float(self.fit.best["validation_loss"]) if self.fit else math.inf


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


def run_search(search: Search, train: Callable[[Optimisation], Fit]) -> SearchFit:
    """Try each learning rate, then the best one for longer while that makes it better on validation.

    Args:
        search: Schedule and learning rates.
        train: Makes one fit, always from the same start.

    Raises:
        FloatingPointError: When the loss is not finite at any rate.
    """

    def attempt(rate: float, doublings: int = 0) -> Trial:
        try:
            return Trial(rate, doublings, train(search.at(rate, doublings)))
        except FloatingPointError as error:
            failures.append(error)
            LOGGER.warning("%s The search goes on without this trial.", error)
            return Trial(rate, doublings, None)

    failures: list[FloatingPointError] = []
    trials = [attempt(rate) for rate in search.learning_rates]
    best = min(trials, key=lambda trial: trial.loss)
    for doublings in range(1, search.most_doublings + 1 if best.fit else 0):
        longer = attempt(best.learning_rate, doublings)
        trials.append(longer)
        if longer.loss >= best.loss:
            break
        best = longer
    if best.fit is None:
        raise failures[-1]
    rows = [_row(trial) for trial in trials]
    delivered = [trial is best for trial in trials]
    logs = [
        trial.fit.log.assign(trial=number, learning_rate=trial.learning_rate, delivered=trial is best)
        for number, trial in enumerate(trials)
        if trial.fit
    ]
    table = pd.DataFrame(rows, columns=TRIAL_COLUMNS[:-1]).assign(delivered=delivered)
    return SearchFit(best.fit, table, pd.concat(logs, ignore_index=True))


def _row(trial: Trial) -> list[Any]:
    """Figures of one trial, columns `TRIAL_COLUMNS` but for the last."""
    if trial.fit is None:
        return [trial.learning_rate, *[math.nan] * 4, "not_finite"]
    return [
        trial.learning_rate,
        *trial.fit.log[["step", "images_processed"]].iloc[-1],
        *trial.fit.best[["validation_loss", "validation_accuracy"]],
        trial.fit.stopped_by,
    ]
