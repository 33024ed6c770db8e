"""Reading, decoding and resizing a whole set, in parallel and in a stream: memory does not grow with the set.

Threads, not processes: on 2 cores processes decode one or two thirds faster (`benchmarks/intake.py` measures both), but
they cost a second to start, and TensorFlow's process must not be forked. Of small images two threads decode fewer than
one, since most of the work is Python's, whose lock they pass to and fro with each image. More than one machine, or more
than one process: see `ray_preparation`.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from os.path import splitext
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field

from cnn_transfer.images.decoding import (
    ImageFormat,
    UnusableImageError,
    decode_image,
    file_state,
    quiet_pillow,
    read_encoded,
)
from cnn_transfer.images.duplicates import perceptual_hashes
from cnn_transfer.images.listing import LISTING_COLUMNS, Encoded, ImageListing, listing_table
from cnn_transfer.images.reasons import NO_ANSWER, REJECTED_COLUMNS, NoAnswerError, rejected_table
from cnn_transfer.parameters import Parameters

IMAGE_COLUMNS = [
    *LISTING_COLUMNS,
    "width_px",
    "height_px",
    "notes",
    "content_digest",
    "pixel_digest",
    "perceptual_hash",
]
CHUNK_BYTES = 4 * 2**20  # of pixels, decoded by one task; larger arrays leave more holes in memory
MOST_CHUNK_IMAGES = 2048  # what is done once a chunk takes as long as decoding some hundred small images
SMALL_BYTES = 1200  # encoded, on average: up to 32 px a side. From 64 px on (1,600 bytes) two threads are no slower
ASKED = 16  # images whose size says how large those of a set are
FEW_SILENT, SILENT_SHARE = 10, 0.01  # images without an answer that are set aside: so many, or such a share of all
SILENT_IN_A_ROW = 64  # that none may be of one chunk: each is tried several times, which takes seconds
NOT_STORED = -1
FACTS: dict[str, Any] = {  # of an image that was decoded, with the type of their column
    "width_px": "int64",
    "height_px": "int64",
    "notes": "str",
    "content_digest": "str",
    "pixel_digest": "str",
    "stored_row": "int64",
}


class Workers(Parameters):
    """Who prepares the images."""

    engine: Literal["threads", "ray"]  # ray: a Ray cluster, found by Ray's own RAY_ADDRESS; without one a local one
    workers: int | None = Field(ge=1, le=1024)  # threads; null: one a core, or one where images are small


class Chunk(NamedTuple):
    """Some images of a set in the order of its listing.

    Attributes:
        table: One row a usable image, the columns of `IMAGE_COLUMNS` and `stored_row`: the row of an earlier set that
            has its pixels, or `NOT_STORED`.
        pixels: Pixels of the images that are not stored yet, (n, height, width, channels) uint8.
        states: `file_state` of each image of the table.
        rejected: One row an image that cannot be used: `id`, `label`, `reason`, `detail`.
    """

    table: pd.DataFrame
    pixels: np.ndarray
    states: list[str]
    rejected: pd.DataFrame


class StoredImages(NamedTuple):
    """What is known from an earlier set of the same format: images with the same content are not decoded again.

    Attributes:
        table: The table of that set.
        row_of_content: Row number by digest of the encoded image.
        row_of_state: Row number by `file_state`: such files need not even be read.
    """

    table: pd.DataFrame
    row_of_content: Mapping[str, int]
    row_of_state: Mapping[str, int]


@dataclass(frozen=True)
class DecodedImages:
    """Images to be decoded while they are written.

    Attributes:
        listing: Where the encoded images come from.
        image_format: Size and colour of the result.
        rows: Row numbers of the listing to decode, increasing; the others are set aside as not sampled.
        workers: Who decodes them.
    """

    listing: ImageListing
    image_format: ImageFormat
    rows: np.ndarray
    workers: Workers = field(default_factory=lambda: Workers(engine="threads", workers=None))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def set_aside(self) -> pd.DataFrame:
        """What is known to be no image of the set before anything is decoded."""
        left_out = self.listing.table.drop(self.listing.table.index[self.rows])[["id", "label"]]
        left_out = left_out.assign(reason="not_sampled", detail="").astype("str")
        return pd.concat([self.listing.rejected, left_out[REJECTED_COLUMNS]], ignore_index=True)

    def chunks(self, stored: StoredImages | None = None) -> Iterator[Chunk]:
        """Read, decode and resize the images, in order."""
        size = images_a_chunk(self.image_format)
        table = listing_table(self.listing.table.iloc[self.rows])
        parts = [table.iloc[start : start + size] for start in range(0, len(table), size)]
        if self.workers.engine == "ray":
            from cnn_transfer.images.ray_preparation import prepare_on_ray

            return prepare_on_ray(self.listing.read, self.rows, parts, self.image_format, stored)
        return self._in_threads(parts, stored)

    def _in_threads(self, parts: list[pd.DataFrame], stored: StoredImages | None) -> Iterator[Chunk]:
        encoded = self.listing.read(self.rows)
        running: deque[Future[Chunk]] = deque()
        with quiet_pillow(), ExitStack() as stack:
            pool, threads = None, self.workers.workers
            for part in parts:
                images = list(islice(encoded, len(part)))
                threads = threads or _threads_for(images)
                pool = pool or stack.enter_context(ThreadPoolExecutor(threads))
                running.append(pool.submit(prepare_chunk, images, part, self.image_format, stored))
                if len(running) > threads:  # one more than can run, so that no thread waits for the writing
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()


def _threads_for(images: Sequence[Encoded]) -> int:
    """As many as decode such images fastest."""
    sizes = [size for image in images[:: max(1, len(images) // ASKED)] if (size := _encoded_bytes(image)) is not None]
    return 1 if sizes and np.mean(sizes) < SMALL_BYTES else os.cpu_count() or 1


def _encoded_bytes(image: Encoded) -> float | None:
    """Size of an encoded image, 0 for pixels; None where it is not known without waiting for a store."""
    if isinstance(image, bytes | np.ndarray):
        return len(image) if isinstance(image, bytes) else 0
    try:
        return os.path.getsize(image) if isinstance(image, str | Path) else None
    except (OSError, ValueError):  # reading it will tell
        return None


class Answers:
    """Counts images that were not answered for, and ends what goes on without them.

    Some of many are set aside: a later attempt may read them. More mean that the store or disk is down, and what is
    made meanwhile would lack whatever comes after.

    Args:
        images: How many are to be read.
    """

    def __init__(self, images: int) -> None:
        self._silent = 0
        self._most = min(max(FEW_SILENT, int(SILENT_SHARE * images)), images - 1)

    def count(self, rejected: pd.DataFrame) -> None:
        """Take note of the images that were set aside among some.

        Args:
            rejected: `id`, `reason`, `detail`.

        Raises:
            NoAnswerError: When too many, or all that are to be read, got no answer.
        """
        silent = rejected[rejected["reason"] == NO_ANSWER]
        self._silent += len(silent)
        if len(silent) and self._silent > self._most:
            raise _no_answer(self._silent, silent["id"].iloc[-1], silent["detail"].iloc[-1])


def _no_answer(images: int, last: str, detail: str) -> NoAnswerError:
    return NoAnswerError(
        f"{images:,} images could not be read since the store or disk that holds them does not answer; of {last}: "
        f"{detail}. Give the same command again when it does."
    )


def images_a_chunk(image_format: ImageFormat) -> int:
    """How many images of a format are decoded by one task."""
    return max(1, min(MOST_CHUNK_IMAGES, CHUNK_BYTES // int(np.prod(image_format.shape))))


def prepare_chunk(
    encoded: Sequence[Encoded], listed: pd.DataFrame, image_format: ImageFormat, stored: StoredImages | None
) -> Chunk:
    """Read and decode some images.

    Args:
        encoded: The images.
        listed: Their rows of the listing.
        image_format: Size and colour of the result.
        stored: Images that need not be decoded again.

    Raises:
        NoAnswerError: When what holds the images does not answer.
    """
    known = stored.row_of_content if stored else {}
    states = [file_state(image) for image in encoded]
    stored_rows = [stored.row_of_state.get(state, NOT_STORED) if stored else NOT_STORED for state in states]
    contents = read_encoded(image for image, row in zip(encoded, stored_rows, strict=True) if row == NOT_STORED)
    used, facts, rejected, in_a_row = [], [], [], 0
    pixels, decoded_images = np.empty((len(encoded), *image_format.shape), np.uint8), 0
    names, labels = (listed[column].to_numpy(object) for column in ("id", "label"))
    for position, stored_row in enumerate(stored_rows):
        if stored_row != NOT_STORED:
            facts.append((0, 0, "", "", "", stored_row))
            used.append(position)
            continue
        name, content = names[position], next(contents)
        try:
            if isinstance(content, UnusableImageError):
                raise content
            digest = _content_digest(content, name)
            row = known.get(digest, NOT_STORED)
            if row == NOT_STORED:
                decoded = decode_image(content, image_format, name)
                notes = " ".join(decoded.notes)
                facts.append((decoded.width_px, decoded.height_px, notes, digest, decoded.pixel_digest, row))
                pixels[decoded_images] = decoded.pixels
                decoded_images += 1
            else:
                facts.append((0, 0, "", "", "", row))
            used.append(position)
            in_a_row = 0
        except UnusableImageError as error:
            rejected.append((name, labels[position], error.reason, error.detail))
            in_a_row = in_a_row + 1 if error.reason == NO_ANSWER else 0
            if in_a_row == SILENT_IN_A_ROW:
                raise _no_answer(in_a_row, name, error.detail) from error
    pixels = pixels[:decoded_images]
    usable = listed.iloc[used] if rejected else listed
    columns: dict[str, Any] = dict(zip(FACTS, zip(*facts, strict=True) if facts else [()] * len(FACTS), strict=True))
    rows = np.asarray(columns.pop("stored_row"), np.int64)
    new = rows == NOT_STORED
    hashes = np.zeros(len(new), np.uint64)
    hashes[new] = perceptual_hashes(pixels)
    table = pd.DataFrame(
        {name: usable[name].array for name in LISTING_COLUMNS}
        | {name: pd.array(values, FACTS[name]) for name, values in columns.items()}
        | {"perceptual_hash": hashes, "stored_row": rows}
    )
    if stored and not new.all():
        kept = ["width_px", "height_px", "notes", "content_digest", "pixel_digest", "perceptual_hash"]
        old = stored.table[kept].iloc[rows[~new]]
        if new.any():
            table.loc[~new, kept] = old.set_axis(table.index[~new])
        else:
            table[kept] = old.reset_index(drop=True)
    states = [states[position] for position in used]
    return Chunk(table, pixels, states, rejected_table(rejected))


def _content_digest(content: bytes | np.ndarray, name: str) -> str:
    """Digest of an encoded image and the suffix of its name, which the notes depend on."""
    data = content.tobytes() if isinstance(content, np.ndarray) else content
    return hashlib.blake2b(data, digest_size=16, person=splitext(name)[1].lower().encode()[:16]).hexdigest()
