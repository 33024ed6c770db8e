"""Stage 4: fine-tune the migrated network, and train its counterfactual from scratch."""

from cnn_transfer.pipelines.finetune_target.pipeline import create_pipeline

__all__ = ["create_pipeline"]
