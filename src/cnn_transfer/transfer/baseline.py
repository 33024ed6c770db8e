"""The counterfactual: the same network trained from scratch on the target alone, honestly tuned.

Same architecture, images and augmentation; its own learning rate, chosen on validation; trained until twice the steps
no longer make it better on validation. A baseline that is stopped early or keeps the transfer's learning rate flatters
transfer (by 17 points on VTAB-1k, arXiv 1910.04867).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import pandas as pd
from pydantic import model_validator

from cnn_transfer.images import Augmentation, Examples
from cnn_transfer.models import reinitialise
from cnn_transfer.training import LOG_COLUMNS, Fit, Optimisation, fit
from cnn_transfer.transfer.search import TRIAL_COLUMNS, Search, SearchFit, run_search

if TYPE_CHECKING:
    import keras


class Baseline(Search):
    """The search for the best training from scratch."""

    enabled: bool

    @model_validator(mode="after")
    def _no_knowledge_to_keep(self) -> Self:
        if self.towards_start is not None or self.depth_decay != 1:
            raise ValueError("towards_start must be null and depth_decay 1: random weights are nothing to stay near")
        return self


def train_baseline(
    network: keras.Model,
    training: Examples,
    validation: Examples,
    baseline: Baseline,
    augmentation: Augmentation,
    precision: str,
    seed: int,
) -> SearchFit:
    """Train the architecture of `network` from new random weights, at several learning rates, until it converges.

    Args:
        network: The migrated network; only its architecture is used.
        training: What it learns from.
        validation: What it is chosen by.
        baseline: The search.
        augmentation: How training images are moved.
        precision: Keras dtype policy.
        seed: Seed of weights, order and augmentation.

    Returns:
        The best trial and all logs; without `enabled`, the untrained network and empty tables.
    """
    start = reinitialise(network, seed)
    if not baseline.enabled:
        log = pd.DataFrame(columns=LOG_COLUMNS, dtype=float)
        trials = pd.DataFrame(columns=TRIAL_COLUMNS, dtype=float)
        return SearchFit(Fit(start, log, precision), trials, log.assign(trial=0, learning_rate=0.0, delivered=False))

    def train(optimisation: Optimisation) -> Fit:
        phase = f"from scratch, rate {optimisation.learning_rate:g}"
        return fit(start, training, validation, optimisation, augmentation, precision, seed, phase)

    return run_search(baseline, train)
