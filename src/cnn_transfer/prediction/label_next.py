"""Which of the images that came without a label to label next, so that the network gains most by it.

A label that is asked for is worth more than one of an image drawn at random (`benchmarks/label_next.py`), and is for
training alone: images that were chosen because they are hard say nothing of those that will come, and would spoil what
validation and test images promise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from cnn_transfer.evaluation import Figure
from cnn_transfer.evaluation.figures import draw_sheet, short_name
from cnn_transfer.evaluation.probabilities import whole_percent
from cnn_transfer.evaluation.report.label_page import Question, write_label_page
from cnn_transfer.images import TRAINING_ONLY, UNUSED, ImageSet, UnusableSetError
from cnn_transfer.prediction.predictor import Predictor
from cnn_transfer.transfer.active_learning import Coordinates, chance_to_belong, most_informative, penalty_of

SPREAD_OVER = 512  # unlabelled images whose features, with those of training images, say how images differ
CHUNK = 256  # images whose features are in memory at once
NAME = 14  # characters of a class above a picture
TEXT = ["id", "label", "suggested", "other", "split"]


def choose_images_to_label(predictor: Predictor, images: ImageSet, splits: pd.DataFrame, number: int) -> pd.DataFrame:
    """Choose unlabelled images whose labels would tell most, at most one of each group.

    How informative: see `transfer.active_learning`, with the features that the network's last layer reads; the doubt
    about an image is the chance that two guesses by its calibrated probabilities differ, 1 - Σ p². Where more of the
    images are unlike those of the training than would be by chance, what is unlike them counts for less: nobody can
    give it a label if it is of none of the classes.

    Args:
        predictor: That was made with these images.
        images: The set.
        splits: Which image is in which split; `unlabelled` ones are chosen from.
        number: How many.

    Returns:
        One row an image, the most informative first: `id`, `label` (missing: to be filled in), `suggested` and `other`
        (the two most probable classes), `probability_of_suggested`, `probability_of_other`, `unfamiliar` (unlike the
        training images; missing where nothing can be called so), `split` (`training_only`).

    Raises:
        UnusableSetError: When no image is without a label.
    """
    rows = images.rows(splits, "unlabelled")
    if not len(rows):
        raise UnusableSetError(
            "Images to label must be among those without a label. Received: a set in which every image has one. Put "
            "images into a folder _unlabelled/ beside the classes, or into the manifest with an empty label; or set "
            "labels_per_class, which leaves the labels beyond it unused."
        )
    known = predictor.references
    some = rows[np.unique(np.linspace(0, len(rows) - 1, SPREAD_OVER).round().astype(int))]
    basis = np.concatenate([predictor.compute(images.pixels(some[part])).features for part in _parts(len(some))])
    coordinates = Coordinates.of_images(known.features, basis, known.parts)
    places, doubts, percentiles = [], [], []
    with tqdm(total=len(rows), unit="images", desc="images to label", disable=None) as progress:
        for part in _parts(len(rows)):
            judged = predictor.judge(images.pixels(rows[part]))
            places.append(coordinates.of(judged.features))
            doubts.append(1 - (judged.probabilities.astype(float) ** 2).sum(axis=1))
            percentiles.append(judged.near.percentile)
            progress.update(len(judged.confidence))
    labelled = coordinates.of(known.features)
    penalty = penalty_of(labelled, pd.factorize(known.training["label"])[0])
    groups = pd.factorize(splits.set_index("id")["group"].loc[images.table["id"].iloc[rows]])[0]
    chance = chance_to_belong(np.concatenate(percentiles), predictor.facts.familiarity["images"])
    doubt = chance * np.concatenate(doubts).clip(min=0)
    chosen = most_informative(labelled, np.concatenate(places), doubt, penalty, number, chance, groups)
    return _table(predictor, images, rows[chosen])


def _table(predictor: Predictor, images: ImageSet, rows: np.ndarray) -> pd.DataFrame:
    digests = images.table["pixel_digest"].to_numpy(object)
    judged = [predictor.judge(images.pixels(rows[part]), digests[rows[part]]) for part in _parts(len(rows))]
    probabilities = np.concatenate([part.probabilities for part in judged]).astype(float)
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
    names = np.asarray(predictor.facts.class_names, object)[order]
    sure = np.take_along_axis(probabilities, order, axis=1)
    unfamiliar: list[Any] = []
    for part in judged:
        found = part.near.unfamiliar
        unfamiliar.extend([pd.NA] * len(part.confidence) if found is None else found.tolist())
    table = pd.DataFrame(
        {
            "id": images.table["id"].iloc[rows].to_numpy(object),
            "label": np.full(len(rows), None, object),
            "suggested": names[:, 0],
            "probability_of_suggested": sure[:, 0],
            "other": names[:, 1],
            "probability_of_other": sure[:, 1],
            "unfamiliar": pd.array(unfamiliar, "boolean"),
            "split": np.full(len(rows), TRAINING_ONLY, object),
        }
    )
    return table.astype(dict.fromkeys(TEXT, "str"))


def draw_images_to_label(images: ImageSet, table: pd.DataFrame, shown: int = 48) -> Figure:
    """The first of them, each with the classes that it may be.

    Args:
        images: The set that holds them.
        table: See `choose_images_to_label`.
        shown: Number of images.
    """
    part = table.head(shown)
    titles = [
        f"{short_name(row['suggested'], NAME)} {whole_percent(row['probability_of_suggested'])}\n"
        f"{short_name(row['other'], NAME)} {whole_percent(row['probability_of_other'])}"
        for row in part.to_dict("records")
    ]
    which = (
        f"the {shown} most informative of {len(table):,}"
        if shown < len(table)
        else f"{len(table):,}, the most informative first"
    )
    return draw_sheet(images, part["id"], titles, f"Images to label: {which}")


def write_page_to_label(images: ImageSet, table: pd.DataFrame, classes: Sequence[str]) -> str:
    """A page on which they can be labelled; see `evaluation.report.label_page`.

    Args:
        images: The set that holds them.
        table: See `choose_images_to_label`.
        classes: Names of all classes.
    """
    questions = [
        Question(
            row["id"],
            "Unlike the training images; perhaps none of the classes." if row["unfamiliar"] is True else "",
            [(row[name], row[f"probability_of_{name}"]) for name in ("suggested", "other")],
        )
        for row in table.to_dict("records")
    ]
    return write_label_page(
        questions,
        images,
        classes,
        title=f"Images of {images.name} to label" if images.name else "Images to label",
        explanation="Their labels would tell the network most about the images that have none. The percentages are "
        "what it thinks now, and often it is wrong: that is why they are here. Save the table and give it to the next "
        "run with `--params target_labels=FILE`, beside the --env and --params of this one; the labels serve for "
        "training alone. What is none of the classes is neither learnt from nor asked for again.",
        file_name="images_labelled.csv",
        split=TRAINING_ONLY,
        split_of_none=UNUSED,
    )


def describe_images_to_label(table: pd.DataFrame, command: str) -> list[str]:
    """Lines for the terminal.

    Args:
        table: See `choose_images_to_label`.
        command: That runs the pipeline, with its environment.
    """
    first = table.iloc[0]
    doubts = f"{first['suggested']} ({whole_percent(first['probability_of_suggested'])}) or {first['other']}"
    lines = [f"To label        {len(table):,} of the images without a label, first {first['id']}: {doubts}?"]
    if strange := int(table["unfamiliar"].fillna(False).sum()):
        are = "is" if strange == 1 else "are"
        lines.append(f"                {strange:,} {are} unlike the training images: perhaps of none of the classes")
    return [
        *lines,
        "Next            Label them on images_to_label.html, or write a class into the column label of the CSV file "
        f"(no label: of none, or not known). Then: {command} … --params target_labels=FILE, with the other parameters "
        "of this run; FILE may be a folder of several such files.",
    ]


def _parts(length: int) -> Sequence[slice]:
    return [slice(start, min(length, start + CHUNK)) for start in range(0, length, CHUNK)]
