"""Section: what was transferred, and the evidence for it."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cnn_transfer.evaluation.figures import is_blind
from cnn_transfer.evaluation.report.blocks import (
    Column,
    Details,
    Section,
    Text,
    Tile,
    Tiles,
    count,
    decimal,
    picture,
    share,
    table,
    truth,
    words,
)
from cnn_transfer.evaluation.report.run_results import RunResults

HEADS = [
    Column("weights", "weights"),
    Column("accuracy", "accuracy", share),
    Column("standard_error", "standard error", decimal),
    Column("loss", "squared error", decimal),
    Column("nearest_neighbours", "nearest neighbours", share),
    Column("permuted_labels", "permuted labels", share),
]
TAP_CHOICE = [
    Column("step", "question"),
    Column("taps", "depths"),
    Column("grid", "cells a side", count),
    Column("deepest", "weight of the deepest", share),
    Column("loss", "squared error", decimal),
    Column("difference", "difference", decimal),
    Column("standard_error", "standard error", decimal),
    Column("accuracy", "accuracy", share),
    Column("chosen", "chosen", truth),
]


def plan(results: RunResults) -> Section:
    """The plan in words, what each depth knows, and how the depths were chosen."""
    decided = results.transfer_plan
    return Section(
        "plan",
        "What was transferred, and why",
        [
            Text(decided["sentence"]),
            *([Text(mirroring["sentence"])] if (mirroring := decided.get("mirroring")) else []),
            Tiles(
                [
                    Tile("Cut after", words(decided["cut_layer"])),
                    Tile("Depths read", words(f"{len(decided['taps'])} of {len(decided['cut_layers'])}")),
                    Tile("Weights from the source", count(decided["transferred_parameters"]), source="transfer_plan"),
                    Tile("Weights of the new head", count(decided["new_parameters"]), source="transfer_plan"),
                    Tile("Strategy", words(results.target_model_card["strategy"])),
                ]
            ),
            *([] if is_blind(decided) else _left_out(results)),
        ],
    )


def _left_out(results: RunResults) -> list[Any]:
    """What left-out training images say of each depth, of the head, and of the choices."""
    decided = results.transfer_plan
    names = {"transferred": "of the source", "random_weights": "random"}
    heads = [{"weights": name} | decided["evidence"][key] for key, name in names.items() if key in decided["evidence"]]
    known = "; ".join(f"{row.tap} {row.accuracy:.1%}" for row in results.depth_scores.itertuples())
    return [
        picture(
            "depths",
            results.depth_plot,
            "What each depth knows",
            f"Accuracy of a head on each depth alone, on {_judged_on(decided)} that it was not fitted to. Permuted "
            "labels reach on average a little less than chance, since the class of the image left out is the rarer "
            "one; one permutation of a few images may reach more.",
            f"Accuracy by depth: {known}",
        ),
        table(
            "heads",
            pd.DataFrame(heads),
            HEADS,
            "The head in closed form on left-out training images; beside it, the accuracy of nearest neighbours "
            "and of a head for permuted labels",
            "transfer_plan",
        ),
        Details(
            "How the depths were chosen",
            [
                table(
                    "tap-choice",
                    results.tap_choice,
                    [column for column in TAP_CHOICE if column.key in results.tap_choice],
                    "How much more deep depths weigh, where the network is cut, which depth is left out; other "
                    "than expected only where left-out images are clearly better off. Difference: of the squared "
                    "error to the best answer, and where a depth is left out to what it is left out of",
                    "tap_choice",
                    marked="chosen",
                )
            ],
        ),
    ]


def _judged_on(plan: Mapping[str, Any]) -> str:
    """Which training images each depth was judged on."""
    evidence = plan["evidence"]["transferred"]
    drawn, images = evidence["depths_chosen_on"], evidence["images"]
    if drawn["images"] == images:
        return "training images"
    return f"{drawn['images']:,} of {images:,} training images, drawn from {drawn['classes']:,} classes,"
