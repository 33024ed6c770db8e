"""The last product of a run: a few figures, the same for a program (JSON) and for a person (lines of text)."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cnn_transfer.evaluation.backgrounds import warn_of_backgrounds
from cnn_transfer.evaluation.probabilities import confidence_text, share_text, whole_percent
from cnn_transfer.evaluation.reliance import describe_reliance

LEAST_SHIFT, CHANCE = 0.1, 0.001  # share of the images that are of other classes, and how likely that is by chance
BALANCED = "balanced_accuracy"  # where every class counts the same
MANY_ALIKE = 0.2  # of the images
MOST_NAMED = 5
TELLING = 0.02  # difference to the accuracy: then it is shown, too
NODE_FIGURES = ("seconds", "peak_memory_mb", "images_per_second", "reused_from")


def summarise(
    target_metrics: Mapping[str, Any],
    baseline_metrics: Mapping[str, Any],
    random_metrics: Mapping[str, Any],
    delivered_metrics: Mapping[str, Any],
    calibrated_metrics: Mapping[str, Any],
    abstention: Mapping[str, Any],
    set_coverage: Mapping[str, Any],
    unfamiliar: Mapping[str, Any],
    explanations: Mapping[str, Any],
    suspected_labels: pd.DataFrame,
    verdict: Mapping[str, Any],
    plan: Mapping[str, Any],
    model_card: Mapping[str, Any],
    delivered_card: Mapping[str, Any],
    counts: pd.DataFrame,
    intake: Mapping[str, Any],
    reliance: Mapping[str, Any],
    background_reliance: Mapping[str, Any],
    node_records: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Put the figures of a run together; the keys are an interface that other programs read.

    Args:
        target_metrics: Metrics of the transferred network on the test images.
        baseline_metrics: Those of the baseline; empty without one.
        random_metrics: Those of the same method on random weights; empty without.
        delivered_metrics: Those of the network that is delivered.
        calibrated_metrics: The same after calibration.
        abstention: A threshold for a wished accuracy (`chosen`), and what it does (`on_test`): `answered_share` and
            `answered_accuracy` are of images that are sure enough, unfamiliar ones among them.
        set_coverage: How often its prediction sets hold the true class; empty without.
        unfamiliar: How many test images are unlike the training images.
        explanations: Tests of the attribution methods.
        suspected_labels: One row a label that looks wrong, with its `split`.
        verdict: Comparison of the three.
        plan: The transfer plan.
        model_card: Card of the transferred network.
        delivered_card: Card of the network that is delivered.
        counts: Images of each class in each split of the target; see `images.count_splits`.
        intake: What became of the images that were listed; see `images.CheckedImages.describe`.
        reliance: Whether the network goes by what files point to; see `judge_reliance`.
        background_reliance: Whether it goes by backgrounds; see `judge_backgrounds`.
        node_records: Of each node that has finished, by its name: `seconds` of wall time, `peak_memory_mb`,
            `images_per_second` (None where not known) and `reused_from`, the run that made what this one took over, or
            None. The pictures of the evaluation and its report come later.
    """
    answers = abstention["on_test"]["threshold"] is not None
    return {
        "target_accuracy": target_metrics["accuracy"],
        "target_accuracy_low": target_metrics["accuracy_low"],
        "target_accuracy_high": target_metrics["accuracy_high"],
        **{f"target_{BALANCED}{end}": target_metrics[f"{BALANCED}{end}"] for end in ("", "_low", "_high")},
        "baseline_accuracy": baseline_metrics.get("accuracy"),
        f"baseline_{BALANCED}": baseline_metrics.get(BALANCED),
        "random_accuracy": random_metrics.get("accuracy"),
        **{f"training_cost_ratio{end}": verdict["training_cost"][f"ratio{end}"] for end in ("", "_low", "_high")},
        "difference": verdict["difference"],
        "difference_low": verdict["difference_low"],
        "difference_high": verdict["difference_high"],
        "verdict": verdict["verdict"],
        "baseline_failed": verdict["baseline_failed"] and not verdict["baseline_unproven"],
        "knowledge": verdict["knowledge"],
        "method": verdict["method"],
        "sentence": verdict["sentence"],
        "advice": [*_about_mirroring(plan), *verdict["advice"]],
        "delivered_accuracy": calibrated_metrics["accuracy"],
        "delivered_accuracy_low": calibrated_metrics["accuracy_low"],
        "delivered_accuracy_high": calibrated_metrics["accuracy_high"],
        "calibration_error": calibrated_metrics["ece"],
        "calibration_error_before": delivered_metrics["ece"],
        "calibration_error_by_chance": calibrated_metrics["ece_if_calibrated"],
        "wished_accuracy": abstention["chosen"]["wished_accuracy"],
        "promised_accuracy": abstention["chosen"]["promised_accuracy"],
        "threshold": abstention["on_test"]["threshold"],
        "answered_share": abstention["on_test"]["answered_share"] if answers else None,
        "answered_accuracy": abstention["on_test"]["accuracy"],
        "set_coverage": set_coverage.get("coverage"),
        "unfamiliar_share": unfamiliar["unfamiliar_share"],
        "explanations": {row["method"]: row["passes"] for row in explanations["methods"]},
        "suspected_labels": len(suspected_labels),
        "suspected_test_labels": int((suspected_labels["split"] == "test").sum()),
        "statements": [
            *filter(None, [warn_of_backgrounds(background_reliance)]),
            *calibrated_metrics["statements"],
            *_about_splits(counts),
            *doubts_about_images(intake),
            *filter(None, [describe_reliance(reliance)]),
        ],
        "n_train": int(counts["training"].sum()),
        "n_validation": int(counts["validation"].sum()),
        "n_test": int(counts["test"].sum()),
        "source": plan["source"],
        "target": model_card["trained_on"],
        "strategy": model_card["strategy"],
        "cut_layer": plan["cut_layer"],
        "plan": plan["sentence"],
        "delivered": f"{delivered_card['strategy']}, from {delivered_card['initialised_from']}",
        "precision": model_card["precision"],
        **{column: {node: record[column] for node, record in node_records.items()} for column in NODE_FIGURES},
    }


def describe_summary(summary: Mapping[str, Any]) -> list[str]:
    """The summary in a few lines for the terminal."""
    images = f"{summary['n_test']:,} test image{'' if summary['n_test'] == 1 else 's'} of {summary['target']}"
    accuracy = (
        f"{share_text(summary['target_accuracy'])} ({share_text(summary['target_accuracy_low'])} to "
        f"{share_text(summary['target_accuracy_high'])}) on {images}, trained on "
        f"{summary['n_train']:,} and "
        + (f"validated on {summary['n_validation']:,}" if summary["n_validation"] else "chosen on those left out")
    )
    lines = [f"Accuracy        {accuracy}"]
    if classes_count(summary):
        found, low, high = (summary[f"target_{BALANCED}{end}"] for end in ("", "_low", "_high"))
        lines.append(f"Every class     {found:.1%} where all classes count the same ({low:.1%} to {high:.1%})")
        if summary[f"baseline_{BALANCED}"] is not None:
            lines[-1] += f", from scratch {summary[f'baseline_{BALANCED}']:.1%}"
    if summary["baseline_accuracy"] is not None:
        lines.append(f"From scratch    {share_text(summary['baseline_accuracy'])} on the same images")
    if summary["random_accuracy"] is not None:
        lines.append(f"Random weights  {share_text(summary['random_accuracy'])} by the same method")
    lines.append(f"Verdict         {summary['sentence']}")
    lines += [f"To try          {advice}" for advice in summary["advice"]]
    if summary["calibration_error"] is not None:
        lines.append(f"Probabilities   {_trust(summary)}")
    if summary["suspected_labels"]:
        lines.append(f"Labels          {_doubts(summary)}")
    lines += [f"Note            {statement}" for statement in summary["statements"]]
    lines.append(f"Plan            {summary['plan']}")
    lines.append(f"Delivered       {summary['delivered']}")
    lines.append(f"Time            {_cost(summary)}; precision {summary['precision']}")
    return lines


def classes_count(summary: Mapping[str, Any]) -> bool:
    """Whether it matters if all images or all classes count the same: frequent ones are recognised better, or worse."""
    balanced = summary[f"target_{BALANCED}"]
    return balanced is not None and abs(summary["target_accuracy"] - balanced) >= TELLING


def chance_tells(summary: Mapping[str, Any]) -> bool:
    """Whether probabilities that are all right would look half as wrong, or more, for want of test images."""
    error, chance = summary["calibration_error"], summary["calibration_error_by_chance"]
    return error is not None and bool(chance >= error / 2)


def seconds_of_run(summary: Mapping[str, Any]) -> dict[str, float]:
    """Wall time of the nodes that this run did itself, by name."""
    reused = summary.get("reused_from") or {}
    return {node: seconds for node, seconds in summary["seconds"].items() if not reused.get(node)}


def _cost(summary: Mapping[str, Any]) -> str:
    """Time and memory of a run, in words."""
    own = seconds_of_run(summary)
    slowest = max(own, key=lambda node: own[node], default="")
    parts = [f"{sum(own.values()):.0f} s in nodes, most in {slowest} ({own[slowest]:.0f} s)" if own else "-"]
    if saved := sum(seconds for node, seconds in summary["seconds"].items() if node not in own):
        parts.append(f"{saved:.0f} s saved by what earlier runs had made")
    memory = [value for value in summary["peak_memory_mb"].values() if value]
    if memory:
        parts.append(f"at most {max(memory) / 1000:.1f} GB of memory")
    return "; ".join(parts)


def _doubts(summary: Mapping[str, Any]) -> str:
    """How many labels look wrong, and what the test images among them are worth."""
    of_test = summary["suspected_test_labels"]
    points = 100 * of_test / summary["n_test"]
    tested = f", {of_test:,} of them of test images (at most {points:.1f} points of accuracy)" if of_test else ""
    return f"{summary['suspected_labels']:,} to look at again{tested}: suspected_labels.html"


def _about_mirroring(plan: Mapping[str, Any]) -> list[str]:
    """A sentence where mirrored copies harm."""
    mirroring = plan.get("mirroring")
    return [mirroring["sentence"]] if mirroring and mirroring["harms"] else []


def _about_splits(counts: pd.DataFrame) -> list[str]:
    """What figures rest on that a run lacks, or has of another kind."""
    if counts["validation"].sum():
        return _other_classes(counts)
    return [
        "There are no validation images: no baseline was tuned, and the head in closed form is as it is. Its "
        "probabilities and its threshold rest on the training images, each judged by a head without it. Raise "
        "preprocess.target.split.validation_ratio to compare it with training from scratch."
    ]


def _other_classes(counts: pd.DataFrame) -> list[str]:
    """A sentence where classes are not as frequent among the test images as among the validation images."""
    from scipy.stats import chi2_contingency  # half a second, and every command imports this module

    known = counts[counts[["validation", "test"]].sum(axis=1) > 0]
    table = known[["validation", "test"]].to_numpy()
    shares = table / table.sum(axis=0)
    apart = np.abs(np.diff(shares, axis=1)).ravel()
    if apart.sum() / 2 < LEAST_SHIFT or chi2_contingency(table).pvalue > CHANCE:
        return []
    row = int(apart.argmax())
    name, (of_validation, of_test) = known["label"].iloc[row], shares[row]
    return [
        "Classes are not as frequent among the test images as among the validation images (most of all "
        f"{name}: {of_validation:.0%} of the validation images, {of_test:.0%} of the test images). Calibration, "
        "threshold and prediction sets rest on the validation images, and promise nothing where classes are mixed in "
        "another way."
    ]


def _trust(summary: Mapping[str, Any]) -> str:
    keys = ("calibration_error", "calibration_error_before", "calibration_error_by_chance")
    error, before, chance = (f"{100 * summary[key]:.1f}" for key in keys)
    calibrated = f"off by {error} points on average"
    if chance_tells(summary):
        calibrated += f" (perfect ones: by {chance}, by chance)"
    if error != before:
        calibrated += f", by {before} before calibration"
    if summary["threshold"] is None:
        wished = confidence_text(summary["wished_accuracy"])
        return f"{calibrated}; no threshold is known to reach an accuracy of {wished}, or less that is worth a promise"
    promise = _promise(summary)
    if summary["answered_accuracy"] is None:
        return f"{calibrated}; at least {confidence_text(summary['threshold'])} sure of none of the images ({promise})"
    answered = (
        f"at least {confidence_text(summary['threshold'])} sure of {_of_all(summary['answered_share'])} of the images"
        if summary["threshold"]
        else "sure enough of all images"
    )
    return f"{calibrated}; {answered}, {share_text(summary['answered_accuracy'])} of them right ({promise})"


def _of_all(share: float) -> str:
    return "all" if share == 1 else whole_percent(share)


def _promise(summary: Mapping[str, Any]) -> str:
    """What accuracy of the answered images was wished, and what can be promised instead."""
    wished, promised = (confidence_text(summary[f"{name}_accuracy"]) for name in ("wished", "promised"))
    return f"{wished} wished" if promised == wished else f"{wished} wished, {promised} promised"


def describe_ranking(
    ranking: pd.DataFrame, choice: Mapping[str, Any], command: str = "kedro run", asked: Sequence[str] = ()
) -> list[str]:
    """The ranking of sources in a few lines for the terminal.

    Args:
        ranking: One row a candidate, the best first; see `cnn_transfer.transfer.Ranking`.
        choice: The chosen one and the sentence about it; see `cnn_transfer.transfer.describe_choice`.
        command: What runs a pipeline, with the environment if there is one.
        asked: What else the run of the choice is to be told, such as its images: `key=value` each.
    """
    width = max(len(name) for name in ranking["candidate"])
    lines = []
    for row in ranking.to_dict("records"):
        gain = f"{100 * row['accuracy_gain']:+z.1f} points over random weights"
        figures = f"squared error {row['loss']:.3f}, accuracy {row['accuracy']:.1%}, {gain}"
        lines.append(f"{row['rank']:>2}. {row['candidate']:<{width}}  {figures}: {row['verdict']}")
    lines.append(f"Choice          {choice['sentence']}")
    if choice["params"] is not None:
        params = ",".join([*asked, shlex.split(choice["params"])[1]])
        lines.append(f"Use it          {command} --pipelines transfer_pretrained --params {shlex.quote(params)}")
    return lines


def doubts_about_images(intake: Mapping[str, Any], name: str = "target") -> list[str]:
    """What somebody should look at before much is trained: classes of nearly one name, and images in series.

    Args:
        intake: See `images.CheckedImages.describe`.
        name: Of the set: `target` or `source`.
    """
    doubts = []
    if similar := intake["similar_labels"]:
        more = f" and {len(similar) - MOST_NAMED} more" if len(similar) > MOST_NAMED else ""
        doubts.append(
            f"Classes whose names differ only by case or white space are classes of their own: "
            f"{'; '.join(similar[:MOST_NAMED])}{more}. Where they are meant as one, mend the labels."
        )
    return [*doubts, *_about_series(intake, name), *_about_shortcut(intake, name)]


def _about_shortcut(intake: Mapping[str, Any], name: str) -> list[str]:
    """What of the files tells the class: the network may have learnt that."""
    if (shortcut := intake["shortcut"]) is None:
        return []
    smallest, largest = (
        f"{label} {width:,} x {height:,} px" for label, width, height in (shortcut["smallest"], shortcut["largest"])
    )
    what, middle, unless = {
        "size": (
            "Width and height",
            f" (in the middle {smallest}, {largest})",
            " Where images were cut out around things, it is how large these are, and no fault.",
        ),
        "form": ("Extension and colour format", "", ""),
    }[shortcut["by"]]
    shown = "Test images of the same places do not show that; its mistakes may, and at its end the run looks at them."
    return [
        f"{what} of the files alone tell the class of {shortcut['accuracy']:.0%} of the images, every class counting "
        f"the same, by chance {shortcut['chance']:.0%}{middle}: images of different classes seem to come from "
        f"different places, and a network may learn the place instead of what is shown.{unless}"
        + (f" {shown}" if name == "target" else "")
    ]


def _about_series(intake: Mapping[str, Any], name: str) -> list[str]:
    """What is known of images that come in series, and what became of them."""
    say_it = f"preprocess.{name}.check.group_pattern (null: nothing), or a column group"
    if statements := [_about_one_kind(series) for series in intake["series"]]:
        statements[-1] += f" If names mislead, or do not tell all, say what belongs together: {say_it}."
        return statements
    share = intake["alike"] / max(1, intake["used"])
    if share >= MANY_ALIKE:
        return [
            f"{share:.0%} of the images are near copies of others: they seem to come in series, such as films or "
            "several pictures of one thing. Near copies stay on one side of the splits; images of a series that are "
            "less alike need not, and make the accuracy too good. Where a name or a table says what belongs together, "
            f"say it: {say_it}."
        ]
    return []


def _about_one_kind(series: Mapping[str, Any]) -> str:
    """Of series by name, or of series by order."""
    place = "of its series" if series["pattern"] else "at most two places away by name"
    across = ", some with images of several classes" if series["across_classes"] else ""
    if not series["kept_together"]:
        outcome = (
            "They are not kept on one side, since a class has too few of them, so that the accuracy may be too "
            "good. More series would settle it."
        )
    elif series["held_out_seen"]:
        outcome = (
            f"The given sides tear them apart: {series['held_out_seen']:,} test or validation images are of series "
            "that are trained on, so that the accuracy is too good. Put the images of each series on one side, or "
            "give no sides, and they will be."
        )
    else:
        outcome = "Each series stays on one side of the splits."
    return (
        f"{series['images']:,} images come in {series['series']:,} series, such as {series['example']}{across}: names "
        f"say so, and the picture most like an image is {place} in {series['nearest']:.0%} of cases, by chance in "
        f"{series['chance']:.1%}. {outcome}"
    )


def describe_intake(intake: Mapping[str, Any]) -> str:
    """What became of the listed images, in one line; `intake` is `images.CheckedImages.describe()`.

    The number of classes shows where folders were read as classes that are none.
    """
    classes = f"{intake['classes']:,} class{'' if intake['classes'] == 1 else 'es'}"
    parts = [f"{intake['listed']:,} listed, {intake['used']:,} used, of {classes}"]
    for title, counts in (("set aside", intake["set_aside"]), ("noted", intake["notes"])):
        if counts:
            parts.append(f"{title}: " + ", ".join(f"{count:,} {code}" for code, count in counts.items()))
    return "; ".join(parts)
