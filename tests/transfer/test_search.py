import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cnn_transfer.images import split_examples
from cnn_transfer.training import LOG_COLUMNS, Fit
from cnn_transfer.transfer import is_clearly_better, last_doubling
from cnn_transfer.transfer import search as module
from cnn_transfer.transfer.search import TRIAL_COLUMNS, Search, Trial, ahead, collect, judge, no_search, run_search

VALIDATION = SimpleNamespace(rows=np.arange(100))


@pytest.fixture(autouse=True)
def judged_by_their_fits(request, monkeypatch):
    """The fits of most tests have no network."""
    if "shapes" not in request.fixturenames:
        monkeypatch.setattr(module, "judge", lambda trials, _: trials)


@pytest.fixture
def search(schedule):
    def make(*rates, most_doublings=2, clear_steps=0):
        usual = schedule(steps=10).model_dump(exclude={"learning_rate"})
        return Search(**usual, learning_rates=rates, most_doublings=most_doublings, clear_steps=clear_steps)

    return make


def train_below(limit):
    """Fits that are the better the higher and the longer they are, and not finite from some rate times steps on."""

    def train(optimisation, _=None):
        score = optimisation.learning_rate * optimisation.steps
        if score >= limit:
            raise FloatingPointError(f"The loss at {optimisation.learning_rate} is not finite.")
        row = ["a", optimisation.steps, 16 * optimisation.steps, 0.1, 0.9, 1 - score, score]
        return Fit(f"network of {score:g}", pd.DataFrame([row], columns=LOG_COLUMNS), "float32")

    return train


def test_a_search_goes_on_without_the_rates_whose_loss_is_not_finite(search, caplog):
    result = run_search(search(0.9, 0.01, 0.02, most_doublings=0), train_below(0.5), "lp_ft", VALIDATION)
    assert result.fit.network == "network of 0.2"
    assert result.trials["stopped_by"].tolist() == ["not_finite", "length", "length"]
    assert result.trials["delivered"].tolist() == [False, False, True]
    assert result.trials["validation_loss"].isna().tolist() == [True, False, False]
    assert result.log["trial"].tolist() == [1, 2]
    assert "The search goes on without this trial" in caplog.text


def test_a_longer_trial_whose_loss_is_not_finite_ends_the_search(search):
    result = run_search(search(0.02, most_doublings=5), train_below(0.5), "lp_ft", VALIDATION)
    assert result.fit.network == "network of 0.4"
    assert result.trials["steps"].tolist()[:2] == [10, 20]
    assert math.isnan(result.trials["steps"].iloc[2])
    assert len(result.trials) == 3


def test_a_longer_trial_is_told_the_best_fit_so_far(search):
    told = []

    def train(optimisation, best):
        told.append((optimisation.learning_rate, optimisation.steps, best and best.network))
        return train_below(0.5)(optimisation)

    run_search(search(0.02, 0.01, most_doublings=5), train, "lp_ft", VALIDATION)
    longer = [(0.02, 20, "network of 0.2"), (0.02, 40, "network of 0.4")]
    assert told == [(0.02, 10, None), (0.01, 10, None), *longer]


@pytest.mark.parametrize(
    ("accuracies", "images", "steps"),
    [
        ([0.50, 0.60, 0.70, 0.80, 0.90], 100, [10, 20, 40, 80]),  # all clearly, up to the 80 steps that are allowed
        ([0.50, 0.60, 0.63, 0.80, 0.90], 100, [10, 20, 40]),  # three points of a hundred images may be chance
        ([0.50, 0.60, 0.63, 0.80, 0.90], 1000, [10, 20, 40, 80]),
        ([0.50, 0.52, 0.70, 0.80, 0.90], 100, [10, 20]),
        ([0.99, 0.99, 1.00, 1.00, 1.00], 100, [10, 20]),
    ],
)
def test_a_search_goes_on_while_twice_as_long_is_better_by_more_than_chance(search, accuracies, images, steps):
    def train(optimisation, _):
        accuracy = accuracies[[10, 20, 40, 80, 160].index(optimisation.steps)]
        row = ["a", optimisation.steps, 1.0, 0.1, 0.9, 1 / optimisation.steps, accuracy]
        return Fit("network", pd.DataFrame([row], columns=LOG_COLUMNS), "float32")

    validation = SimpleNamespace(rows=np.arange(images))
    trials = run_search(search(0.01, most_doublings=1, clear_steps=80), train, "lp_ft", validation).trials
    assert trials["steps"].tolist() == steps
    none = run_search(search(0.01, most_doublings=0, clear_steps=80), train, "lp_ft", VALIDATION).trials
    assert none["steps"].tolist() == [10]


def test_a_length_whose_loss_was_worse_is_neither_delivered_nor_doubled(search):
    def train(optimisation, _):
        loss, accuracy = {10: (0.9, 0.5), 20: (0.4, 0.8), 40: (0.6, 0.9)}[optimisation.steps]
        row = ["a", optimisation.steps, 1.0, 0.1, 0.9, loss, accuracy]
        return Fit("network", pd.DataFrame([row], columns=LOG_COLUMNS), "float32")

    trials = run_search(search(0.01, most_doublings=2, clear_steps=80), train, "lp_ft", VALIDATION).trials
    assert trials["steps"].tolist() == [10, 20, 40]
    assert trials["delivered"].tolist() == [False, True, False]


def test_a_search_in_which_no_loss_is_finite_is_an_error(search):
    with pytest.raises(
        FloatingPointError, match=r"not finite at any of the learning rates 0\.9, 0\.8\. Lower learning_rates"
    ):
        run_search(search(0.9, 0.8), train_below(0.5), "lp_ft", VALIDATION)


def judged(loss, accuracy=0.5):
    row = ["probe", 0, 3.0, math.nan, math.nan, loss, accuracy]
    return Trial("probe", 0.0, 0, Fit("as it was", pd.DataFrame([row], columns=LOG_COLUMNS), "float32"))


def test_a_network_that_was_only_judged_stands_beside_the_fits_by_its_name(search):
    fit = train_below(0.5)(search(0.01).at(0.01))
    trials = [judged(0.7), Trial("lp_ft", 0.01, 0, fit)]
    result = collect(trials, trials[0])
    assert result.trials.columns.tolist() == TRIAL_COLUMNS
    assert result.trials["strategy"].tolist() == ["probe", "lp_ft"]
    assert result.trials["steps"].tolist() == [0, 10]
    assert result.trials["images_processed"].tolist() == [3.0, 160.0]
    assert (result.delivered["strategy"], result.fit.network) == ("probe", "as it was")
    assert result.log.groupby("trial")["delivered"].first().tolist() == [True, False]


def test_a_search_names_its_strategy_in_every_trial(search):
    result = run_search(search(0.01, 0.02, most_doublings=1), train_below(0.5), "from scratch", VALIDATION)
    assert set(result.trials["strategy"]) == {"from scratch"}
    assert result.delivered["strategy"] == "from scratch"


def test_without_a_search_there_is_a_network_and_tables_with_all_columns(search):
    nothing = no_search("a network", "float32")
    tried = run_search(search(0.01), train_below(0.5), "lp_ft", VALIDATION)
    assert (nothing.fit.network, len(nothing.trials), len(nothing.log)) == ("a network", 0, 0)
    assert nothing.trials.columns.tolist() == tried.trials.columns.tolist()
    assert nothing.log.columns.tolist() == tried.log.columns.tolist()


def test_networks_are_judged_at_their_own_best_temperature(shapes, shape_splits, tiny_network):
    network, surer = tiny_network(normalised=False), tiny_network(normalised=False)
    rows = shapes.rows(shape_splits, "training")
    network.compile("adam", "sparse_categorical_crossentropy")
    network.fit(shapes.pixels(rows), shapes.classes[rows], batch_size=16, epochs=4, verbose=0)
    surer.set_weights([*network.get_weights()[:-2], *(3 * weights for weights in network.get_weights()[-2:])])
    validation = split_examples(shapes, shape_splits, "validation")
    fits = [Fit(each, pd.DataFrame(columns=LOG_COLUMNS), "float32") for each in (network, surer)]
    one, other, without = judge([Trial("a", 0.1, 0, fit) for fit in (*fits, None)], validation)
    assert one.log_loss == pytest.approx(other.log_loss, rel=1e-3)
    assert one.log_loss < np.log(4)  # what a guess has
    assert math.isnan(without.log_loss)
    likely = network.predict(shapes.pixels(validation.rows), verbose=0)[validation.targets.astype(bool)]
    assert one.log_loss <= -np.log(likely).mean() + 1e-6


@pytest.mark.parametrize(
    ("loss", "accuracy", "clear"),
    [(0.4, 0.86, True), (0.4, 0.83, False), (0.4, 0.8, False), (0.5, 0.9, False), (0.6, 0.9, False)],
)
def test_clearly_better_is_a_lower_loss_and_an_accuracy_higher_by_more_than_its_error(loss, accuracy, clear):
    other = {"validation_log_loss": 0.5, "validation_accuracy": 0.8, "validation_images": 100}  # error 0.04
    one = {"validation_log_loss": loss, "validation_accuracy": accuracy, "validation_images": 100}
    assert is_clearly_better(one, other) == clear
    assert not is_clearly_better(other, one) or loss > 0.5


def test_nothing_is_clearly_better_than_a_network_without_a_mistake():
    best = {"validation_log_loss": 0.01, "validation_accuracy": 1.0, "validation_images": 20}
    assert not is_clearly_better(best | {"validation_log_loss": 0.001}, best)


@pytest.mark.parametrize(
    ("trials", "gain"),
    [  # rate, steps, validation accuracy; the last one is delivered
        ([(0.01, 10, 0.80), (0.02, 10, 0.7), (0.01, 20, 0.85)], 0.05),
        ([(0.01, 10, 0.70), (0.01, 20, 0.8), (0.01, 40, 0.81)], None),  # chance, on 400 images
        ([(0.01, 20, 0.80), (0.01, 40, 0.79), (0.01, 10, 0.9)], None),  # twice as long did not help
        ([(0.01, 10, 0.70), (0.01, 40, 0.8), (0.01, 20, 0.9)], None),  # nor twice that
        ([(0.01, 10, 0.70), (0.02, 10, 0.9)], None),  # nothing was doubled
    ],
)
def test_a_search_that_ended_with_a_doubling_that_clearly_helped_is_told(trials, gain):
    table = pd.DataFrame(trials, columns=["learning_rate", "steps", "validation_accuracy"])
    table["validation_log_loss"] = 1 - table["validation_accuracy"]
    table["delivered"] = np.arange(len(table)) == len(table) - 1
    assert last_doubling(table, 400) == (gain and pytest.approx(gain))
    assert last_doubling(table.iloc[:0], 0) is None


def test_what_goes_on_is_the_best_of_those_that_were_better_than_their_start():
    def trial(strategy, losses):
        steps = 10 * np.arange(len(losses))
        log = pd.DataFrame({"step": steps, "validation_loss": losses, "validation_accuracy": 0.5})
        return Trial(strategy, 0.01, 0, Fit(None, log, "float32"))

    stuck, near, far = trial("stuck", [0.1, 0.6]), trial("near", [2.0, 0.3]), trial("far", [2.0, 0.9])
    broken = Trial("broken", 0.01, 0, None)
    assert ahead([stuck, far, near, broken]) is near
    assert ahead([stuck, broken]) is stuck
    assert ahead([broken]) is broken
