"""The stage `finetune_target` by itself."""

import numpy as np
import pytest

from cnn_transfer.evaluation.predictions import predict
from cnn_transfer.models import ModelCard
from cnn_transfer.parameters import ParameterError
from cnn_transfer.pipelines.finetune_target import nodes
from cnn_transfer.pipelines.finetune_target.nodes import deliver, finetune, train_from_scratch
from cnn_transfer.pipelines.migrate_model.nodes import extract_features, extract_random_features, migrate, plan
from cnn_transfer.training import LOG_COLUMNS, Checkpoints
from cnn_transfer.transfer import no_search


@pytest.fixture(scope="module")
def network(tiny_network):
    return tiny_network()


@pytest.fixture
def migrated(network, shapes, shape_splits, parameters, card, written):
    """Plan, migrated network and features."""
    block = parameters["migrate_model"] | {"grids": [1], "copies": 0, "most_unlabelled": 40, "random_weights": False}
    features = written(extract_features(network, shapes, shape_splits, block, 0))
    nothing = written(extract_random_features(network, shapes, shape_splits, block, 0))
    decision, weights, *_ = plan(network, card, features, nothing, shape_splits, block, 0)
    return decision, migrate(network, decision, weights), features


def tuning(parameters, **changes):
    """The blocks that `finetune` takes."""
    block = parameters["finetune_target"] | changes
    return [block[name] for name in ("fine_tuning", "pseudo_labels", "augmentation", "class_balance")]


def scratch(parameters, **changes):
    """The blocks that `train_from_scratch` takes; name what differs in the baseline's."""
    block = parameters["finetune_target"]
    return [block["baseline"] | changes, block["augmentation"], block["class_balance"]]


def strategy(parameters, name):
    return {"fine_tuning": parameters["finetune_target"]["fine_tuning"] | {"strategy": name}}


def test_with_the_strategy_probe_the_head_is_delivered_as_it_is(migrated, card, shapes, shape_splits, parameters):
    decision, network, features = migrated
    settings = tuning(parameters, **strategy(parameters, "probe"))
    got, got_card, log, trials = finetune(
        network, card, decision, features, shapes, shape_splits, *settings, "float32", 0
    )
    for mine, theirs in zip(got.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    got_card = ModelCard.model_validate(got_card)
    assert (got_card.strategy, got_card.trained_on) == ("probe", shapes.name)
    assert got_card.initialised_from == f"shapes up to {decision['cut_layer']}"
    assert got_card.training_images == 160
    assert got_card.metrics["validation_images"] == 80
    assert got_card.metrics["validation_log_loss"] == trials["validation_log_loss"].iloc[0]
    assert trials["strategy"].tolist() == ["probe"]
    assert log["images_processed"].tolist() == [pytest.approx(len(features.table) / 3)]


@pytest.mark.parametrize(("sizes", "least", "most"), [(4, 15, 24), (80, 1, 1)])
def test_validation_images_that_are_right_together_count_as_fewer(
    sizes, least, most, migrated, card, shapes, shape_splits, parameters
):
    decision, network, features = migrated
    splits = shape_splits.copy()
    held_out = splits["split"] == "validation"
    predictions = predict(network, shapes, splits, "validation")
    right = (predictions["predicted"] == predictions["label"]).to_numpy()
    places = np.empty(len(right), int)
    places[np.argsort(right, kind="stable")] = np.arange(len(right))
    splits.loc[held_out, "group"] = [f"group {place // sizes}" for place in places]
    settings = tuning(parameters, **strategy(parameters, "probe"))
    _, got_card, *_ = finetune(network, card, decision, features, shapes, splits, *settings, "float32", 0)
    assert least <= got_card["metrics"]["validation_images"] <= most


def test_without_a_plan_nothing_is_trained(network, card, shapes, shape_splits, parameters, migrated):
    features = migrated[2]
    got, got_card, log, trials = finetune(
        network, card, {}, features, shapes, shape_splits, *tuning(parameters), "float32", 0
    )
    assert got is network
    assert (got_card["training_images"], got_card["strategy"], got_card["metrics"]) == (0, "", {})
    assert (len(log), len(trials)) == (0, 0)
    assert set(LOG_COLUMNS) < set(log.columns)


def test_a_disabled_baseline_is_not_trained(migrated, card, shapes, shape_splits, parameters):
    block = scratch(parameters, enabled=False)
    _, got_card, log, trials = train_from_scratch(migrated[1], card, shapes, shape_splits, *block, "float32", 0)
    assert (got_card["training_images"], got_card["metrics"]) == (0, {})
    assert (len(log), len(trials)) == (0, 0)


def test_the_card_of_a_baseline_of_another_architecture_names_it(migrated, card, shapes, shape_splits, parameters):
    short = {"architecture": "compact_cnn", "learning_rates": [0.01], "steps": 1, "validations": 1, "most_doublings": 0}
    block = scratch(parameters, **short)
    network, got_card, *_ = train_from_scratch(migrated[1], card, shapes, shape_splits, *block, "float32", 0)
    assert network.name == got_card["architecture"] == "compact_cnn"
    assert got_card["strategy"] == "from scratch"


@pytest.mark.parametrize(
    ("self_trained", "share", "joined"), [(True, 0.25, True), (True, 0.0, False), (False, 0.25, False)]
)
def test_pseudo_labels_are_drawn_where_the_head_gained_by_images_without_a_label(
    migrated, card, shapes, shape_splits, parameters, monkeypatch, self_trained, share, joined
):
    decision, network, features = migrated
    seen = {}

    def tune(network, training, validation, rule, augmentation, precision, seed, pool, **_):
        learnt_from = pool.added_to(training, network) if pool else training
        seen.update(training=learnt_from, validation=validation)
        return no_search(network, "float32")

    monkeypatch.setattr(nodes, "fine_tune", tune)
    settings = tuning(parameters, pseudo_labels={"share": share, "kept": 0.5})
    told = decision | {"self_trained": self_trained}
    finetune(network, card, told, features, shapes, shape_splits, *settings, "float32", 0)
    training = seen["training"]
    split = shape_splits.set_index("id")["split"].loc[shapes.table["id"].iloc[training.rows]].to_numpy()
    assert (split == "training").sum() == 160
    assert set(split) == ({"training", "unlabelled"} if joined else {"training"})
    assert len(seen["validation"]) == 80
    if joined:
        assert 15 <= (split == "unlabelled").sum() <= 25  # half of 40
        assert training.weights[split == "unlabelled"].sum() / training.weights.sum() == pytest.approx(share)


def figures(log_loss, accuracy, name):
    metrics = {"validation_loss": 1.0, "validation_accuracy": accuracy, "validation_log_loss": log_loss}
    return {"strategy": name, "metrics": metrics | {"validation_images": 100}}


UNTRAINED = {"strategy": "", "metrics": {}}


@pytest.mark.parametrize(
    ("random", "baseline", "delivered"),
    [
        (UNTRAINED, UNTRAINED, "target"),
        (figures(0.4, 0.82, "random"), figures(0.3, 0.83, "baseline"), "target"),  # within chance
        (figures(0.4, 0.95, "random"), UNTRAINED, "random"),
        (figures(0.4, 0.95, "random"), figures(0.6, 0.99, "baseline"), "random"),  # sure of its mistakes
        (figures(0.4, 0.88, "random"), figures(0.2, 0.97, "baseline"), "baseline"),
        (UNTRAINED, figures(0.2, 0.97, "baseline"), "baseline"),
        (figures(0.5, 0.8, "random"), figures(0.5, 0.8, "baseline"), "target"),
    ],
)
def test_another_network_is_delivered_only_when_it_is_clearly_better(random, baseline, delivered):
    target = figures(0.5, 0.8, "target")
    network, card = deliver("target", target, "random", random, "baseline", baseline)
    assert network == delivered
    assert card["strategy"] == delivered
    assert card is not target


def test_without_validation_images_the_head_stays_as_it_is(migrated, card, shapes, shape_splits, parameters):
    decision, network, features = migrated
    splits = shape_splits[shape_splits["split"] != "validation"]
    settings = tuning(parameters)
    got, got_card, log, trials = finetune(network, card, decision, features, shapes, splits, *settings, "float32", 0)
    for mine, theirs in zip(got.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert (got_card["strategy"], got_card["metrics"]) == ("probe", {})
    assert trials["validation_accuracy"].isna().all()
    assert len(log) == 1
    block = scratch(parameters)
    _, baseline_card, baseline_log, _ = train_from_scratch(network, card, shapes, splits, *block, "float32", 0)
    assert (baseline_card["training_images"], len(baseline_log)) == (0, 0)
    assert deliver(got, got_card, network, baseline_card, network, baseline_card)[1] == got_card


def test_a_strategy_that_trains_needs_validation_images(migrated, card, shapes, shape_splits, parameters):
    decision, network, features = migrated
    splits = shape_splits[shape_splits["split"] != "validation"]
    settings = tuning(parameters, **strategy(parameters, "lp_ft"))
    with pytest.raises(ValueError, match=r"must be auto or probe .* Received: lp_ft. Raise .*validation_ratio"):
        finetune(network, card, decision, features, shapes, splits, *settings, "float32", 0)


def test_a_wrong_value_is_named_with_its_block(network, card, shapes, shape_splits, parameters):
    block = scratch(parameters, step=3)
    with pytest.raises(ParameterError, match=r"finetune_target\.baseline\.step is not a parameter"):
        train_from_scratch(network, card, shapes, shape_splits, *block, "float32", 0)


def test_the_states_of_fits_are_kept_where_the_node_is_told(network, card, shapes, shape_splits, parameters, tmp_path):
    short = {"learning_rates": [0.01, 0.02], "steps": 1, "validations": 1, "most_doublings": 0}
    node = network, card, shapes, shape_splits, *scratch(parameters, **short), "float32", 0
    first, *_ = train_from_scratch(*node, Checkpoints(tmp_path))
    assert len(list(tmp_path.iterdir())) == 2
    again, *_ = train_from_scratch(*node, Checkpoints(tmp_path))
    for mine, theirs in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
