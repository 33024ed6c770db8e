"""The report of a transfer: its sections in their order, the verdict first.

Every number of the page is in the summary or in a table that the run keeps; the tables of the page name theirs.
"""

from cnn_transfer.evaluation.probabilities import counted
from cnn_transfer.evaluation.report.blocks import render
from cnn_transfer.evaluation.report.damage import damage
from cnn_transfer.evaluation.report.data import data
from cnn_transfer.evaluation.report.explanations import explanations
from cnn_transfer.evaluation.report.mistakes import mistakes
from cnn_transfer.evaluation.report.overview import overview
from cnn_transfer.evaluation.report.plan import plan
from cnn_transfer.evaluation.report.probabilities import probabilities
from cnn_transfer.evaluation.report.provenance import provenance
from cnn_transfer.evaluation.report.results import results_on_test_images
from cnn_transfer.evaluation.report.run_results import RunResults
from cnn_transfer.evaluation.report.training import training

VERDICTS = {
    "positive": "▲ Positive transfer",
    "neutral": "● Neutral transfer",
    "negative": "▼ Negative transfer",
    "failed": "○ No verdict: training from scratch failed",
    None: "○ No verdict",
}
UNPROVEN = "training from scratch is not shown to have learnt"
SECTIONS = (
    overview,
    data,
    plan,
    training,
    results_on_test_images,
    probabilities,
    damage,
    explanations,
    mistakes,
    provenance,
)


def write_report(results: RunResults) -> str:
    """The report of a transfer as one HTML page without any reference to another file."""
    summary, card = results.summary, results.delivered_model_card
    compared = results.transfer_verdict
    unproven = compared["baseline_unproven"]
    verdict = "failed" if compared["baseline_failed"] and not unproven else summary["verdict"]
    return render(
        title=f"Transfer from {summary['source']} to {card['trained_on']}",
        subtitle=f"{counted(summary['n_train'], 'labelled training image')} of {len(card['class_names'])} classes, "
        f"judged on {counted(summary['n_test'], 'test image')} that nothing was chosen on.",
        verdict={
            "kind": verdict or "none",
            "title": f"{VERDICTS[verdict]}, but {UNPROVEN}" if unproven else VERDICTS[verdict],
            "sentence": summary["sentence"],
        },
        sections=[section(results) for section in SECTIONS],
        footer="Every figure of this page is in full in summary.json, or in the data set that its table names. "
        "Made by CNN Transfer.",
    )
