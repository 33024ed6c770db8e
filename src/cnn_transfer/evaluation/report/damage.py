"""Section: what becomes of test images when they are damaged."""

from typing import Any

from cnn_transfer.evaluation.damage import describe_damage
from cnn_transfer.evaluation.report.blocks import Column, Details, Notice, Section, Text, count, picture, share, table
from cnn_transfer.evaluation.report.run_results import RunResults

DAMAGE = [
    Column("damage", "damage"),
    Column("degree", "degree"),
    Column("images", "images", count),
    Column("right", "right, were all answered", share, has_interval=True),
    Column("unfamiliar", "unfamiliar", share),
    Column("answered", "answered", share),
    Column("right_answers", "answered rightly", share),
    Column("wrong_answers", "answered wrongly", share, has_interval=True),
]


def damage(results: RunResults) -> Section:
    """What the network bears, and what it had better not be shown."""
    measured = results.damage_table
    statement, broken = describe_damage(measured, results.abstention["chosen"]["promised_accuracy"])
    blocks: list[Any] = [Text(statement), *([Notice(broken)] if broken else [])]
    if len(measured):
        blocks += [
            picture(
                "damage",
                results.damage_sheet,
                "Damaged test images",
                "One test image under each damage; beside it the shares of all that are answered rightly, not at all "
                "and wrongly. The line: what would be right if all were answered.",
                "Shares of damaged test images that are answered rightly, wrongly and not at all",
            ),
            Details(
                "Damage in figures",
                [
                    table(
                        "damage-table",
                        measured,
                        DAMAGE,
                        f"Shares of test images, with {results.level} intervals",
                        "damage_table",
                    )
                ],
            ),
        ]
    return Section("damage", "What damage does it bear?", blocks)
