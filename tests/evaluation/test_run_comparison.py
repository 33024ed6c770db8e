"""Runs side by side, whole and broken ones."""

import numpy as np
import pandas as pd
import pytest

from cnn_transfer.evaluation.run_comparison import (
    changes_by_run,
    collect_runs,
    describe_runs,
    differences,
    draw_runs,
    runs_table,
)


def summary(**changes):
    usual = {
        "target_accuracy": 0.9,
        "target_accuracy_low": 0.88,
        "target_accuracy_high": 0.92,
        "baseline_accuracy": 0.85,
        "random_accuracy": None,
        "difference": 0.05,
        "difference_low": 0.03,
        "difference_high": 0.07,
        "verdict": "positive",
        "training_cost_ratio": 0.5,
        "source": "fashion_mnist",
        "strategy": "lp_ft",
        "n_train": 200,
        "seconds": {"a": 10.0, "b": 5.5},
    }
    return usual | changes


def made_with(seed=0, steps=300, target="t1", cpu="x"):
    return {
        "parameters": {"seed": seed, "finetune_target": {"fine_tuning": {"steps": steps, "learning_rates": [0.01]}}},
        "data": {"source_images": "s1", "target_images": target},
        "precision": "float32",
        "python": "3.12",
        "packages": {"keras": "3.15"},
        "hardware": {"cpu": cpu},
    }


@pytest.fixture
def runs():
    summaries = {
        "2026-02": summary(target_accuracy=0.91),
        "2026-01": summary(),
        "2026-03": summary(
            verdict=None, difference=None, difference_low=None, difference_high=None, training_cost_ratio=None
        ),
        "2026-04": "JSONDecodeError: Expecting value",
        "2026-05": {"target_accuracy": None},
        "2026-06": [1],
        "2026-07": summary(seconds=None, training_cost_ratio=0.0032),
    }
    provenances = {
        "2026-01": made_with(),
        "2026-02": made_with(seed=1, steps=600),
        "2026-03": made_with(seed=1, steps=600, target="t2"),
        "2026-05": made_with(seed=2),  # nothing is known of what it reached
        "2026-07": "OSError: gone",
    }
    return collect_runs(dict(sorted(summaries.items())), provenances)


def test_every_run_has_a_row_in_the_order_of_time(runs):
    table = runs_table(runs)
    assert table["run"].tolist() == [f"2026-0{n}" for n in range(1, 8)]
    assert table["status"].tolist() == ["complete"] * 3 + ["skipped"] * 3 + ["provenance unknown"]
    assert table["target_accuracy"].tolist()[:3] == [0.9, 0.91, 0.9]
    assert table["seconds"].tolist()[0] == 15.5
    assert np.isnan(table["seconds"].tolist()[6])
    assert table["verdict"].tolist()[0] == "positive"


def test_a_run_that_cannot_be_read_is_skipped_with_the_reason(runs):
    problems = runs_table(runs).set_index("run")["problem"]
    assert problems["2026-04"] == "its summary cannot be read: JSONDecodeError: Expecting value"
    assert "has no target_accuracy, target_accuracy_low, target_accuracy_high" in problems["2026-05"]
    assert problems["2026-06"] == "its summary cannot be read: it is no mapping"
    assert problems["2026-07"] == "its provenance cannot be read: OSError: gone"


def test_only_what_differs_is_listed_with_dotted_keys(runs):
    table = differences(runs)
    assert table["key"].tolist() == [
        "parameters.seed",
        "parameters.finetune_target.fine_tuning.steps",
        "data.target_images",
    ]
    assert table.columns.tolist() == ["key", "2026-01", "2026-02", "2026-03"]
    assert table.set_index("key").loc["parameters.seed"].tolist() == ["0", "1", "1"]


def test_a_parameter_that_only_one_run_has_differs():
    old, new = made_with(), made_with()
    new["parameters"]["evaluate"] = {"confidence": 0.95}
    table = differences(collect_runs({"1": summary(), "2": summary()}, {"1": old, "2": new}))
    assert table["key"].tolist() == ["parameters.evaluate.confidence"]
    assert table["1"].isna().all()
    assert table["2"].tolist() == ["0.95"]
    assert changes_by_run(table)["2"] == ["evaluate.confidence: - → 0.95"]


def test_a_run_says_what_it_changed_against_the_one_before(runs):
    changed = changes_by_run(differences(runs))
    assert changed["2026-01"] == []
    assert changed["2026-02"] == ["seed: 0 → 1", "finetune_target.fine_tuning.steps: 300 → 600"]
    assert changed["2026-03"] == ["data.target_images: t1 → t2"]
    named = collect_runs(
        {"1": summary(), "2": summary()}, {"1": made_with(target="猫é"), "2": made_with(target="\udcff")}
    )
    assert changes_by_run(differences(named))["2"] == [r"data.target_images: 猫é → \udcff"]


def test_a_fingerprint_is_named_by_its_beginning():
    data = {"1": made_with(target="0123456789abcdef" * 4), "2": made_with(target="fedcba9876543210" * 4)}
    runs = collect_runs({"1": summary(), "2": summary()}, data)
    assert changes_by_run(differences(runs))["2"] == ["data.target_images: 01234567 → fedcba98"]


def test_the_terminal_gets_each_run(runs):
    text = "\n".join(describe_runs(runs_table(runs), differences(runs)))
    assert "2026-01  90.0% (88.0% to 92.0%); positive, +5.0 points over from scratch (+3.0 to +7.0)" in text
    assert "at 50% of its cost; 16 s" in text
    assert "2026-03  90.0% (88.0% to 92.0%); no baseline" in text
    assert "at 0.3% of its cost" in text
    assert "seed: 0 → 1" in text
    assert "2026-04  skipped: its summary cannot be read" in text


def test_without_a_run_there_is_a_table_and_a_sentence():
    assert describe_runs(runs_table([]), differences([])) == ["No run has written a summary yet: kedro run"]
    assert list(differences([]).columns) == ["key"]
    assert draw_runs(runs_table([]), differences([])).get_suptitle() == "No run to draw"


def test_the_picture_has_a_row_for_each_run_that_can_be_read(runs):
    left, right = draw_runs(runs_table(runs), differences(runs)).axes
    labels = [text.get_text() for text in left.get_yticklabels()]
    assert [label.split("\n")[0] for label in labels] == ["2026-01", "2026-02", "2026-03", "2026-07"]
    assert "seed: 0 → 1" in labels[1]
    assert len(right.containers) == 3  # one has no baseline
    assert all(axes.get_legend().get_window_extent().y0 > axes.get_window_extent().y1 for axes in (left, right))
    assert draw_runs(runs_table(runs[:1]), differences(runs)).get_suptitle() == "1 run, in percent"


def test_a_run_whose_results_another_one_made_took_no_time():
    again = collect_runs({"1": summary(seconds={"a": 0.04})}, {"1": made_with()})
    assert describe_runs(runs_table(again), differences(again))[0].endswith("; taken over from another run")


def test_a_gain_over_a_baseline_that_failed_is_not_called_positive():
    failed = collect_runs({"1": summary(baseline_failed=True)}, {"1": made_with()})
    table = runs_table(failed)
    assert "; baseline failed, +5.0 points over from scratch" in describe_runs(table, differences(failed))[0]
    _, right = draw_runs(table, differences(failed)).axes
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["baseline failed"]


def test_accuracies_on_different_images_say_on_which():
    summaries = {"1": summary(target="signs"), "2": summary(target="sounds"), "3": summary(), "4": "OSError: gone"}
    several = collect_runs(summaries, dict.fromkeys("123", made_with()))
    table, changes = runs_table(several), differences(several)
    lines = describe_runs(table, changes)
    assert [line.partition(";")[0] for line in lines[:3]] == [
        "1  90.0% (88.0% to 92.0%) on signs",
        "2  90.0% (88.0% to 92.0%) on sounds",
        "3  90.0% (88.0% to 92.0%)",
    ]
    left, _ = draw_runs(table, changes).axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["1, signs", "2, sounds", "3"]
    alike = collect_runs({"1": summary(target="signs"), "2": summary(target="signs")}, {})
    assert "signs" not in "".join(describe_runs(runs_table(alike), differences(alike)))


def test_the_numbers_along_the_axes_are_those_of_their_places(runs):
    figure = draw_runs(runs_table(runs), differences(runs))
    for axes, limits in zip(figure.axes, [(0.955, 0.98), (-0.0025, 0.02)], strict=True):
        axes.set_xlim(*limits)
        axes.set_xticks(np.arange(*limits, 0.0025))
        numbers = [float(tick.get_text().replace("−", "-")) for tick in axes.get_xticklabels()]
        assert numbers == pytest.approx(100 * axes.get_xticks())


def test_tables_can_be_kept_as_parquet(runs, tmp_path):
    for name, table in (("runs", runs_table(runs)), ("differences", differences(runs)), ("none", differences([]))):
        table.to_parquet(tmp_path / name)
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / name), table)
