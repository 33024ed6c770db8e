"""Section: which images were used, which were set aside and why, what was noted."""

from typing import Any

import pandas as pd

from cnn_transfer.evaluation.image_sheets import MOST_BARS
from cnn_transfer.evaluation.probabilities import counted
from cnn_transfer.evaluation.report.blocks import (
    MOST_CLASSES,
    Cell,
    Column,
    Details,
    Section,
    Tile,
    Tiles,
    count,
    picture,
    table,
)
from cnn_transfer.evaluation.report.run_results import RunResults
from cnn_transfer.images import UNLABELLED


def data(results: RunResults) -> Section:
    """The target's images."""
    counts, intake = results.target_image_counts, results.target_intake
    classes = int((counts["label"] != UNLABELLED).sum())
    splits = [name for name in counts.columns if name != "label" and counts[name].any()]
    blocks: list[Any] = [
        Tiles(
            [
                Tile("Listed", count(intake["listed"]), source="target_intake"),
                Tile("Used", count(intake["used"]), source="target_intake"),
                Tile(
                    "Set aside",
                    Cell(f"{len(results.target_rejected_images):,}"),
                    f"unusable: {intake['share_set_aside']:.1%}" if intake["share_set_aside"] else "",
                ),
                *(
                    [
                        Tile(
                            "Stay together",
                            count(intake["grouped"]),
                            "with others of their group, on one side of the splits",
                            source="target_intake",
                        )
                    ]
                    if intake["grouped"]
                    else []
                ),
                *(
                    Tile(f"Noted: {code.replace('_', ' ')}", count(number), source="target_intake")
                    for code, number in intake["notes"].items()
                ),
            ]
        ),
        table(
            "image-counts",
            counts,
            [Column("label", "class"), *(Column(name, name, count) for name in splits)],
            f"Images of each of {classes:,} classes by split",
            "target_image_counts",
            most_rows=MOST_CLASSES,
        ),
        picture(
            "histograms",
            results.target_image_histograms,
            "Images by class, reason and size",
            "Images used by class and split"
            + (f" ({MOST_BARS} most frequent classes)" if classes > MOST_BARS else "")
            + (", reasons for setting aside" if len(results.target_rejected_images) else "")
            + ", and sizes before resizing.",
            f"Histograms of {intake['used']:,} images used",
        ),
    ]
    if intake["grouped"]:
        together = picture(
            "group-sheet",
            results.target_group_sheet,
            "Images that stay together",
            "Some of the groups whose images are on one side of the splits: near copies, series that names and pixels "
            "tell, and given groups. Each should show one thing, and no two of them the same.",
            "Pictures of images that stay together, one row a group",
        )
        heading = f"Images that stay together ({intake['grouped']:,})"
        blocks.append(together if intake["series"] else Details(heading, [together]))
    if len(results.target_rejected_images):
        blocks += _set_aside(results)
    if len(results.target_image_notes):
        frequency = results.target_image_notes.groupby("note")["id"].transform("size")
        notes = table(
            "image-notes",
            results.target_image_notes.iloc[frequency.argsort(kind="stable")],  # what all images have tells least
            [Column("id", "image"), *(Column(name, name) for name in ("label", "note", "detail"))],
            "Notes, the rarest first; near copies are kept on one side of the splits",
            "target_image_notes",
        )
        blocks.append(
            Details(f"What was noted about {counted(results.target_image_notes['id'].nunique(), 'image')}", [notes])
        )
    examples = picture(
        "examples",
        results.target_image_sheet,
        "Training images of each class",
        "The first training images of each class, as the network sees them.",
        "Training images, one row a class",
    )
    return Section("data", "Data", [*blocks, Details("Examples of each class", [examples])])


def _set_aside(results: RunResults) -> list[Any]:
    rejected = results.target_rejected_images
    reasons = pd.DataFrame(results.target_intake["set_aside"].items(), columns=["reason", "images"])
    every = table(
        "rejected-images",
        rejected,
        [Column("id", "image"), *(Column(name, name) for name in ("label", "reason", "detail"))],
        "Images set aside",
        "target_rejected_images",
    )
    sheet = picture(
        "rejected-sheet",
        results.target_rejected_sheet,
        "Images set aside",
        "Some of the images that were set aside, as far as they can be shown.",
        "Pictures of images that were set aside",
    )
    return [
        table(
            "rejected",
            reasons.assign(reason=reasons["reason"].str.replace("_", " ")).sort_values("images", ascending=False),
            [Column("reason", "reason"), Column("images", "images", count)],
            "Set aside, by reason",
            "target_intake",
        ),
        *([sheet] if (rejected["reason"] != "not_sampled").any() else []),  # nothing is wrong with these
        Details(f"Set aside one by one ({len(rejected):,})", [every]),
    ]
