"""Section: how the networks were trained."""

from cnn_transfer.evaluation.report.blocks import (
    Column,
    Details,
    Section,
    count,
    decimal,
    general,
    picture,
    share,
    table,
    truth,
)
from cnn_transfer.evaluation.report.run_results import RunResults

TRIALS = [
    Column("strategy", "strategy"),
    Column("learning_rate", "learning rate", general),
    Column("steps", "steps", count),
    Column("images_processed", "images processed", count),
    Column("validation_accuracy", "validation accuracy", share),
    Column("validation_log_loss", "validation log loss", decimal),
    Column("stopped_by", "stopped by"),
    Column("delivered", "kept", truth),
]


def training(results: RunResults) -> Section:
    """Curves, and every trial of the three searches."""
    trials = {
        "target_trials": ("transfer", results.target_trials),
        "baseline_trials": ("from scratch", results.baseline_trials),
        "random_trials": ("random weights", results.random_trials),
    }
    searches = (results.target_trials, results.baseline_trials)
    if any(frame["validation_accuracy"].notna().any() for frame in searches):
        caption = (
            "Validation accuracy against images processed. Thick: the trial whose weights were kept. The transfer "
            "begins with what its head cost; a trial that begins later goes on from the best one before it."
        )
        drawn = "transfer" + (" and training from scratch" if results.baseline_metrics else "")
    else:
        caption, drawn = "No training on the target was judged on validation images.", "none of the target"
    return Section(
        "training",
        "Training",
        [
            picture(
                "curves",
                results.training_curves,
                "Training curves",
                caption,
                f"Curves of validation accuracy: {drawn}",
            ),
            *(
                Details(
                    f"Trials, {name} ({len(frame)})",
                    [
                        table(
                            source.replace("_", "-"), frame, TRIALS, f"Every trial, {name}", source, marked="delivered"
                        )
                    ],
                )
                for source, (name, frame) in trials.items()
                if len(frame)
            ),
        ],
    )
