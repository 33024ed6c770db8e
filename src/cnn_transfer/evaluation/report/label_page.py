"""A page on which somebody gives images their labels, one press each, and saves them as a table for the next run.

One HTML file without any reference to another: it works from a disk, on a telephone and without a network. What was
pressed stays in the browser until it is saved.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from cnn_transfer.evaluation.probabilities import whole_percent
from cnn_transfer.evaluation.report.blocks import page_environment
from cnn_transfer.images import ImageSet, thumbnail

MOST_BUTTONS = 12  # classes; of more, the probable ones are buttons and all are in a list to search
MOST_ALIKE = 30  # classes that are buttons where none is more probable than another, as when answers are audited
MOST_PX = 224  # longest side of a picture in the file
SMALL_PX = 64  # longest side of pictures that are shown enlarged, with sharp edges
MOST_PICTURES = 500  # about 5 MB of photographs
CHUNK = 256


class Question(NamedTuple):
    """An image to be labelled.

    Attributes:
        id: Of the image.
        text: What is asked about it.
        likely: Classes that it may be, the most likely first, and their probabilities, 0-1.
    """

    id: str
    text: str
    likely: Sequence[tuple[str, float]]


def write_label_page(
    questions: Sequence[Question],
    images: ImageSet,
    classes: Sequence[str],
    title: str,
    explanation: str,
    file_name: str,
    split: str = "",
    split_of_none: str = "",
    named: bool = True,
) -> str:
    """The page.

    Args:
        questions: The images, in the order in which they are shown; what lies beyond `MOST_PICTURES` is left out, and
            the page says so.
        images: The set that holds them.
        classes: All names that may be given.
        title: What is to be done.
        explanation: Why, and what becomes of it; commands between `.
        file_name: Under which the table is saved: `id`, `label` and `split` of each image that was looked at.
        split: What the table says of each of them that has a label.
        split_of_none: What it says of those that are none of the classes.
        named: Whether the page shows where each image lies, whose folder may say what somebody took it for.
    """
    shown = questions[:MOST_PICTURES]
    page = resources.files("cnn_transfer.evaluation.report") / "page"
    css, js = ((page / name).read_text(encoding="utf-8") for name in ("report.css", "labels.js"))
    few = len(classes) <= (MOST_BUTTONS if any(question.likely for question in shown) else MOST_ALIKE)
    keys = keys_of(classes) if few else {}
    asked = json.dumps([split, *classes, *(question.id for question in shown)])
    template = page_environment(autoescape=True).get_template("labels.html.jinja")
    text = template.render(
        title=title,
        explanation=explanation,
        cards=_cards(shown, images, classes if few else None),
        classes=classes,
        few=few,
        keys=keys,
        left_out=len(questions) - len(shown),
        named=named,
        small=max(images.image_shape[:2]) <= SMALL_PX,
        css=css + (page / "labels.css").read_text(encoding="utf-8"),
        js=js,
        facts={
            "file": file_name,
            "split": split,
            "split_of_none": split_of_none,
            "key": hashlib.blake2b(asked.encode(), digest_size=8).hexdigest(),
        },
    )
    return text.strip() + "\n"


def keys_of(classes: Sequence[str]) -> dict[str, str]:
    """The key that stands for each class: what it begins with where that tells all apart, else 1 to 9, or none."""
    first = [name[:1].lower() for name in classes]
    if len(set(first)) == len(classes) and all(letter.isalnum() for letter in first):
        return dict(zip(classes, first, strict=True))
    return {name: str(place + 1) for place, name in enumerate(classes)} if len(classes) <= 9 else {}


def _cards(questions: Sequence[Question], images: ImageSet, classes: Sequence[str] | None) -> list[dict[str, Any]]:
    """What stands on the page of each image: its picture, and the classes that are buttons."""
    cards: list[dict[str, Any]] = []
    for start in range(0, len(questions), CHUNK):
        part = questions[start : start + CHUNK]
        pixels = images.pixels(images.rows_of([question.id for question in part]))
        cards.extend(_card(*pair, classes) for pair in zip(part, pixels, strict=True))
    return cards


def _card(question: Question, pixels: np.ndarray, classes: Sequence[str] | None) -> dict[str, Any]:
    likely = dict(question.likely)
    names = list(likely) if classes is None else classes
    picture = base64.b64encode(thumbnail(pixels, MOST_PX)).decode()
    buttons = [{"name": name, "sure": whole_percent(likely[name]) if name in likely else ""} for name in names]
    return {
        "id": question.id,
        "text": question.text,
        "picture": f"data:image/webp;base64,{picture}",
        "buttons": buttons,
    }
