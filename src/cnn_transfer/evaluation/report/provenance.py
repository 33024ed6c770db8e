"""Section: what the results were made from, with what, and how long it took."""

import json

import pandas as pd

from cnn_transfer.evaluation.report.blocks import Code, Column, Details, Section, seconds, table
from cnn_transfer.evaluation.report.run_results import RunResults


def provenance(results: RunResults) -> Section:
    """Time of each node, and the cards of the models."""
    taken = pd.DataFrame(list(results.summary["seconds"].items()), columns=["node", "seconds"])
    taken = taken.sort_values("seconds", ascending=False)
    cards = {
        "source": results.source_model_card,
        "target": results.target_model_card,
        "delivered": results.delivered_model_card,
    }
    return Section(
        "provenance",
        "Provenance",
        [
            table(
                "seconds",
                taken,
                [Column("node", "node"), Column("seconds", "seconds", seconds)],
                f"Time of each node, {sum(taken['seconds']):.0f} s together; precision {results.summary['precision']}",
                "summary",
            ),
            Details(
                "Cards of the models",
                [
                    Code(f"Card of the {name} model", json.dumps(card, indent=2, ensure_ascii=False))
                    for name, card in cards.items()
                ],
            ),
        ],
    )
