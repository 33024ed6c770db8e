"""A fit on several machines of a Ray cluster: Ray Train starts a process on each; they find one another by TF_CONFIG.

Ray finds the cluster by its own variable RAY_ADDRESS and starts a local one without it. The machines need this package
installed; images and network come to them through Ray's object store, and checkpoints must lie where all of them look.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cnn_transfer.training.checkpoints import Checkpoints, FitState, NoCheckpoints
from cnn_transfer.training.workers import WorkerLostError, join

if TYPE_CHECKING:
    from cnn_transfer.images import Examples
    from cnn_transfer.training.fit import Given


def train_on_ray(given: Given, checkpoints: Checkpoints | None, workers: int) -> FitState:
    """Train on a Ray cluster.

    Args:
        given: What the fit is given.
        checkpoints: Where its state is kept; None: nowhere.
        workers: Number of processes; each gets a graphics card when there are enough.

    Raises:
        ModuleNotFoundError: When Ray is not installed.
        FloatingPointError, MemoryError: As `fit`.
        WorkerLostError: When a process is gone.
    """
    from cnn_transfer.training.fit import find_state

    checkpoints = checkpoints or NoCheckpoints()
    _, state = find_state(given, checkpoints)
    if state and state.finished:
        return state
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Ray 2.60 warns of its own settings
        return _run(given, checkpoints, workers)


def _run(given: Given, checkpoints: Checkpoints, workers: int) -> FitState:
    try:
        import ray
        from ray.train import RunConfig, ScalingConfig, TrainingFailedError
        from ray.train.tensorflow import TensorflowTrainer
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"workers: {workers} needs the extra \"ray\": pip install 'cnn-transfer[ray]'. Or set workers to 1."
        ) from error
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
    packed = given._replace(training=_used(given.training), validation=_used(given.validation))
    with tempfile.TemporaryDirectory() as folder:
        trainer = TensorflowTrainer(
            _work,
            train_loop_config={"given": [ray.put(part) for part in packed], "checkpoints": checkpoints},
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=ray.cluster_resources().get("GPU", 0) >= workers),
            run_config=RunConfig(storage_path=folder),
        )
        try:
            found: FitState = trainer.fit().return_value
        except TrainingFailedError as error:
            raise _cause(error, given.phase) from error
    return found


def _work(config: dict[str, Any]) -> FitState:
    """What each process does."""
    import ray

    os.environ.pop("TF_USE_LEGACY_KERAS", None)  # Ray sets it; this is Keras 3
    team = join()
    from cnn_transfer.training.fit import Given, train

    given = Given(*ray.get(config["given"]))
    if team is None:  # Ray has found room for one only
        return train(given, config["checkpoints"])
    with team.at_work():
        return train(given, config["checkpoints"])


def _used(examples: Examples) -> Examples:
    """The same with no other images in their set, to be sent."""
    images, rows = examples.images, examples.rows
    used = replace(images, table=images.table.iloc[rows], shards=(images.pixels(rows),))
    return replace(examples, images=used, rows=np.arange(len(rows)))


def _cause(error: Exception, phase: str) -> Exception:
    """What went wrong in the processes; where it was that one of them is gone, how to go on."""
    failures = list(getattr(error, "worker_failures", {}).values())
    causes = [failure.__cause__ or failure for failure in failures]
    known = [cause for cause in causes if isinstance(cause, FloatingPointError | MemoryError | ValueError)]
    if known:
        return known[0]
    return WorkerLostError(
        f"A machine that Ray started for {phase} is gone. Start the same command again: it goes on after the last "
        f"checkpoint. Ray says: {error}"
    )
