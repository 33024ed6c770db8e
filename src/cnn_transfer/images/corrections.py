"""Labels that somebody gave or looked at again: tables of ids and labels in place of those that a set came with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from cnn_transfer.images.listing import TRAINING_ONLY, TRAINING_TOO, UNUSED, ImageListing
from cnn_transfer.images.locations import open_location
from cnn_transfer.images.reasons import UnusableSetError, note_table
from cnn_transfer.images.tables import read_labels
from cnn_transfer.parameters import did_you_mean

MOST_NAMED = 20  # images with two labels


def correct_labels(listing: ImageListing, location: str, storage_options: Mapping[str, Any]) -> ImageListing:
    """The listing with the labels of a table, such as `suspected_labels.csv` after somebody has gone over it.

    An empty label makes an image an unlabelled one. Each change is noted as `corrected_label`; rows that say what the
    set says change nothing. Rows whose `split` is `training_only`, such as those of `images_to_label.csv`, are for
    training: images that had no label for nothing else; those that had one, which `labels_per_class` left unused, are
    dealt as before, and serve for training beyond it. What the set itself has in validation or test stays there. Such a
    row without a label changes nothing, since nobody has answered yet. Rows whose `split` is `unused` are of none of
    the classes: unless the draw makes them training, validation or test images, such images serve for nothing.

    Args:
        listing: The images as they came.
        location: CSV or Parquet file with the columns `id`, as in the tables of a run, and `label`; or a folder of
            such files.
        storage_options: For its file system.

    Raises:
        FileNotFoundError: When nothing is there.
        ValueError: When a column is missing, an id is not among the images or stands there with two labels, or a label
            is no class of the set.
    """
    filesystem, path = open_location(location, storage_options)
    if not filesystem.exists(path):
        raise FileNotFoundError(f"Labels were expected at {location}, but nothing is there.")
    rows = read_labels(filesystem, path)
    rows = rows[rows["label"].notna() | ~rows["training_only"]]
    told = rows[["id", "label"]].drop_duplicates()
    check_labels(told, listing.table["id"], sorted(listing.table["label"].dropna().unique()), location)
    strange = set(rows["id"][rows["unused"] & rows["label"].isna()])
    table, told = listing.table, told[~told["id"].isin(strange)]
    corrected = table["id"].map(told.set_index("id")["label"])
    labels = table["label"].where(~table["id"].isin(told["id"]), corrected).astype("str")
    changed = (labels != table["label"]).fillna(True) & ~(labels.isna() & table["label"].isna())
    changes = [
        (name, None if pd.isna(new) else new, "corrected_label", "had none" if pd.isna(old) else f"was {old}")
        for name, old, new in zip(*(column[changed] for column in (table["id"], table["label"], labels)), strict=True)
    ]
    changes += [
        (name, None if pd.isna(label) else label, "corrected_label", "none of the classes")
        for name, label in zip(table["id"], table["label"], strict=True)
        if name in strange
    ]
    notes = pd.concat([listing.notes, note_table(changes)], ignore_index=True)
    asked = table["id"].isin(rows["id"][rows["training_only"]]) & ~table["split"].isin(["validation", "test"])
    splits = table["split"].mask(asked & labels.notna() & table["label"].isna(), TRAINING_ONLY)
    splits = splits.mask(asked & labels.notna() & table["label"].notna(), TRAINING_TOO)
    splits = splits.mask(table["id"].isin(strange) & splits.isna(), UNUSED)
    return replace(listing, table=table.assign(label=labels, split=splits.astype("str")), notes=notes)


def check_labels(told: pd.DataFrame, ids: pd.Series, classes: Sequence[str], location: str) -> None:
    """See whether labels are of images and classes that there are.

    Args:
        told: `id` and `label`, which may be missing; each such pair once.
        ids: Of all images.
        classes: That a label may name.
        location: Of the table, as it is called in errors.

    Raises:
        UnusableSetError: When an id is not among the images or stands there with two labels, or a label is no class.
    """
    _check_ids(told, ids, location)
    _check_classes(told["label"].dropna(), classes, location)


def _check_ids(told: pd.DataFrame, known: pd.Series, location: str) -> None:
    if len(twice := told[told["id"].duplicated(keep=False)]):
        labels = twice.fillna({"label": "none"}).groupby("id", sort=False)["label"].agg(" and ".join)
        named = "; ".join(f"{name}: {said}" for name, said in labels.head(MOST_NAMED).items())
        more = f"; and {len(labels) - MOST_NAMED:,} more" if len(labels) > MOST_NAMED else ""
        raise UnusableSetError(f"{location} has two labels for {named}{more}. Leave one of each.")
    if (unknown := told["id"][~told["id"].isin(known)]).any():
        raise UnusableSetError(
            f"{location} has a label for {unknown.iloc[0]}"
            f"{f' and {len(unknown) - 1:,} more' if len(unknown) > 1 else ''}, which is not among the images. "
            f"{did_you_mean(unknown.iloc[0], list(known))}Needed: ids as in the tables of a run, such as "
            f"{known.iloc[0]}."
        )


def _check_classes(told: pd.Series, classes: Sequence[str], location: str) -> None:
    if (unknown := told[~told.isin(classes)]).any():
        raise UnusableSetError(
            f"{location} has the label {unknown.iloc[0]}, which is no class of the images. "
            f"{did_you_mean(unknown.iloc[0], list(classes))}Classes: {', '.join(classes[:50])}."
        )
