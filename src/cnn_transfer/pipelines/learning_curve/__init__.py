"""Accuracy by labels a class, for the transfer and from scratch: how many labels the transfer is worth."""

from cnn_transfer.pipelines.learning_curve.pipeline import create_pipeline

__all__ = ["create_pipeline"]
