"""One fit on several machines, one process on each: the same steps as in one process, to rounding.

Every process has all of the network and takes its part of each batch. The batch is drawn and changed as a whole and
then cut, so that it is the one that a single process would see. What is added up over all parts: the gradients, before
they are clipped or accumulated; the predictions, so that loss and accuracy are those of the whole batch; and what batch
normalisation needs (`synchronized`). Dropout draws other masks in each part.

`tf.distribute.MultiWorkerMirroredStrategy` finds the others by the environment variable TF_CONFIG, connects them and
adds up. Keras 3 does not run under it (https://github.com/keras-team/keras/issues/20585), and its optimisers would clip
and accumulate each part by itself. Here Keras knows nothing of it: variables, optimiser and `fit` are those of one
process, and only sums go through the strategy. When the issue is closed, `Team.model` is what could go.

A process uses one graphics card; start as many on a machine as it has cards. The strategy chooses NCCL for them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cnn_transfer.models import synchronised

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

LOGGER = logging.getLogger(__name__)

MESSAGE_BYTES = 512  # of what the chief says to the others
START_AGAIN = "Start the same command again on all machines."
TASK = re.compile(r"/job:(\w+)/(?:replica:\d+/)?task:(\d+)")

Role = Literal["alone", "chief", "worker"]


class WorkerLostError(RuntimeError):
    """Another process of the same training is gone; the same command again goes on from the last checkpoint."""


@dataclass(frozen=True)
class Cluster:
    """The processes that train together.

    Attributes:
        tasks: Kind and number of each in TF_CONFIG, and its address; the chief first.
        index: Of this process among them.
    """

    tasks: tuple[tuple[str, int, str], ...]
    index: int

    def __len__(self) -> int:
        return len(self.tasks)

    def name(self, index: int) -> str:
        """How people know a process."""
        kind, number, address = self.tasks[index]
        return f"{kind} {number} at {address}"


def cluster() -> Cluster | None:
    """What the environment variable TF_CONFIG says; None when it names no other process.

    Raises:
        ValueError: When it cannot be understood.
    """
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return None
    expected = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
    try:
        config = json.loads(text)
        jobs: Mapping[str, Sequence[str]] = config.get("cluster", {})
        if not jobs:
            return None
        task = str(config["task"]["type"]), int(config["task"]["index"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"TF_CONFIG must look like {expected}. Received: {text}.") from error
    if unknown := set(jobs) - {"chief", "worker"}:
        raise ValueError(f"TF_CONFIG may name chief and worker only. Received: {', '.join(sorted(unknown))} in {text}.")
    tasks = [(kind, number, at) for kind in ("chief", "worker") for number, at in enumerate(jobs.get(kind, []))]
    found = [index for index, (kind, number, _) in enumerate(tasks) if (kind, number) == task]
    if not found:
        raise ValueError(f"The task of TF_CONFIG must be one of its cluster. Received: {task[0]} {task[1]} in {text}.")
    return Cluster(tuple(tasks), found[0]) if len(tasks) > 1 else None


def role() -> Role:
    """What this process does: all by itself, or all but its share of the training, or nothing but that share."""
    known = cluster()
    return "alone" if known is None else "worker" if known.index else "chief"


_joined: list[Team] = []  # at most one a process
_at_work: list[Team] = []


def join() -> Team | None:
    """Meet the other processes that TF_CONFIG names, and wait until all are there; None when there is no other.

    Call it before TensorFlow computes anything in this process. A second call returns what the first one did.

    Raises:
        RuntimeError: When TensorFlow has computed something already.
        WorkerLostError: When another process does not come or goes at once.
    """
    known = cluster()
    if known and not _joined:
        _joined.append(Team(known))
    return _joined[0] if known else None


def team_at_work() -> Team | None:
    """Those that take part in the fits of this process now; None when it trains by itself."""
    return _at_work[-1] if _at_work else None


class Team:
    """The processes that train together, as one of them sees them.

    The chief says what is to be done: it enters `at_work` with a name, and the others get the name from `tasks`. Within
    both, `fit` trains on all of them; it has to be called in all of them with the same arguments.
    """

    def __init__(self, members: Cluster) -> None:
        import tensorflow as tf

        self._members = members
        LOGGER.info("Training on %d machines; this is %s.", len(members), members.name(members.index))
        _use_one_card(members)
        try:
            with self.losses_named():
                self._strategy = tf.distribute.MultiWorkerMirroredStrategy()
                self._add = tf.function(
                    lambda values: self._strategy.run(_total_of_one, args=(values,)),
                    input_signature=[tf.TensorSpec([None], tf.float32)],
                    autograph=False,
                )
                self._total([0.0])
        except RuntimeError as error:
            if "program startup" not in str(error):
                raise
            raise RuntimeError(
                "TensorFlow has computed something before this process met the others. Call "
                "cnn_transfer.training.workers.join() first."
            ) from error

    def __len__(self) -> int:
        return len(self._members)

    @property
    def index(self) -> int:
        """Of this process; 0 is the chief."""
        return self._members.index

    @contextlib.contextmanager
    def at_work(self, task: str = "") -> Iterator[None]:
        """Let the fits of this process train on all.

        Args:
            task: What the chief has begun, for the others, who wait for it in `tasks`; empty where they know.
        """
        if task and self.index == 0:
            with self.losses_named():
                self._tell(task)
        _at_work.append(self)
        try:
            yield
        finally:
            _at_work.remove(self)

    def tasks(self) -> Iterator[str]:
        """What the chief wants done, task by task, until it dismisses the others."""
        while task := self._next():
            with self.at_work():
                yield task

    def _next(self) -> str:
        with self.losses_named():
            return self._tell("")

    def dismiss(self) -> None:
        """Let the others end: the chief has nothing more to do for them."""
        if self.index == 0:
            with self.losses_named():
                self._tell("")

    def agree(self, what: str, remedy: str) -> None:
        """See that all processes say the same.

        Raises:
            RuntimeError: In all of them, naming those that do not.
        """
        differs = np.zeros(len(self))
        with self.losses_named():
            differs[self.index] = self._tell(what) != what
            odd = np.flatnonzero(self._total(differs)).tolist()
        if odd:
            names = ", ".join(self._members.name(index) for index in odd)
            raise RuntimeError(f"All machines must train the same. Not the same as the chief: {names}. {remedy}")

    def share(self, figures: Sequence[float]) -> list[float]:
        """The chief's figures, float32, for all: what is decided on them is decided alike. Within `losses_named`."""
        return [float(figure) for figure in self._total(np.asarray(figures) * (self.index == 0))]

    def part(self, batches: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """This process's part of each batch.

        Raises:
            ValueError: When there are more processes than images.
        """
        import tensorflow as tf

        first, last = self._bounds(batch_size)
        shapes = [(last - first, *spec.shape[1:]) for spec in batches.element_spec]

        def cut(*batch: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return tuple(tf.ensure_shape(value[first:last], shape) for value, shape in zip(batch, shapes, strict=True))

        return batches.map(cut).prefetch(4)

    def model(self, network: keras.Model, batch_size: int) -> keras.Model:
        """The network as a model whose `fit`, given this process's parts of the batches, learns from whole batches."""
        import keras
        import tensorflow as tf

        first, last = self._bounds(batch_size)
        to_mean = len(self) * (last - first) / batch_size  # Keras divides the mean of a part by the number of parts
        strategy = self._strategy

        class PartOfAll(keras.Model):  # type: ignore[misc]
            def train_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
                images, targets = data
                variables = self.trainable_variables

                def of_part(images: tf.Tensor, targets: tf.Tensor) -> Any:
                    with tf.GradientTape() as tape:
                        predicted = self(images, training=True)
                        loss = to_mean * self._compute_loss(images, targets, predicted, training=True)
                    seen = tf.concat([predicted, tf.cast(targets, predicted.dtype)], axis=1)
                    placed = tf.pad(seen, [[first, batch_size - last], [0, 0]])
                    return _total([*tape.gradient(loss, variables), placed])

                gradients: list[tf.Tensor]
                *gradients, seen = strategy.run(of_part, (images, targets))
                predicted, targets = tf.split(seen, 2, axis=1)
                self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
                loss = self._compute_loss(images, targets, predicted, training=True)
                self._loss_tracker.update_state(loss, sample_weight=batch_size)
                return dict(self.compute_metrics(images, targets, predicted))

            def make_train_function(self, force: bool = False) -> None:
                """Several steps a call, as in Keras; but its loop has a branch, in which nothing can be added up."""
                if getattr(self, "train_function", None) is not None and not force:
                    return

                def steps(batches: Any) -> Any:
                    return tf.while_loop(
                        lambda step, _: step < self.steps_per_execution,
                        lambda step, _: (step + 1, self.train_step(next(batches))),
                        [tf.constant(1), self.train_step(next(batches))],
                    )[1]

                self.train_function = tf.function(steps, reduce_retracing=True, autograph=False)

        network = synchronised(network)
        model = PartOfAll(network.input, network.output, name=network.name)
        if [weights.path for weights in model.weights] != [weights.path for weights in network.weights]:
            raise RuntimeError(f"The weights of {network.name} changed their order as the model of several machines.")
        return model

    @contextlib.contextmanager
    def losses_named(self, remedy: Callable[[], str] = lambda: START_AGAIN) -> Iterator[None]:
        """Turn what TensorFlow says of another process that is gone into an error that names it.

        Args:
            remedy: What to do then.

        Raises:
            WorkerLostError: Then.
        """
        import tensorflow as tf

        kinds = (
            tf.errors.UnavailableError,
            tf.errors.AbortedError,
            tf.errors.CancelledError,
            tf.errors.DeadlineExceededError,
            tf.errors.FailedPreconditionError,
            tf.errors.InternalError,
        )
        try:
            yield
        except kinds as error:
            raise WorkerLostError(f"{self._lost(str(error))} is gone. {remedy()}") from error

    def _lost(self, message: str) -> str:
        """Who is gone: the first other process that TensorFlow names; the chief, when nobody hears its heart beat."""
        places = {(kind, number): index for index, (kind, number, _) in enumerate(self._members.tasks)}
        named = TASK.findall(message.rsplit("unhealthy", maxsplit=1)[-1])
        others = [
            place for kind, number in named if (place := places.get((kind, int(number)))) not in {None, self.index}
        ]
        if not others and self.index and "CoordinationService" in message:
            others = [0]
        return self._members.name(others[0]) if others and others[0] is not None else "Another machine of the training"

    def _bounds(self, batch_size: int) -> tuple[int, int]:
        if batch_size < len(self):
            raise ValueError(
                f"batch_size must be at least {len(self)}, the number of workers, since each takes its part of a "
                f"batch. Received: {batch_size}."
            )
        return batch_size * self.index // len(self), batch_size * (self.index + 1) // len(self)

    def _tell(self, text: str) -> str:
        """The chief's text."""
        content = np.zeros(MESSAGE_BYTES)
        if self.index == 0:
            encoded = text.encode()
            content[: len(encoded)] = np.frombuffer(encoded, np.uint8)
        return self._total(content).astype(np.uint8).tobytes().rstrip(b"\0").decode()

    def _total(self, values: Any) -> np.ndarray:
        """The sum over all processes, which waits for all of them."""
        import tensorflow as tf

        return np.asarray(self._add(tf.constant(values, tf.float32)))


def _total(values: Any) -> Any:
    """The sum over all processes, within the strategy."""
    import tensorflow as tf

    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


def _total_of_one(values: Any) -> Any:
    """The same of what was not computed within the strategy, and so has no device yet."""
    import tensorflow as tf

    return _total(tf.identity(values))


def _use_one_card(members: Cluster) -> None:
    """Let this process see one graphics card; those of the same machine take one each."""
    import tensorflow as tf

    cards = tf.config.list_physical_devices("GPU")
    if len(cards) > 1:
        host = members.tasks[members.index][2].rsplit(":", 1)[0]
        before = [address for _, _, address in members.tasks[: members.index] if address.rsplit(":", 1)[0] == host]
        tf.config.set_visible_devices(cards[len(before) % len(cards)], "GPU")
