"""Fine-tuning from a head in closed form, by several strategies; what is best on validation is delivered.

- `probe`: the head as it is; nothing is trained.
- `lp_ft`: the whole network from there. A random head would send large, meaningless gradients into the features that
  were transferred (arXiv 2202.10054).
- `l2_sp`: the same, with the transferred kernels held near their start (arXiv 1802.01483).
- `full`: the whole network from a random head, as most guides do it.
- `auto`: `probe` and `lp_ft`; with `MANY_LABELS` or more `full`, too, and the one that is ahead goes on for longer. A
  head that was fitted to many labels is large and sure, and steps take long to change what it says: with 3,498 digits
  and Fashion-MNIST's network `lp_ft` has 97.8% of the validation images right after the first length, `full` 98.1%
  (docs/measured.md, Many labels). With 500 and 1,000 `full` is a little ahead, with 200 neither.

Images without a label are labelled by the head. A longer trial goes on from the best network so far, which labels them
anew and better (noisy student, arXiv 1911.04252). Without such images, and where the strategy holds the network near
its start, every trial begins at the head.

Between the probe and the best fine-tuned network lie others that may be better than both, especially on images unlike
the training ones; their weights are mixtures (WiSE-FT, arXiv 2109.01903), and validation is all that they cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from cnn_transfer.images import Augmentation, Examples
from cnn_transfer.models import copy_network, randomise_head, unfreeze
from cnn_transfer.training import LOG_COLUMNS, Checkpoints, Fit, Optimisation, evaluate, fit
from cnn_transfer.transfer.pseudo_labels import Pool
from cnn_transfer.transfer.search import Search, SearchFit, Trial, ahead, collect, judge, run_longer, run_rates

if TYPE_CHECKING:
    import keras

Strategy = Literal["auto", "probe", "lp_ft", "l2_sp", "full"]
MANY_LABELS = 500
FORWARD_SHARE = 1 / 3  # of the cost of a training image: the way back takes twice the way forth (arXiv 2001.08361)


class FineTuning(Search):
    """Which strategies are tried, at which rates, for how long."""

    strategy: Strategy
    batch_statistics: bool  # learn them on the target too; False keeps those of the source
    mixtures: int = Field(ge=0, le=20)  # of the probe's weights and the fine-tuned ones; 0: none

    @model_validator(mode="after")
    def _a_pull_to_the_start(self) -> Self:
        if self.strategy == "l2_sp" and self.towards_start is None:
            raise ValueError("towards_start must be a number with the strategy l2_sp; 0.01 is usual")
        if self.strategy != "l2_sp" and self.towards_start is not None:
            raise ValueError(f"towards_start is used by the strategy l2_sp only; set it to null with {self.strategy}")
        return self


def fine_tune(
    network: keras.Model,
    training: Examples,
    validation: Examples,
    rule: FineTuning,
    augmentation: Augmentation,
    precision: str,
    seed: int,
    pool: Pool | None = None,
    forward_images: int = 0,
    phase: str = "fine-tuning",
    checkpoints: Checkpoints | None = None,
    workers: int = 1,
) -> SearchFit:
    """Try what the strategy names, from the network handed in, which is left as it is.

    The probe is among the candidates unless the strategy is `full`: what is delivered is never below it on validation,
    neither in log loss (of both at their best temperature) nor in accuracy.

    Args:
        network: A network with a head fitted in closed form.
        training: What it learns from.
        validation: What it is chosen by.
        rule: Strategies, schedule and learning rates.
        augmentation: How training images are moved.
        precision: Keras dtype policy.
        seed: Seed of order and augmentation, and of a random head.
        pool: Images without a label; None: none.
        forward_images: Images that went through the network once for the head; in the log each counts a third of a
            training image, as those of the pool do when they are labelled anew.
        phase: Name in the progress bar.
        checkpoints: Where the states of its fits are kept; None: nowhere.
        workers: Machines that train together; see `fit`.

    Returns:
        The best candidate and the table and log of all.
    """
    rule = rule.on(len(training))
    cost = FORWARD_SHARE * forward_images
    judged = partial(_judged, validation, rule.at(rule.learning_rates[0]), len(training), precision)
    trials = [] if rule.strategy == "full" else [judged(network, "probe", cost)]
    starts: dict[str, keras.Model] = {
        strategy: randomise_head(network, seed) if strategy == "full" else copy_network(network)
        for strategy in _trained(rule.strategy, len(training))
    }
    for start in starts.values():
        unfreeze(start, rule.batch_statistics)

    def train(strategy: str, optimisation: Optimisation, best: Fit | None) -> Fit:
        start, before = starts[strategy], 0.0 if strategy == "full" and pool is None else cost
        examples = pool.added_to(training, best.network if best else None) if pool else training
        if pool and best:
            before = _images_processed(best) + FORWARD_SHARE * len(pool.rows)
            if rule.towards_start is None:
                start = copy_network(best.network)
                unfreeze(start, rule.batch_statistics)
        name = f"{phase}, rate {optimisation.learning_rate:g}"
        result = fit(
            start, examples, validation, optimisation, augmentation, precision, seed, name, checkpoints, workers
        )
        return replace(result, log=result.log.assign(images_processed=result.log["images_processed"] + before))

    tried = [trial for strategy in starts for trial in run_rates(rule, partial(train, strategy), strategy)]
    trials += tried
    if tried:
        longer = ahead(tried)
        trials += run_longer(rule, partial(train, longer.strategy), longer, len(validation.rows))
    trials = judge(trials, validation)
    floor = next((trial for trial in trials if trial.strategy == "probe"), None)
    best = _best(trials, floor)
    if floor is not None and best.strategy not in {"probe", "full"}:  # nothing good lies between two other heads
        trials += judge(_mixtures(floor, best, rule.mixtures, judged), validation)
        best = _best(trials, floor)
    return collect(trials, best)


def keep_probe(network: keras.Model, rule: FineTuning, precision: str, forward_images: int) -> SearchFit:
    """The head in closed form as it is, where there are no validation images to compare it with anything.

    It was chosen on training images that were left out; every label went into it.

    Args:
        network: A network with a head fitted in closed form.
        rule: The strategies wished for.
        precision: Keras dtype policy.
        forward_images: As for `fine_tune`.

    Raises:
        ValueError: When a strategy is wished for that needs validation images.
    """
    if rule.strategy not in {"auto", "probe"}:
        raise ValueError(
            f"fine_tuning.strategy must be auto or probe where there are no validation images, since nothing says when "
            f"to stop. Received: {rule.strategy}. Raise preprocess.target.split.validation_ratio, or use auto."
        )
    row = ["probe", 0, FORWARD_SHARE * forward_images, *[np.nan] * 4]
    fitted = Fit(copy_network(network), pd.DataFrame([row], columns=LOG_COLUMNS), precision)
    trial = Trial("probe", 0.0, 0, fitted)
    return collect([trial], trial)


def mix_weights(one: keras.Model, other: keras.Model, share: float) -> keras.Model:
    """The first network, every weight moved a share of the way to that of the other; equal ones stay as they are."""
    mixed = copy_network(one)
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    mixed.set_weights([mine + share * (theirs - mine) for mine, theirs in pairs])
    return mixed


def _trained(strategy: Strategy, labelled_images: int) -> tuple[Strategy, ...]:
    """The strategies that train."""
    if strategy == "auto":
        return ("lp_ft",) if labelled_images < MANY_LABELS else ("lp_ft", "full")
    return () if strategy == "probe" else (strategy,)


def _best(trials: list[Trial], floor: Trial | None) -> Trial:
    """The lowest log loss among those whose accuracy is not below the floor's."""
    least = floor.accuracy if floor else 0.0
    allowed = [trial for trial in trials if trial.fit and trial.accuracy >= least]
    if not allowed:
        raise FloatingPointError("No fit ended with a finite loss. Lower learning_rates, or set precision to float32.")
    return min(allowed, key=lambda trial: trial.log_loss)


def _judged(
    validation: Examples, optimisation: Optimisation, training_images: int, precision: str,
    network: keras.Model, strategy: str, cost: float,
) -> Trial:  # fmt: skip
    """A network as it is, judged on validation as a fit is."""
    figures = evaluate(network, validation, optimisation, training_images, precision)
    row = [strategy, 0, cost, np.nan, np.nan, *figures]
    return Trial(strategy, 0.0, 0, Fit(copy_network(network), pd.DataFrame([row], columns=LOG_COLUMNS), precision))


def _mixtures(
    floor: Trial, best: Trial, number: int, judged: Callable[[keras.Model, str, float], Trial]
) -> list[Trial]:
    """Networks between the probe and the best one, at even distances."""
    if floor.fit is None or best.fit is None:
        return []
    cost = _images_processed(best.fit)
    mixed = []
    for index in range(1, number + 1):
        share = index / (number + 1)
        network = mix_weights(floor.fit.network, best.fit.network, share)
        mixed.append(judged(network, f"{share:.0%} {best.strategy}", cost))
    return mixed


def _images_processed(fit: Fit) -> float:
    return float(fit.log["images_processed"].iloc[-1])
