"""All runs side by side: what they reached, and what differed in parameters, data, programs and machine."""

from cnn_transfer.pipelines.compare_runs.pipeline import create_pipeline

__all__ = ["create_pipeline"]
