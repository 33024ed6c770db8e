"""The counterfactual: the same network trained from scratch on the target alone, honestly tuned.

Same architecture, images and augmentation; its own learning rate, chosen on validation; trained until twice the steps
no longer make it better on validation. A network too large to be trained from scratch on few images, or in the time
there is, is compared with a smaller one instead. A baseline that is stopped early or keeps the learning rate of the
transfer flatters transfer (by 17 points on VTAB-1k, arXiv 1910.04867).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import field_validator, model_validator

from cnn_transfer.images import Augmentation, Examples
from cnn_transfer.models import ARCHITECTURES, build_network, reinitialise
from cnn_transfer.parameters import did_you_mean
from cnn_transfer.training import Checkpoints, Fit, Optimisation, fit
from cnn_transfer.transfer.search import Search, SearchFit, no_search, run_search

if TYPE_CHECKING:
    import keras


class Baseline(Search):
    """The search for the best training from scratch."""

    enabled: bool
    architecture: str | None  # None: that of the migrated network

    @field_validator("architecture")
    @classmethod
    def _registered(cls, name: str | None) -> str | None:
        if name is not None and name not in ARCHITECTURES:
            known = list(ARCHITECTURES)
            raise ValueError(
                f"must be null or one of {', '.join(known)}. {did_you_mean(name, known)}".strip().rstrip(".")
            )
        return name

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
    checkpoints: Checkpoints | None = None,
    workers: int = 1,
) -> SearchFit:
    """Train the architecture of `network` from new random weights, at several learning rates, until it converges.

    Args:
        network: The migrated network; only its architecture is used, unless the search names another.
        training: What it learns from.
        validation: What it is chosen by.
        baseline: The search.
        augmentation: How training images are moved.
        precision: Keras dtype policy.
        seed: Seed of weights, order and augmentation.
        checkpoints: Where the states of its fits are kept; None: nowhere.
        workers: Machines that train together; see `fit`.

    Returns:
        The best trial and all logs; without `enabled`, the untrained network and empty tables.
    """
    if baseline.architecture is None:
        start = reinitialise(network, seed)
    else:
        images = training.images
        start = build_network(baseline.architecture, images.image_shape, len(images.class_names), seed)
    if not baseline.enabled:
        return no_search(start, precision)

    def train(optimisation: Optimisation, _: Fit | None) -> Fit:
        phase = f"from scratch, rate {optimisation.learning_rate:g}"
        return fit(
            start, training, validation, optimisation, augmentation, precision, seed, phase, checkpoints, workers
        )

    return run_search(baseline, train, "from scratch", validation)
