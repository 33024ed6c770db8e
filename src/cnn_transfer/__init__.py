"""Transfer learning for image classification: pretrain, migrate, fine-tune, and prove what it was worth."""

__version__ = "0.1.0"
