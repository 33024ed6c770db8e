"""AdamW with a learning rate of its own at each depth, which can hold transferred weights near their start.

With the rate r of a step, the factor f of a variable's depth, and Adam's direction d (arXiv 1711.05101, algorithm 2):

    w ← w - r f (d + λ (w - o))

A kernel decays towards o = 0 with λ = `weight_decay`. With `towards_start`, a kernel below the head is pulled to its
value at the start of the fit instead: o = w⁰, λ = `towards_start` (L2-SP, arXiv 1802.01483: the gradient of
λ/2 |w - w⁰|²). All else neither decays nor is pulled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnn_transfer.models import blocks_above, head_layers
from cnn_transfer.training.schedule import Optimisation

if TYPE_CHECKING:
    import keras

FINAL_SHARE = 0.01  # of the learning rate, at the end of the cosine


def build_optimizer(network: keras.Model, optimisation: Optimisation, steps: int) -> keras.optimizers.Optimizer:
    """The optimiser of one fit of one network.

    Its method `begin(optimisation, steps)` makes it new for another fit of the same network, from the weights that it
    has then; only the learning rate and the length may differ.

    The pull towards the start is decoupled from the gradient, as AdamW's decay is: in the gradient, Adam would divide
    it by the gradient's own size, and hold the weights that matter least most. So it is no part of the logged loss.

    Args:
        network: The network as it starts, with its layers trainable or frozen; build another optimiser after changes.
        optimisation: The schedule.
        steps: Length of the fit.
    """
    import keras
    import tensorflow as tf

    above, head = blocks_above(network), {layer.name for layer in head_layers(network)}
    layer_of = {id(variable): layer.name for layer in network.layers for variable in layer.trainable_variables}
    factors, decays, origins = [], [], []
    for variable in network.trainable_variables:
        layer, kernel = layer_of[id(variable)], "kernel" in variable.name
        pulled = kernel and layer not in head and optimisation.towards_start is not None
        factors.append(optimisation.depth_decay ** above[layer])
        decays.append((optimisation.towards_start if pulled else optimisation.weight_decay) if kernel else 0.0)
        origins.append(tf.Variable(variable.value, trainable=False) if pulled else 0.0)
    course = _warmup_cosine(optimisation.accumulated_batches)

    class LayerwiseAdamW(keras.optimizers.Adam):  # type: ignore[misc]
        def begin(self, optimisation: Optimisation, steps: int) -> None:
            warmup = max(1, round(optimisation.warmup_fraction * steps))
            course.warmup_target.assign(optimisation.learning_rate)
            course.warmup_steps.assign(warmup)
            course.decay_steps.assign(max(1, steps - warmup))
            for variable in self.variables:
                variable.assign(tf.zeros_like(variable))
            for origin, variable in zip(origins, network.trainable_variables, strict=True):
                if isinstance(origin, tf.Variable):
                    origin.assign(variable)

        def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
            index = self._get_variable_index(variable)
            rate = tf.cast(learning_rate, variable.dtype) * factors[index]
            if decays[index]:
                self.assign_sub(variable, rate * decays[index] * (variable - origins[index]))
            super().update_step(gradient, variable, rate)

    accumulated = optimisation.accumulated_batches
    optimizer = LayerwiseAdamW(
        course,
        global_clipnorm=optimisation.gradient_clip,
        gradient_accumulation_steps=accumulated if accumulated > 1 else None,
    )
    optimizer.begin(optimisation, steps)
    return optimizer


def _warmup_cosine(accumulated_batches: int) -> Any:
    """Linear warm-up from 0, and cosine decay to 1% (arXiv 1608.03983), as a function of the batches seen before.

    Its rate and lengths are variables, so that a traced fit can be used for others.
    """
    import keras
    import tensorflow as tf

    class WarmupCosine(keras.optimizers.schedules.CosineDecay):  # type: ignore[misc]
        def __call__(self, batches: Any) -> Any:
            return super().__call__(batches // accumulated_batches)

    course = WarmupCosine(initial_learning_rate=0.0, decay_steps=1, alpha=FINAL_SHARE)
    course.warmup_target, course.warmup_steps, course.decay_steps = (
        tf.Variable(1.0, trainable=False) for _ in range(3)
    )
    return course
