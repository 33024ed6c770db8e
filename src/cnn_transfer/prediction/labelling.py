"""Labelling any number of images part by part, so that a process that is killed loses no more than one part.

Labelled images are a folder on any file system of fsspec:

    part-<number>-<digest>.parquet              one row a usable image, see `Labelled.predictions`
    _rejected-part-<number>-<digest>.parquet    what could not be used among them; there before its part
    _labels.json                                the parts in their order; written last

The digest is of all that a part is made from: a file of the same name is the same part, wherever it lies. Readers of
Parquet (pandas, pyarrow, Spark) take the folder for one table, and leave out what begins with `_`.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from fsspec import AbstractFileSystem
from tqdm import tqdm

from cnn_transfer.images import ImageListing
from cnn_transfer.images.decoding import DECODER
from cnn_transfer.images.preparation import Answers, images_a_chunk
from cnn_transfer.prediction.drift import describe_drift
from cnn_transfer.prediction.predictor import (
    LEFT_OUT_IMAGE,
    NO_THRESHOLD,
    TRAINING_IMAGE,
    UNLABELLED_IMAGE,
    WITHHELD,
    Labelled,
    Predictor,
)

CONTENTS = "_labels.json"  # written last
REJECTED = "_rejected-"  # begins the name of a part's rejected images
FORM = 5  # of the parts: raise it when the same image gets another row
PART_IMAGES = 4096  # or the next lower multiple of what is decoded at once: seconds of work, megabytes of table
REJECTED_COLUMNS = ["id", "reason", "detail"]


@dataclass(frozen=True)
class ImagesToLabel:
    """Images that are labelled while they are written.

    Attributes:
        predictor: What labels them.
        listing: The images.
        threads: That decode; None: see `Workers`.
    """

    predictor: Predictor
    listing: ImageListing
    threads: int | None = None

    def __len__(self) -> int:
        return len(self.listing.table)

    @property
    def part_images(self) -> int:
        """Images of a part: whole chunks, so that each image is computed with the same others after a resumption."""
        chunk = images_a_chunk(self.predictor.facts.image_format)
        return max(1, PART_IMAGES // chunk) * chunk

    @cached_property
    def part_names(self) -> list[str]:
        """Names of the parts, in order."""
        whole = _digest_of([f"{FORM}", DECODER, self.predictor.digest, self.listing_digest])
        numbers = range(-(-len(self) // self.part_images))
        return [f"part-{number:06d}-{whole}.parquet" for number in numbers]

    @cached_property
    def listing_digest(self) -> str:
        """Of the images, whatever labels them."""
        return _digest_of_listing(self.listing)

    def parts(self, first: int, labelled: Callable[[int], object]) -> Iterator[Labelled]:
        """Label the parts from one on; what is no image of the listing at all is rejected with the first.

        Args:
            first: Number of a part.
            labelled: Called with numbers of images as they are done.
        """
        chunks = self.predictor.stream(self.listing, np.arange(first * self.part_images, len(self)), self.threads)
        listed = self.listing.rejected[REJECTED_COLUMNS] if first == 0 else None
        while some := list(islice(_counted(chunks, labelled), self.part_images // self._chunk_images)):
            rejected = [part.rejected for part in some]
            yield Labelled(
                pd.concat([part.predictions for part in some], ignore_index=True),
                pd.concat(rejected if listed is None else [listed, *rejected], ignore_index=True),
            )
            listed = None

    @property
    def _chunk_images(self) -> int:
        return images_a_chunk(self.predictor.facts.image_format)


@dataclass(frozen=True)
class LabelledImages:
    """Labelled images on disk or on a store, opened: their parts are read one by one.

    Attributes:
        filesystem: Of fsspec.
        path: Of the folder.
        contents: `images` (listed, without what is no image of the listing), `listing` (digest of these, whatever
            labelled them; missing in labels of earlier versions of this program), `model_version`, `class_names`,
            `promised_accuracy` (of the answered images; None: nothing is), `confidence` (of that promise), `parts`
            (names of the files).
    """

    filesystem: AbstractFileSystem
    path: str
    contents: Mapping[str, Any]

    @property
    def model_version(self) -> str:
        """Version of the predictor that labelled them."""
        return str(self.contents["model_version"])

    @property
    def class_names(self) -> list[str]:
        """Of that predictor."""
        return list(self.contents["class_names"])

    def have_changed(self, listing: ImageListing) -> bool:
        """Whether images that are there now are surely not as they were when they were labelled.

        Files may have been added, taken away, copied, or replaced by others of the same name.
        """
        return self.contents.get("listing") not in (None, _digest_of_listing(listing))

    def parts(self) -> Iterator[pd.DataFrame]:
        """See `Labelled.predictions`."""
        return (self._read(name) for name in self.contents["parts"])

    def rejected(self) -> pd.DataFrame:
        """All images that could not be used: `id`, `reason`, `detail`."""
        return pd.concat([self._read(REJECTED + name) for name in self.contents["parts"]], ignore_index=True)

    def _read(self, name: str) -> pd.DataFrame:
        with self.filesystem.open(f"{self.path}/{name}", "rb") as file:
            return pd.read_parquet(file)


def _digest_of_listing(listing: ImageListing) -> str:
    return _digest_of([f"{listing.fingerprint}", *listing.table["id"]])


def _digest_of(names: Iterable[str]) -> str:
    whole = hashlib.blake2b(digest_size=6)
    for name in names:
        whole.update(f"{name}\0".encode())
    return whole.hexdigest()


def write_labels(images: ImagesToLabel, done: int, write: Callable[[str, bytes], object]) -> None:
    """Label the parts that are not there yet, and write each as soon as it is done.

    Args:
        images: The images.
        done: So many of the first parts are there.
        write: Writes a file of the folder by its name, whole or not at all.

    Raises:
        NoAnswerError: When what holds the images is down; the part in which that is seen is not written.
    """
    start = min(len(images), done * images.part_images)
    with tqdm(total=len(images), initial=start, unit="images", desc="labelling", disable=None) as progress:
        names = images.part_names[done:]
        answers = Answers(len(images) - start)
        for name, part in zip(names, images.parts(done, progress.update) if names else (), strict=True):
            answers.count(part.rejected)
            write(REJECTED + name, _encode(part.rejected))
            write(name, _encode(part.predictions))
    contents = {
        "images": len(images),
        "listing": images.listing_digest,
        "model_version": images.predictor.version,
        "class_names": list(images.predictor.facts.class_names),
        "promised_accuracy": images.predictor.facts.promised_accuracy,
        "confidence": images.predictor.facts.confidence,
        "parts": images.part_names,
    }
    write(CONTENTS, json.dumps(contents, indent=2).encode())


def open_labels(filesystem: AbstractFileSystem, path: str) -> LabelledImages:
    """Open what `write_labels` wrote, without reading its parts."""
    return LabelledImages(filesystem, path, json.loads(filesystem.cat_file(f"{path}/{CONTENTS}")))


def count_labels(labelled: LabelledImages) -> tuple[pd.DataFrame, dict[str, Any]]:
    """What became of all images, part by part.

    Returns:
        The rejected images (`id`, `reason`, `detail`), and counts: `listed` = `labelled` + `rejected`, `answered` with
        `answered_share` (of the labelled ones; None without any), `withheld` (by code), `unlike` (unfamiliar images by
        what they are unlike in), `rejected_for` (by code), `answers` and `predicted` (by class), `notes` (by code),
        `model_version`.
    """
    answers, predicted, withheld, unlike, notes = (Counter[str]() for _ in range(5))
    for part in labelled.parts():
        answers.update(part["answer"].dropna())
        predicted.update(part["predicted"])
        withheld.update(part["withheld"][part["withheld"] != ""])
        unlike.update(part["unlike"][part["unlike"] != ""])
        notes.update(code for text in part["notes"] for code in text.split())
    rejected = labelled.rejected()
    total = predicted.total()
    return rejected, {
        "listed": total + len(rejected),
        "labelled": total,
        "rejected": len(rejected),
        "answered": answers.total(),
        "answered_share": answers.total() / total if total else None,
        "withheld": {code: withheld[code] for code in WITHHELD if withheld[code]},
        "unlike": _by_frequency(unlike),
        "rejected_for": _by_frequency(Counter(rejected["reason"])),
        "answers": {name: answers[name] for name in labelled.class_names},
        "predicted": {name: predicted[name] for name in labelled.class_names},
        "notes": _by_frequency(notes),
        "model_version": labelled.model_version,
    }


def describe_labels(counts: Mapping[str, Any], drift: Mapping[str, Any]) -> list[str]:
    """The end of a run in a few lines for the terminal.

    Args:
        counts: See `count_labels`.
        drift: See `drift_report`.
    """
    reasons = f": {_listed(counts['rejected_for'])}" if counts["rejected"] else ""
    share = "" if counts["answered_share"] is None else f" ({counts['answered_share']:.1%})"
    withheld = f"; withheld: {_listed(counts['withheld'])}" if counts["withheld"] else ""
    lines = [
        f"Images          {counts['listed']:,} listed, {counts['labelled']:,} labelled by {counts['model_version']}, "
        f"{counts['rejected']:,} rejected{reasons}",
        f"Answered        {counts['answered']:,}{share}{withheld}",
    ]
    if counts["unlike"]:
        lines.append(f"Unfamiliar      {', '.join(f'{count:,} in {what}' for what, count in counts['unlike'].items())}")
    if counts["withheld"].get(NO_THRESHOLD):
        lines.append(
            "Note            no answer can be promised: the images that the network was judged on were too few, or "
            "too often wrong. What it takes each image for, and how surely, stands in the labels all the same"
        )
    if seen := counts["notes"].get(TRAINING_IMAGE):
        lines.append(f"Note            the network was trained on {seen:,} of these very pictures")
    if seen := counts["notes"].get(LEFT_OUT_IMAGE):
        lines.append(
            f"Note            the network learnt from {seen:,} of these very pictures without a label; they are judged "
            "as it would judge them without"
        )
    if seen := counts["notes"].get(UNLABELLED_IMAGE):
        lines.append(
            f"Note            {seen:,} of these very pictures were in the training without a label, where the network "
            "may have learnt its own guesses: the promise does not hold for them. Have some looked at: kedro run "
            "--pipelines audit_sample"
        )
    first, *others = describe_drift(drift)
    return [*lines, f"Drift           {first}", *(f"{'':16}{other}" for other in others)]


def _counted(chunks: Iterator[Labelled], labelled: Callable[[int], object]) -> Iterator[Labelled]:
    for chunk in chunks:
        labelled(len(chunk.predictions) + len(chunk.rejected))
        yield chunk


def _encode(table: pd.DataFrame) -> bytes:
    stream = io.BytesIO()
    table.to_parquet(stream, index=False)
    return stream.getvalue()


def _by_frequency(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {code}" for code, count in counts.items())
