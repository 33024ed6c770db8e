import math

import pandas as pd
import pytest

from cnn_transfer.training import LOG_COLUMNS, Fit
from cnn_transfer.transfer.search import TRIAL_COLUMNS, Search, Trial, collect, no_search, run_search


@pytest.fixture
def search(schedule):
    def make(*rates, most_doublings=2):
        usual = schedule(steps=10).model_dump(exclude={"learning_rate"})
        return Search(**usual, learning_rates=rates, most_doublings=most_doublings)

    return make


def train_below(limit):
    """Fits that are the better the higher and the longer they are, and not finite from some rate times steps on."""

    def train(optimisation):
        score = optimisation.learning_rate * optimisation.steps
        if score >= limit:
            raise FloatingPointError(f"The loss at {optimisation.learning_rate} is not finite.")
        row = ["a", optimisation.steps, 16 * optimisation.steps, 0.1, 0.9, 1 - score, score]
        return Fit(f"network of {score:g}", pd.DataFrame([row], columns=LOG_COLUMNS), "float32")

    return train


def test_a_search_goes_on_without_the_rates_whose_loss_is_not_finite(search, caplog):
    result = run_search(search(0.9, 0.01, 0.02, most_doublings=0), train_below(0.5), "lp_ft")
    assert result.fit.network == "network of 0.2"
    assert result.trials["stopped_by"].tolist() == ["not_finite", "length", "length"]
    assert result.trials["delivered"].tolist() == [False, False, True]
    assert result.trials["validation_loss"].isna().tolist() == [True, False, False]
    assert result.log["trial"].tolist() == [1, 2]
    assert "The search goes on without this trial" in caplog.text


def test_a_longer_trial_whose_loss_is_not_finite_ends_the_search(search):
    result = run_search(search(0.02, most_doublings=5), train_below(0.5), "lp_ft")
    assert result.fit.network == "network of 0.4"
    assert result.trials["steps"].tolist()[:2] == [10, 20]
    assert math.isnan(result.trials["steps"].iloc[2])
    assert len(result.trials) == 3


def test_a_search_in_which_no_loss_is_finite_is_an_error(search):
    with pytest.raises(
        FloatingPointError, match=r"not finite at any of the learning rates 0\.9, 0\.8\. Lower learning_rates"
    ):
        run_search(search(0.9, 0.8), train_below(0.5), "lp_ft")


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
    assert (result.strategy, result.fit.network) == ("probe", "as it was")
    assert result.log.groupby("trial")["delivered"].first().tolist() == [True, False]


def test_a_search_names_its_strategy_in_every_trial(search):
    result = run_search(search(0.01, 0.02, most_doublings=1), train_below(0.5), "from scratch")
    assert set(result.trials["strategy"]) == {"from scratch"}
    assert result.strategy == "from scratch"


def test_without_a_search_there_is_a_network_and_tables_with_all_columns(search):
    nothing = no_search("a network", "float32")
    tried = run_search(search(0.01), train_below(0.5), "lp_ft")
    assert (nothing.fit.network, nothing.strategy, len(nothing.trials), len(nothing.log)) == ("a network", "", 0, 0)
    assert nothing.trials.columns.tolist() == tried.trials.columns.tolist()
    assert nothing.log.columns.tolist() == tried.log.columns.tolist()
