"""The stage `migrate_model` by itself."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cnn_transfer.parameters import ParameterError
from cnn_transfer.pipelines.migrate_model.nodes import (
    extract_features,
    extract_random_features,
    migrate,
    migrate_random,
    plan,
)
from cnn_transfer.transfer import FeatureExtraction


@pytest.fixture
def block(parameters):
    return parameters["migrate_model"] | {"grids": [1, 2], "copies": 1, "most_unlabelled": 10}


def test_features_are_wanted_of_training_and_unlabelled_images_alone(tiny_network, shapes, shape_splits, block):
    wanted = extract_features(tiny_network(), shapes, shape_splits, block, 0)
    assert isinstance(wanted, FeatureExtraction)  # nothing is computed yet
    splits = shape_splits.set_index("id")["split"].loc[shapes.table["id"].iloc[wanted.rows]]
    assert splits.value_counts().to_dict() == {"training": 160, "unlabelled": 10}
    assert (wanted.taps, wanted.grids, wanted.copies) == (("block1", "block2"), (1, 2), 1)
    np.testing.assert_array_equal(wanted.copied, shapes.rows(shape_splits, "training"))


def test_random_weights_are_asked_the_same_and_are_others(tiny_network, shapes, shape_splits, block):
    network = tiny_network()
    before = network.get_weights()
    wanted = extract_features(network, shapes, shape_splits, block, 0)
    random = extract_random_features(network, shapes, shape_splits, block, 0)
    pd.testing.assert_frame_equal(random.table(), wanted.table())
    assert random.network_digest != wanted.network_digest
    assert random.network_digest == extract_random_features(network, shapes, shape_splits, block, 0).network_digest
    assert random.network_digest != extract_random_features(network, shapes, shape_splits, block, 1).network_digest
    for mine, then in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, then)


@pytest.mark.parametrize("flip", [True, False])
def test_mirroring_is_judged_where_copies_are_mirrored(tiny_network, shapes, shape_splits, block, card, written, flip):
    network, settings = tiny_network(), block | {"augmentation": block["augmentation"] | {"horizontal_flip": flip}}
    features = written(extract_features(network, shapes, shape_splits, settings, 0))
    random = extract_random_features(network, shapes, shape_splits, settings, 0)
    assert not len(random.mirrored)
    nothing = written(replace(random, rows=random.rows[:0], copied=random.copied[:0]))
    decision, *_ = plan(network, card, features, nothing, shape_splits, settings, 0)
    assert (decision["mirroring"] or {}).get("images") == (160 if flip else None)


@pytest.mark.parametrize("random_weights", [True, False])
def test_the_stage_with_and_without_random_weights(
    tiny_network, shapes, shape_splits, block, card, written, random_weights
):
    network, settings = tiny_network(), block | {"random_weights": random_weights}
    features = written(extract_features(network, shapes, shape_splits, settings, 0))
    random_features = written(extract_random_features(network, shapes, shape_splits, settings, 0))
    assert len(random_features.table) == random_weights * len(features.table)
    decision, weights, random_plan, random_head, depths, steps, left_out, unlabelled = plan(
        network, card, features, random_features, shape_splits, settings, 0
    )
    assert ("random_weights" in decision["evidence"]) == random_weights
    assert (decision["source_helps"] is None) != random_weights
    assert depths["random_accuracy"].notna().all() == random_weights
    assert set(steps["grid"]) == {1, 2}
    assert random_head.columns.tolist() == weights.columns.tolist() == sorted(shapes.class_names)
    assert random_head.dtypes.tolist() == weights.dtypes.tolist()
    training = shape_splits.query("split == 'training'")
    assert left_out[["id", "label"]].to_numpy().tolist() == training[["id", "label"]].to_numpy().tolist()
    assert (left_out["predicted"] == left_out["label"]).mean() == pytest.approx(
        decision["evidence"]["transferred"]["accuracy"]
    )
    columns = ["id", "predicted", *(f"probability_{name}" for name in sorted(shapes.class_names))]
    assert unlabelled.columns.tolist() == columns
    learnt = decision["evidence"]["transferred"]["self_training"]["accepted"]
    pool = set(shape_splits["id"][shape_splits["split"] == "unlabelled"])
    assert set(unlabelled["id"]) == (pool if learnt else set())
    assert migrate(network, decision, weights).output_shape == (None, 4)
    random = migrate_random(network, random_plan, random_head, 0)
    if random_weights:
        assert (random_plan["source"], random_plan["source_helps"]) == ("random weights", None)
        assert random.output_shape == (None, 4)
        assert random.layers[-1].get_weights()[1] == pytest.approx(random_head.to_numpy()[-1])
    else:
        assert (random_plan, len(random_head)) == ({}, 0)
        assert [layer.name for layer in random.layers] == [layer.name for layer in network.layers]


def test_taps_of_the_users_choice_reach_the_network(tiny_network, shapes, shape_splits, block, card, written):
    settings = block | {"taps": ["block1"], "random_weights": False}
    network = tiny_network()
    features = written(extract_features(network, shapes, shape_splits, settings, 0))
    nothing = written(extract_random_features(network, shapes, shape_splits, settings, 0))
    decision, weights, *_ = plan(network, card, features, nothing, shape_splits, settings, 0)
    assert (decision["taps"], decision["cut_layer"], decision["cut_layers"]) == (
        ["block1"],
        "block1",
        ["block1", "block2"],
    )
    assert "conv2" not in [layer.name for layer in migrate(network, decision, weights).layers]


def test_a_mistyped_parameter_is_refused(tiny_network, shapes, shape_splits, block):
    with pytest.raises(ParameterError, match=r"migrate_model\.grid is not a parameter\. Did you mean grids\?"):
        extract_features(tiny_network(), shapes, shape_splits, block | {"grid": 2}, 0)
