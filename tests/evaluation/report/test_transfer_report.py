"""The report of a transfer: what each section says, and what it leaves out where there is nothing to say."""

import re
from collections import Counter
from copy import deepcopy
from dataclasses import fields, replace

import pandas as pd
import pytest
from finished_results import FIGURES, make_results

from cnn_transfer.evaluation.report import RunResults, write_report
from cnn_transfer.images import UNLABELLED

SECTIONS = [
    "summary",
    "data",
    "plan",
    "training",
    "results",
    "probabilities",
    "damage",
    "explanations",
    "mistakes",
    "provenance",
]


@pytest.fixture
def results():
    return make_results(["nut", "bolt"])


def section(page, name):
    """The markup of a section."""
    return re.search(rf'<section id="{name}".*?</section>', page, re.DOTALL)[0]


def shown(page):
    """The text of a page or a part of it, as people read it."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.replace("<wbr>", ""))).replace("&#39;", "'")


def said(results, name):
    """What people read in a section."""
    return shown(section(write_report(results), name))


def without(frame):
    return frame.iloc[:0]


def test_every_section_is_there_in_its_order_and_in_the_contents(results):
    page = write_report(results)
    assert re.findall(r'<section id="([^"]+)"', page) == SECTIONS
    assert re.findall(r'<a href="#([^"]+)">', page.partition("<nav")[2].partition("</nav>")[0]) == SECTIONS


def test_no_identifier_is_used_twice_and_every_reference_has_its_target(results):
    page = write_report(results)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert [name for name, count in Counter(ids).items() if count > 1] == []
    referred = re.findall(r'(?:aria-labelledby="|href="#)([^"]+)"', page)
    assert set(referred) <= set(ids)


def test_every_figure_is_on_the_page_once(results):
    page = write_report(results)
    assert {name: page.count(f"<text>{name}</text>") for name in FIGURES} == dict.fromkeys(FIGURES, 1)
    assert {field.name for field in fields(RunResults) if field.type == "str"} == set(FIGURES)


def test_nothing_that_the_report_is_given_is_left_unread(results):
    read = set()

    class Watched(RunResults):
        def __getattribute__(self, name):
            read.add(name)
            return super().__getattribute__(name)

    write_report(Watched(**{field.name: getattr(results, field.name) for field in fields(RunResults)}))
    assert {field.name for field in fields(RunResults)} - read == set()


def test_every_table_and_every_key_figure_names_its_data_set(results):
    page = write_report(results)
    known = {field.name for field in fields(RunResults)}
    tables = re.findall(r"<table[^>]*>", page)
    assert len(tables) > 20
    values = re.findall(r"<span[^>]*data-value[^>]*>", page)
    assert len(values) > 12
    for tag in tables + values:
        source = re.search(r'data-source="([^"]+)"', tag)
        assert source, tag
        assert set(source[1].split(", ")) <= known, tag


def test_what_is_noted_of_few_images_stands_before_what_is_noted_of_all(results):
    codes = re.findall(r"near_duplicate|grey_to_colour", said(results, "data"))
    assert codes == ["near_duplicate", "grey_to_colour", "grey_to_colour"]


def test_the_title_names_source_target_and_the_numbers_of_images(results):
    text = shown(write_report(results).partition("<main")[0])
    assert "Transfer from many parts to few parts" in text
    assert "40 labelled training images of 2 classes, judged on 300 test images" in text
    one = replace(results, summary={**results.summary, "n_test": 1})
    assert "judged on 1 test image that nothing was chosen on" in shown(write_report(one))


def test_the_summary_has_each_key_figure(results):
    text = said(results, "summary")
    for part in (
        "Accuracy after transfer 75.0% 74.0% to 76.0%",
        "Trained from scratch 70.0%",
        "Difference to scratch, points +5.0 +4.0 to +6.0",
        "Training cost against scratch 76%",
        "Same method, random weights 65.0%",
        "off by 0.7% on average (perfect ones: 0.6%, by chance); 8.0% before calibration",
        "Sure enough to answer 60.0% of the images; 98.5% of these right, 98% wished; 2.0% are unlike the training "
        "images and get no answer, however sure",
        "Delivered lp_ft, from many parts",
    ):
        assert part in text
    assert "What to try" not in text
    as_it_was = results.summary | {"calibration_error_before": results.summary["calibration_error"] + 0.0001}
    assert "before calibration" not in said(replace(results, summary=as_it_was), "summary")


@pytest.mark.parametrize(
    ("verdict", "title"),
    [
        ("positive", "▲ Positive transfer"),
        ("neutral", "● Neutral transfer"),
        ("negative", "▼ Negative transfer"),
        (None, "○ No verdict"),
    ],
)
def test_the_verdict_is_a_word_a_sign_and_a_colour(results, verdict, title):
    page = write_report(replace(results, summary={**results.summary, "verdict": verdict, "sentence": "So it is."}))
    assert f'<div class="verdict {verdict or "none"}"><strong>{title}</strong><p>So it is.</p>' in page


def test_advice_of_a_negative_transfer_comes_first(results):
    advice = ["Take another source.", "Label more images."]
    text = said(replace(results, summary={**results.summary, "verdict": "negative", "advice": advice}), "summary")
    assert text.index("What to try") < text.index("Take another source.") < text.index("Label more images.")
    assert text.index("Label more images.") < text.index("Accuracy after transfer")


def test_statements_on_the_figures_are_notices(results):
    assert 'class="notice"' not in section(write_report(results), "summary")
    found = replace(results, summary={**results.summary, "statements": ["Few images.", "Of few groups."]})
    assert "<ul><li>Few images.</li><li>Of few groups.</li></ul>" in section(write_report(found), "summary")


def test_a_run_without_baseline_and_random_network_compares_with_nothing(results):
    summary = results.summary | dict.fromkeys(
        ("baseline_accuracy", "random_accuracy", "training_cost_ratio", "difference", "difference_low",
         "difference_high", "verdict")
    )  # fmt: skip
    verdict = dict.fromkeys(results.transfer_verdict)
    evidence = {"transferred": results.transfer_plan["evidence"]["transferred"]}
    alone = replace(
        results,
        summary=summary,
        transfer_verdict=verdict,
        transfer_plan={**results.transfer_plan, "evidence": evidence},
        baseline_metrics={},
        random_metrics={},
        baseline_trials=without(results.baseline_trials),
        random_trials=without(results.random_trials),
    )
    text = said(alone, "summary")
    for absent in ("scratch", "random", "–", "Overlapping"):
        assert absent not in text
    page = write_report(alone)
    assert 'id="differences"' not in page
    assert "random" not in shown(section(page, "training"))
    assert re.findall(r'<th scope="col"[^>]*><button type="button">([^<]+)', section(page, "results"))[:2] == [
        "figure",
        "transfer",
    ]
    assert "of the source" in shown(section(page, "plan"))
    assert page.count("from scratch") == 0


def test_the_plan_says_what_mirroring_does(results):
    plan = results.transfer_plan | {"mirroring": {"sentence": "Mirroring does no clear harm: 70% and 71%."}}
    assert "Mirroring does no clear harm: 70% and 71%." in said(replace(results, transfer_plan=plan), "plan")


def test_a_baseline_that_failed_is_no_ground_for_a_verdict(results):
    failed = replace(results, transfer_verdict=results.transfer_verdict | {"baseline_failed": True})
    page = write_report(failed)
    assert "○ No verdict: training from scratch failed" in page
    assert "Positive transfer" not in page


def test_a_baseline_that_is_not_shown_to_have_learnt_is_not_called_failed(results):
    states = {"baseline_failed": True, "baseline_unproven": True}
    page = write_report(replace(results, transfer_verdict=results.transfer_verdict | states))
    title = "▲ Positive transfer, but training from scratch is not shown to have learnt"
    assert f'<div class="verdict positive"><strong>{title}</strong>' in page
    assert "training from scratch failed" not in page


def test_the_level_of_the_intervals_is_the_run_s(results):
    parameters = results.run_provenance["parameters"] | {"evaluate": {"confidence": 0.9}}
    page = write_report(replace(results, run_provenance=results.run_provenance | {"parameters": parameters}))
    assert "with 90% intervals" in page
    assert "95% interval" not in page


def test_a_cost_that_was_not_reached_is_told_in_words(results):
    cost = results.transfer_verdict["training_cost"] | {"target_images": None, "ratio": None, "ratio_high": None}
    unreached = replace(
        results,
        summary={**results.summary, "training_cost_ratio": None},
        transfer_verdict={**results.transfer_verdict, "training_cost": cost},
    )
    text = said(unreached, "summary")
    assert (
        "Training cost against scratch not reached images until scratch's final validation accuracy; 50% to never "
        "within a standard error of it"
    ) in text


@pytest.mark.parametrize(("ratio", "low", "told"), [(0.76, 0.5, ("76%", "50%")), (0.0003, 0.0, ("0.03%", "0%"))])
def test_a_cost_comes_with_what_it_would_be_at_levels_a_standard_error_apart(results, ratio, low, told):
    cost = results.transfer_verdict["training_cost"] | {"ratio": ratio, "ratio_low": low}
    costly = replace(results, transfer_verdict={**results.transfer_verdict, "training_cost": cost})
    assert (
        f"Training cost against scratch {told[0]} images until scratch's final validation accuracy; {told[1]} to never "
        "within a standard error of it"
    ) in said(costly, "summary")


def test_a_cost_that_is_the_same_at_these_levels_is_no_range(results):
    cost = results.transfer_verdict["training_cost"] | {"ratio": 0.2, "ratio_low": 0.2, "ratio_high": 0.2}
    same = replace(results, transfer_verdict={**results.transfer_verdict, "training_cost": cost})
    assert "; the same within a standard error of it" in said(same, "summary")


def test_differences_come_with_their_interval_and_a_second_opinion(results):
    text = said(results, "results")
    assert "transfer against training from scratch +5.0 (+4.0 to +6.0) 0.0123" in text
    assert "the source's weights against random ones +10.0 (+9.0 to +11.0) –" in text
    assert "the method on random weights against training from scratch -5.0 (-6.0 to -4.0) –" in text
    half = replace(results, transfer_verdict={**results.transfer_verdict, "knowledge": None, "method": None})
    assert "random ones" not in said(half, "results")


def test_images_that_were_set_aside_are_counted_by_reason_and_named(results):
    text = said(results, "data")
    assert "Listed 505 Used 500 Set aside 5 unusable: 0.6% Stay together 8" in text
    assert "truncated 3 exact duplicate 2" in text
    assert "Set aside one by one (5)" in text
    assert "What was noted about 3 images " in text
    assert "Some of the images that were set aside" in text
    not_drawn = results.target_rejected_images.assign(reason="not_sampled")
    assert "Some of the images" not in said(replace(results, target_rejected_images=not_drawn), "data")


def test_what_stays_together_is_open_to_view_where_names_told_it(results):
    assert "Images that stay together (8)" in said(results, "data")
    series = {"pattern": "(film)", "images": 8, "series": 2}
    told = section(write_report(replace(results, target_intake=results.target_intake | {"series": [series]})), "data")
    assert "Images that stay together (8)" not in told
    assert "Each should show one thing" in told


def test_nothing_set_aside_and_nothing_noted_leave_no_empty_tables(results):
    intake = {"listed": 500, "used": 500, "grouped": 0, "set_aside": {}, "notes": {}, "share_set_aside": 0.0}
    clean = replace(
        results,
        target_intake=intake,
        target_rejected_images=without(results.target_rejected_images),
        target_image_notes=without(results.target_image_notes),
    )
    page = section(write_report(clean), "data")
    assert "Set aside 0" in shown(page)
    for absent in ("unusable", "Noted", "noted", "reasons", "target_rejected_sheet", "target_group_sheet"):
        assert absent not in shown(page)
    assert re.findall(r'<table id="([^"]+)"', page) == ["image-counts"]


def test_splits_without_an_image_are_no_column(results):
    page = section(write_report(results), "data")
    headings = re.findall(
        r'<button type="button">([^<]+)', page.partition('id="image-counts"')[2].partition("</thead>")[0]
    )
    assert headings == ["class", "training", "validation", "test", "total"]


def test_the_plan_is_told_in_words_and_figures(results):
    text = said(results, "plan")
    assert "Accuracy of a head on each depth alone, on training images that" in text
    for part in ("A ridge on 2 of 3 depths.", "Cut after block2", "Depths read 2 of 3", "93,856", "20,170", "lp_ft"):
        assert part in text
    assert 'aria-label="Accuracy by depth: block1 60.0%; block2 65.0%"' in write_report(results)
    assert "of the source 70.0% 0.020 0.300 60.0% 20.0%" in text
    assert "squared error difference standard error accuracy chosen" in text  # a negative one is behind nothing


def test_what_left_out_images_cannot_say_is_not_told_as_figures(results):
    evidence = results.transfer_plan["evidence"]
    lone = {**evidence["transferred"], "lone_images": evidence["transferred"]["images"]}
    blind = {**results.transfer_plan, "evidence": {**evidence, "transferred": lone}}
    page = section(write_report(replace(results, transfer_plan=blind)), "plan")
    assert "A ridge on 2 of 3 depths." in shown(page)
    assert "Accuracy of a head" not in shown(page)
    assert "<table" not in page


def test_every_trial_is_in_a_table_and_the_one_that_was_kept_stands_out(results):
    page = section(write_report(results), "training")
    assert re.findall(r'<table id="([^"]+)"', page) == ["target-trials", "baseline-trials", "random-trials"]
    assert page.count('<tr class="marked">') == 3
    assert "Trials, from scratch (2)" in shown(page)
    assert "Thick: the trial" in shown(page)


def test_where_nothing_could_be_judged_no_curve_is_explained(results):
    nothing = {"target_trials": results.target_trials.assign(validation_accuracy=float("nan"))}
    nothing |= {"baseline_trials": results.baseline_trials.iloc[:0]}
    text = said(replace(results, **nothing), "training")
    assert "Thick" not in text
    assert "No training on the target was judged on validation images." in text


def test_a_metric_that_was_not_measured_is_no_row(results):
    text = said(results, "results")
    assert "right among the first 2 90.0% (89.0% to 91.0%) 85.0%" in text
    assert "right among the first 5" not in text


def test_slices_that_are_recognised_worse_are_a_notice(results):
    assert "No kind of image is recognised clearly worse than the others." in said(results, "results")
    weak = replace(results, slices=results.slices.assign(conspicuous=True))
    page = section(write_report(weak), "results")
    assert "brightness 0.1 to 0.2: 70.0% right, 80.0% of all others" in shown(page)
    assert 'class="notice"' in page
    assert "0.2 to 0.3: " not in shown(page)  # better than the others
    assert page.count('<tr class="marked">') == 2


def test_whether_the_network_goes_by_the_files_is_said_where_they_tell_the_class(results):
    reliance = {"images": 12, "compared": 0.0, "difference": None, "relies": None}
    assert "goes by size and form" not in said(results, "results")
    told = said(replace(results, shortcut_reliance=reliance), "results")
    assert "Whether the network goes by size and form of the files cannot be told" in told


def test_what_backgrounds_do_is_shown_and_is_a_notice_where_they_mislead(results):
    page = section(write_report(results), "explanations")
    assert "where 88.0% are right, and on as many of other classes, where 86.0% are. There 4.0% are taken" in shown(
        page
    )
    assert "A rectangle in the middle, 50% of the area, stays" in shown(page)
    assert 'class="notice"' not in page
    misled = results.background_reliance | {"difference_low": 0.06}
    page = section(write_report(replace(results, background_reliance=misled)), "explanations")
    assert "THE NETWORK GOES BY THE BACKGROUND, TOO. Where the background is a place" in shown(page)
    assert 'class="notice"' in page
    page = section(write_report(replace(results, background_reliance={"images": 0})), "explanations")
    assert "No test image was put on another background." in shown(page)
    assert "Test images on other backgrounds" not in shown(page)


def test_images_that_are_all_of_a_kind_are_said_to_be(results):
    text = said(replace(results, slices=without(results.slices)), "results")
    assert "The test images do not differ in size, brightness, sharpness" in text


def test_calibration_is_shown_before_and_after(results):
    text = said(results, "probabilities")
    assert "made surer with temperature 0.58." in text
    assert "even perfect probabilities would show an error of about 0.6%" in text
    assert "calibration error 8.0% (7.0% to 9.0%) 0.7% (-0.3% to 1.7%)" in text


def test_without_a_threshold_the_network_answers_nothing_and_the_page_says_so(results):
    nothing = {"threshold": None, "answered_share": 0.0, "answered_share_low": 0.0, "answered_share_high": 0.01}
    nothing |= dict.fromkeys(("accuracy", "accuracy_low", "accuracy_high"))
    chosen = results.abstention["chosen"] | {
        "threshold": None,
        "promised_accuracy": None,
        "statement": "No threshold keeps it.",
    }
    none = replace(
        results,
        abstention={"chosen": chosen, "on_test": nothing | {"statement": "None is answered."}},
        summary={**results.summary, "answered_share": None, "answered_accuracy": None, "promised_accuracy": None},
    )
    text = said(none, "probabilities")
    assert "No threshold keeps it. None is answered." in text
    assert "Threshold none found" in text
    assert "Right, of these –" in text
    assert "Sure enough to answer nothing of the test images" in text
    assert "Sure enough to answer – no threshold is known to reach an accuracy of 98%" in said(none, "summary")


def test_being_sure_enough_is_not_called_answered_where_unfamiliar_images_get_no_answer(results):
    withheld = "Images unlike the training images get no answer, however sure."
    assert withheld in said(results, "probabilities")
    knows_nothing = replace(
        results,
        familiarity=results.familiarity | {"limit": None},
        summary={**results.summary, "unfamiliar_share": None},
    )
    assert withheld not in said(knows_nothing, "probabilities")
    assert "98.5% of these right, 98% wished Delivered" in said(knows_nothing, "summary")


def test_a_promise_below_the_wish_stands_beside_it(results):
    chosen = results.abstention["chosen"] | {"promised_accuracy": 0.95}
    less = replace(
        results,
        abstention=results.abstention | {"chosen": chosen},
        summary={**results.summary, "promised_accuracy": 0.95},
    )
    assert "wished: 98%; promised: 95%" in said(less, "probabilities")
    assert "98% wished, 95% promised" in said(less, "summary")
    assert "95% promised" not in said(results, "summary")


def test_sets_of_classes_are_told_where_they_were_asked_for(results):
    text = said(results, "probabilities")
    assert "Sets that hold the true class 96.0% 95.0% to 97.0%" in text
    assert "Sets of classes" not in said(replace(results, conformal_sets={}, set_coverage={}), "probabilities")
    everything = replace(results, conformal_sets={**results.conformal_sets, "least_probability": 0.0})
    assert "Sets of classes instead of one A set holds" in said(everything, "probabilities")
    assert "Sets that hold" not in said(everything, "probabilities")


def test_unfamiliar_images_are_listed_when_there_are_any(results):
    page = section(write_report(results), "probabilities")
    assert "Unfamiliar test images one by one (1)" in shown(page)
    assert "far.png" in page
    assert "near.png" not in page
    familiar = results.familiarity_of_test_images.assign(unfamiliar=False)
    page = section(write_report(replace(results, familiarity_of_test_images=familiar)), "probabilities")
    assert 'id="unfamiliar-images"' not in page


def test_methods_of_explanation_come_with_their_tests(results):
    text = said(results, "explanations")
    assert "Grad-CAM +0.30 (+0.29 to +0.31) +0.20 (+0.19 to +0.21) 0.040 0.990 no" in text
    assert "integrated gradients +0.30" in text
    assert "Grad-CAM FAILED its tests." in text
    assert "nut taken for bolt" in write_report(results)


def test_a_network_that_cannot_be_explained_says_why(results):
    none = {"statement": "Grad-CAM needs a convolution.", "methods": [], "shown": []}
    similarity = without(results.representation_similarity)
    page = write_report(replace(results, explanations=none, representation_similarity=similarity))
    text = shown(section(page, "explanations"))
    assert "Grad-CAM needs a convolution." in text
    assert "mean rank correlation of 0.50" in text
    for absent in ("explanations_sheet", "similarity_plot", "explanation-scores", "similarity-table"):
        assert absent not in page


def test_confused_classes_and_suspected_labels_are_named(results):
    text = said(results, "mistakes")
    assert "nut bolt 11 12.0%" in text
    assert "1 label looks wrong" in text
    assert "--params target_labels=FILE" in text
    assert "odd.png test nut bolt 1.0% 98.0% +97.0" in text


def test_a_network_without_mistakes_and_suspicions_says_so(results):
    perfect = replace(
        results,
        confused_pairs=without(results.confused_pairs),
        suspected_labels=without(results.suspected_labels),
    )
    page = write_report(perfect)
    text = shown(section(page, "mistakes"))
    assert "gets every test image right" in text
    judged = results.target_image_counts[["training", "validation", "test"]].to_numpy().sum()
    assert f"No label of the {judged:,} images for training, validation and test looks wrong" in text
    for absent in ("mistakes_sheet", "confused_pairs_sheet", "suspected_labels_sheet", "nearest_sheet"):
        assert absent not in page


def test_images_without_a_label_are_told_of_where_there_are_some(results):
    assert "label_next" not in write_report(results)
    counts = results.target_image_counts
    nameless = replace(results, target_image_counts=counts.assign(unlabelled=[12] + [0] * (len(counts) - 1)))
    assert "12 images have no label. kedro run --pipelines label_next" in said(nameless, "mistakes")


def test_provenance_names_data_programs_machine_times_and_parameters(results):
    text = said(results, "provenance")
    for part in ("a processor", "graphics cards none", "source images f00d", "seed 7", "keras 3.15.1", "seed: 7"):
        assert part in text
    assert "Time of each stage, 3 s together" in text
    assert "what earlier runs had made saved 2 s" in text
    assert "preprocess 0.2 evaluate 2.5" in text
    assert "evaluate.measure 2.5 – – – preprocess.target.list_images 1.5 900 2,000 nightly-1" in text


def test_images_without_a_label_are_no_class(results):
    counts = results.target_image_counts
    row = counts.iloc[:1].assign(label=UNLABELLED)
    text = said(replace(results, target_image_counts=pd.concat([counts, row], ignore_index=True)), "data")
    assert f"Images of each of {len(counts)} classes by split" in text
    assert UNLABELLED in text


def test_many_classes_with_long_names_scroll_in_a_frame(results):
    few, many = (write_report(make_results([f"a long name of class {n}" for n in range(count)])) for count in (3, 150))
    assert 'class="scroll tall"' not in few
    tall = re.findall(r'class="scroll tall".*?<table id="([^"]+)"', many, re.DOTALL)
    assert tall == ["image-counts", "per-class"]
    assert "Images of each of 150 classes by split" in many
    assert many.count(">a long name of class 149<") == 2


def test_names_of_classes_cannot_break_the_page():
    page = write_report(make_results(["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>']))
    assert "<script>alert" not in page
    assert "<img" not in page


def test_depths_that_were_judged_on_a_draw_of_images_say_so(results):
    decided = deepcopy(results.transfer_plan)
    decided["evidence"]["transferred"] |= {
        "images": 2904,
        "depths_chosen_on": {"images": 500, "classes": 42, "accuracy": 0.6},
    }
    text = said(replace(results, transfer_plan=decided), "plan")
    assert "Permuted labels reach on average a little less than chance" in text
    assert "on 500 of 2,904 training images, drawn from 42 classes, that it was not fitted to" in text
