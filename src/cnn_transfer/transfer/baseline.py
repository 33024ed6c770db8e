"""The counterfactual: the same network trained from scratch on the target alone, honestly tuned.

Same architecture, images and augmentation; its own learning rate, chosen on validation; trained until twice the steps
no longer lower its validation loss. A baseline that is stopped early or keeps the transfer's learning rate flatters
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
class BaselineFit:
    """The delivered fit and all that was tried.

    Attributes:
        fit: The trial with the lowest validation loss.
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
        log = pd.DataFrame(columns=LOG_COLUMNS, dtype=float)
        trials = pd.DataFrame(columns=TRIAL_COLUMNS, dtype=float)
        return BaselineFit(Fit(start, log, precision), trials, log.assign(learning_rate=0.0, steps=0, delivered=False))

    def trial(learning_rate: float, steps: int) -> tuple[float, int, Fit]:
        changes = {"learning_rate": learning_rate, "steps": steps, "epochs": None}
        optimisation = Optimisation.model_validate(baseline.optimisation.model_dump() | changes)
        phase = f"from scratch, rate {learning_rate:g}"
        return learning_rate, steps, fit(start, images, splits, optimisation, augmentation, precision, seed, phase)

    base = baseline.optimisation
    steps = base.steps_between_validations(len(images.rows(splits, "training"))) * base.validations
    trials = [trial(rate, steps) for rate in baseline.learning_rates]
    best = min(trials, key=_validation_loss)
    for _ in range(baseline.most_doublings):
        longer = trial(best[0], 2 * best[1])
        trials.append(longer)
        if _validation_loss(longer) >= _validation_loss(best):
            break
        best = longer
    rows = [
        [rate, steps, result.log["images_processed"].iloc[-1], *result.best[["validation_loss", "validation_accuracy"]]]
        for rate, steps, result in trials
    ]
    delivered = [one is best for one in trials]
    logs = [
        result.log.assign(learning_rate=rate, steps=steps, delivered=one)
        for (rate, steps, result), one in zip(trials, delivered, strict=True)
    ]
    table = pd.DataFrame(rows, columns=TRIAL_COLUMNS[:-1]).assign(delivered=delivered)
    return BaselineFit(best[2], table, pd.concat(logs, ignore_index=True))


def _validation_loss(trial: tuple[float, int, Fit]) -> float:
    return float(trial[2].best["validation_loss"])
