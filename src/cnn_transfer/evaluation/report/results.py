"""Section: figures of all networks on the test images, by class, by slice."""

from cnn_transfer.evaluation.report.blocks import (
    Column,
    Row,
    Section,
    Table,
    count,
    picture,
    share,
    table,
    words,
)
from cnn_transfer.evaluation.report.run_results import RunResults

METRICS = {
    "accuracy": ("accuracy", share),
    "macro_f1": ("macro F1", share),
}
PER_CLASS = [
    Column("label", "class"),
    Column("images", "images", count),
    Column("recall", "recall", share, has_interval=True),
    Column("precision", "precision", share),
    Column("f1", "F1", share),
]


def results_on_test_images(results: RunResults) -> Section:
    """Metrics with their intervals, the table by class and the confusion matrix."""
    networks = results.networks
    rows = [
        Row(
            [
                words(heading),
                *(
                    form(metrics.get(key), metrics.get(f"{key}_low"), metrics.get(f"{key}_high"))
                    for metrics in networks.values()
                ),
            ]
        )
        for key, (heading, form) in METRICS.items()
        if key in results.target_metrics
    ]
    return Section(
        "results",
        "Results",
        [
            Table(
                "metrics",
                "Figures on the test images, with 95% intervals",
                [Column("metric", "metric"), *(Column(name, name, share) for name in networks)],
                rows,
                "target_metrics, baseline_metrics, random_metrics",
            ),
            table(
                "per-class",
                results.per_class_metrics,
                PER_CLASS,
                "Figures by class, of the delivered network",
                "per_class_metrics",
            ),
            picture(
                "confusion",
                results.confusion_plot,
                "Confusion matrix",
                "Rows: true class; columns: predicted class; counts of test images. Colours by the share of the row.",
                "Confusion matrix of the test images",
            ),
        ],
    )
