"""Stage 5: judge the transferred network and the baseline on the test images."""

from cnn_transfer.pipelines.evaluate.pipeline import create_pipeline

__all__ = ["create_pipeline"]
