"""Parameters of the stage `finetune_target`."""

from __future__ import annotations

from pydantic import Field

from cnn_transfer.images import Augmentation
from cnn_transfer.parameters import Parameters
from cnn_transfer.transfer import Baseline, FineTuning, PseudoLabels


class FinetuneParameters(Parameters):
    """Fine-tuning, the augmentation of all fits on the target, and the baseline."""

    class_balance: float = Field(ge=0, le=1)  # how evenly classes are drawn, in every fit on the target
    fine_tuning: FineTuning
    pseudo_labels: PseudoLabels
    augmentation: Augmentation
    baseline: Baseline
