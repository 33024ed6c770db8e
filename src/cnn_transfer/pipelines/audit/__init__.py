"""Whether the answers for new images are as right as promised: a sample to be looked at, and what it shows."""

from cnn_transfer.pipelines.audit.pipeline import create_pipeline

__all__ = ["create_pipeline"]
