"""Stage 1: list, decode and split one image set; used for the source and for the target."""

from cnn_transfer.pipelines.preprocess.pipeline import create_pipeline

__all__ = ["create_pipeline"]
