import dataclasses

import keras
import numpy as np
import pandas as pd
import pytest

from cnn_transfer.models import ModelCard, head_layers
from cnn_transfer.transfer import TransferPlan, build_target_network, choose_head, head_weights, plan_transfer

NAMES = ("blob", "column", "diagonal", "row")
CARD = ModelCard(
    architecture="tiny",
    image_shape=(28, 28, 1),
    class_names=("a", "b", "c", "d", "e", "f", "g"),
    trained_on="shapes",
    training_fingerprint="f00",
    training_images=12,
    precision="float32",
    initialised_from="random",
    strategy="from scratch",
    metrics={},
    licence="MIT",
)


@pytest.fixture(scope="module")
def source(tiny_network):
    """A network of seven classes, whose batch statistics are not 0 and 1."""
    network = tiny_network(n_classes=7)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights([gamma, beta, mean + 0.05, variance * 0.4])
    return network


@pytest.fixture(scope="module")
def features(source, network_features):
    return network_features(source)


@pytest.fixture(scope="module")
def choose(features, shape_splits, head_rule):
    return lambda **changes: choose_head(features, shape_splits, head_rule(grids=(1, 2), copies=1, **changes), seed=0)


@pytest.fixture(scope="module")
def head(choose):
    return choose()


def worse(head, wrong):
    """The same head, which has some images less."""
    return dataclasses.replace(head, hits=head.hits & (np.arange(len(head.hits)) >= wrong))


def test_the_plan_says_what_is_moved_and_from_where(source, features, head):
    plan = plan_transfer(source, CARD, features, head, None)
    assert (plan.source, plan.source_fingerprint, plan.architecture) == ("shapes", "f00", "tiny")
    assert plan.cut_layers == ("block1", "block2")
    assert (plan.taps, plan.grid, plan.penalty) == (head.taps, head.grid, head.probe.penalty)
    assert plan.cut_layer == plan.taps[-1]
    assert plan.evidence == {"transferred": head.describe()}
    assert plan.source_helps is None


@pytest.mark.parametrize(
    ("taps", "transferred", "channels"),
    [(("block1",), (3 * 3 * 8 + 8) + 4 * 8, 8), (("block1", "block2"), (80 + 32) + (3 * 3 * 8 * 16 + 16) + 4 * 16, 24)],
)
def test_the_plan_counts_the_weights_that_move_and_the_new_ones(source, features, choose, taps, transferred, channels):
    head = choose(taps=taps)
    plan = plan_transfer(source, CARD, features, head, None)
    assert plan.transferred_parameters == transferred
    features_each = 2 * head.grid**2  # means and ranges over at most 2 x 2 cells
    assert plan.new_parameters == channels * features_each * 4 + 4
    network = build_target_network(source, plan, head_weights(head, NAMES))
    assert network.count_params() == plan.transferred_parameters + plan.new_parameters


def test_a_plan_survives_json(source, features, head):
    plan = plan_transfer(source, CARD, features, head, worse(head, 30))
    assert TransferPlan.model_validate_json(plan.model_dump_json()) == plan
    assert TransferPlan.model_validate(plan.model_dump(mode="json")) == plan


def test_a_source_that_is_clearly_better_than_random_weights_helps(source, features, head):
    plan = plan_transfer(source, CARD, features, head, worse(head, 60))
    gain = plan.evidence["knowledge"]["gain"]
    assert plan.source_helps
    assert gain == pytest.approx(head.accuracy - plan.evidence["random_weights"]["accuracy"])
    assert f"the source's weights are worth {100 * gain:+.1f} ± " in plan.sentence
    assert "NOTHING" not in plan.sentence


def test_a_plan_on_one_image_of_each_class_claims_nothing(source, features, shape_splits, head_rule):
    training = shape_splits["split"] == "training"
    one = shape_splits[
        ~training | ~shape_splits[training].duplicated("label").reindex(shape_splits.index, fill_value=False)
    ]
    head = choose_head(features, one, head_rule(grids=(1, 2), copies=1), seed=0)
    assert head.blind
    plan = plan_transfer(source, CARD, features, head, head)
    assert plan.source_helps is None
    assert " is a guess: every class has one training image, or one group of them" in plan.sentence
    assert "where there are validation images let these train, too" in plan.sentence  # these have labels already
    assert "of left-out training images right" not in plan.sentence
    assert "NOTHING" not in plan.sentence


@pytest.mark.parametrize("grouped", [False, True])
def test_classes_with_one_image_or_one_group_are_counted(source, features, shape_splits, head_rule, grouped):
    rows = (shape_splits["split"] == "training") & (shape_splits["label"] == "row")
    if grouped:
        few = shape_splits.assign(group=shape_splits["group"].mask(rows, "film"))
    else:
        few = shape_splits.drop(shape_splits.index[rows][1:])
    head = choose_head(features, few, head_rule(grids=(1,), copies=1), seed=0)
    lone = 40 if grouped else 1
    assert (head.lone, head.blind) == (lone, False)
    assert head.describe()["lone_images"] == lone
    sentence = plan_transfer(source, CARD, features, head, None).sentence
    assert f"right; {lone} of these {len(head.hits)} are all there is of their class, which is unknown" in sentence


@pytest.mark.parametrize("harm", [0, 2, -60])
def test_a_source_without_a_clear_gain_is_said_to_add_nothing(source, features, head, harm):
    mine, theirs = (worse(head, -harm), head) if harm < 0 else (head, worse(head, harm))
    plan = plan_transfer(source, CARD, features, mine, theirs)
    assert plan.source_helps is False
    assert "the source's weights ADD NOTHING that is clear over random ones (" in plan.sentence
    assert f"{100 * plan.evidence['knowledge']['gain']:+.1f} ± " in plan.sentence


def test_a_gain_in_two_groups_alone_is_not_clear(source, features, head):
    several = dataclasses.replace(head, groups=np.arange(len(head.hits)) % 2)
    plan = plan_transfer(source, CARD, features, several, worse(several, 60))
    gain = plan.evidence["knowledge"]
    assert 1.96 < gain["gain"] / gain["standard_error"] < 12.7  # Student's quantile of one degree of freedom
    assert plan.source_helps is False


def test_the_sentence_says_what_the_head_reads_and_gets_right(source, features, head):
    sentence = plan_transfer(source, CARD, features, head, None).sentence
    assert sentence.startswith(f"A ridge on {len(head.taps)} of 2 depths ({head.grid} x {head.grid} cells each) gets ")
    assert f"{head.accuracy:.1%} of left-out training images right" in sentence
    assert "random" not in sentence


@pytest.mark.parametrize(
    ("there_are", "evidence", "self_trained", "said"),
    [
        (1200, {"unlabelled": 1200, "accepted": True}, True, "; 1,200 images without a label were used."),
        (5000, {"unlabelled": 1200, "accepted": True}, True, "; 1,200 of 5,000 images without a label were used."),
        (40, {"unlabelled": 40, "accepted": False}, False, "; 40 images without a label were not used, since left-out"),
        (40, {}, False, " right."),
    ],
)
def test_the_sentence_says_what_images_without_a_label_were_good_for(
    source, features, head, there_are, evidence, self_trained, said
):
    course = {"gain": 0.1} if evidence else {}
    probe = dataclasses.replace(head.probe, evidence=evidence | course)
    taught = dataclasses.replace(head, probe=probe, unlabelled=there_are)
    plan = plan_transfer(source, CARD, features, taught, None)
    assert plan.self_trained is self_trained
    assert said in plan.sentence
    assert evidence or "without a label" not in plan.sentence


@pytest.mark.parametrize("taps", [None, ("block1",), ("block1", "block2")])
def test_the_network_says_of_pixels_what_the_head_says_of_features(
    source, features, choose, shapes, shape_splits, tmp_path, taps
):
    head = choose(taps=taps)
    plan = plan_transfer(source, CARD, features, head, None)
    head_weights(head, NAMES).to_parquet(tmp_path / "head.parquet")  # as between two nodes
    network = build_target_network(source, plan, pd.read_parquet(tmp_path / "head.parquet"))
    ids = shape_splits["id"][shape_splits["split"] == "training"]
    rows = shapes.rows(shape_splits, "training")
    expected = head.probe.probabilities(features.of(ids, head.taps, head.grid))
    np.testing.assert_allclose(network.predict(shapes.pixels(rows), verbose=0), expected, atol=1e-4)


@pytest.fixture(scope="module")
def network(source, features, head):
    return build_target_network(source, plan_transfer(source, CARD, features, head, None), head_weights(head, NAMES))


def test_the_built_network_is_flat_and_nothing_in_it_is_frozen(network):
    assert not any(isinstance(layer, keras.Model) for layer in network.layers)
    assert all(layer.trainable for layer in network.layers)
    assert network.output_shape == (None, 4)


def test_the_built_network_carries_the_source_s_weights(source, network):
    moved = [layer for layer in network.layers if layer not in head_layers(network)]
    assert [layer.name for layer in moved] == [layer.name for layer in source.layers[: len(moved)]]
    for layer in moved:
        for mine, theirs in zip(layer.get_weights(), source.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_the_built_network_shares_nothing_with_the_source(source, network, shapes):
    before = source.get_weights()
    network.compile("adam", "sparse_categorical_crossentropy")
    network.fit(shapes.pixels(np.arange(32)), shapes.classes[:32], verbose=0)
    for mine, then in zip(source.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, then)
    assert [layer.name for layer in head_layers(source)] == ["head_flatten", "head_probabilities"]
