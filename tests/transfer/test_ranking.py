from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cnn_transfer.images.reasons import UnusableSetError
from cnn_transfer.models import NetworkSource
from cnn_transfer.transfer import Head, Probe, describe_choice, rank_sources
from cnn_transfer.transfer.groups import mean_and_error

CLASSES = np.arange(60) % 3


def head(error, seed=0, accuracy=0.8, classes=CLASSES, noise=0.05):
    """A head whose squared errors lie around `error`."""
    rng = np.random.default_rng(seed)
    errors = error + noise * rng.normal(size=len(classes))
    nothing = np.zeros((len(classes), 3))
    probe = Probe(np.zeros((2, 3)), np.zeros(3), nothing, nothing, nothing, 1.0, pd.DataFrame(), {})
    return Head(
        taps=("block1", "block2"),
        tap_weights=np.ones(2),
        grid=2,
        probe=probe,
        hits=rng.permutation(len(classes)) < accuracy * len(classes),
        least_errors=errors,
        steps=pd.DataFrame(),
        alone=pd.DataFrame(),
        neighbours=0.7,
        permuted=0.3,
        drawn=classes,
    )


RANDOM = head(0.5, seed=9, accuracy=0.5)


def test_candidates_are_ranked_by_squared_error_whatever_their_accuracies():
    heads = {"far": head(0.4, 1, accuracy=0.9), "near": head(0.2, 2, accuracy=0.8), "middle": head(0.3, 3)}
    ranking = rank_sources(heads, dict.fromkeys(heads, RANDOM))
    assert ranking.table["candidate"].tolist() == ["near", "middle", "far"]
    assert ranking.table["rank"].tolist() == [1, 2, 3]
    assert ranking.table["verdict"].tolist() == ["as good as the best", "clearly worse", "clearly worse"]
    assert ranking.chosen == "near"
    assert ranking.sentence.startswith(
        "near helps most: a head on it gets 80.0% of left-out training images right, +30"
    )
    assert ranking.sentence.endswith("clearly worse: middle, far.")


@pytest.mark.parametrize(
    ("accuracy", "said"), [(0.5, ", with a squared error 60% smaller."), (0.8, " points over random weights.")]
)
def test_a_choice_that_accuracy_does_not_show_says_what_it_rests_on(accuracy, said):
    random, near = head(0.5, noise=0, accuracy=0.5), head(0.2, noise=1e-6, accuracy=accuracy)
    assert rank_sources({"near": near}, {"near": random}).sentence.endswith(said)


def test_of_a_single_candidate_nothing_is_the_most():
    assert rank_sources({"near": head(0.2, 2)}, {"near": RANDOM}).sentence.startswith("near helps: a head on it gets")
    assert rank_sources({"a": RANDOM}, {"a": RANDOM}).sentence.startswith(
        "a adds nothing clear over random weights: it is"
    )


def test_one_image_of_each_class_ranks_nothing():
    lone = replace(head(0.2), lone=60)
    with pytest.raises(UnusableSetError, match=r"all 60 are all there is of their classes.*Label a second image"):
        rank_sources({"a": lone}, {"a": lone})


def test_what_is_as_good_within_chance_is_not_called_worse():
    heads = {"a": head(0.2, 1), "b": head(0.203, 2)}
    ranking = rank_sources(heads, dict.fromkeys(heads, RANDOM))
    assert set(ranking.table["verdict"]) == {"as good as the best"}
    assert "as good within chance: " in ranking.sentence


def test_of_many_equal_candidates_none_is_called_worse():
    """In at most one ranking in twenty; by 1.96 standard errors for each pair, in two of three."""
    worse = 0
    for draw in range(0, 150, 10):
        heads = {str(number): head(0.2, draw + number) for number in range(10)}
        worse += "clearly worse" in set(rank_sources(heads, dict.fromkeys(heads, RANDOM)).table["verdict"])
    assert worse <= 3


def test_of_many_candidates_the_luckiest_one_is_not_said_to_help():
    pairs = np.random.default_rng(1).normal(size=len(CLASSES))
    pairs += 2.3 * pairs.std(ddof=1) / np.sqrt(len(pairs)) - pairs.mean()  # a gain of 2.3 standard errors
    lucky = replace(RANDOM, least_errors=RANDOM.least_errors - pairs)
    assert rank_sources({"lucky": lucky}, {"lucky": RANDOM}).chosen == "lucky"
    heads = {"lucky": lucky} | {str(number): RANDOM for number in range(9)}
    assert rank_sources(heads, dict.fromkeys(heads, RANDOM)).chosen is None


def test_differences_and_their_errors_are_those_of_pairs():
    best, other = head(0.2, 1), head(0.3, 2)
    row = rank_sources({"best": best, "other": other}, {"best": RANDOM, "other": RANDOM}).table.iloc[1]
    pairs = other.least_errors - best.least_errors
    assert row["behind"] == pytest.approx(pairs.mean())
    assert row["behind_error"] == pytest.approx(pairs.std(ddof=1) / np.sqrt(60))
    gains = RANDOM.least_errors - other.least_errors
    assert (row["gain"], row["gain_error"]) == pytest.approx((gains.mean(), gains.std(ddof=1) / np.sqrt(60)))
    assert (row["accuracy_gain"], row["accuracy_gain_error"]) == other.gain_over(RANDOM)
    assert (row["depths"], row["deepest_tap"]) == (2, "block2")


def test_images_of_one_group_count_as_one_witness():
    groups = np.arange(60) // 6
    of_groups = {"groups": groups, "least_groups": groups}
    best, other, random = (replace(one, **of_groups) for one in (head(0.2, 1), head(0.3, 2), RANDOM))
    row = rank_sources({"best": best, "other": other}, {"best": random, "other": random}).table.iloc[1]
    for name, values in {
        "behind_error": other.least_errors - best.least_errors,
        "gain_error": random.least_errors - other.least_errors,
        "standard_error": other.hits.astype(float),
        "accuracy_gain_error": other.hits.astype(float) - random.hits,
    }.items():
        assert row[name] == mean_and_error(values, groups)[1] != mean_and_error(values)[1], name


def test_nothing_is_chosen_when_random_weights_do_as_well():
    heads = {"a": head(0.5, 1), "b": head(0.52, 2)}
    ranking = rank_sources(heads, dict.fromkeys(heads, head(0.5, 3)))
    assert set(ranking.table["verdict"]) == {"adds nothing over random weights"}
    assert ranking.chosen is None
    assert "No candidate adds anything clear over random weights" in ranking.sentence
    choice = describe_choice(ranking, {})
    assert choice == {"candidate": None, "sentence": ranking.sentence, "import_source": None, "params": None}


@pytest.mark.parametrize("pixel_range", [None, (0, 1)])
def test_the_choice_says_how_it_is_used(pixel_range):
    ranking = rank_sources({"mine": head(0.2)}, {"mine": RANDOM})
    source = NetworkSource(network="mine.keras", weights=None, pixel_range=pixel_range)
    choice = describe_choice(ranking, {"mine": source})
    assert choice["candidate"] == "mine"
    assert choice["params"].startswith("--params import_source.network=mine.keras,import_source.weights=null")
    if pixel_range is None:
        assert choice["params"].endswith(",import_source.pixel_range=null")
        assert choice["sentence"] == ranking.sentence
    else:
        assert "pixel_range" not in choice["params"]
        assert "Write pixel_range: [0.0, 1.0] into a file, under import_source." in choice["sentence"]


@pytest.mark.parametrize(
    ("network", "params", "said"),
    [
        ("my nets/a.keras", "'import_source.network=my nets/a.keras,import_source.weights=null,", "."),
        ("v1,v2/a.keras", "import_source.weights=null,", " Write network: v1,v2/a.keras into a file, under"),
    ],
)
def test_a_path_with_a_blank_is_quoted_and_one_with_a_comma_goes_into_a_file(network, params, said):
    ranking = rank_sources({"mine": head(0.2)}, {"mine": RANDOM})
    choice = describe_choice(ranking, {"mine": NetworkSource(network=network, weights=None, pixel_range=None)})
    assert choice["params"].startswith(f"--params {params}import_source.pixel_range=null")
    assert said in choice["sentence"]


def test_heads_of_other_images_are_refused():
    heads = {"a": head(0.2), "b": head(0.2, classes=np.arange(40) % 2)}
    with pytest.raises(ValueError, match="b has 40 images, others 60"):
        rank_sources(heads, dict.fromkeys(heads, RANDOM))
    heads = {"a": head(0.2), "b": head(0.2, classes=CLASSES[::-1])}
    with pytest.raises(ValueError, match="b has 60 images, others 60, or other classes"):
        rank_sources(heads, dict.fromkeys(heads, RANDOM))


@pytest.mark.parametrize(("heads", "random"), [({}, {}), ({"a": RANDOM}, {}), ({"a": RANDOM}, {"b": RANDOM})])
def test_every_candidate_needs_its_random_weights(heads, random):
    with pytest.raises(ValueError, match="at least one candidate, and random the same ones"):
        rank_sources(heads, random)
