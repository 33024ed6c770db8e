"""What happens around the nodes: checks before the first one, a record of each, a summary after the last."""

from cnn_transfer.hooks.checks import CheckHooks, StoreHooks
from cnn_transfer.hooks.logs import LogHooks
from cnn_transfer.hooks.records import RecordHooks
from cnn_transfer.hooks.summaries import IntakeHooks, SummaryHooks
from cnn_transfer.hooks.take_over import take_over_inputs
from cnn_transfer.hooks.tensorflow import TensorFlowHooks

__all__ = [
    "CheckHooks",
    "IntakeHooks",
    "LogHooks",
    "RecordHooks",
    "StoreHooks",
    "SummaryHooks",
    "TensorFlowHooks",
    "take_over_inputs",
]
