"""Section: whether the probabilities can be believed, and when the network had better not answer."""

from typing import Any

import numpy as np
import pandas as pd

from cnn_transfer.evaluation.probabilities import percent_text
from cnn_transfer.evaluation.report.blocks import (
    Column,
    Details,
    Heading,
    Row,
    Section,
    Table,
    Text,
    Tile,
    Tiles,
    confidence,
    count,
    decimal,
    general,
    picture,
    probability,
    share,
    table,
    words,
)
from cnn_transfer.evaluation.report.run_results import RunResults

THRESHOLDS_SHOWN = 21
ERRORS = {
    "ece": ("calibration error", share),
    "classwise_ece": ("calibration error, by class", share),
    "log_loss": ("log loss", decimal),
    "brier": ("Brier score", decimal),
    "accuracy": ("accuracy", share),
}
RELIABILITY = [
    Column("probabilities", "probabilities"),
    Column("low", "sure from", share),
    Column("high", "to", share),
    Column("images", "images", count),
    Column("confidence", "mean confidence", share),
    Column("accuracy", "share that is right", share, has_interval=True),
]
RISK = [
    Column("threshold", "at least so sure", probability),
    Column("coverage", "of all images", share),
    Column("accuracy", "right of these", share),
    Column("images", "images", count),
]
FAMILIARITY = [
    Column("id", "image"),
    Column("label", "class"),
    Column("unlike", "unlike in"),
    Column("strangeness", "how strange", decimal),
    Column("nearest_labels", "classes of the nearest training images"),
]


def probabilities(results: RunResults) -> Section:
    """Calibration before and after, and what not answering is worth."""
    blocks = [*_calibration(results), *_abstention(results), *_sets(results), *_unfamiliar(results)]
    return Section("probabilities", "Can the probabilities be believed?", blocks)


def _calibration(results: RunResults) -> list[Any]:
    before, after = results.delivered_metrics, results.calibrated_metrics
    rows = [
        Row(
            [
                words(heading),
                *(form(metrics[key], metrics[f"{key}_low"], metrics[f"{key}_high"]) for metrics in (before, after)),
            ]
        )
        for key, (heading, form) in ERRORS.items()
    ]
    errors = "; ".join(
        f"{name} {share(metrics['ece']).text}" for name, metrics in (("before", before), ("after", after))
    )
    chance = share(after["ece_if_calibrated"]).text
    return [
        Text(
            f"{results.calibration['statement']} The figures below are of the delivered network on the test "
            f"images. With so many images even perfect probabilities would show an error of about {chance}."
        ),
        picture(
            "reliability",
            results.reliability_plot,
            "Reliability before and after calibration",
            "Where a line lies above the diagonal, the network is right more often than it says.",
            f"Reliability plot; calibration error {errors}",
        ),
        Table(
            "calibration",
            f"Before and after calibration, with {results.level} intervals",
            [Column("figure", "figure"), Column("before", "before", share), Column("after", "after", share)],
            rows,
            "delivered_metrics, calibrated_metrics",
        ),
        Details(
            "The bins of the reliability plot",
            [
                table(
                    "reliability-bins",
                    results.reliability,
                    RELIABILITY,
                    "Bins of about equally many test images",
                    "reliability",
                )
            ],
        ),
    ]


def _abstention(results: RunResults) -> list[Any]:
    chosen, measured = results.abstention["chosen"], results.abstention["on_test"]
    promised = chosen["promised_accuracy"]
    withholds = results.familiarity["limit"] is not None and chosen["threshold"] is not None
    return [
        Heading("When it had better not answer"),
        Text(f"{chosen['statement']} {measured['statement']}"),
        *([Text("Images unlike the training images get no answer, however sure.")] if withholds else []),
        Tiles(
            [
                Tile(
                    "Threshold",
                    words("none found") if chosen["threshold"] is None else confidence(chosen["threshold"]),
                    f"chosen on {chosen['judged_on']}",
                    source="abstention",
                ),
                Tile(
                    "Sure enough to answer",
                    words("nothing")
                    if chosen["threshold"] is None
                    else share(
                        measured["answered_share"], measured["answered_share_low"], measured["answered_share_high"]
                    ),
                    "of the test images",
                    source="abstention",
                ),
                Tile(
                    "Right, of these",
                    share(measured["accuracy"], measured["accuracy_low"], measured["accuracy_high"]),
                    f"wished: {percent_text(chosen['wished_accuracy'])}"
                    + ("" if promised is None else f"; promised: {percent_text(promised)}"),
                    source="abstention",
                ),
            ]
        ),
        picture(
            "risk-coverage",
            results.risk_coverage_plot,
            "What not answering is worth",
            "The surest images are answered first; the fewer, the fewer mistakes.",
            "Share of mistakes among the answered test images by the share that is answered",
        ),
        Details(
            "Thresholds and what they give",
            [
                table(
                    "risk-coverage-table",
                    _some(results.risk_coverage),
                    RISK,
                    "Test images of which the network is at least so sure, at some thresholds",
                    "risk_coverage",
                )
            ],
        ),
    ]


def _some(risk: pd.DataFrame) -> pd.DataFrame:
    """Rows about evenly apart, with the first and the last: enough to read a threshold off."""
    steps = np.linspace(0, len(risk) - 1, min(len(risk), THRESHOLDS_SHOWN))
    return risk.iloc[steps.round().astype(int)]


def _sets(results: RunResults) -> list[Any]:
    sets, measured = results.conformal_sets, results.set_coverage
    if not sets:
        return []
    words_first = [Heading("Sets of classes instead of one"), Text(f"{sets['statement']} {measured['statement']}")]
    if not sets["least_probability"]:  # figures of sets that hold all classes would look like a success
        return words_first
    return [
        *words_first,
        Tiles(
            [
                Tile("Wished coverage", share(sets["coverage"]), source="conformal_sets"),
                Tile(
                    "Sets that hold the true class",
                    share(measured["coverage"], measured["coverage_low"], measured["coverage_high"]),
                    source="set_coverage",
                ),
                Tile("Sets of one class", share(measured["single_share"]), source="set_coverage"),
                Tile("Classes in a set, on average", general(measured["mean_size"]), source="set_coverage"),
            ]
        ),
    ]


def _unfamiliar(results: RunResults) -> list[Any]:
    known, measured = results.familiarity, results.unfamiliar_images
    table_of_all = results.familiarity_of_test_images
    listed = table_of_all[table_of_all["unfamiliar"].fillna(False).astype(bool)].sort_values(
        "strangeness", ascending=False
    )
    every = table(
        "unfamiliar-images",
        listed,
        FAMILIARITY,
        "Test images unlike the training images",
        "familiarity_of_test_images",
    )
    return [
        Heading("Images unlike the training images"),
        Text(" ".join(dict.fromkeys([known["statement"], measured["statement"]]))),  # may be the same
        picture(
            "unfamiliar",
            results.unfamiliar_sheet,
            "The least familiar test images",
            "What each is unlike in, and how strange it is: 1 is as far as the farthest tenth of the training images "
            "are, 2 as a hundredth would be. The stranger an image, the less its prediction rests on.",
            "Test images that are least like the training images",
        ),
        *([Details(f"Unfamiliar test images one by one ({len(listed):,})", [every])] if len(listed) else []),
    ]
