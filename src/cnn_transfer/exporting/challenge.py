"""Is a new release, the challenger, worse than the one before, the champion?

Both have labelled the same test images (`champion.judge_both`); labels are those of today. The difference of accuracies
has the interval of `evaluation.paired_difference`, and so has that of each class, at a level for all classes together
(Bonferroni): with intervals of 95% at most 2.5% of challengers as good as the champion seem clearly worse over all, and
as many in some class. A class that is not there any more has no such images: losing one is refused without them.

Labels that are spoilt in the test images, too, make both look bad there. What each got right of its own validation
images, when it was trained, shows that: a clear drop is told, and refused where the challenger is not shown to tell
classes apart.

Test images decide nothing here but whether a release that is clearly worse is refused. `benchmarks/releases.py`
measures what that does, release after release, to an accuracy that is stated on the same test images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import pandas as pd

from cnn_transfer.evaluation.intervals import Interval, score_interval
from cnn_transfer.evaluation.verdict import paired_difference
from cnn_transfer.exporting.champion import JUDGED_COLUMNS, Champion, same_network
from cnn_transfer.images import ImageFormat
from cnn_transfer.prediction import Predictor

Refuse = Literal["clearly_worse", "not_shown_as_good", "never"]

BETTER, WORSE, NO_DIFFERENCE = "better", "worse", "no clear difference"
MOST_NAMED = 5  # classes in a sentence
CLASS_COLUMNS = [
    "class", "images", "accuracy", "champion_accuracy", "difference", "difference_low", "difference_high", "verdict",
]  # fmt: skip
CHANGE_COLUMNS = ["id", "change", *JUDGED_COLUMNS[1:]]


class WorseReleaseError(ValueError):
    """A release is worse than the one before, or not shown to be as good where that is asked for."""


@dataclass(frozen=True)
class Rule:
    """Which challenger is refused.

    Attributes:
        refuse: `clearly_worse`: one that lacks a class of the champion, or whose accuracy, or that in a class, is shown
            to be lower by more than `most_loss`; `not_shown_as_good`: also one whose accuracy is not shown to be lower
            by no more than that; `never`: none.
        most_loss: Of accuracy that is allowed, 0-1.
        confidence: Level of the intervals, 0-1.
    """

    refuse: Refuse
    most_loss: float
    confidence: float


def compare_with_champion(
    challenger: Predictor, champion: Champion, judged: pd.DataFrame, rule: Rule
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Decide whether a challenger may take the champion's place.

    Args:
        challenger: The predictor of the new release.
        champion: The release before.
        judged: See `judge_both`.
        rule: Which is refused.

    Returns:
        In words of JSON: `champion` (its version, or None), `challenger` (the predictor's version), `passed`,
        `statement` (what was found) and `notes` (what has to be known beside it), sentences; the `rule`; `images`
        compared, `seen` and `unknown_classes` (test images that are left out), `new_classes`, `gone_classes` (names);
        `silenced` (whether it answers no image, and the champion does); `validation_accuracy`, also as `champion_…`
        (of each one's own validation images), `dropped` (whether the first is clearly lower, by Newcombe's interval,
        1998) and `blunt` (whether it is then not shown to be above chance, one of the number of classes);
        `accuracy`, `champion_accuracy`, `difference` with `_low` and `_high`, `verdict`, `worse_classes` (names);
        `answered` and `wrong_answers` (shares of all images), each also as `champion_…`; all 0-1, None where nothing
        was compared. And a table of one row a class, the largest loss first: `class`, `images`, `accuracy`,
        `champion_accuracy`, `difference` with `_low` and `_high`, `verdict`.
    """
    figures, classes = weigh(judged, rule)
    changes = _class_changes(challenger, champion)
    silenced = _is_silenced(challenger, champion)
    figures |= {**changes, "silenced": silenced, **_drop(challenger, champion, rule.confidence)}
    passed = passes(figures, rule, changes["gone_classes"], silenced or figures["blunt"])
    return {
        "champion": champion.version or None,
        "challenger": challenger.version,
        "passed": passed or not champion.version or same_network(challenger, champion),
        "statement": _statement(challenger, champion, figures, classes),
        "notes": _notes(challenger, champion, figures),
        "rule": {"refuse": rule.refuse, "most_loss": rule.most_loss, "confidence": rule.confidence},
        **figures,
    }, classes


def weigh(judged: pd.DataFrame, rule: Rule) -> tuple[dict[str, Any], pd.DataFrame]:
    """The figures of a comparison, from `images` to `worse_classes`, and its table; see `compare_with_champion`."""
    classes = _by_class(judged, rule)
    worse = classes["class"][classes["verdict"] == WORSE].tolist()
    return _figures(judged, rule) | {"worse_classes": worse}, classes


def passes(figures: Mapping[str, Any], rule: Rule, gone_classes: Sequence[str] = (), useless: bool = False) -> bool:
    """Whether a challenger may take the champion's place.

    Args:
        figures: See `weigh`.
        rule: Which is refused.
        gone_classes: Names of classes of the champion that the challenger does not have.
        useless: Whether the challenger answers no image, or is not shown to tell classes apart, and the champion did.
    """
    if rule.refuse == "never":
        return True
    if figures["verdict"] == WORSE or figures["worse_classes"] or gone_classes or useless:
        return False
    low = figures["difference_low"]
    return rule.refuse == "clearly_worse" or (low is not None and low >= -rule.most_loss)


def changed_images(judged: pd.DataFrame) -> pd.DataFrame:
    """Images that one has right and the other wrong: the surest mistakes of the challenger first.

    Returns:
        The columns of `judge_both`, and `change`: `lost` (right before, wrong now) or `gained`.
    """
    right, before = _right(judged)
    changes: pd.DataFrame = judged.assign(change=np.where(before, "lost", "gained"))[right != before]
    changes = changes.sort_values(["change", "confidence"], ascending=False, kind="stable")  # lost before gained
    return changes[CHANGE_COLUMNS].reset_index(drop=True)


def describe_champion(comparison: Mapping[str, Any]) -> list[str]:
    """Lines for the terminal."""
    lines = [f"{'before':<15} {comparison['statement']}"]
    return [*lines, *(f"{'':<15} {note}" for note in comparison["notes"])]


def check_not_worse(comparison: Mapping[str, Any]) -> None:
    """Refuse a challenger that its comparison has not passed.

    Raises:
        WorseReleaseError: With what was found, and what to do.
    """
    if comparison["passed"]:
        return
    asked = {
        "clearly_worse": "must not be clearly worse than the one before",
        "not_shown_as_good": "must be shown to be as good as the one before",
    }[comparison["rule"]["refuse"]]
    allowed = comparison["rule"]["most_loss"]
    loss = f" ({100 * allowed:g} points of loss are allowed)" if allowed else ""
    classes, removed = " and must answer images as that did" if comparison["silenced"] else "", ""
    classes += " and must tell classes apart as that did" if comparison["blunt"] else ""
    if comparison["gone_classes"]:
        classes += " and must have all of its classes"
        removed = (
            " Where the classes were removed on purpose, once is enough: the next release is compared with this one."
        )
    raise WorseReleaseError(
        f"A release {asked}{loss}{classes}; nothing is released, and {comparison['champion']} stays. "
        f"{comparison['statement']} Look at champion_changes, its images in champion_sheet, and at what changed: kedro "
        "run --pipelines compare_runs. Allow a loss of accuracy with export.champion.most_loss, or release it all the "
        f"same with --params export.champion.refuse=never.{removed}"
    )


def _sees_less(champion: ImageFormat, challenger: ImageFormat) -> bool:
    """Whether images stored for the challenger lack something that the champion was made to see."""
    smaller = challenger.image_size_px < champion.image_size_px or challenger.channels < champion.channels
    return smaller or challenger.resize != champion.resize


def _right(judged: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Which images the challenger, and the champion, has right."""
    label = judged["label"].to_numpy(object)
    return judged["predicted"].to_numpy(object) == label, judged["champion_predicted"].to_numpy(object) == label


def _figures(judged: pd.DataFrame, rule: Rule) -> dict[str, Any]:
    names = ["accuracy", "champion_accuracy", "difference", "difference_low", "difference_high", "verdict"]
    names += [f"{whose}{name}" for name in ("answered", "wrong_answers") for whose in ("", "champion_")]
    left_out = {name: judged.attrs.get(name, 0) for name in ("seen", "unknown_classes")}
    if judged.empty:
        return {"images": 0, **left_out, **dict.fromkeys(names)}
    right, before = _right(judged)
    difference = paired_difference(right, before, rule.confidence, judged["group"])
    answered, answered_before = (judged[f"{whose}withheld"].to_numpy(object) == "" for whose in ("", "champion_"))
    values = [right.mean(), before.mean(), *difference]
    shares = [answered.mean(), answered_before.mean(), (answered & ~right).mean(), (answered_before & ~before).mean()]
    found = [*map(float, values), _verdict(difference.low, difference.high, rule.most_loss), *map(float, shares)]
    return {"images": len(judged), **left_out, **dict(zip(names, found, strict=True))}


def _by_class(judged: pd.DataFrame, rule: Rule) -> pd.DataFrame:
    counts = judged["label"].value_counts()
    confidence = 1 - (1 - rule.confidence) / max(1, len(counts))
    rows: list[list[Any]] = []
    for name, part in judged.groupby("label", sort=True):
        right, before = _right(part)
        difference = paired_difference(right, before, confidence, part["group"])
        verdict = _verdict(difference.low, difference.high, rule.most_loss)
        rows.append([name, len(part), right.mean(), before.mean(), *difference, verdict])
    table = pd.DataFrame(rows, columns=CLASS_COLUMNS).sort_values("difference", kind="stable", ignore_index=True)
    types: dict[str, Any] = {"class": "str", "images": int, "verdict": "str"}
    return table.astype(types | dict.fromkeys(CLASS_COLUMNS[2:7], float))


def _verdict(low: float, high: float, most_loss: float) -> str:
    return WORSE if high < -most_loss else BETTER if low > 0 else NO_DIFFERENCE


def _class_changes(challenger: Predictor, champion: Champion) -> dict[str, list[str]]:
    if champion.predictor is None:
        return {"new_classes": [], "gone_classes": []}
    now, before = challenger.facts.class_names, champion.predictor.facts.class_names
    return {
        "new_classes": [name for name in now if name not in before],
        "gone_classes": [name for name in before if name not in now],
    }


def _is_silenced(challenger: Predictor, champion: Champion) -> bool:
    before = champion.predictor.facts.threshold if champion.predictor else None
    return challenger.facts.threshold is None and before is not None


def _drop(challenger: Predictor, champion: Champion, confidence: float) -> dict[str, Any]:
    """What each got right of its own validation images, and what that says of the challenger."""
    now = _validation_interval(challenger, confidence)
    before = _validation_interval(champion.predictor, confidence) if champion.predictor else None
    dropped = bool(
        now
        and before
        and before.estimate - now.estimate > math.hypot(before.estimate - before.low, now.high - now.estimate)
    )
    return {
        "validation_accuracy": now and now.estimate,
        "champion_validation_accuracy": before and before.estimate,
        "dropped": dropped,
        "blunt": dropped and now is not None and now.low <= 1 / len(challenger.facts.class_names),
    }


def _validation_interval(predictor: Predictor, confidence: float) -> Interval | None:
    metrics = predictor.facts.card.metrics
    accuracy, images = (metrics.get(f"validation_{name}") for name in ("accuracy", "images"))
    if accuracy is None or not images:
        return None
    return score_interval(accuracy, images, NormalDist().inv_cdf(0.5 + confidence / 2))


def _validated(figures: Mapping[str, Any]) -> str:
    now, before = figures["validation_accuracy"], figures["champion_validation_accuracy"]
    return f"{now:.1%} of its own validation images are right, {before:.1%} of those of the release before"


def _statement(challenger: Predictor, champion: Champion, figures: Mapping[str, Any], classes: pd.DataFrame) -> str:
    if not champion.version:
        return "There is no release of another network before this one."
    if champion.predictor is None:
        return f"Not compared with the release before, {champion.version}: {champion.problem}"
    if same_network(challenger, champion):
        return f"The network is that of the release before, {champion.version}."
    gone = figures["gone_classes"]
    lost = f" GONE {'CLASSES' if len(gone) > 1 else 'CLASS'}: {_named(gone)}." if gone else ""
    if figures["silenced"]:
        lost += " IT ANSWERS NO IMAGE: no confidence is known above which enough are right, as one was before."
    if figures["blunt"]:
        lost += f" NOTHING SHOWS THAT IT TELLS THE CLASSES APART: {_validated(figures)}."
    if not figures["images"]:
        return (
            f"Not compared with the release before, {champion.version}: there is no test image that it has not seen "
            f"and whose class it knows.{lost}"
        )
    points = [f"{100 * figures[name]:+z.1f}" for name in ("difference", "difference_low", "difference_high")]
    said = {BETTER: "better", WORSE: "WORSE", NO_DIFFERENCE: "no clear difference"}[figures["verdict"]]
    text = (
        f"{figures['accuracy']:.1%} of {figures['images']:,} test images that neither has seen are right, "
        f"{figures['champion_accuracy']:.1%} by the release before, {champion.version}: {points[0]} points "
        f"({points[1]} to {points[2]}), {said}."
    )
    worse = classes[classes["verdict"] == WORSE]
    if len(worse):
        named = [
            f"{row['class']} ({row['accuracy']:.1%} of {row['images']:,}, {row['champion_accuracy']:.1%} before)"
            for row in worse.head(MOST_NAMED).to_dict("records")
        ]
        more = f" and {len(worse) - MOST_NAMED} more" if len(worse) > MOST_NAMED else ""
        text += f" WORSE IN {'CLASSES' if len(worse) > 1 else 'CLASS'} {', '.join(named)}{more}."
    return text + lost


def _notes(challenger: Predictor, champion: Champion, figures: Mapping[str, Any]) -> list[str]:
    dropped = (
        [f"{_validated(figures)}: labels may be spoilt, or images and classes harder."] if figures["dropped"] else []
    )
    if champion.predictor is None or not figures["images"]:
        return dropped
    notes = [
        *dropped,
        f"Answered {figures['answered']:.1%} of them, {figures['champion_answered']:.1%} before; wrong answers "
        f"{figures['wrong_answers']:.1%}, {figures['champion_wrong_answers']:.1%} before.",
    ]
    if figures["seen"]:
        notes.append(
            f"Left out: {figures['seen']:,} test images that the release before was made with, or others of their "
            "groups."
        )
    if figures["new_classes"]:
        notes.append(
            f"Not compared: classes that the release before does not know, {_named(figures['new_classes'])} "
            f"({figures['unknown_classes']:,} test images)."
        )
    now, before = challenger.facts.image_format, champion.predictor.facts.image_format
    if _sees_less(before, now):
        notes.append(
            f"The release before was made for images of {_words(before)} and sees them here as they are stored now, "
            f"{_words(now)}: it may be better than shown."
        )
    return notes


def _named(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{', '.join(names[:MOST_NAMED])}{more}"


def _words(image_format: ImageFormat) -> str:
    height, width, channels = image_format.shape
    return f"{height} x {width} px in {'colour' if channels == 3 else 'grey'} ({image_format.resize})"
