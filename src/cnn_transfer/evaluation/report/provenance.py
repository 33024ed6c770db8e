"""Section: what the results were made from, with what, and how long it took."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import yaml

from cnn_transfer.evaluation.report.blocks import Beside, Code, Column, Details, Section, Table, count, seconds, table
from cnn_transfer.evaluation.report.run_results import RunResults
from cnn_transfer.evaluation.summary import NODE_FIGURES


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
                [Code("Parameters of the run", _as_text(made["parameters"]))],
            ),
            Details(
                "Cards of the models",
                [Code(f"Card of the {name} model", _as_text(card)) for name, card in cards.items()],
            ),
        ],
    )


def _as_text(values: Mapping[str, Any]) -> str:
    """YAML with short lists and blocks on one line."""
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)


def _facts(name: str, caption: str, facts: dict[str, Any]) -> Table:
    frame = pd.DataFrame({"what": list(facts), "is": [str(value) for value in facts.values()]})
    return table(name, frame, [Column("what", "item"), Column("is", "value")], caption, "run_provenance")


def _times(results: RunResults) -> list[Table | Details]:
    taken = pd.DataFrame({name: results.summary[name] for name in NODE_FIGURES}).rename_axis("node").reset_index()
    taken["stage"] = taken["node"].str.split(".").str[0]
    own = taken[taken["reused_from"].isna()]
    stages = own["seconds"].groupby(own["stage"], sort=False).sum()
    columns = [
        Column("node", "node"),
        Column("seconds", "seconds", seconds),
        Column("peak_memory_mb", "peak memory, MB", count),
        Column("images_per_second", "images a second", count),
        Column("reused_from", "taken over from the run"),
    ]
    nodes = taken.sort_values("seconds", ascending=False)
    every = table("nodes", nodes, columns, "Time and memory of each node", "summary")
    title = f"Time of each stage, {stages.sum():,.0f} s together; the last pictures and this page take a few more"
    if saved := taken.loc[taken["reused_from"].notna(), "seconds"].sum():
        title += f"; what earlier runs had made saved {saved:,.0f} s"
    return [
        table(
            "stage-seconds",
            stages.rename_axis("stage").reset_index(),
            [Column("stage", "stage"), Column("seconds", "seconds", seconds)],
            title,
            "summary",
        ),
        Details("Time and memory of each node", [every]),
    ]
