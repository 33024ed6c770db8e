"""The network for other programs: exported, compared with Keras, timed, released."""

from cnn_transfer.pipelines.export.pipeline import create_pipeline

__all__ = ["create_pipeline"]
