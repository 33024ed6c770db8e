"""Section: the key figures, for those who read one minute."""

from cnn_transfer.evaluation.report.blocks import Section, Text, Tile, Tiles, picture, points, share, words
from cnn_transfer.evaluation.report.run_results import RunResults


def overview(results: RunResults) -> Section:
    """The figures that the summary holds, and the three networks side by side."""
    summary = results.summary
    cost = summary["training_cost_ratio"]
    accuracies = "; ".join(f"{name} {metrics['accuracy']:.1%}" for name, metrics in results.networks.items())
    return Section(
        "summary",
        "Summary",
        [
            Tiles(
                [
                    Tile(
                        "Accuracy after transfer",
                        share(
                            *(
                                summary[key]
                                for key in ("target_accuracy", "target_accuracy_low", "target_accuracy_high")
                            )
                        ),
                        key="target_accuracy",
                    ),
                    Tile("Trained from scratch", share(summary["baseline_accuracy"]), key="baseline_accuracy"),
                    Tile("Same method, random weights", share(summary["random_accuracy"]), key="random_accuracy"),
                    Tile(
                        "Difference to scratch, points",
                        points(summary["difference"], summary["difference_low"], summary["difference_high"]),
                        key="difference",
                    ),
                    Tile(
                        "Training cost against scratch",
                        share(cost) if cost is not None else words("not reached"),
                        "images until scratch's final validation accuracy",
                        "training_cost_ratio",
                    ),
                    Tile("Delivered", words(summary["delivered"])),
                ]
            ),
            picture(
                "accuracy",
                results.accuracy_plot,
                "Accuracy of the three networks",
                "Accuracy on the test images with its 95% interval. Overlapping intervals do not settle a comparison; "
                "the difference on the same images, above, does.",
                f"Accuracy with interval: {accuracies}",
            ),
            Text(summary["plan"]),
        ],
    )
