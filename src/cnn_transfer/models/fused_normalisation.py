"""Batch normalisation in one kernel instead of a dozen, for training: Keras 3 composes it of single operations.

In a small network these passes over memory are a quarter of the time of a fit (`benchmarks/training_throughput.py`).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

FUSED_DTYPES = frozenset({"float32", "float16", "bfloat16"})
SMALLEST_EPSILON = 1.001e-5  # TensorFlow raises smaller ones to it


@cache
def fused_batch_normalisation() -> type[keras.layers.BatchNormalization]:
    """Keras's layer with the same weights and the same results up to rounding, in one kernel where there is one.

    There is one for the statistics of a batch (n, h, w, channels) on one machine. With frozen statistics Keras is as
    fast, and faster on the way back.
    """
    import keras
    import tensorflow as tf

    class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
        def call(self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> Any:
            learns = training and self.trainable
            images = mask is None and len(inputs.shape) == 4 and self.axis in {-1, 3}
            known = self.compute_dtype in FUSED_DTYPES and self.epsilon >= SMALLEST_EPSILON
            if not (learns and images and known) or self.synchronized or self.renorm:
                return super().call(inputs, training=training, mask=mask)
            channels = inputs.shape[3]
            outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
                inputs,
                self.gamma.value if self.scale else tf.ones(channels),
                self.beta.value if self.center else tf.zeros(channels),
                epsilon=self.epsilon,
            )
            places = tf.cast(tf.size(inputs) // channels, variance.dtype)
            variance *= (places - 1) / places  # the kernel's is unbiased, Keras's is that of the batch
            for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
                average.assign(average * self.momentum + value * (1 - self.momentum))
            return outputs

    return FusedBatchNormalization
