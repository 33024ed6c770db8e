"""TensorFlow's own notes do not reach the terminal, whoever has imported it."""

import os
import subprocess
import sys

PROGRAM = """
import os, sys
from cnn_transfer.prediction.native_notes import without_native_notes
with without_native_notes():
    import tensorflow as tf
if os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
from kedro.io import DataCatalog
from kedro.pipeline import node
from cnn_transfer.datasets import KerasModelDataset
from cnn_transfer.hooks import TensorFlowHooks
hooks = TensorFlowHooks()
hooks.after_catalog_created(DataCatalog({"model": KerasModelDataset(filepath="model.keras")}))
hooks.before_dataset_loaded(node(lambda model: model, "model", "copy"))
tf.constant(1) + 1
"""


def test_a_process_that_was_forked_from_one_with_tensorflow_says_nothing_of_a_missing_gpu():
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"}  # as for the ops of Dagster
    # From Python 3.12 on, Python itself warns of a fork beside threads, which TensorFlow has.
    command = [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
