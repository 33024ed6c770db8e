"""Section: where the network fails."""

from cnn_transfer.evaluation.report.blocks import Section, picture
from cnn_transfer.evaluation.report.run_results import RunResults


def mistakes(results: RunResults) -> Section:
    """The most confident mistakes."""
    return Section(
        "mistakes",
        "Where it fails",
        [
            picture(
                "mistakes-sheet",
                results.mistakes_sheet,
                "The most confident mistakes",
                "Test images on which the network was wrong and most sure.",
                "Sheet of the most confident mistakes",
            )
        ],
    )
