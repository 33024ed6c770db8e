"""Which of several networks is the best source for the target, before anything is transferred."""

from cnn_transfer.pipelines.rank_sources.pipeline import create_pipeline

__all__ = ["create_pipeline"]
