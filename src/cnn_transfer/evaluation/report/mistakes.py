"""Section: where the network fails, and where its teachers may have."""

from typing import Any

from cnn_transfer.evaluation.probabilities import counted
from cnn_transfer.evaluation.report.blocks import (
    Column,
    Details,
    Heading,
    Section,
    Text,
    count,
    picture,
    points,
    share,
    table,
)
from cnn_transfer.evaluation.report.run_results import RunResults

PAIRS = [
    Column("label", "true class"),
    Column("predicted", "predicted"),
    Column("images", "images", count),
    Column("share_of_label", "of the true class", share),
]
SUSPECTED = [
    Column("id", "image"),
    Column("split", "split"),
    Column("label", "label"),
    Column("suggested", "rather"),
    Column("probability_of_label", "probability of the label", share),
    Column("probability_of_suggested", "of the other", share),
    Column("margin", "margin, points", points),
]


def mistakes(results: RunResults) -> Section:
    """The most confident mistakes, the most confused pairs of classes, and labels to look at again."""
    blocks = [*_confident(results), *_pairs(results), *_suspected(results), *_unlabelled(results)]
    return Section("mistakes", "Where it fails", blocks)


def _confident(results: RunResults) -> list[Any]:
    if results.confused_pairs.empty:
        return [Text("The delivered network gets every test image right.")]
    return [
        picture(
            "mistakes-sheet",
            results.mistakes_sheet,
            "The most confident mistakes",
            "Test images on which the delivered network was wrong and most sure: true → predicted class, and how sure.",
            "Sheet of the most confident mistakes",
        )
    ]


def _pairs(results: RunResults) -> list[Any]:
    pairs = results.confused_pairs
    if not len(pairs):
        return []
    named = "; ".join(f"{row.label} taken for {row.predicted}: {row.images}" for row in pairs.itertuples())
    return [
        Heading("Classes that are confused"),
        picture(
            "confused-pairs-sheet",
            results.confused_pairs_sheet,
            "The most confused pairs",
            "Test images of the pairs of classes that are confused most often.",
            named,
        ),
        table("confused-pairs", pairs, PAIRS, "Pairs of classes, the most images first", "confused_pairs"),
    ]


def _suspected(results: RunResults) -> list[Any]:
    suspected = results.suspected_labels
    if not len(suspected):
        judged = int(results.target_image_counts[["training", "validation", "test"]].to_numpy().sum())
        return [
            Text(
                f"No label of the {judged:,} images for training, validation and test looks wrong to a network or head "
                "that was not fitted to the image."
            )
        ]
    every = table(
        "suspected-labels", suspected, SUSPECTED, "Labels to look at again, the clearest first", "suspected_labels"
    )
    return [
        Heading("Labels to look at again"),
        Text(
            f"{counted(len(suspected), 'label')} {'looks' if len(suspected) == 1 else 'look'} wrong to a network or "
            "head that was not fitted to the image (confident learning, Northcutt et al. 2021). Most are mistakes of "
            "the network, the clearest may be mistakes of the labels. Let someone who knows the classes go over them "
            "on suspected_labels.html, or in suspected_labels.csv, beside this report: a class or nothing in the "
            "column label of what is saved takes the place of the label in the next run with --params "
            "target_labels=FILE."
        ),
        picture(
            "suspected-labels-sheet",
            results.suspected_labels_sheet,
            "Labels to look at again",
            "The clearest first: the label, and the class that the image looks like.",
            "Images whose labels may be wrong",
        ),
        Details(f"Labels to look at one by one ({len(suspected):,})", [every]),
    ]


def _unlabelled(results: RunResults) -> list[Any]:
    nameless = int(results.target_image_counts["unlabelled"].sum())
    if not nameless:
        return []
    return [
        Heading("Labels that would help"),
        Text(
            f"{counted(nameless, 'image')} {'has' if nameless == 1 else 'have'} no label. kedro run --pipelines "
            "label_next, with the --env and --params of this run, asks for those labels that would tell the network "
            "most, on a page to give them on; they serve for training alone."
        ),
    ]
