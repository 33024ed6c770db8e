import keras
import numpy as np
import pytest
import tensorflow as tf

from cnn_transfer.models import for_training, with_precision
from cnn_transfer.models.fused_normalisation import fused_batch_normalisation

SHAPE = (9, 8, 5)


@pytest.fixture
def inputs():
    return np.random.default_rng(0).normal(3, 2, (16, *SHAPE)).astype(np.float32)


def both(**options):
    """Keras's layer and the fused one, built and with the same weights, none of them as they start."""
    made = []
    for kind in (keras.layers.BatchNormalization, fused_batch_normalisation()):
        layer = kind(**{"momentum": 0.8} | options)
        layer.build((None, *SHAPE))
        made.append(layer)
    rng = np.random.default_rng(1)
    weights = [rng.uniform(0.5, 2, weight.shape).astype(np.float32) for weight in made[0].weights]
    for layer in made:
        layer.set_weights(weights)
    return made


def step(layer, inputs, training=True):
    """Outputs, gradients of inputs and weights, and the weights afterwards."""
    x, towards = tf.constant(inputs), tf.constant(np.random.default_rng(2).normal(size=inputs.shape), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = layer(x, training=training)
        loss = tf.reduce_sum(towards * tf.cast(outputs, tf.float32))
    gradients = tape.gradient(loss, [x, *layer.trainable_variables])
    return [np.asarray(part) for part in (tf.cast(outputs, tf.float32), *gradients, *layer.get_weights())]


def kernels_of(network, training=True):
    """Names of the operations that it is traced to."""
    function = tf.function(lambda x: network(x, training=training)).get_concrete_function(
        tf.TensorSpec((4, *network.input_shape[1:]), network.inputs[0].dtype)
    )
    return {operation.type for operation in function.graph.get_operations()}


@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}, {"epsilon": 0.1}])
def test_outputs_gradients_and_statistics_are_those_of_keras(inputs, options):
    keras_layer, fused = both(**options)
    for expected, found in zip(step(keras_layer, inputs), step(fused, inputs), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)


def test_in_bfloat16_it_is_as_near_to_float32_as_keras_is(inputs):
    exact = step(both()[0], inputs)
    for layer in both(dtype="mixed_bfloat16"):
        outputs, of_inputs, *rest = step(layer, inputs)
        for expected, found in zip(exact, (outputs, of_inputs, *rest), strict=True):
            np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.02 * np.abs(expected).max())


def test_statistics_are_those_of_the_batch_without_correction(inputs):
    fused = both()[1]
    before = fused.moving_variance.numpy()
    fused(inputs[:1], training=True)
    of_batch = inputs[:1].var(axis=(0, 1, 2))
    np.testing.assert_allclose(fused.moving_variance.numpy(), 0.8 * before + 0.2 * of_batch, rtol=1e-5)


def test_one_place_has_no_variance():
    fused = both()[1]
    before = fused.moving_variance.numpy()
    fused(np.ones((1, 1, 1, SHAPE[2]), np.float32), training=True)
    np.testing.assert_allclose(fused.moving_variance.numpy(), 0.8 * before, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "training"),
    [
        ({}, False),
        ({"trainable": False}, True),
        ({"axis": 1}, True),
        ({"renorm": True}, True),
        ({"epsilon": 1e-6}, True),
        ({"dtype": "float64"}, True),
    ],
)
def test_where_no_kernel_serves_it_is_keras_to_the_last_bit(inputs, options, training):
    inputs = inputs.astype(options.get("dtype", "float32"))
    expected, found = (step(layer, inputs, training) for layer in both(**options))
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(other, one)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_network_for_training_has_the_kernel_and_the_same_weights(tiny_network, policy):
    network = tiny_network()
    plain, fast = with_precision(network, policy), for_training(network, policy)
    assert "FusedBatchNormV3" in kernels_of(fast)
    assert "FusedBatchNormV3" not in kernels_of(plain)
    assert [layer.name for layer in fast.layers] == [layer.name for layer in plain.layers]
    assert [layer.compute_dtype for layer in fast.layers] == [layer.compute_dtype for layer in plain.layers]
    for expected, found in zip(network.get_weights(), fast.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
