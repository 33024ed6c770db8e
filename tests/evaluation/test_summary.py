import json

import pandas as pd
import pytest

from cnn_transfer.evaluation import describe_ranking, describe_summary, doubts_about_images, summarise

KEYS = {
    "target_accuracy",
    "target_accuracy_low",
    "target_accuracy_high",
    "baseline_accuracy",
    "random_accuracy",
    "training_cost_ratio",
    "difference",
    "difference_low",
    "difference_high",
    "verdict",
    "baseline_failed",
    "knowledge",
    "method",
    "sentence",
    "advice",
    "delivered_accuracy",
    "delivered_accuracy_low",
    "delivered_accuracy_high",
    "calibration_error",
    "calibration_error_before",
    "calibration_error_by_chance",
    "wished_accuracy",
    "promised_accuracy",
    "threshold",
    "answered_share",
    "answered_accuracy",
    "set_coverage",
    "unfamiliar_share",
    "explanations",
    "suspected_labels",
    "suspected_test_labels",
    "statements",
    "n_train",
    "n_validation",
    "n_test",
    "source",
    "target",
    "strategy",
    "cut_layer",
    "plan",
    "delivered",
    "precision",
    "seconds",
}


@pytest.fixture
def make():
    def summary(
        baseline=None,
        seconds=None,
        random=None,
        validation=(5, 10),
        threshold=0.9,
        advice=(),
        statements=(),
        test=(600, 600),
        balanced=0.95,
        alike=10,
        similar=(),
        series=(),
        shortcut=None,
        reliance=None,
        backgrounds=None,
        mirroring=None,
    ):
        answered = {"threshold": threshold, "answered_share": 0.81, "accuracy": 0.991}
        return summarise(
            target_metrics={
                "accuracy": 0.951,
                "accuracy_low": 0.93,
                "accuracy_high": 0.967,
                "balanced_accuracy": balanced,
                "balanced_accuracy_low": 0.7,
                "balanced_accuracy_high": 0.96,
                "images": 1200,
            },
            baseline_metrics={"accuracy": 0.905, "balanced_accuracy": 0.5} if baseline is None else baseline,
            random_metrics={"accuracy": 0.85} if random is None else random,
            delivered_metrics={"ece": 0.078},
            calibrated_metrics={
                "accuracy": 0.951,
                "accuracy_low": 0.93,
                "accuracy_high": 0.967,
                "ece": 0.012,
                "ece_if_calibrated": 0.004,
                "statements": list(statements),
            },
            abstention={
                "chosen": {"wished_accuracy": 0.98, "promised_accuracy": 0.98},
                "on_test": answered,
            },
            set_coverage={"coverage": 0.96},
            unfamiliar={"unfamiliar_share": 0.016},
            explanations={"methods": [{"method": "grad_cam", "passes": True}, {"method": "other", "passes": None}]},
            suspected_labels=pd.DataFrame({"id": ["a", "b", "c"], "split": ["test", "training", "test"]}),
            verdict={
                "advice": list(advice),
                "difference": 0.046,
                "difference_low": 0.02,
                "difference_high": 0.07,
                "verdict": "positive",
                "baseline_failed": True,
                "baseline_unproven": False,
                "knowledge": {"estimate": 0.101, "low": 0.08, "high": 0.12},
                "method": {"estimate": -0.055, "low": -0.07, "high": -0.04},
                "sentence": "Transfer is better.",
                "training_cost": {"ratio": 0.25, "ratio_low": 0.2, "ratio_high": None},
            },
            plan={
                "source": "fashion",
                "sentence": "A ridge on 2 of 3 depths.",
                "cut_layer": "block3",
                "mirroring": mirroring,
            },
            model_card={
                "precision": "mixed_bfloat16",
                "strategy": "50% lp_ft",
                "trained_on": "screws",
                "initialised_from": "fashion",
            },
            delivered_card={"strategy": "from scratch", "initialised_from": "random weights"},
            counts=pd.DataFrame(
                {"label": ["bolt", "nut"], "training": [10, 20], "validation": validation, "test": test}
            ),
            intake={
                "used": 1300,
                "alike": alike,
                "series": list(series),
                "shortcut": shortcut,
                "similar_labels": list(similar),
            },
            reliance=reliance or {},
            background_reliance=backgrounds or {"images": 0},
            node_records={
                node: {"seconds": taken, "peak_memory_mb": 1200.0, "images_per_second": 80.0, "reused_from": None}
                for node, taken in ({"a.train": 12.4, "b.read": 3.0} if seconds is None else seconds).items()
            },
        )

    return summary


def test_the_summary_has_every_figure_that_programs_read(make):
    summary = make()
    assert summary.keys() >= KEYS
    assert (summary["n_train"], summary["n_validation"], summary["n_test"]) == (30, 15, 1200)
    assert summary["training_cost_ratio"] == 0.25
    assert (summary["training_cost_ratio_low"], summary["training_cost_ratio_high"]) == (0.2, None)
    assert (summary["target_accuracy"], summary["baseline_accuracy"], summary["random_accuracy"]) == (
        0.951,
        0.905,
        0.85,
    )
    assert (summary["knowledge"]["estimate"], summary["method"]["estimate"]) == (0.101, -0.055)
    assert (summary["strategy"], summary["delivered"]) == ("50% lp_ft", "from scratch, from random weights")
    assert summary["seconds"] == {"a.train": 12.4, "b.read": 3.0}
    assert summary["peak_memory_mb"] == {"a.train": 1200.0, "b.read": 1200.0}
    assert summary["images_per_second"] == {"a.train": 80.0, "b.read": 80.0}


def test_where_frequent_classes_are_recognised_better_the_mean_over_classes_is_told_too(make):
    summary = make(balanced=0.8)
    assert (summary["target_balanced_accuracy"], summary["baseline_balanced_accuracy"]) == (0.8, 0.5)
    line = "Every class     80.0% where all classes count the same (70.0% to 96.0%)"
    assert describe_summary(summary)[1] == f"{line}, from scratch 50.0%"
    assert describe_summary(make(balanced=0.8, baseline={}))[1] == line
    assert "Every class" not in "\n".join(describe_summary(make(balanced=0.94)))


def test_images_that_seem_to_come_in_series_are_told(make):
    assert make(alike=259)["statements"] == []
    (statement,) = make(alike=650)["statements"]
    assert statement.startswith("50% of the images are near copies of others: they seem to come in series")
    assert "preprocess.target.check.group_pattern" in statement


SERIES = {
    "pattern": "([^_]*)_",
    "images": 1200,
    "series": 150,
    "example": "film7 of bolt",
    "nearest": 0.853,
    "chance": 0.0071,
    "across_classes": False,
    "kept_together": True,
    "held_out_seen": 0,
}


def test_series_that_names_tell_are_named_with_what_became_of_them(make):
    (statement,) = make(series=[SERIES])["statements"]
    assert statement == (
        "1,200 images come in 150 series, such as film7 of bolt: names say so, and the picture most like an image is "
        "of its series in 85% of cases, by chance in 0.7%. Each series stays on one side of the splits. If names "
        "mislead, or do not tell all, say what belongs together: preprocess.target.check.group_pattern (null: "
        "nothing), or a column group."
    )
    (statement,) = make(series=[SERIES | {"held_out_seen": 1100}])["statements"]
    assert "1,100 test or validation images are of series that are trained on" in statement
    (statement,) = make(series=[SERIES | {"kept_together": False}])["statements"]
    assert "They are not kept on one side, since a class has too few of them" in statement


def test_series_are_told_once_by_names_or_by_near_copies(make):
    named, ordered = make(series=[SERIES | {"across_classes": True}, SERIES | {"pattern": None}], alike=650)[
        "statements"
    ]
    assert "such as film7 of bolt, some with images of several classes: names say so" in named
    assert "group_pattern" not in named
    assert "the picture most like an image is at most two places away by name in 85% of cases" in ordered
    assert "group_pattern" in ordered


def test_what_files_alone_tell_is_said(make):
    shortcut = {
        "by": "size",
        "accuracy": 0.684,
        "chance": 0.5,
        "smallest": ("nut", 231, 251),
        "largest": ("bolt", 1288, 344),
    }
    (statement,) = make(shortcut=shortcut)["statements"]
    assert statement.startswith(
        "Width and height of the files alone tell the class of 68% of the images, every class counting the same, by "
        "chance 50% (in the middle nut 231 x 251 px, bolt 1,288 x 344 px): images of different classes seem to come"
    )
    assert "Where images were cut out around things, it is how large these are, and no fault. Test images" in statement
    (statement,) = make(shortcut=shortcut | {"by": "form"})["statements"]
    assert "cut out" not in statement
    assert statement.startswith("Extension and colour format of the files alone tell the class of 68% of the images")
    (of_source,) = doubts_about_images(
        {"similar_labels": [], "series": [], "alike": 0, "used": 1, "shortcut": shortcut}, "source"
    )
    assert of_source.endswith("cut out around things, it is how large these are, and no fault.")
    assert "its mistakes may, and at its end the run looks at them." in statement


def test_whether_the_network_goes_by_the_files_is_said(make):
    reliance = {"images": 12, "compared": 0.0, "difference": None, "relies": None}
    (statement,) = make(reliance=reliance)["statements"]
    assert statement.startswith("Whether the network goes by size and form of the files cannot be told")


def test_classes_of_nearly_one_name_are_named(make):
    (statement,) = make(similar=["'Dog ', 'dog'"])["statements"]
    assert "are classes of their own: 'Dog ', 'dog'. Where they are meant as one, mend the labels." in statement
    (statement,) = make(similar=[f"'{n}a', '{n}A'" for n in range(7)])["statements"]
    assert "'4a', '4A' and 2 more. " in statement


def test_without_a_threshold_no_share_is_answered(make):
    summary = make(threshold=None)
    assert summary["answered_share"] is None
    assert "no threshold is known to reach an accuracy of 0.98" in "\n".join(describe_summary(summary))


@pytest.mark.parametrize(
    ("share", "said"), [(0.997, "sure of > 99% of"), (1.0, "sure of all of"), (0.81, "sure of 81% of")]
)
def test_the_share_that_is_answered_is_not_called_all_where_it_is_less(make, share, said):
    assert said in " ".join(" ".join(describe_summary(make() | {"answered_share": share})).split())


def test_a_threshold_that_no_image_reaches_is_told(make):
    summary = make() | {"answered_share": 0.0, "answered_accuracy": None}
    assert "at least 0.9 sure of none of the images (0.98 wished)" in "\n".join(describe_summary(summary))


def test_less_than_the_wish_is_told_as_what_it_is(make):
    text = "\n".join(describe_summary(make() | {"promised_accuracy": 0.95}))
    assert "99.1% of them right (0.98 wished, 0.95 promised)" in text


def test_a_run_without_validation_images_says_what_it_lacks(make):
    (statement,) = make(validation=(0, 0))["statements"]
    assert statement.startswith("There are no validation images: no baseline was tuned")
    assert make()["statements"] == []


def test_the_summary_is_json(make):
    assert json.loads(json.dumps(make())) == make()


def test_the_lines_say_the_figures(make):
    lines = describe_summary(make())
    text = "\n".join(lines)
    assert "95.1% (93.0% to 96.7%) on 1,200 test images of screws, trained on 30 and validated on 15" in text
    nearly = make() | {"target_accuracy": 2999 / 3000, "answered_accuracy": 2899 / 2900}
    assert sum("> 99.9%" in line for line in describe_summary(nearly)) == 2
    assert " on 1 test image of screws, trained on 30" in "\n".join(describe_summary(make() | {"n_test": 1}))
    assert "From scratch    90.5% on the same images" in text
    assert "Random weights  85.0% by the same method" in text
    assert "Verdict         Transfer is better." in text
    doubts = "3 to look at again, 2 of them of test images (at most 0.2 points of accuracy): suspected_labels.html"
    assert f"Labels          {doubts}" in text
    assert "Plan            A ridge on 2 of 3 depths." in text
    assert "Delivered       from scratch, from random weights" in text
    assert "15 s in nodes, most in a.train (12 s); at most 1.2 GB of memory; precision mixed_bfloat16" in text
    assert len({len(line) - len(line[16:].lstrip()) for line in lines}) == 1  # the figures stand below one another


@pytest.mark.parametrize(
    ("validation", "test", "told"),
    [
        ((5, 10), (600, 600), False),  # chance
        ((450, 550), (600, 600), False),  # clear and small
        ((50, 150), (600, 600), True),
        ((200, 0), (600, 600), True),
        ((20, 20), (1199, 1), True),
    ],
)
def test_other_class_shares_among_test_images_are_told(make, validation, test, told):
    statements = make(validation=validation, test=test)["statements"]
    assert any("not as frequent among the test images" in text for text in statements) == told
    if validation == (50, 150):
        assert "(most of all bolt: 25% of the validation images, 50% of the test images)" in statements[-1]


def test_labels_that_all_look_right_have_no_line(make):
    assert "Labels" not in "\n".join(describe_summary(make() | {"suspected_labels": 0, "suspected_test_labels": 0}))
    (line,) = [line for line in describe_summary(make() | {"suspected_test_labels": 0}) if line.startswith("Labels")]
    assert line == "Labels          3 to look at again: suspected_labels.html"


def test_the_lines_say_how_far_the_probabilities_can_be_trusted(make):
    (line,) = [line for line in describe_summary(make()) if line.startswith("Probabilities")]
    assert line == (
        "Probabilities   off by 1.2 points on average, by 7.8 before calibration; at least 0.9 sure of 81% of the "
        "images, 99.1% of them right (0.98 wished)"
    )
    hardly = make() | {"calibration_error": 0.5291, "calibration_error_before": 0.5294}
    assert "Probabilities   off by 52.9 points on average; at least" in "\n".join(describe_summary(hardly))
    few = make() | {"calibration_error": 0.444, "calibration_error_by_chance": 0.232}
    assert "off by 44.4 points on average (perfect ones: by 23.2, by chance), by 7.8" in "\n".join(
        describe_summary(few)
    )
    everything = make(threshold=0.0) | {"answered_share": 1.0}
    assert "; sure enough of all images, 99.1% of them right (0.98 wished)" in "\n".join(describe_summary(everything))
    (line,) = [line for line in describe_summary(make(threshold=None)) if line.startswith("Probabilities")]
    assert line.endswith("no threshold is known to reach an accuracy of 0.98, or less that is worth a promise")


@pytest.mark.parametrize("harms", [True, False])
def test_that_mirroring_harms_is_the_first_advice(make, harms):
    mirroring = {"harms": harms, "sentence": "Mirroring harms."}
    summary = make(advice=["Try another source."], mirroring=mirroring)
    assert summary["advice"] == ["Mirroring harms."] * harms + ["Try another source."]


def test_advice_and_statements_stand_on_lines_of_their_own(make):
    lines = describe_summary(make(advice=["Try another source."], statements=["No test image is of class 7."]))
    assert "To try          Try another source." in lines
    assert "Note            No test image is of class 7." in lines


def test_without_a_baseline_there_is_no_line_about_it(make):
    summary = make(baseline={})
    assert summary["baseline_accuracy"] is None
    assert not any("From scratch" in line for line in describe_summary(summary))


def test_without_validation_images_the_choice_was_made_on_those_left_out(make):
    text = describe_summary(make(validation=(0, 0)))[0]
    assert text.endswith("on 1,200 test images of screws, trained on 30 and chosen on those left out")


def test_without_random_weights_there_is_no_line_about_them(make):
    summary = make(random={})
    assert summary["random_accuracy"] is None
    assert not any("Random weights" in line for line in describe_summary(summary))


def test_without_times_the_summary_is_still_readable(make):
    assert describe_summary(make(seconds={}))[-1] == "Time            -; precision mixed_bfloat16"


@pytest.mark.parametrize("helps", [True, False])
def test_a_ranking_is_a_line_a_candidate_the_choice_and_how_it_is_used(helps):
    ranking = pd.DataFrame(
        {
            "rank": [1, 2],
            "candidate": ["lite", "my_own"],
            "loss": [0.12, 0.2],
            "accuracy": [0.9, 0.8],
            "accuracy_gain": [0.1, -0.01],
            "verdict": ["as good as the best", "clearly worse"],
        }
    )
    choice = {"sentence": "lite helps most.", "params": "--params import_source.network=x" if helps else None}
    assert describe_ranking(ranking, choice, "kedro run --env mine", ["target_images=my photos"]) == [
        " 1. lite    squared error 0.120, accuracy 90.0%, +10.0 points over random weights: as good as the best",
        " 2. my_own  squared error 0.200, accuracy 80.0%, -1.0 points over random weights: clearly worse",
        "Choice          lite helps most.",
        *[
            "Use it          kedro run --env mine --pipelines transfer_pretrained --params "
            "'target_images=my photos,import_source.network=x'"
        ]
        * helps,
    ]


def test_backgrounds_are_told_of_where_they_mislead(make):
    figures = {
        "images": 200,
        "backgrounds": 400,
        "right_on_own_background": 0.9,
        "right_on_other_background": 0.7,
        "difference": 0.2,
        "difference_low": 0.15,
        "difference_high": 0.25,
        "taken_for_background": 0.2,
        "taken_for_it_anyway": 0.05,
    }
    (statement,) = make(backgrounds=figures)["statements"]
    assert "THE NETWORK GOES BY THE BACKGROUND, TOO" in statement
    assert "train on other backgrounds: 0.5 as background_fraction of migrate_model.augmentation" in statement
    assert make(backgrounds=figures, statements=["Few images."])["statements"] == [statement, "Few images."]
    assert make(backgrounds=figures | {"difference_low": -0.1})["statements"] == []
