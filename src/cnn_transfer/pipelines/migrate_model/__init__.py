"""Stage 3: cut the source network where left-out images say, and put a head in closed form on it."""

from cnn_transfer.pipelines.migrate_model.pipeline import create_pipeline

__all__ = ["create_pipeline"]
