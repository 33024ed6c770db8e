"""Labelling new images with a trained network: the predictor, what computes it, and what it keeps of its training."""

from cnn_transfer.prediction.facts import PredictorFacts
from cnn_transfer.prediction.predictor import WITHHELD, Labelled, Predictor, build_predictor, check_predictor
from cnn_transfer.prediction.references import References
from cnn_transfer.prediction.runtimes import RUNTIMES, Outputs, Runtime, open_runtime

__all__ = [
    "RUNTIMES",
    "WITHHELD",
    "Labelled",
    "Outputs",
    "Predictor",
    "PredictorFacts",
    "References",
    "Runtime",
    "build_predictor",
    "check_predictor",
    "open_runtime",
]
