"""Section: what the results were made from, with what, and how long it took."""

import json
from typing import Any

import pandas as pd
import yaml

from cnn_transfer.evaluation.report.blocks import Beside, Code, Column, Details, Section, Table, seconds, table
from cnn_transfer.evaluation.report.run_results import RunResults


def provenance(results: RunResults) -> Section:
    """Data, programs, machine, parameters, time of each node, and the cards of the models."""
    made = results.run_provenance
    hardware = {
        "processor": made["hardware"]["cpu"],
        "cores": made["hardware"]["cores"],
        "memory, GB": made["hardware"]["memory_gb"],
        "graphics cards": ", ".join(made["hardware"]["gpus"]) or "none",
        "platform": made["hardware"]["platform"],
        "precision": made["precision"],
    }
    data = {f"fingerprint of {name.replace('_', ' ')}": digest for name, digest in made["data"].items()}
    cards = {
        "source": results.source_model_card,
        "target": results.target_model_card,
        "delivered": results.delivered_model_card,
    }
    return Section(
        "provenance",
        "Provenance",
        [
            Beside(
                [
                    _facts("machine", "Machine and data", hardware | data | {"seed": made["parameters"]["seed"]}),
                    _facts("packages", "Programs", {"python": made["python"]} | made["packages"]),
                ]
            ),
            *_times(results),
            Details(
                "All parameters",
                [
                    Code(
                        "Parameters of the run", yaml.safe_dump(made["parameters"], sort_keys=False, allow_unicode=True)
                    )
                ],
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


def _facts(name: str, caption: str, facts: dict[str, Any]) -> Table:
    frame = pd.DataFrame({"what": list(facts), "is": [str(value) for value in facts.values()]})
    return table(name, frame, [Column("what", "item"), Column("is", "value")], caption, "run_provenance")


def _times(results: RunResults) -> list[Table | Details]:
    taken = pd.DataFrame(list(results.summary["seconds"].items()), columns=["node", "seconds"])
    stages = taken["seconds"].groupby(taken["node"].str.split(".").str[0], sort=False).sum()
    columns = [Column("node", "node"), Column("seconds", "seconds", seconds)]
    every = table("seconds", taken.sort_values("seconds", ascending=False), columns, "Time of each node", "summary")
    return [
        table(
            "stage-seconds",
            stages.rename_axis("stage").reset_index(),
            [Column("stage", "stage"), Column("seconds", "seconds", seconds)],
            f"Time of each stage, {stages.sum():,.0f} s together",
            "summary",
        ),
        Details("Time of each node", [every]),
    ]
