"""Stage 2, the alternative to `pretrain_source`: a network that is pretrained already."""

from cnn_transfer.pipelines.import_source.pipeline import create_pipeline

__all__ = ["create_pipeline"]
