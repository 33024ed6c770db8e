import keras
import numpy as np
import pytest

from cnn_transfer.models import ModelCard, head_layers
from cnn_transfer.transfer import TransferPlan, build_target_network, plan_transfer

CARD = ModelCard(
    architecture="tiny",
    image_shape=(28, 28, 1),
    class_names=("blob", "column", "diagonal", "row"),
    trained_on="shapes",
    training_fingerprint="f00",
    training_images=12,
    precision="float32",
    initialised_from="random",
    metrics={},
    licence="MIT",
)


@pytest.fixture
def source(tiny_network):
    return tiny_network()


def test_without_a_wish_the_deepest_block_is_taken(source):
    plan = plan_transfer(source, CARD, None, n_classes=7)
    assert plan.cut_layer == "block2"
    assert plan.cut_layers == ("block1", "block2")
    assert plan.evidence == "deepest layer before the source's head"
    assert (plan.source, plan.source_fingerprint, plan.architecture) == ("shapes", "f00", "tiny")


def test_a_wish_is_followed_and_named_as_the_reason(source):
    plan = plan_transfer(source, CARD, "block1", n_classes=7)
    assert plan.cut_layer == "block1"
    assert "parameter cut_layer" in plan.evidence


def test_a_layer_that_is_not_there_is_refused_with_the_nearest_name(source):
    with pytest.raises(ValueError, match=r"cut_layer must be one of .*Received: blok1\. Did you mean block1"):
        plan_transfer(source, CARD, "blok1", n_classes=7)


def test_a_network_without_blocks_is_cut_after_its_deepest_layer():
    inputs = keras.Input((28, 28, 1), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255, name="rescaling")(inputs)
    x = keras.layers.Conv2D(2, 3, name="first")(x)
    x = keras.layers.Conv2D(2, 3, name="second")(x)
    outputs = keras.layers.Dense(2, activation="softmax")(keras.layers.GlobalAveragePooling2D()(x))
    plan = plan_transfer(keras.Model(inputs, outputs), CARD, None, n_classes=7)
    assert plan.cut_layers == ("first", "second")
    assert plan.cut_layer == "second"


def test_the_plan_counts_the_weights_that_move_and_the_new_ones(source):
    plan = plan_transfer(source, CARD, "block1", n_classes=7)
    assert plan.transferred_parameters == (3 * 3 * 1 * 8 + 8) + 4 * 8
    assert plan.new_parameters == 13 * 13 * 8 * 7 + 7


def test_a_plan_survives_json(source):
    plan = plan_transfer(source, CARD, None, n_classes=7)
    assert TransferPlan.model_validate_json(plan.model_dump_json()) == plan


@pytest.fixture
def built(source):
    plan = plan_transfer(source, CARD, "block2", n_classes=7)
    return plan, build_target_network(source, plan, 7, seed=1)


def test_the_built_network_is_flat_has_the_new_classes_and_the_planned_size(source, built, shapes):
    plan, network = built
    assert not any(isinstance(layer, keras.Model) for layer in network.layers)
    assert network.count_params() == plan.transferred_parameters + plan.new_parameters
    probabilities = network(shapes.pixels(np.arange(5))).numpy()
    assert probabilities.shape == (5, 7)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_the_built_network_carries_the_source_s_weights(source, built):
    _, network = built
    moved = [layer for layer in network.layers if layer not in head_layers(network)]
    assert [layer.name for layer in moved] == [layer.name for layer in source.layers[: len(moved)]]
    for layer in moved:
        for mine, theirs in zip(layer.get_weights(), source.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_only_the_head_of_the_built_network_is_trainable(built):
    assert {weights.path.split("/")[0] for weights in built[1].trainable_weights} == {"head_probabilities"}


def test_the_seed_decides_the_new_head(source):
    plan = plan_transfer(source, CARD, None, n_classes=7)
    first, same, other = (
        build_target_network(source, plan, 7, seed).get_layer("head_probabilities").get_weights()[0]
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_building_leaves_the_source_network_as_it_is(source):
    trainable = [layer.trainable for layer in source.layers]
    build_target_network(source, plan_transfer(source, CARD, None, n_classes=7), 7, seed=1)
    assert [layer.trainable for layer in source.layers] == trainable
