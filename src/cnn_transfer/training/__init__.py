"""One fit: optimisation, precision, validation, early stopping, progress, checkpoints."""

from cnn_transfer.training.checkpoints import Checkpoints
from cnn_transfer.training.fit import LOG_COLUMNS, Fit, evaluate, fit
from cnn_transfer.training.precision import PRECISIONS, Precision, choose_precision
from cnn_transfer.training.schedule import Optimisation, Schedule

__all__ = [
    "LOG_COLUMNS",
    "PRECISIONS",
    "Checkpoints",
    "Fit",
    "Optimisation",
    "Precision",
    "Schedule",
    "choose_precision",
    "evaluate",
    "fit",
]
