"""Stage 3: cut the source network, put a new head on it, freeze the base."""

from cnn_transfer.pipelines.migrate_model.pipeline import create_pipeline

__all__ = ["create_pipeline"]
