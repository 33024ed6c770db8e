"""Labels for new images by a network that was delivered, and whether they are like those of the training."""

from cnn_transfer.pipelines.predict.pipeline import create_pipeline

__all__ = ["create_pipeline"]
