"""Pictures of an image set: examples of each class, histograms, what stays together, and what was set aside."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from cnn_transfer.evaluation.figures import Axes, Figure, PictureGrid, draw_words, new_figure, short_name, show_images
from cnn_transfer.evaluation.probabilities import counted
from cnn_transfer.images import SPLITS, ImageSet, class_names

FEWEST_BARS = 4  # that one of a histogram of reasons is as high as
MOST_BARS = 30  # classes in a histogram
FEWEST_COLUMNS = 4  # of a sheet, so that its title has room
ABOVE: dict[str, Any] = {"fontsize": 9, "loc": "lower center", "bbox_to_anchor": (0.5, 1), "frameon": False}
SPLIT_COLOURS = ("#0072b2", "#56b4e9", "#d55e00", "#bbbbbb", "#666666")  # in the order of SPLITS (Okabe and Ito)


def draw_examples(images: ImageSet, splits: pd.DataFrame, per_class: int = 8, most_classes: int = 20) -> Figure:
    """A sheet with the first training images of each class, one row a class."""
    images = images.used_in(splits)
    names = images.class_names[:most_classes]
    rows = images.rows(splits, "training")
    classes = images.classes[rows]
    longest = max((len(short_name(name)) for name in names), default=0)  # in a narrower sheet the pictures would shrink
    figure = new_figure(0.75 * per_class + max(1.2, 0.5 + 0.085 * longest), 0.75 * len(names) + 0.5)
    grid = PictureGrid(figure, len(names), per_class)
    for index, name in enumerate(names):
        for column, image in enumerate(images.pixels(rows[classes == index][:per_class])):
            grid.show(index, column, image)
        grid.name(index, short_name(name))
    figure.suptitle(f"Training images, {len(names)} of {len(images.class_names)} classes", fontsize=10)
    return figure


def draw_image_histograms(
    images: ImageSet, splits: pd.DataFrame, rejected: pd.DataFrame, most_classes: int = MOST_BARS
) -> Figure:
    """Images of each class by split (the most frequent classes), reasons for setting aside, and original sizes.

    Where nothing was set aside there are no reasons, and where all originals are of one size it stands below.
    """
    used = images.table[images.table["id"].isin(splits["id"])]
    shorter = used[["width_px", "height_px"]].min(axis=1)
    stored = f"stored: {images.image_shape[0]} px"
    names = splits["label"].value_counts().index[:most_classes].tolist()
    widths = {"class": max(5.0, 0.22 * len(names))}
    if len(rejected):
        widths["reason"] = 3.0
    if shorter.nunique() > 1:
        widths["size"] = 3.0
    labels = [short_name(name) for name in names]
    figure = new_figure(max(6.0, sum(widths.values())), 3.6 + 0.05 * max(map(len, labels), default=0))
    panels = figure.subplots(1, len(widths), width_ratios=list(widths.values()), squeeze=False)[0]
    axes = dict(zip(widths, panels, strict=True))
    counts = pd.crosstab(splits["label"], splits["split"]).reindex(index=names, columns=list(SPLITS), fill_value=0)
    by_class = axes["class"]
    bottom = np.zeros(len(names))
    for split, colour in zip(SPLITS, SPLIT_COLOURS, strict=True):
        if counts[split].any():
            by_class.bar(range(len(names)), counts[split], bottom=bottom, color=colour, label=split)
            bottom += counts[split].to_numpy()
    turned: dict[str, Any] = {"rotation": 90} if len(names) > 15 else {"rotation": 45, "ha": "right"}
    by_class.set_xticks(range(len(names)), labels, parse_math=False, **turned)
    by_class.set_title(f"Images used, {len(names)} of {len(class_names(splits))} classes", fontsize=10, pad=22)
    by_class.legend(**ABOVE, ncols=len(SPLITS))
    if "reason" in axes:
        from matplotlib.ticker import MaxNLocator

        reasons = rejected["reason"].value_counts()[::-1]
        bars = axes["reason"].barh(range(len(reasons)), reasons, color="#d55e00")
        axes["reason"].bar_label(bars, padding=3, fontsize=9)
        axes["reason"].set_yticks(range(len(reasons)), [reason.replace("_", " ") for reason in reasons.index])
        axes["reason"].set_xlim(0, 1.25 * reasons.max())
        axes["reason"].xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes["reason"].set_ylim(min(0, len(reasons) - FEWEST_BARS) - 0.6, len(reasons) - 0.4)
        axes["reason"].set_title(f"Set aside: {len(rejected):,}", fontsize=10, pad=22)
    if "size" in axes:
        ends = [*shorter.quantile([0, 1]), images.image_shape[0]]  # bars as wide as can be seen beside the line
        axes["size"].hist(shorter, bins=np.linspace(min(ends), max(ends), 21).tolist(), color="#0072b2")
        axes["size"].axvline(images.image_shape[0], color="#d55e00", lw=1.5, label=stored)
        axes["size"].set_title("Shorter side of the originals, px", fontsize=10, pad=22)
        axes["size"].legend(**ABOVE)
    elif len(shorter):
        by_class.set_xlabel(f"shorter side of every original: {shorter.iloc[0]} px; {stored}", fontsize=9)
    for panel in axes.values():
        panel.tick_params(labelsize=9)
        panel.spines[["top", "right"]].set_visible(False)
    return figure


def draw_groups(images: ImageSet, splits: pd.DataFrame, most_groups: int = 6, per_group: int = 8) -> Figure:
    """Groups of several images, one row a group, from the largest to the smallest: is it one thing that they show?"""
    ids = splits.groupby("group")["id"].agg(list)
    several = ids[ids.map(len) > 1].sort_values(key=lambda members: -members.map(len), kind="stable")
    if several.empty:
        return draw_words("Every image stands alone")
    shown = several.iloc[np.unique(np.linspace(0, len(several) - 1, most_groups).astype(int))]
    columns = min(per_group, max(FEWEST_COLUMNS, len(shown.iloc[0])))
    figure = new_figure(0.75 * columns + 2.4, 0.75 * len(shown) + 0.5)
    grid = PictureGrid(figure, len(shown), columns)
    for line, (name, members) in enumerate(shown.items()):
        for column, image in enumerate(images.pixels(images.rows_of(members[:per_group]))):
            grid.show(line, column, image)
        last = re.sub(r"^(series|group|image) |.*/", "", str(name))
        grid.name(line, f"{short_name(last)}\n{len(members):,} images")
    figure.suptitle(f"{several.map(len).sum():,} images in {counted(len(several), 'group')}", fontsize=10)
    return figure


def draw_rejected(images: ImageSet, rejected: pd.DataFrame, per_reason: int = 6) -> Figure:
    """Examples of what was set aside: pictures, one row a reason, and below them the names of what has no picture."""
    if rejected.empty:
        return draw_words("Nothing was set aside")
    row_of_id = pd.Series(range(len(images)), index=images.table["id"])
    has_picture = rejected["id"].isin(row_of_id.index)
    pictured = rejected[has_picture]["reason"].value_counts()
    nameless = rejected[~has_picture].groupby("reason")["id"].agg(list)
    lines = [f"{reason} ({len(names):,}): {_names(names)}" for reason, names in nameless.items()]
    heights = [1.5] * len(pictured) + [0.25 * len(lines) + 0.1] * bool(lines)
    figure = new_figure(1.5 * per_reason + 2, sum(heights) + 0.5)
    grid = figure.add_gridspec(len(heights), per_reason, height_ratios=heights)
    for place, (reason, count) in enumerate(pictured.items()):
        examples = rejected[has_picture & (rejected["reason"] == reason)].iloc[:per_reason]
        row = [figure.add_subplot(grid[place, column]) for column in range(per_reason)]
        show_images(row, images.pixels(row_of_id.loc[examples["id"]].to_numpy()))
        for axis, name in zip(row, examples["id"], strict=False):
            axis.set_title(short_name(name.rsplit("/", 1)[-1]), fontsize=7, parse_math=False)
        _name_row(row[0], f"{reason}\n{count:,}")
    if lines:
        axis = figure.add_subplot(grid[-1, :])
        axis.axis("off")
        axis.text(0, 1, "\n".join(lines), transform=axis.transAxes, va="top", fontsize=8, parse_math=False)
    figure.suptitle(f"Set aside: {counted(len(rejected), 'file')}", fontsize=10)
    return figure


def _names(names: list[str], most: int = 4) -> str:
    listed = ", ".join(short_name(name.rsplit("/", 1)[-1]) for name in names[:most])
    return listed + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _name_row(axis: Axes, name: str) -> None:
    axis.text(
        -0.15, 0.5, short_name(name), transform=axis.transAxes, ha="right", va="center", fontsize=9, parse_math=False
    )
