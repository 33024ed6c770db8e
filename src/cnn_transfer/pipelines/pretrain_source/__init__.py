"""Stage 2: train a registered architecture on the source images."""

from cnn_transfer.pipelines.pretrain_source.pipeline import create_pipeline

__all__ = ["create_pipeline"]
