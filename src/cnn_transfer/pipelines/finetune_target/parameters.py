"""Parameters of the stage `finetune_target`."""

from __future__ import annotations

from cnn_transfer.images import Augmentation
from cnn_transfer.parameters import Parameters
from cnn_transfer.training import Optimisation
from cnn_transfer.transfer import Baseline, WholeNetwork


class FinetuneParameters(Parameters):
    """Both phases of fine-tuning, the augmentation of all fits on the target, and the baseline."""

    balanced: bool
    head: Optimisation
    whole: WholeNetwork
    augmentation: Augmentation
    baseline: Baseline
