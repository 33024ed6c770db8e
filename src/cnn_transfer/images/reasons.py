"""Why an image was set aside, and what was done to an image that is used: the codes in the tables, explained."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

REJECTED_COLUMNS = ["id", "label", "reason", "detail"]
NOTE_COLUMNS = ["id", "label", "note", "detail"]

# Files that were never meant as images of the set, and images left out on request: listed, but no sign of a bad set.
EXPECTED_REASONS = {
    "hidden_file": "its name starts with a dot",
    "system_file": "made by an operating system or a file server, such as Thumbs.db",
    "other_file": "neither the name nor the content is an image's",
    "not_sampled": "left out by max_images_per_class",
}


class UnusableSetError(ValueError):
    """Images cannot be used as a set; the message names what, why, and what to do."""


class NoAnswerError(OSError):
    """The store or disk that holds the images is down; the message says of how many, and what to do."""


class NoRoomError(OSError):
    """A disk has not enough room; the message says for what, how much is needed, and what to do."""


REASONS = EXPECTED_REASONS | {
    "stray_file": "beside the class folders, so that its class is unknown",
    "link_outside": "a link that leaves the folder; followed when the catalog entry has follow_links: true",
    "link_loop": "a link to a folder that contains it",
    "broken_link": "a link to nothing",
    "listed_twice": "the same path stands in the manifest more than once",
    "missing_path": "the manifest names no file",
    "missing_file": "the file was not there when it was to be read",
    "unreadable": "the file could not be read, for instance for want of permission",
    "no_answer": "the store or disk did not answer, or broke off, when the file was to be read",
    "empty_file": "no content",
    "not_an_image": "the name says that it is an image, the content does not, or not one of a known format",
    "truncated": "the end of the image is missing",
    "damaged": "the format is known, the content is broken",
    "too_large": "more pixels declared than most_megapixels; refused before decoding",
    "too_small": "a side shorter than smallest_side_px",
    "unsupported_depth": "numbers that are neither 8 nor 16 bits a channel",
    "duplicate": "the same pixels as another image of the set, which is used",
    "conflicting_labels": "the same pixels stand under two labels; every copy is set aside",
    "leak": "the same picture, or one of its group, is on another side of the given splits; the test side keeps it",
    "unlabelled_test": "given as a test image without a label",
    "small_class": "its class has too few images to be split, and small_classes is set_aside",
}

NO_ANSWER = "no_answer"
PASSING_REASONS = frozenset({"missing_file", "unreadable", NO_ANSWER})  # a later attempt may read the same file

NOTES = {
    "wrong_extension": "the content is an image of another format than the name says",
    "first_frame": "animated or of several pages; the first one is used",
    "orientation": "turned as its EXIF data says",
    "damaged_exif": "its EXIF data cannot be read; not turned",
    "alpha": "transparent; laid on the background",
    "cmyk": "printing colours, converted",
    "sixteen_bit": "16 bits a channel, scaled to 8",
    "palette": "palette colours, converted",
    "one_bit": "black and white, converted",
    "grey_to_colour": "grey, repeated in three channels",
    "colour_to_grey": "colour, converted to its luma",
    "near_duplicate": "nearly the same picture as another; both are used, on the same side of the splits",
    "near_duplicate_other_label": "nearly the same picture as one of another class: is one of the labels wrong?",
    "similar_labels": "class names that differ only by case or white space: are they one class?",
    "corrected_label": "its label is that of the tables of labels that were given or looked at again (target_labels)",
    "empty_class": "a class folder without a usable image",
}


def rejected_table(rows: Sequence[tuple[str, str | None, str, str]]) -> pd.DataFrame:
    """A table of images set aside from (id, label, reason, detail)."""
    return _text_table(rows, REJECTED_COLUMNS)


def note_table(rows: Sequence[tuple[str, str | None, str, str]]) -> pd.DataFrame:
    """A table of notes from (id, label, note, detail)."""
    return _text_table(rows, NOTE_COLUMNS)


def _text_table(rows: Sequence[tuple[str | None, ...]], names: list[str]) -> pd.DataFrame:
    values = zip(*rows, strict=True) if rows else [()] * len(names)
    return pd.DataFrame({name: pd.array(some, "str") for name, some in zip(names, values, strict=True)})
