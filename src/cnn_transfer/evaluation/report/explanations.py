"""Section: what speaks for the predictions, how far that can be trusted, and what the fine-tuning changed."""

from typing import Any

import pandas as pd

from cnn_transfer.evaluation.backgrounds import describe_backgrounds, warn_of_backgrounds
from cnn_transfer.evaluation.report.blocks import (
    Column,
    Details,
    Heading,
    Notice,
    Section,
    Text,
    decimal,
    gain,
    picture,
    table,
    truth,
)
from cnn_transfer.evaluation.report.run_results import RunResults

METHODS = {"grad_cam": "Grad-CAM", "integrated_gradients": "integrated gradients"}
SCORES = [
    Column("method", "method"),
    Column("insertion_gain", "insertion", gain, has_interval=True),
    Column("deletion_gain", "deletion", gain, has_interval=True),
    Column("randomisation_correlation", "random weights", decimal),
    Column("stability", "invisible change", decimal),
    Column("passes", "passed", truth),
]
SIMILARITY = [
    Column("layer", "depth"),
    Column("cka", "similarity (CKA)", decimal, has_interval=True),
]


def explanations(results: RunResults) -> Section:
    """Attribution maps with their tests, and the similarity of representations before and after fine-tuning."""
    blocks = [*_maps(results), *_backgrounds(results), *_nearest(results), *_change(results)]
    return Section("explanations", "What it looks at", blocks)


def _maps(results: RunResults) -> list[Any]:
    explained = results.explanations
    if not explained["methods"]:
        return [Text(explained["statement"])]
    wrong = [f"{row['label']} taken for {row['predicted']}" for row in explained["shown"] if not row["correct"]]
    return [
        Text(
            "A map is worth as much as its method. Insertion shows an image from its most important pixels on and "
            "should find the class early, deletion takes them away and should lose it early, both better than random "
            "maps as smooth. With random weights the map must become another one, after an invisible change of the "
            "image it must not."
        ),
        table(
            "explanation-scores",
            pd.DataFrame(explained["methods"]).replace({"method": METHODS}),
            SCORES,
            "Tests of the methods on test images: areas under the curves gained over random maps, with "
            f"{results.level} intervals; rank correlations of maps with random weights (low is good) and after an "
            "invisible change (high is good)",
            "explanations",
        ),
        Details("The tests in words", [Text(row["statement"]) for row in explained["methods"]]),
        picture(
            "explanations-sheet",
            results.explanations_sheet,
            "What speaks for the predicted class",
            "The most confident mistakes first, then images that are recognised. Orange speaks for the predicted "
            "class, blue against it.",
            f"Attribution maps of {len(explained['shown'])} test images" + (f"; {', '.join(wrong)}" if wrong else ""),
        ),
    ]


def _backgrounds(results: RunResults) -> list[Any]:
    found = results.background_reliance
    statement, warning = describe_backgrounds(found), warn_of_backgrounds(found)
    blocks = [
        Heading("Does it go by the background?"),
        Notice([warning]) if warning else Text(statement),
    ]
    if not found["images"]:
        return blocks
    return [
        *blocks,
        picture(
            "backgrounds",
            results.background_sheet,
            "Test images on other backgrounds",
            f"A rectangle in the middle, {found['middle']:.0%} of the area, stays; what is around it comes from "
            "another image. Those that are taken for the class of the background come first.",
            f"Test images as they are, on a background of their own class and on one of another. {statement}",
        ),
    ]


def _change(results: RunResults) -> list[Any]:
    depths = results.representation_similarity
    other = results.delivered_model_card != results.target_model_card
    return [
        Heading("What the fine-tuning changed"),
        *([Text("This is about the transferred network; another one is delivered.")] if other else []),
        Text(results.map_similarity["statement"]),
        *(
            [
                picture(
                    "similarity",
                    results.similarity_plot,
                    "Similarity before and after fine-tuning",
                    "How alike two images are to the network, before and after: 1 means that a depth still sees the "
                    "same likenesses (centred kernel alignment, Kornblith et al. 2019).",
                    "Similarity by depth: "
                    + "; ".join(f"{row.layer} {decimal(row.cka).text}" for row in depths.itertuples()),
                ),
                table(
                    "similarity-table",
                    depths,
                    SIMILARITY,
                    f"Similarity of representations before and after fine-tuning, {results.level} intervals",
                    "representation_similarity",
                ),
            ]
            if len(depths)
            else []
        ),
    ]


def _nearest(results: RunResults) -> list[Any]:
    if results.confused_pairs.empty:
        return []  # no mistakes, nothing to compare
    return [
        Heading("What it has seen that is like this"),
        Text("The training images that the network finds most like the images of its most confident mistakes."),
        picture(
            "nearest",
            results.nearest_sheet,
            "Nearest training images",
            "First of each row: a test image; then the training images nearest to it in what the last layer reads.",
            "Mistakes, each beside the training images nearest to it",
        ),
    ]
