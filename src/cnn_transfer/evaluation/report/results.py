"""Section: figures of all networks on the test images, by class, by slice."""

from typing import Any

from cnn_transfer.evaluation.reliance import describe_reliance
from cnn_transfer.evaluation.report.blocks import (
    MOST_CLASSES,
    Column,
    Heading,
    Notice,
    Row,
    Section,
    Table,
    Text,
    count,
    decimal,
    general,
    picture,
    points,
    share,
    table,
    truth,
    words,
)
from cnn_transfer.evaluation.report.run_results import RunResults

METRICS = {
    "accuracy": ("accuracy", share),
    "balanced_accuracy": ("balanced accuracy", share),
    "macro_f1": ("macro F1", share),
    "top_2_accuracy": ("right among the first 2", share),
    "top_3_accuracy": ("right among the first 3", share),
    "top_5_accuracy": ("right among the first 5", share),
    "auroc": ("AUROC, one class against the rest", decimal),
    "log_loss": ("log loss", decimal),
    "brier": ("Brier score", decimal),
    "ece": ("calibration error", share),
    "classwise_ece": ("calibration error, by class", share),
}
PER_CLASS = [
    Column("label", "class"),
    Column("images", "images", count),
    Column("recall", "recall", share, has_interval=True),
    Column("precision", "precision", share, has_interval=True),
    Column("f1", "F1", share, has_interval=True),
    Column("auroc", "AUROC", decimal, has_interval=True),
]
SLICES = [
    Column("attribute", "kind"),
    Column("slice", "images of"),
    Column("images", "images", count),
    Column("accuracy", "accuracy", share, has_interval=True),
    Column("rest_accuracy", "all others", share),
    Column("difference", "points", points),
    Column("p_value", "p", general),
    Column("conspicuous", "conspicuous", truth),
]
SPELT = {"size_px": "size, px"}  # attributes as they are called in a report


def results_on_test_images(results: RunResults) -> Section:
    """Metrics with their intervals, the table by class and the confusion matrix."""
    blocks: list[Any] = [
        _metrics(results),
        *_differences(results),
        table(
            "per-class",
            results.per_class_metrics,
            PER_CLASS,
            f"Figures by class of the delivered network, calibrated, with {results.level} intervals",
            "per_class_metrics",
            most_rows=MOST_CLASSES,
        ),
        picture(
            "confusion",
            results.confusion_plot,
            "Confusion matrix",
            "The delivered network, calibrated. Rows: true class; columns: predicted class; counts of test images. "
            "Colours by the share of the row.",
            "Confusion matrix of the test images",
        ),
    ]
    return Section("results", "Results", [*blocks, *_slices(results)])


def _slices(results: RunResults) -> list[Any]:
    slices = results.slices.replace({"attribute": SPELT})
    heading = Heading("By kind of image")
    if slices.empty:
        return [
            heading,
            Text("The test images do not differ in size, brightness, sharpness or the manifest's columns."),
        ]
    weak = slices[slices["conspicuous"] & (slices["difference"] < 0)]
    found = [
        f"Images of {row.attribute} {row.slice}: {row.accuracy:.1%} right, {row.rest_accuracy:.1%} of all others"
        for row in weak.itertuples()
    ]
    none = "No kind of image is recognised clearly worse than the others."
    if slices["p_value"].isna().all():
        none = "There are too few test images of each kind to say whether one is recognised worse than the others."
    return [
        heading,
        Notice(found) if found else Text(none),
        *([Text(sentence)] if (sentence := describe_reliance(results.shortcut_reliance)) else []),
        table(
            "slices",
            slices,
            SLICES,
            "Accuracy of the delivered network, calibrated, by what is known of the images, and the difference in "
            "points. Conspicuous: the difference is more than chance, corrected for all rows (Holm)",
            "slices",
            marked="conspicuous",
        ),
    ]


def _differences(results: RunResults) -> list[Table]:
    """What each difference is worth, of those that there are."""
    verdict = results.transfer_verdict
    rows = []
    if verdict["difference"] is not None:
        whole = points(*(verdict[f"difference{end}"] for end in ("", "_low", "_high")))
        rows.append(Row([words("transfer against training from scratch"), whole, general(verdict["mcnemar_p"])]))
    for key, name in (
        ("knowledge", "the source's weights against random ones"),
        ("method", "the method on random weights against training from scratch"),
    ):
        if part := verdict[key]:
            rows.append(Row([words(name), points(*(part[end] for end in ("estimate", "low", "high"))), general(None)]))
    columns = [Column("of", "of"), Column("difference", "difference, points", points), Column("p", "p", general)]
    caption = f"Differences of accuracy on the same test images, with {results.level} intervals; p: McNemar's test"
    return [Table("differences", caption, columns, rows, "transfer_verdict")] if rows else []


def _metrics(results: RunResults) -> Table:
    networks = results.networks
    rows = [
        Row(
            [
                words(heading),
                *(form(metrics[key], metrics[f"{key}_low"], metrics[f"{key}_high"]) for metrics in networks.values()),
            ]
        )
        for key, (heading, form) in METRICS.items()
        if key in results.target_metrics
    ]
    return Table(
        "metrics",
        f"Figures on the test images, with {results.level} intervals",
        [Column("metric", "figure"), *(Column(name, name, share) for name in networks)],
        rows,
        "target_metrics, baseline_metrics, random_metrics",
    )
