"""The page on which labels that look wrong are looked at again."""

from __future__ import annotations

import pandas as pd

from cnn_transfer.evaluation.report.label_page import Question, write_label_page
from cnn_transfer.images import ImageSet, class_names

FILE = "labels_looked_at.csv"


def write_suspected_page(images: ImageSet, suspected: pd.DataFrame, splits: pd.DataFrame) -> str:
    """One card a label that looks wrong, the clearest first, with what it is called and what it looks like.

    Args:
        images: The set that holds the images.
        suspected: See `evaluation.suspected_labels`; may be empty.
        splits: Table of splits, whose classes may be given.
    """
    questions = [
        Question(
            row["id"],
            f"Its label is {row['label']}.",
            [(row[name], row[f"probability_of_{name}"]) for name in ("suggested", "label")],
        )
        for row in suspected.to_dict("records")
    ]
    return write_label_page(
        questions,
        images,
        class_names(splits),
        title=f"Labels of {images.name} to look at again" if images.name else "Labels to look at again",
        explanation="They look wrong to a network or head that was not fitted to the image; the percentages are what "
        "it thinks. Most of them are its mistakes, the first may be mistakes of the labels. Press what each image is: "
        "the label that it has, or another. Save the table and give it to the next run with "
        "`--params target_labels=FILE`, beside the --env and --params of this one; what is not pressed stays as it is.",
        file_name=FILE,
    )
