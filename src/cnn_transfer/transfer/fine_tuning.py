"""Fine-tuning in two phases: the new head on the frozen base, then the whole network from there.

A random head sends large, meaningless gradients into the base; fitting the head first keeps the features that were
transferred (LP-FT, arXiv 2202.10054). Batch statistics stay those of the source throughout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from cnn_transfer.images import Augmentation, ImageSet
from cnn_transfer.models import freeze, unfreeze_all_but_batch_statistics
from cnn_transfer.training import Fit, Optimisation, fit

if TYPE_CHECKING:
    import keras


def fine_tune(
    network: keras.Model,
    images: ImageSet,
    splits: pd.DataFrame,
    head: Optimisation,
    whole: Optimisation,
    augmentation: Augmentation,
    precision: str,
    seed: int,
) -> Fit:
    """Fit the head, then the whole network; the network handed in is left as it is.

    Args:
        network: A migrated network.
        images: The target's images.
        splits: Table of splits; `training` and `validation` are read, nothing else.
        head: Schedule of the first phase.
        whole: Schedule of the second phase.
        augmentation: How training images are moved.
        precision: Keras dtype policy.
        seed: Seed of order and augmentation.

    Returns:
        The network with the best weights of both phases, and one log whose `images_processed` counts both.
    """
    from keras.models import clone_model

    start = clone_model(network)
    start.set_weights(network.get_weights())
    freeze(start)
    head_fit = fit(start, images, splits, head, augmentation, precision, seed, "head")
    unfreeze_all_but_batch_statistics(head_fit.network)
    whole_fit = fit(head_fit.network, images, splits, whole, augmentation, precision, seed + 1, "whole network")
    head_log, whole_log = head_fit.log, whole_fit.log.iloc[1:].copy()  # its first row repeats the head's best
    whole_log["step"] += head_log["step"].iloc[-1]
    whole_log["images_processed"] += head_log["images_processed"].iloc[-1]
    return Fit(whole_fit.network, pd.concat([head_log, whole_log], ignore_index=True), precision)
