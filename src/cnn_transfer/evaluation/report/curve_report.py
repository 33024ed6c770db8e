"""The report of a learning curve: how many labels the transfer saves, and the verdict with the chance of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cnn_transfer.evaluation.learning_curve import SIDES, saves_labels
from cnn_transfer.evaluation.probabilities import counted
from cnn_transfer.evaluation.report.blocks import (
    Column,
    Notice,
    Section,
    Text,
    Tile,
    Tiles,
    amount,
    count,
    picture,
    points,
    render,
    share,
    spread,
    table,
    words,
)

WORTHS_CAPTION = (
    "What the transfer reached, and is worth; what chance does in training is estimated from all points together, for "
    "the verdict above from those with its labels alone"
)
BOXES = {  # by `saves_labels`
    True: ("positive", "▲ The transfer saves labels"),
    None: ("neutral", "● No clear saving of labels"),
    False: ("negative", "▼ The transfer costs labels"),
}
SAVED = "labels_saved"  # the data set of most figures
CURVE = [
    Column("side", "network"),
    Column("labels", "labels a class", count),
    Column("accuracy", "accuracy, mean of its trainings", share, has_interval=True),
]
WORTHS = [
    Column("labels", "labels a class", count),
    Column("accuracy", "accuracy of the transfer", share, has_interval=True),
    Column("difference", "points above from scratch", points, has_interval=True),
    Column("text", "labels from scratch that these are worth"),
]
POINTS = [
    Column("side", "network"),
    Column("labels", "labels a class", count),
    Column("seed", "seed", count),
    Column("accuracy", "accuracy", share, has_interval=True),
]


def write_curve_report(curve: pd.DataFrame, saved: Mapping[str, Any], plot: str, source: str, target: str) -> str:
    """The report of a learning curve as one HTML page without any reference to another file.

    Args:
        curve: See `learning_curve.curve_table`.
        saved: See `learning_curve.labels_saved`, with `verdict_over_seeds`.
        plot: The curve as `as_svg` gives it.
        source: Name of the set that the transferred network was trained on first.
        target: Name of the set with the labels.
    """
    kind, box = BOXES[saves_labels(saved["headline"])]
    return render(
        title=f"Labels of {target} that a transfer from {source} saves",
        subtitle=f"Accuracy by labels a class on {counted(saved['test_images'], 'test image')} that nothing was chosen "
        f"on, {counted(saved['seeds'], 'draw')} of labels, weights and order at each point.",
        verdict={"kind": kind, "title": box, "sentence": saved["sentence"]},
        sections=[_worth(saved, plot), _verdict(saved["verdict_over_seeds"]), _numbers(curve, saved)],
        footer="Every figure of this page is in full in labels_saved.json, or in the data set that its table names. "
        "Made by CNN Transfer.",
    )


def _worth(saved: Mapping[str, Any], plot: str) -> Section:
    level = f"{100 * saved['confidence']:.3g}%"
    described = "; ".join(
        f"{row['labels']} labels: {row['accuracy']:.1%}, worth {row['text']}" for row in saved["rows"]
    )
    arrow = " The arrow leads from the labels of the transfer to those with which training from scratch is as good."
    return Section(
        "worth",
        "Labels saved",
        [
            Tiles([_worth_tile(row) for row in saved["rows"]]),
            picture(
                "curve",
                plot,
                "Learning curve",
                f"Accuracy by labels a class: means with {level} intervals over test images and trainings; a dot "
                f"is one training.{'' if saved['headline']['worth_is'] == 'not_known' else arrow}",
                f"Transfer with {described}",
            ),
            *([Notice(saved["statements"])] if saved["statements"] else []),
        ],
    )


def _worth_tile(row: Mapping[str, Any]) -> Tile:
    """A number where it was measured, else the words for it; below it the interval."""
    name = f"{counted(row['labels'], 'label')} a class {'is' if row['labels'] == 1 else 'are'} worth"
    worth, measured = row["worth"], row["worth_is"] == "measured"
    if measured and row["worth_low_is"] == row["worth_high_is"] == "measured":
        return Tile(name, amount(worth, row["worth_low"], row["worth_high"]), "from scratch", source=SAVED)
    text, _, interval = row["text"].partition(" (")
    return Tile(name, amount(worth) if measured else words(text), f"{interval.rstrip(')')}; from scratch", source=SAVED)


def _verdict(verdict: Mapping[str, Any] | None) -> Section:
    name, title = "verdict", "Is transfer better at the same number of labels?"
    if verdict is None:
        text = (
            "How much training varies is not known: no number of labels was measured with two seeds on both sides. "
            "Raise learning_curve.seeds; only what is missing is measured."
        )
        return Section(name, title, [Text(text)])
    tiles = [
        Tile(
            "Transfer less from scratch, points",
            points(*(verdict[f"difference{end}"] for end in ("", "_low", "_high"))),
            f"at {counted(verdict['labels'], 'label')} a class",
            source=SAVED,
        ),
        Tile(
            "Varies from training to training by",
            spread(verdict["training_deviation"]),
            "points, standard deviation",
            source=SAVED,
        ),
        Tile(
            "Varies with the test images by",
            spread(verdict["test_deviation"]),
            "points, standard deviation",
            source=SAVED,
        ),
    ]
    return Section(name, title, [Text(verdict["sentence"]), Tiles(tiles)])


def _numbers(curve: pd.DataFrame, saved: Mapping[str, Any]) -> Section:
    means, each = pd.DataFrame(saved["curve"]), curve.copy()
    for frame in (means, each):
        frame["side"] = frame["side"].map(SIDES)
    return Section(
        "numbers",
        "Every number",
        [
            table("worths", pd.DataFrame(saved["rows"]), WORTHS, WORTHS_CAPTION, SAVED),
            table("means", means, CURVE, "Both sides, over all trainings", SAVED),
            table("points", each, POINTS, "Each training; intervals over test images only", "learning_curve"),
        ],
    )
