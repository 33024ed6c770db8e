"""Section: the key figures, for those who read one minute."""

from collections.abc import Mapping
from typing import Any

from cnn_transfer.evaluation.probabilities import percent_text
from cnn_transfer.evaluation.report.blocks import (
    Cell,
    Heading,
    Notice,
    Section,
    Text,
    Tile,
    Tiles,
    part,
    picture,
    points,
    share,
    words,
)
from cnn_transfer.evaluation.report.run_results import RunResults
from cnn_transfer.evaluation.summary import BALANCED, chance_tells, classes_count


def overview(results: RunResults) -> Section:
    """The figures that the summary holds, and the networks side by side."""
    summary = results.summary
    accuracies = "; ".join(f"{name} {metrics['accuracy']:.1%}" for name, metrics in results.networks.items())
    lines = summary["advice"]
    loud = summary["verdict"] == "negative"
    advice: list[Any] = [Heading("What to try"), *([Notice(lines)] if loud else map(Text, lines))] if lines else []
    return Section(
        "summary",
        "Summary",
        [
            *advice,
            Tiles([*_accuracies(results), *_trust(results), Tile("Delivered", words(summary["delivered"]))]),
            picture(
                "accuracy",
                results.accuracy_plot,
                "Accuracy of the networks",
                f"Accuracy on the test images with its {results.level} interval. Overlapping intervals do not settle a "
                "comparison; the difference on the same images, above, does. Each network was trained once: what "
                "another training would change is in no interval here: kedro run --pipelines learning_curve, with the "
                "--env and --params of this run."
                if results.baseline_metrics
                else f"Accuracy on the test images with its {results.level} interval.",
                f"Accuracy with interval: {accuracies}",
            ),
            *([Notice(summary["statements"])] if summary["statements"] else []),
        ],
    )


def _cost(cost: Mapping[str, Any]) -> Cell:
    """The ratio, or why there is none."""
    if cost["baseline_validation_accuracy"] is None or cost["ratio"] is not None:
        return part(cost["ratio"])
    return words("not reached" if cost["target_images"] is None else "cannot be compared")


def _cost_note(cost: Mapping[str, Any]) -> str:
    """What the ratio counts, and what it would be to levels that are a standard error lower and higher."""
    if cost["ratio"] is None and cost["ratio_low"] is None:
        return "images until scratch's final validation accuracy"
    low, high = (
        part(cost[f"ratio_{end}"]).text if cost[f"ratio_{end}"] is not None else "never" for end in ("low", "high")
    )
    within = "the same" if low == high != "never" else f"{low} to {high}"
    return f"images until scratch's final validation accuracy; {within} within a standard error of it"


def _accuracies(results: RunResults) -> list[Tile]:
    """What the transfer reached, and what it is compared with."""
    summary = results.summary
    tiles = [
        Tile(
            "Accuracy after transfer",
            share(*(summary[f"target_accuracy{end}"] for end in ("", "_low", "_high"))),
            key="target_accuracy",
        )
    ]
    if classes_count(summary):
        tiles.append(
            Tile(
                "Where every class counts the same",
                share(*(summary[f"target_{BALANCED}{end}"] for end in ("", "_low", "_high"))),
                f"{share(summary[f'baseline_{BALANCED}']).text} from scratch" if results.baseline_metrics else "",
                f"target_{BALANCED}",
            )
        )
    if results.baseline_metrics:
        tiles += [
            Tile("Trained from scratch", share(summary["baseline_accuracy"]), key="baseline_accuracy"),
            Tile(
                "Difference to scratch, points",
                points(*(summary[f"difference{end}"] for end in ("", "_low", "_high"))),
                key="difference",
            ),
            Tile(
                "Training cost against scratch",
                _cost(results.transfer_verdict["training_cost"]),
                _cost_note(results.transfer_verdict["training_cost"]),
                "training_cost_ratio",
            ),
        ]
    if results.random_metrics:
        tiles.append(Tile("Same method, random weights", share(summary["random_accuracy"]), key="random_accuracy"))
    return tiles


def _trust(results: RunResults) -> list[Tile]:
    """How far the probabilities can be trusted, and of how much the network is sure enough."""
    summary = results.summary
    wished = percent_text(summary["wished_accuracy"])
    promised = summary["promised_accuracy"]
    less = "" if promised in {None, summary["wished_accuracy"]} else f", {percent_text(promised)} promised"
    right = (
        "" if summary["answered_accuracy"] is None else f"{share(summary['answered_accuracy']).text} of these right, "
    )
    sure = f"of the images; {right}{wished} wished{less}"
    if summary["unfamiliar_share"]:
        unlike = share(summary["unfamiliar_share"]).text
        sure += f"; {unlike} are unlike the training images and get no answer, however sure"
    if summary["answered_share"] is None:
        sure = f"no threshold is known to reach an accuracy of {wished}"
    error, before, chance = (share(summary[f"calibration_error{end}"]).text for end in ("", "_before", "_by_chance"))
    off = f"on average (perfect ones: {chance}, by chance)" if chance_tells(summary) else "on average"
    if error != before:
        off += f"; {before} before calibration"
    return [
        Tile("Its probabilities are off by", share(summary["calibration_error"]), off, "calibration_error"),
        Tile("Sure enough to answer", share(summary["answered_share"]), sure, "answered_share"),
    ]
