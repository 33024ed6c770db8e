"""The counterfactual: the same network trained from scratch on the target alone, honestly tuned.

Same architecture, images and augmentation; its own learning rate, chosen on validation; trained until twice the steps
no longer make it better on validation. A baseline that is stopped early or keeps the transfer's learning rate flatters
transfer (by 17 points on VTAB-1k, arXiv 1910.04867).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
from pydantic import Field

from cnn_transfer.images import Augmentation, ImageSet
from cnn_transfer.models import reinitialise
from cnn_transfer.parameters import Parameters
from cnn_transfer.training import Fit, Optimisation, fit
from cnn_transfer.training.fit import LOG_COLUMNS

if TYPE_CHECKING:
    import keras

TRIAL_COLUMNS = ["learning_rate", "steps", "images_processed", "validation_loss", "validation_accuracy", "delivered"]


class Baseline(Parameters):
    """The search for the best training from scratch."""

    enabled: bool
    learning_rates: tuple[float, ...] = Field(min_length=1)
    most_doublings: int = Field(ge=0, le=10)  # of the number of steps, at the best learning rate
    optimisation: Optimisation  # its learning rate is replaced by each of learning_rates


@dataclass(frozen=True)
class Trial:
    """One training from scratch.

    Attributes:
        learning_rate: Its learning rate.
        steps: Its optimiser steps.
        fit: Its result.
    """

    learning_rate: float
    steps: int
    fit: Fit

    @property
    def score(self) -> tuple[float, float]:
        """Larger is better: validation accuracy, then minus the validation loss."""
        return float(self.fit.best["validation_accuracy"]), -float(self.fit.best["validation_loss"])


@dataclass(frozen=True)
class BaselineFit:
    """The delivered fit and all that was tried.

    Attributes:
        fit: The best trial's fit.
        trials: One row a trial, columns `TRIAL_COLUMNS`.
        log: The logs of all trials, with the columns `learning_rate` and `steps` of the trial and `delivered`.
    """

    fit: Fit
    trials: pd.DataFrame
    log: pd.DataFrame


def train_baseline(
    network: keras.Model,
    images: ImageSet,
    splits: pd.DataFrame,
    baseline: Baseline,
    augmentation: Augmentation,
    precision: str,
    seed: int,
) -> BaselineFit:
    """Train the architecture of `network` from new random weights, at several learning rates, until it converges.

    Args:
        network: The migrated network; only its architecture is used.
        images: The target's images.
        splits: Table of splits; `training` and `validation` are read, nothing else.
        baseline: The search.
        augmentation: How training images are moved.
        precision: Keras dtype policy.
        seed: Seed of weights, order and augmentation.

    Returns:
        The best trial and all logs; without `enabled`, the untrained network and empty logs.
    """
    start = reinitialise(network, seed)
    if not baseline.enabled:
        untrained = Fit(start, pd.DataFrame(columns=LOG_COLUMNS, dtype=float), precision)
        return BaselineFit(untrained, _trial_table([], None), _trial_log([Trial(0.0, 0, untrained)], None))

    def train(learning_rate: float, steps: int) -> Trial:
        changes = {"learning_rate": learning_rate, "steps": steps, "epochs": None}
        optimisation = Optimisation.model_validate(baseline.optimisation.model_dump() | changes)
        phase = f"from scratch, rate {learning_rate:g}"
        fitted = fit(start, images, splits, optimisation, augmentation, precision, seed, phase)
        return Trial(learning_rate, steps, fitted)

    base = baseline.optimisation
    steps = base.steps_between_validations(len(images.rows(splits, "training"))) * base.validations
    trials = [train(rate, steps) for rate in baseline.learning_rates]
    best = max(trials, key=lambda trial: trial.score)
    for _ in range(baseline.most_doublings):
        longer = train(best.learning_rate, 2 * best.steps)
        trials.append(longer)
        if longer.score <= best.score:
            break
        best = longer
    return BaselineFit(best.fit, _trial_table(trials, best), _trial_log(trials, best))


def _trial_table(trials: list[Trial], best: Trial | None) -> pd.DataFrame:
    rows = [
        [
            trial.learning_rate,
            trial.steps,
            trial.fit.log["images_processed"].iloc[-1],
            trial.fit.best["validation_loss"],
            trial.fit.best["validation_accuracy"],
            trial is best,
        ]
        for trial in trials
    ]
    return pd.DataFrame(rows, columns=TRIAL_COLUMNS)


def _trial_log(trials: list[Trial], best: Trial | None) -> pd.DataFrame:
    logs = [
        trial.fit.log.assign(learning_rate=trial.learning_rate, steps=trial.steps, delivered=trial is best)
        for trial in trials
    ]
    return pd.concat(logs, ignore_index=True)
