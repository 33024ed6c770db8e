"""Fine-tuning in two phases: the new head on the frozen base, then the whole network from there.

A random head sends large, meaningless gradients into the base; fitting the head first keeps the features that were
transferred (LP-FT, arXiv 2202.10054). The second phase is tried at several learning rates, as the baseline is, and the
best on validation is delivered. Batch statistics stay those of the source in the first phase.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from cnn_transfer.images import Augmentation, Examples
from cnn_transfer.models import copy_network, freeze, unfreeze
from cnn_transfer.training import Fit, Optimisation, fit
from cnn_transfer.transfer.search import Search, SearchFit, run_search

if TYPE_CHECKING:
    import keras


class WholeNetwork(Search):
    """The second phase."""

    batch_statistics: bool  # learn them on the target too; False keeps those of the source


def fine_tune(
    network: keras.Model,
    training: Examples,
    validation: Examples,
    head: Optimisation,
    whole: WholeNetwork,
    augmentation: Augmentation,
    precision: str,
    seed: int,
) -> SearchFit:
    """Fit the head, then the whole network; the network handed in is left as it is.

    Args:
        network: A migrated network.
        training: What it learns from.
        validation: What it is chosen by.
        head: Schedule of the first phase.
        whole: Schedule and learning rates of the second phase.
        augmentation: How training images are moved.
        precision: Keras dtype policy.
        seed: Seed of order and augmentation.

    Returns:
        The best trial of the second phase, never worse on validation than the head alone; the log of each trial begins
        with the first phase, and its steps and images count both.
    """
    start = copy_network(network)
    freeze(start)
    head_fit = fit(start, training, validation, head, augmentation, precision, seed, "head")
    head_alone = copy_network(head_fit.network)
    unfreeze(head_fit.network, whole.batch_statistics)

    def train(optimisation: Optimisation) -> Fit:
        phase = f"whole network, rate {optimisation.learning_rate:g}"
        whole_fit = fit(head_fit.network, training, validation, optimisation, augmentation, precision, seed + 1, phase)
        log = whole_fit.log.assign(phase="whole network")
        counters = ["step", "images_processed"]
        log[counters] += head_fit.log[counters].iloc[-1]
        joined = replace(whole_fit, log=pd.concat([head_fit.log, log], ignore_index=True))
        # The head alone is delivered when no later network was better.
        return joined if joined.best["phase"] == "whole network" else replace(joined, network=head_alone)

    return run_search(whole, train)
