"""Answering over HTTP: the newest release labels uploaded images; neither TensorFlow nor Kedro is imported.

    python -m cnn_transfer.serving --release data/06_models/release --port 8000

The way of a request: `app` → `uploads` (read within limits) → `labelling` (decoded by the intake of the training,
labelled together with those of other requests) → `answers` (as JSON). `releases` holds the model and takes in new ones,
`metrics` counts, `server` starts and stops, `settings` says what can be set.
"""

from cnn_transfer.serving.app import create_app
from cnn_transfer.serving.releases import ModelSlot, NoReleaseError, find_releases
from cnn_transfer.serving.settings import Settings

__all__ = ["ModelSlot", "NoReleaseError", "Settings", "create_app", "find_releases"]
