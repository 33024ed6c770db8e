"""One fit: optimisation, precision, validation, early stopping, progress."""

from cnn_transfer.training.fit import Fit, Optimisation, fit
from cnn_transfer.training.precision import PRECISIONS, Precision, choose_precision

__all__ = ["PRECISIONS", "Fit", "Optimisation", "Precision", "choose_precision", "fit"]
