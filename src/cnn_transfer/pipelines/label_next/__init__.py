"""Which of the images without a label to label next, and a page to do it on."""

from cnn_transfer.pipelines.label_next.pipeline import create_pipeline

__all__ = ["create_pipeline"]
