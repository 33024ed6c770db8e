"""One and several steps of the optimiser against values written out in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cnn_transfer.models import add_linear_head, blocks_above
from cnn_transfer.training.optimizer import build_optimizer
from freezing import freeze

STEPS = 20


@pytest.fixture
def network(tiny_network):
    return tiny_network(normalised=False)


def gradients_of(network, size=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return [size * rng.normal(size=variable.shape) for variable in network.trainable_variables]


def weights_after(network, optimisation, *gradients):
    """Values of the trainable variables, by path, after so many steps."""
    optimizer = build_optimizer(network, optimisation, STEPS)
    for step in gradients:
        optimizer.apply([tf.constant(gradient, tf.float32) for gradient in step], network.trainable_variables)
    return {variable.path: variable.numpy() for variable in network.trainable_variables}


def adamw(weights, gradients, rates, decay, origin=0.0):
    """Algorithm 2 of arXiv 1711.05101, with decay towards an origin; Keras adds epsilon before it corrects the bias."""
    mean = variance = 0.0
    for step, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        mean, variance = 0.9 * mean + 0.1 * gradient, 0.999 * variance + 0.001 * gradient**2
        direction = np.sqrt(1 - 0.999**step) / (1 - 0.9**step) * mean / (np.sqrt(variance) + 1e-7)
        weights = weights - rate * (direction + decay * (weights - origin))
    return weights


def rate_at(step, peak, warmup):
    """Linear warm-up, then a cosine to 1%."""
    if step < warmup:
        return peak * step / warmup
    return peak * (0.01 + 0.99 * (1 + np.cos(np.pi * (step - warmup) / (STEPS - warmup))) / 2)


def test_the_rate_warms_up_and_decays_as_a_cosine(network, schedule):
    optimizer = build_optimizer(network, schedule(learning_rate=0.2, warmup_fraction=0.2), STEPS)
    rates = []
    for _ in range(STEPS + 1):
        rates.append(float(optimizer.learning_rate))
        optimizer.iterations.assign_add(1)
    np.testing.assert_allclose(rates, [rate_at(step, 0.2, 4) for step in range(STEPS + 1)], rtol=1e-5)
    np.testing.assert_allclose([rates[0], rates[2], rates[4], rates[12], rates[20]], [0, 0.1, 0.2, 0.101, 0.002])


def test_steps_are_those_of_adamw_with_a_rate_for_each_depth(network, schedule):
    start = {variable.path: variable.numpy() for variable in network.trainable_variables}
    course = schedule(learning_rate=0.05, warmup_fraction=0.1, weight_decay=0.3, depth_decay=0.5)
    steps = [gradients_of(network, seed=seed) for seed in range(4)]
    found = weights_after(network, course, *steps)
    factor = {"head_probabilities": 1.0, "conv2": 0.5, "conv1": 0.25}
    for index, (path, weights) in enumerate(found.items()):
        layer, name = path.split("/")
        rates = [factor[layer] * rate_at(step, 0.05, 2) for step in range(4)]
        expected = adamw(start[path], [step[index] for step in steps], rates, 0.3 if name == "kernel" else 0.0)
        np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-6, err_msg=path)
    assert len(found) == 6


def test_without_changes_it_is_the_optimiser_of_keras(network, tiny_network, schedule):
    other = tiny_network(normalised=False)
    reference = keras.optimizers.AdamW(0.05, weight_decay=0.3)
    reference.exclude_from_weight_decay(var_names=["bias"])
    course = schedule(learning_rate=0.05, warmup_fraction=0.0, weight_decay=0.3)
    nothing, step = [0 * gradient for gradient in gradients_of(network)], gradients_of(network)
    optimizer = build_optimizer(network, course, steps=10**6)  # so long that the rate stays as it is after the first
    for gradients in (nothing, step, step):
        optimizer.apply([tf.constant(g, tf.float32) for g in gradients], network.trainable_variables)
    reference.build(other.trainable_variables)
    reference.iterations.assign(1)
    for gradients in (step, step):
        reference.apply([tf.constant(g, tf.float32) for g in gradients], other.trainable_variables)
    for mine, theirs in zip(network.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-7)


def test_the_pull_towards_the_start_is_the_gradient_of_half_the_squared_distance(network, schedule):
    course = schedule(learning_rate=0.1, warmup_fraction=0.0, weight_decay=0.2, towards_start=0.7)
    start = {variable.path: variable.numpy().astype(float) for variable in network.trainable_variables}
    optimizer = build_optimizer(network, course, STEPS)
    moved = {path: weights + np.random.default_rng(1).normal(size=weights.shape) for path, weights in start.items()}
    for variable in network.trainable_variables:
        variable.assign(moved[variable.path])
    nothing = [tf.zeros(variable.shape) for variable in network.trainable_variables]
    optimizer.apply(nothing, network.trainable_variables)  # at a rate of 0, the first of the warm-up
    for variable in network.trainable_variables:
        np.testing.assert_allclose(variable.numpy(), moved[variable.path], rtol=1e-6)
    optimizer.apply(nothing, network.trainable_variables)

    def penalty(path, weights):
        layer, name = path.split("/")
        if name != "kernel":
            return 0.0
        if layer.startswith("head_"):
            return 0.2 / 2 * (weights**2).sum()
        return 0.7 / 2 * ((weights - start[path]) ** 2).sum()

    for variable in network.trainable_variables:
        path, weights = variable.path, moved[variable.path]
        step = np.zeros_like(weights)
        step.flat[3] = 1e-4
        slope = (penalty(path, weights + step) - penalty(path, weights - step)) / 2e-4
        change = variable.numpy().flat[3] - weights.flat[3]
        assert change == pytest.approx(-rate_at(1, 0.1, 1) * slope, rel=1e-4, abs=1e-7), path
        assert (slope == 0) == path.endswith("bias")


def test_the_pull_is_not_divided_by_the_size_of_the_gradient(tiny_network, schedule):
    course = schedule(learning_rate=0.1, warmup_fraction=0.0, weight_decay=0.0, towards_start=0.5)
    differences = []
    for size in (1.0, 100.0):
        pulled, free = tiny_network(normalised=False), tiny_network(normalised=False)
        steps = [gradients_of(pulled, size)] * 3
        with_pull = weights_after(pulled, course, *steps)
        without = weights_after(free, course.model_copy(update={"towards_start": None}), *steps)
        differences.append(with_pull["conv1/kernel"] - without["conv1/kernel"])
    assert np.abs(differences[1]).max() > 1e-3
    np.testing.assert_allclose(differences[0], differences[1], rtol=1e-2, atol=1e-5)


def test_the_gradient_is_clipped_by_its_norm_over_all_variables(tiny_network, schedule):
    # Adam forgets the size of a gradient that is always the same: the second one is a hundred times as large.
    small, large = gradients_of(tiny_network(normalised=False)), gradients_of(tiny_network(normalised=False), 100)
    norm = np.sqrt(sum((gradient**2).sum() for gradient in small))
    course = schedule(learning_rate=0.1, gradient_clip=float(norm))
    clipped = weights_after(tiny_network(normalised=False), course, small, large)
    wanted = weights_after(tiny_network(normalised=False), schedule(learning_rate=0.1), small, small)
    unclipped = weights_after(tiny_network(normalised=False), schedule(learning_rate=0.1), small, large)
    for path, weights in clipped.items():
        np.testing.assert_allclose(weights, wanted[path], rtol=1e-5, atol=1e-7)
        assert not np.allclose(weights, unclipped[path], atol=1e-4)


def test_the_rate_counts_steps_not_batches(network, schedule):
    optimizer = build_optimizer(network, schedule(learning_rate=0.2, warmup_fraction=0.2, accumulated_batches=3), STEPS)
    rates = []
    for _ in range(2 * 3):
        rates.append(float(optimizer.learning_rate))
        optimizer.apply([tf.constant(g, tf.float32) for g in gradients_of(network)], network.trainable_variables)
    np.testing.assert_allclose(rates, [0, 0, 0, 0.05, 0.05, 0.05], rtol=1e-6)


def test_a_frozen_base_leaves_the_head_its_rate(network, schedule):
    freeze(network)
    start = network.get_layer("head_probabilities").kernel.numpy()
    course = schedule(learning_rate=0.05, warmup_fraction=0.0, depth_decay=0.1, towards_start=1.0)
    gradients = [gradients_of(network)] * 2
    found = weights_after(network, course, *gradients)
    expected = adamw(start, [step[0] for step in gradients], [rate_at(0, 0.05, 1), rate_at(1, 0.05, 1)], 0.0)
    np.testing.assert_allclose(found["head_probabilities/kernel"], expected, rtol=1e-4, atol=1e-6)
    assert set(found) == {"head_probabilities/kernel", "head_probabilities/bias"}


def test_depth_is_counted_in_blocks_also_below_a_head_on_all_of_them(tiny_network):
    base = tiny_network()
    network = add_linear_head(base, ["block1", "block2"], 2, np.zeros((192, 4)), np.zeros(4))
    depths = blocks_above(network)
    blocks = {1: "block2 normalisation2 conv2", 2: "block1 normalisation1 conv1 rescaling pixels"}
    expected = {name: depth for depth, names in blocks.items() for name in names.split()}
    assert {name: depth for name, depth in depths.items() if not name.startswith("head_")} == expected
    assert {depth for name, depth in depths.items() if name.startswith("head_")} == {0}
