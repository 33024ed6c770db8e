import contextlib
import dataclasses

import keras
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.special import log_softmax

from cnn_transfer.images import split_examples
from cnn_transfer.models import add_linear_head, copy_network, head_layers, randomise_head, tap_network, tap_widths
from cnn_transfer.training import LOG_COLUMNS, Fit, fit
from cnn_transfer.transfer import FineTuning, Pool, PseudoLabels, fine_tune, fit_probe, keep_probe
from cnn_transfer.transfer import fine_tuning as module
from cnn_transfer.transfer.fine_tuning import mix_weights
from cnn_transfer.transfer.search import Trial

pytestmark = pytest.mark.usefixtures("traces_kept")

SMOOTHING = 0.1
DESTROYS = 1.0  # a learning rate
PULL = (
    10.0  # one, and the same length of a call of TensorFlow's runtime, so that most fits need no tracing of their own
)
TEMPERATURES = np.logspace(-1, 2, 300)
TAPS = ("block1", "block2")


@pytest.fixture(scope="module")
def migrated(tiny_network, shapes, shape_splits):
    """A network with a head in closed form, made on few images, and with batch statistics that are not 0 and 1."""
    network = tiny_network()
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights([gamma, beta, mean + 0.05, variance * 0.4])
    rows = shapes.rows(shape_splits, "training")[::16]
    features = tap_network(network, TAPS, 1)(shapes.pixels(rows)).numpy()
    probe = fit_probe(features, shapes.classes[rows], tap_widths(network, TAPS, 1))
    return add_linear_head(network, TAPS, 1, probe.kernel, probe.bias)


@pytest.fixture(scope="module")
def rule(schedule):
    course = schedule(steps=26, validations=2, batch_size=20, patience=2, label_smoothing=SMOOTHING)

    def make(strategy="auto", **changes):
        own = {
            "learning_rates": (0.01,),
            "most_doublings": 0,
            "clear_steps": 0,
            "batch_statistics": False,
            "mixtures": 0,
        }
        return FineTuning(**course.model_dump(exclude={"learning_rate"}) | own | {"strategy": strategy} | changes)

    return make


@pytest.fixture(scope="module")
def tune(migrated, shapes, shape_splits, augmentation):
    def start(rule, images=shapes, splits=shape_splits, precision="float32", **changes):
        training, validation = (split_examples(images, splits, split) for split in ("training", "validation"))
        return fine_tune(
            migrated, training, validation, rule, augmentation(shift_fraction=0.05), precision, seed=0, **changes
        )

    return start


@pytest.fixture(scope="module")
def judge(shapes, shape_splits):
    """Of a network on the validation images, by other code than the engine's: its loss with smoothed labels, its
    accuracy, and its log loss at the best of many temperatures, of the images and of one that is a bit of each."""
    rows = shapes.rows(shape_splits, "validation")
    pixels, classes = shapes.pixels(rows), shapes.classes[rows]
    targets = np.eye(4)[classes] * (1 - SMOOTHING) + SMOOTHING / 4

    def figures(network):
        probabilities = np.clip(network(pixels).numpy().astype(float), 1e-30, 1)
        scores = np.log(probabilities)
        images = len(classes)
        seen = (images * np.eye(4)[classes] + 1 / 4) / (images + 1)
        losses = [-(seen * log_softmax(factor * scores, axis=1)).sum(axis=1).mean() for factor in TEMPERATURES]
        smoothed = -(targets * scores).sum(axis=1).mean()
        return smoothed, (probabilities.argmax(axis=1) == classes).mean(), min(losses)

    return figures


@contextlib.contextmanager
def recorded():
    """The start, the examples and the result of each fit that is made meanwhile."""
    made = []

    def record(network, training, *settings):
        result = fit(network, training, *settings)
        made.append((network, training, result))
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "fit", record)
        yield made


@pytest.fixture(scope="module")
def before(migrated):
    return [layer.get_weights() for layer in migrated.layers], [layer.trainable for layer in migrated.layers]


@pytest.fixture(scope="module")
def tuned_and_fits(before, tune, rule):
    """`before` is asked for first, so that it is taken before anything is trained."""
    with recorded() as made:
        return tune(rule(learning_rates=(1e-12, 0.01), mixtures=3), forward_images=300), made


@pytest.fixture(scope="module")
def tuned(tuned_and_fits):
    return tuned_and_fits[0]


def test_with_many_labels_a_random_head_is_tried_too(tune, rule, monkeypatch):
    monkeypatch.setattr(module, "MANY_LABELS", 1)
    result = tune(rule(learning_rates=(0.01,), most_doublings=1, mixtures=1))
    strategies = result.trials["strategy"].tolist()
    mixed = [] if result.delivered["strategy"] in {"probe", "full"} else ["50% lp_ft"]
    ahead = result.trials.set_index("strategy")["validation_loss"].iloc[1:3].idxmin()
    assert strategies == ["probe", "lp_ft", "full", ahead, *mixed]
    assert result.trials["steps"].tolist() == [0, 26, 26, 52, *(0 for _ in mixed)]
    allowed = result.trials[result.trials["validation_accuracy"] >= result.trials["validation_accuracy"][0]]
    assert result.delivered["validation_log_loss"] == allowed["validation_log_loss"].min()


def test_only_the_strategy_that_is_ahead_goes_on(tune, rule, monkeypatch):
    monkeypatch.setattr(module, "MANY_LABELS", 1)
    monkeypatch.setattr("cnn_transfer.transfer.search._chance", lambda *_: -1.0)  # every gain is taken for one
    trials = tune(rule(steps=13, validations=1, most_doublings=1, clear_steps=75)).trials
    lengths = trials[trials["steps"] > 0].groupby("strategy")["steps"].max()
    ahead = trials[trials["steps"] == 13].set_index("strategy")["validation_loss"].idxmin()
    assert lengths[ahead] == 52
    assert lengths.drop(ahead).tolist() == [13]


def test_every_candidate_is_in_the_table_by_its_name(tuned):
    strategies = tuned.trials["strategy"].tolist()
    assert strategies[:3] == ["probe", "lp_ft", "lp_ft"]
    assert strategies[3:] == ["25% lp_ft", "50% lp_ft", "75% lp_ft"]
    assert tuned.trials["learning_rate"].tolist() == [0, 1e-12, 0.01, 0, 0, 0]
    assert tuned.trials["steps"].tolist() == [0, 26, 26, 0, 0, 0]
    assert tuned.trials["delivered"].sum() == 1
    assert tuned.delivered["strategy"] == strategies[tuned.trials["validation_log_loss"].argmin()]
    delivered = tuned.log[tuned.log["delivered"]]
    pd.testing.assert_frame_equal(delivered[LOG_COLUMNS].reset_index(drop=True), tuned.fit.log)


def test_fine_tuning_learns(tuned):
    probe, best = tuned.trials.iloc[0], tuned.trials[tuned.trials["delivered"]].iloc[0]
    assert best["validation_log_loss"] < probe["validation_log_loss"] - 0.01
    assert best["validation_accuracy"] >= probe["validation_accuracy"] > 0.5


def test_every_fit_starts_at_the_probe(tuned):
    starts = tuned.log[(tuned.log["step"] == 0) & tuned.log["trial"].isin([0, 1, 2])]
    assert len(starts) == 3
    np.testing.assert_allclose(starts["validation_loss"], starts["validation_loss"].iloc[0], rtol=1e-5)


def test_an_image_that_went_forward_once_counts_a_third(tuned):
    log = tuned.log
    assert log[log["trial"] == 0]["images_processed"].tolist() == [100]
    assert log[log["trial"] == 2]["images_processed"].tolist() == [100, 100 + 13 * 20, 100 + 26 * 20]
    assert (log[log["trial"] > 2]["images_processed"] == 620).all()


def test_the_figures_are_those_of_the_delivered_network(tuned, judge):
    loss, accuracy, log_loss = judge(tuned.fit.network)
    assert tuned.fit.best["validation_loss"] == pytest.approx(loss, abs=1e-4)
    assert tuned.fit.best["validation_accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert tuned.delivered["validation_accuracy"] == tuned.fit.best["validation_accuracy"]
    assert tuned.delivered["validation_log_loss"] == pytest.approx(log_loss, abs=1e-3)


@pytest.mark.parametrize(
    ("strategy", "changes"),
    [
        ("probe", {}),
        ("lp_ft", {}),
        ("auto", {"learning_rates": (DESTROYS,), "mixtures": 2}),
        ("auto", {"learning_rates": (DESTROYS,), "batch_statistics": True}),
        ("l2_sp", {"towards_start": PULL, "mixtures": 1}),
    ],
)
def test_what_is_delivered_is_never_below_the_probe_on_validation(migrated, tune, rule, judge, strategy, changes):
    result = tune(rule(strategy, **changes))
    (_, least, most), (_, accuracy, log_loss) = judge(migrated), judge(result.fit.network)
    assert log_loss <= most + 1e-4
    assert accuracy >= least
    assert result.trials["strategy"].iloc[0] == "probe"


def test_the_probe_is_delivered_when_everything_else_only_harms(migrated, tune, rule):
    harmed = tune(rule(learning_rates=(DESTROYS,), warmup_fraction=0.0, mixtures=2))
    if harmed.delivered["strategy"] != "probe":  # the fit's own start is as good as the probe, up to rounding
        assert harmed.fit.best["step"] == 0
    for mine, theirs in zip(harmed.fit.network.get_weights(), migrated.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


losses = st.floats(0.1, 2)
accuracies = st.integers(0, 10).map(lambda tenths: tenths / 10)


@given(floor=st.tuples(losses, accuracies), others=st.lists(st.tuples(losses, accuracies), max_size=5))
def test_a_candidate_must_be_as_good_as_the_floor_in_loss_and_accuracy(floor, others):
    def trial(strategy, loss, accuracy):
        log = pd.DataFrame([[strategy, 0, 0.0, np.nan, np.nan, 1.0, accuracy]], columns=LOG_COLUMNS)
        return Trial(strategy, 0.0, 0, Fit(None, log, "float32"), log_loss=loss)

    trials = [trial("probe", *floor), *(trial("lp_ft", *other) for other in others), Trial("lp_ft", 1.0, 0, None)]
    best = module._best(trials, trials[0])
    assert best.log_loss <= floor[0]
    assert best.accuracy >= floor[1]
    assert best.log_loss == min(loss for loss, accuracy in [floor, *others] if accuracy >= floor[1])


def test_a_lower_loss_at_a_lower_accuracy_is_not_delivered(tune, rule, monkeypatch):
    def train(network, training, validation, optimisation, augmentation, precision, seed, phase, checkpoints, workers):
        rows = [[phase, 0, 0.0, 1.0, 0.5, 1.0, 0.5], [phase, 9, 180.0, 0.1, 0.2, 1e-9, 0.0]]
        return Fit(network, pd.DataFrame(rows, columns=LOG_COLUMNS), precision)

    def best_last(trials, _):
        return [dataclasses.replace(trial, log_loss=1.0 / (1 + place)) for place, trial in enumerate(trials)]

    monkeypatch.setattr(module, "fit", train)
    monkeypatch.setattr(module, "judge", best_last)
    result = tune(rule())
    assert result.delivered["strategy"] == "probe"
    assert result.trials["validation_log_loss"].tolist() == [1.0, 0.5]


def test_without_a_fit_the_probe_is_delivered(tune, rule, monkeypatch, caplog):
    def train(*_):
        raise FloatingPointError("The loss is not finite.")

    monkeypatch.setattr(module, "fit", train)
    result = tune(rule(mixtures=3))
    assert result.delivered["strategy"] == "probe"
    assert result.trials["stopped_by"].tolist() == ["length", "not_finite"]
    assert "The search goes on without this trial" in caplog.text
    with pytest.raises(FloatingPointError, match="Lower learning_rates"):
        tune(rule("full"))


def test_the_probe_alone_is_judged_and_not_trained(migrated, tune, rule, monkeypatch):
    monkeypatch.setattr(module, "fit", None)
    result = tune(rule("probe", mixtures=3), forward_images=30)
    assert result.trials["strategy"].tolist() == ["probe"]
    assert result.log["images_processed"].tolist() == [10]
    for mine, theirs in zip(result.fit.network.get_weights(), migrated.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(("precision", "steps"), [("float32", 13), ("mixed_bfloat16", 1)])
def test_a_probe_is_judged_in_the_precision_of_the_fits_and_delivered_in_float32(tune, rule, precision, steps):
    result = tune(rule("auto", learning_rates=(1e-12,), steps=steps, validations=1), precision=precision)
    probe, start = (result.log[(result.log["trial"] == trial) & (result.log["step"] == 0)] for trial in (0, 1))
    np.testing.assert_allclose(probe["validation_loss"], start["validation_loss"], rtol=1e-6)
    assert result.fit.precision == precision
    assert result.fit.network.get_layer("conv2").compute_dtype == "float32"


@pytest.mark.parametrize("strategy", ["probe", "lp_ft"])
def test_the_delivered_network_is_not_compiled(tune, rule, strategy):
    assert not tune(rule(strategy, mixtures=1, steps=13, validations=1)).fit.network.compiled


def test_full_starts_from_a_random_head_and_without_the_cost_of_a_probe(migrated, tune, rule, judge):
    result = tune(rule("full", learning_rates=(1e-12,), steps=13, validations=1), forward_images=300)
    assert result.trials["strategy"].tolist() == ["full"]
    assert result.log["images_processed"].tolist() == [0, 13 * 20]
    loss, accuracy, _ = judge(randomise_head(migrated, 0))
    assert result.log["validation_loss"].iloc[0] == pytest.approx(loss, abs=1e-4)
    assert result.log["validation_accuracy"].iloc[0] == pytest.approx(accuracy, abs=1e-6)
    assert loss > judge(migrated)[0]


def test_l2_sp_stays_nearer_to_the_start_than_lp_ft(migrated, tune, rule):
    def moved(result):
        return sum(
            np.square(layer.get_weights()[0] - migrated.get_layer(layer.name).get_weights()[0]).sum()
            for layer in result.fit.network.layers
            if isinstance(layer, keras.layers.Conv2D)
        )

    held, free = tune(rule("l2_sp", towards_start=PULL)), tune(rule("lp_ft"))
    assert set(held.trials["strategy"]) == {"probe", "l2_sp"}
    assert 0 < moved(held) < 0.5 * moved(free)


@pytest.mark.parametrize(
    ("strategy", "pull", "said"),
    [
        ("l2_sp", None, "towards_start must be a number with the strategy l2_sp"),
        ("lp_ft", 0.01, "used by the strategy l2_sp only; set it to null with lp_ft"),
        ("auto", 0.01, "used by the strategy l2_sp only; set it to null with auto"),
        ("head", None, "'auto', 'probe', 'lp_ft', 'l2_sp' or 'full'"),
    ],
)
def test_a_strategy_that_does_not_fit_its_pull_is_refused(rule, strategy, pull, said):
    with pytest.raises(ValidationError, match=said):
        rule(strategy, towards_start=pull)


@pytest.fixture(scope="module")
def pool(migrated, shapes, shape_splits):
    rows = shapes.rows(shape_splits, "unlabelled")
    return Pool(rows, migrated(shapes.pixels(rows)).numpy(), PseudoLabels(share=0.75, kept=0.5))


@pytest.fixture
def fits():
    """The start, the examples and the result of each fit that is made."""
    with recorded() as made:
        yield made


@pytest.fixture(scope="module")
def doubled(tune, rule, pool):
    """A search that goes on for twice as long, and its fits."""
    with recorded() as made:
        return tune(rule("lp_ft", learning_rates=(1e-12, 0.01), most_doublings=1), pool=pool, forward_images=30), made


def same_weights(one, other):
    return all(
        np.array_equal(mine, theirs) for mine, theirs in zip(one.get_weights(), other.get_weights(), strict=True)
    )


def learnt(examples):
    """Which images, and which class of each."""
    return list(zip(examples.rows, examples.targets.argmax(axis=1), strict=True))


def labelled_by(network, pool, shapes, shape_splits):
    return learnt(pool.added_to(split_examples(shapes, shape_splits, "training"), network))


def test_a_longer_trial_goes_on_from_the_best_network_which_labels_anew(migrated, doubled, pool, shapes, shape_splits):
    result, [(low_start, low_examples, _), (start, _, best), (longer_start, longer_examples, _)] = doubled
    assert same_weights(low_start, migrated)
    assert same_weights(start, migrated)
    assert same_weights(longer_start, best.network)
    assert not same_weights(best.network, migrated)
    assert any(layer.trainable for layer in longer_start.layers)
    first, then = (labelled_by(network, pool, shapes, shape_splits) for network in (migrated, best.network))
    assert first != then
    assert learnt(low_examples) == first
    assert learnt(longer_examples) == then
    assert result.trials["strategy"].tolist() == ["probe", "lp_ft", "lp_ft", "lp_ft"]
    assert result.trials["steps"].tolist() == [0, 26, 26, 52]


def test_labelling_the_pool_anew_counts_a_third_of_an_image(doubled, pool):
    once = len(pool.rows) / 3
    costs = doubled[0].log.groupby("trial")["images_processed"].agg(["first", "last"]).round(6).to_numpy().tolist()
    first = 10 + 26 * 20
    expected = [[10, 10], [10, first], [10, first], [first + once, first + once + 52 * 20]]
    np.testing.assert_allclose(costs, expected, atol=1e-4)


def test_a_network_held_near_its_start_begins_there_each_time(migrated, tune, rule, pool, fits, shapes, shape_splits):
    tune(rule("l2_sp", towards_start=PULL, most_doublings=1), pool=pool)
    (_, first, best), (start, examples, _) = fits
    assert same_weights(start, migrated)
    assert learnt(first) != learnt(examples) == labelled_by(best.network, pool, shapes, shape_splits)


def test_a_random_head_learns_from_what_the_probe_labels(migrated, tune, rule, pool, fits, shapes, shape_splits):
    tune(rule("full", steps=None, epochs=13, validations=8, patience=8), pool=pool)
    [(start, examples, result)] = fits
    assert not same_weights(start, migrated)
    assert learnt(examples) == labelled_by(migrated, pool, shapes, shape_splits)
    labelled = len(shapes.rows(shape_splits, "training"))
    assert len(examples) > labelled
    assert result.log["step"].max() == 13 * labelled // 20, "as long as the labelled images ask for"


def test_without_a_pool_every_trial_begins_at_the_probe(migrated, tune, rule, fits, shapes, shape_splits):
    tune(rule("lp_ft", most_doublings=1))
    assert len(fits) == 2
    assert all(same_weights(start, migrated) for start, _, _ in fits)
    labelled = len(shapes.rows(shape_splits, "training"))
    assert [len(examples) for _, examples, _ in fits] == [labelled, labelled]


def test_mixtures_are_the_weights_that_their_names_say(migrated, judge, tuned_and_fits):
    tuned, [_, (_, _, best)] = tuned_and_fits
    assert tuned.trials["validation_log_loss"][:3].idxmin() == 2
    table = tuned.trials.set_index("strategy")
    for share in (0.25, 0.5, 0.75):
        mixed = mix_weights(migrated, best.network, share)
        for one, other, got in zip(
            migrated.get_weights(), best.network.get_weights(), mixed.get_weights(), strict=True
        ):
            np.testing.assert_allclose(got, (1 - share) * one + share * other, rtol=1e-5, atol=1e-6)
        loss, accuracy, _ = judge(mixed)
        assert table["validation_loss"][f"{share:.0%} lp_ft"] == pytest.approx(loss, abs=1e-3)
        assert table["validation_accuracy"][f"{share:.0%} lp_ft"] == pytest.approx(accuracy, abs=0.02)


def test_mixing_leaves_both_networks_as_they_are_and_equal_weights_equal(migrated):
    other = randomise_head(migrated, 0)
    first, second = migrated.get_weights(), other.get_weights()
    mixed = mix_weights(migrated, other, 1 / 3)
    for network, then in ((migrated, first), (other, second)):
        for mine, theirs in zip(network.get_weights(), then, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    head = head_layers(mixed)
    for layer in mixed.layers:
        for mine, theirs in zip(layer.get_weights(), migrated.get_layer(layer.name).get_weights(), strict=True):
            if layer not in head:
                np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_batch_statistics_are_the_source_s_bit_by_bit_unless_they_are_learnt(migrated, tune, rule, batch_statistics):
    network = tune(rule("full", batch_statistics=batch_statistics)).fit.network
    mixed = mix_weights(migrated, network, 1 / 3)
    for layer in migrated.layers:
        for after in (network, mixed):
            for mine, theirs in zip(layer.get_weights(), after.get_layer(layer.name).get_weights(), strict=True):
                frozen = isinstance(layer, keras.layers.BatchNormalization) and not batch_statistics
                assert np.array_equal(mine, theirs) == frozen, layer.name


def test_the_network_handed_in_is_left_as_it_is(tuned, before, migrated):
    weights, trainable = before
    assert [layer.trainable for layer in migrated.layers] == trainable
    for layer, then in zip(migrated.layers, weights, strict=True):
        for mine, theirs in zip(layer.get_weights(), then, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_a_network_that_comes_frozen_is_trained_all_the_same(migrated, shapes, shape_splits, rule, augmentation):
    frozen = copy_network(migrated)
    frozen.trainable = False
    training, validation = (split_examples(shapes, shape_splits, split) for split in ("training", "validation"))
    result = fine_tune(frozen, training, validation, rule("lp_ft"), augmentation(), "float32", 0)
    assert result.delivered["strategy"] == "lp_ft"
    assert not any(layer.trainable for layer in frozen.layers)


def test_the_result_is_one_flat_graph(tuned):
    assert not any(isinstance(layer, keras.Model) for layer in tuned.fit.network.layers)


def test_test_and_unlabelled_images_are_never_read(tuned, tune, rule, shapes, shape_splits):
    unread = np.flatnonzero(shape_splits["split"].isin(["test", "unlabelled"]))
    assert len(unread) > 100
    pixels = shapes.pixels(np.arange(len(shapes)))
    pixels[unread] = 255 - pixels[unread]
    labels = shapes.table["label"].to_numpy().copy()
    labels[unread] = "blob"
    corrupt = dataclasses.replace(shapes, table=shapes.table.assign(label=labels), shards=(pixels,))
    changed = rule(learning_rates=(1e-12, 0.01), mixtures=3)
    again = tune(changed, images=corrupt, splits=shape_splits.assign(label=labels), forward_images=300)
    pd.testing.assert_frame_equal(again.log, tuned.log)
    for mine, theirs in zip(again.fit.network.get_weights(), tuned.fit.network.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("strategy", ["auto", "probe"])
def test_a_head_that_nothing_can_be_compared_with_is_kept(migrated, rule, strategy):
    result = keep_probe(migrated, rule(strategy), "float32", 30)
    assert result.delivered["strategy"] == "probe"
    assert result.log["images_processed"].tolist() == [10]
    assert result.trials[["validation_loss", "validation_accuracy", "validation_log_loss"]].isna().all(axis=None)
    assert result.fit.network is not migrated
    for mine, theirs in zip(result.fit.network.get_weights(), migrated.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_training_that_nothing_can_stop_is_refused(rule, migrated):
    with pytest.raises(ValueError, match=r"must be auto or probe .*Received: full\."):
        keep_probe(migrated, rule("full"), "float32", 0)
