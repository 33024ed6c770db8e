"""Section: the key figures, for those who read one minute."""

from typing import Any

from cnn_transfer.evaluation.report.blocks import (
    Heading,
    Notice,
    Section,
    Text,
    Tile,
    Tiles,
    picture,
    points,
    share,
    words,
)
from cnn_transfer.evaluation.report.run_results import RunResults


def overview(results: RunResults) -> Section:
    """The figures that the summary holds, and the networks side by side."""
    summary = results.summary
    accuracies = "; ".join(f"{name} {metrics['accuracy']:.1%}" for name, metrics in results.networks.items())
    advice: list[Any] = [Heading("What to try"), *map(Text, summary["advice"])] if summary["advice"] else []
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
                "Accuracy on the test images with its 95% interval. Overlapping intervals do not settle a comparison; "
                "the difference on the same images, above, does."
                if results.baseline_metrics
                else "Accuracy on the test images with its 95% interval.",
                f"Accuracy with interval: {accuracies}",
            ),
            *([Notice(summary["statements"])] if summary["statements"] else []),
        ],
    )


def _accuracies(results: RunResults) -> list[Tile]:
    """What the transfer reached, and what it is compared with."""
    summary = results.summary
    cost = summary["training_cost_ratio"]
    tiles = [
        Tile(
            "Accuracy after transfer",
            share(*(summary[f"target_accuracy{end}"] for end in ("", "_low", "_high"))),
            key="target_accuracy",
        )
    ]
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
                share(cost) if cost is not None else words("not reached"),
                "images until scratch's final validation accuracy",
                "training_cost_ratio",
            ),
        ]
    if results.random_metrics:
        tiles.append(Tile("Same method, random weights", share(summary["random_accuracy"]), key="random_accuracy"))
    return tiles


def _trust(results: RunResults) -> list[Tile]:
    """How far the probabilities can be trusted, and how much the network answers by itself."""
    summary = results.summary
    wished = f"{100 * summary['wished_accuracy']:.3g}% wished"
    right = (
        "" if summary["answered_accuracy"] is None else f"{share(summary['answered_accuracy']).text} of these right, "
    )
    return [
        Tile(
            "Its probabilities are off by",
            share(summary["calibration_error"]),
            f"on average; {share(summary['calibration_error_before']).text} before calibration",
            "calibration_error",
        ),
        Tile(
            "Answered by itself", share(summary["answered_share"]), f"of the images; {right}{wished}", "answered_share"
        ),
    ]
