"""A labelled set of images on disk: opened, never loaded whole.

A set is a folder:

    table.parquet         one row an image that could be decoded; see `ImageSet.table`
    rejected.parquet      one row for what was listed and could not be: id, label, reason, detail
    notes.parquet         what is remarkable about the listing: id, label, note, detail
    attributes.parquet    id and the other columns of a manifest
    states.parquet        size and times of the files, by which the next set recognises them without reading
    pixels-00000.arrow …  the images in the order of the table, as Arrow's fixed-shape tensors of uint8
    written.json          how many images were decoded for it; the others were known from an earlier set
    set.json              name, format, class names, number of images, fingerprint; written last

The shards are memory-mapped: reading an image touches its pages only, in any order. `pandas.read_parquet` reads the
tables; pyarrow, polars and Ray read the shards.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from tqdm import tqdm

from cnn_transfer.images.decoding import DECODER, ImageFormat
from cnn_transfer.images.listing import no_attributes
from cnn_transfer.images.preparation import IMAGE_COLUMNS, NOT_STORED, Answers, Chunk, DecodedImages, StoredImages
from cnn_transfer.images.reasons import NoRoomError, note_table

SHARD_BYTES = 256 * 2**20
MOST_COPIED = 4096  # images copied at once from an earlier set


@dataclass(frozen=True)
class ImageSet:
    """Images of one size.

    Attributes:
        table: One row an image: `id`, `label` (missing: unlabelled), given `split` and `group` (or missing), `width_px`
            and `height_px` before resizing, `notes` (codes, separated by spaces), `content_digest` (of the encoded
            image), `pixel_digest`, `perceptual_hash` (uint64).
        rejected: One row for what was listed and set aside: `id`, `label`, `reason`, `detail`.
        class_names: Sorted names of the classes; a class index is a position in it.
        image_shape: (height, width, channels) of the pixels.
        fingerprint: Digest of ids, labels and pixels, independent of the order of the images.
        shards: Memory-mapped pixels, each (n, height, width, channels) uint8, in the order of the table.
        name: What people call the set.
        notes: What is remarkable about the set as a whole: `id`, `label`, `note`, `detail`.
        attributes: `id` and what else a manifest says of its images, numbers or text; images may be missing.
        image_format: How they were decoded; None where that is not known.
    """

    table: pd.DataFrame
    rejected: pd.DataFrame
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    fingerprint: str
    shards: tuple[np.ndarray, ...]
    name: str = ""
    notes: pd.DataFrame = field(default_factory=lambda: note_table([]))
    attributes: pd.DataFrame = field(default_factory=no_attributes)
    image_format: ImageFormat | None = None

    def __len__(self) -> int:
        return len(self.table)

    @property
    def classes(self) -> np.ndarray:
        """Class index of each image, (n,) int32; -1 without a label, or with that of a class that is set aside."""
        return np.asarray(pd.Index(self.class_names, dtype="str").get_indexer(pd.Index(self.table["label"])), np.int32)

    def pixels(self, rows: np.ndarray) -> np.ndarray:
        """Copy the images at `rows` (any order, repeats allowed) into memory: (len(rows), h, w, c) uint8."""
        if len(self.shards) == 1:
            return np.asarray(self.shards[0][rows])
        rows = np.asarray(rows)
        starts = np.cumsum([0, *(len(shard) for shard in self.shards)])
        shard_of_row = np.searchsorted(starts, rows, side="right") - 1
        result = np.empty((len(rows), *self.image_shape), np.uint8)
        for index in np.unique(shard_of_row):
            here = shard_of_row == index
            result[here] = self.shards[index][rows[here] - starts[index]]
        return result

    def used_in(self, splits: pd.DataFrame) -> ImageSet:
        """The set with the classes that a table of splits trains on: those set aside are no classes any more."""
        return replace(self, class_names=class_names(splits))

    def rows(self, splits: pd.DataFrame, split: str) -> np.ndarray:
        """Row numbers of the images that a table of splits (columns `id`, `split`) assigns to `split`.

        Raises:
            ValueError: When the table of splits names images that this set does not have.
        """
        wanted = splits["id"][splits["split"] == split]
        rows = pd.Index(self.table["id"]).get_indexer(wanted)
        if (missing := rows < 0).any():
            raise ValueError(
                f"The table of splits must be about this set. {missing.sum()} of its {len(rows)} {split} images are "
                f"not in it, such as {wanted[missing].iloc[0]}. Run the preprocess stage again, so that both have one "
                "version."
            )
        return np.asarray(rows)

    def rows_of(self, ids: Iterable[str]) -> np.ndarray:
        """Row numbers of images.

        Raises:
            ValueError: When the set does not have them all.
        """
        wanted = pd.Index(list(ids))
        rows = pd.Index(self.table["id"]).get_indexer(wanted)
        if (missing := rows < 0).any():
            raise ValueError(
                f"All images must be of this set. {missing.sum()} of {len(rows)} are not in it, such as "
                f"{wanted[missing][0]}. Run the stage again that named them, so that both have one version."
            )
        return np.asarray(rows)


def class_names(splits: pd.DataFrame) -> tuple[str, ...]:
    """Sorted names of the classes that a table of splits (columns `label`, `split`) trains on."""
    return tuple(sorted(splits["label"][splits["split"] == "training"].unique()))


def write_image_set(images: DecodedImages, folder: Path, earlier: Path | None = None) -> None:
    """Decode images and write them as a set, one chunk at a time.

    The caller makes the result visible (by renaming `folder`) when this returns. A set without any usable image is
    written as well: its table of rejected images says why.

    Args:
        images: The images to decode.
        folder: A folder that does not exist yet.
        earlier: A set whose images need not be decoded again where their content is the same.

    Raises:
        NoRoomError: When the disk has not enough room.
        NoAnswerError: When what holds the images is down.
    """
    image_format = images.image_format.model_dump()
    stored = _open_earlier(earlier, image_format) if earlier else None
    folder.mkdir(parents=True)
    _check_room(images, folder)
    known = _stored_images(stored, earlier) if stored and earlier else None
    tables, rejected = [pd.DataFrame(columns=IMAGE_COLUMNS)], [images.set_aside]
    states = [pd.Series(dtype="str")]
    with _progress(len(images)) as progress, _Shards(folder, images.image_format.shape, stored, earlier) as shards:
        answers = Answers(len(images))
        for chunk in images.chunks(known):
            answers.count(chunk.rejected)
            tables.append(chunk.table[IMAGE_COLUMNS])
            rejected.append(chunk.rejected)
            states.append(pd.Series(chunk.states, dtype="str"))
            shards.write(chunk)
            progress.update(len(chunk.table) + len(chunk.rejected))
    table = pd.concat(tables[1:] or tables, ignore_index=True)
    table.to_parquet(folder / "table.parquet", index=False)
    pd.concat(rejected, ignore_index=True).to_parquet(folder / "rejected.parquet", index=False)
    images.listing.notes.to_parquet(folder / "notes.parquet", index=False)
    images.listing.attributes.to_parquet(folder / "attributes.parquet", index=False)
    pd.DataFrame({"state": pd.concat(states, ignore_index=True)}).to_parquet(folder / "states.parquet", index=False)
    card = {
        "name": images.listing.name,
        "images": len(table),
        "image_format": image_format,
        "decoder": DECODER,
        "class_names": sorted(table["label"].dropna().unique()),
        "fingerprint": _fingerprint(table),
    }
    (folder / "written.json").write_text(json.dumps({"decoded": len(table) - shards.reused}))
    (folder / "set.json").write_text(json.dumps(card, indent=2))


def _stored_images(images: ImageSet, folder: Path) -> StoredImages:
    contents = images.table["content_digest"].to_numpy(object)
    states = pd.read_parquet(folder / "states.parquet")["state"].to_numpy(object)
    row_of_state = {state: row for row, state in enumerate(states) if state}
    return StoredImages(images.table, {content: row for row, content in enumerate(contents)}, row_of_state)


def _fingerprint(table: pd.DataFrame) -> str:
    digests = np.empty(len(table), "S16")
    for start in range(0, len(table), MOST_COPIED):  # strings of Python take much room
        part = table.iloc[start : start + MOST_COPIED]
        columns = (part["id"], part["label"].fillna(""), part["pixel_digest"])
        rows = zip(*(column.to_numpy(object) for column in columns), strict=True)
        digests[start : start + len(part)] = [
            hashlib.blake2b("\0".join(row).encode(), digest_size=16).digest() for row in rows
        ]
    return hashlib.blake2b(np.sort(digests).tobytes(), digest_size=16).hexdigest()


def _progress(total: int) -> tqdm[Any]:
    return tqdm(total=total, unit="images", desc="decoding", disable=None)


def _check_room(images: DecodedImages, folder: Path) -> None:
    needed = len(images) * int(np.prod(images.image_format.shape))
    free = shutil.disk_usage(folder).free
    if needed * 1.05 > free:
        raise NoRoomError(
            f"Not enough room for {len(images)} images of {images.image_format.shape}: {needed / 1e9:.2f} GB needed in "
            f"{folder}, {free / 1e9:.2f} GB free. Lower image_size_px or max_images_per_class, or delete old versions."
        )


def _open_earlier(folder: Path, image_format: dict[str, Any]) -> ImageSet | None:
    """An earlier set, if it was decoded in the same way."""
    try:
        card = json.loads((folder / "set.json").read_text())
        return open_image_set(folder) if (card["image_format"], card["decoder"]) == (image_format, DECODER) else None
    except (OSError, ValueError, KeyError):  # a damaged one is no help, and no harm
        return None


class _Shards:
    """Writes chunks of pixels into numbered Arrow files, starting a new one when one is full.

    As long as all images are those of the earlier set, in its order, nothing is written: if it stays so, its files are
    linked, and an unchanged set costs neither time nor room.
    """

    def __init__(
        self, folder: Path, shape: tuple[int, int, int], stored: ImageSet | None, earlier: Path | None
    ) -> None:
        self._folder, self._stored, self._earlier = folder, stored, earlier
        self._shard_images = max(1, SHARD_BYTES // int(np.prod(shape)))
        self._writer: pa.RecordBatchFileWriter | None = None
        self._files, self._rows = 0, 0
        self._same = 0 if stored else None  # so many images are those of the earlier set; None: no longer
        self.reused = 0

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._same is not None and self._stored and self._earlier:
            if self._same == len(self._stored):
                for file in sorted(self._earlier.glob("pixels-*.arrow")):
                    _link(file, self._folder / file.name)
            else:
                self._write_stored(np.arange(self._same))
        self._close()

    def write(self, chunk: Chunk) -> None:
        """Write the pixels of a chunk in the order of its table."""
        rows = chunk.table["stored_row"].to_numpy(int)
        self.reused += int((rows != NOT_STORED).sum())
        if self._same is not None:
            if self._continues(chunk):
                self._same += len(rows)
                return
            self._write_stored(np.arange(self._same))
            self._same = None
        pixels = chunk.pixels
        if self._stored and (old := rows != NOT_STORED).any():
            pixels = np.empty((len(rows), *chunk.pixels.shape[1:]), np.uint8)
            pixels[~old], pixels[old] = chunk.pixels, self._stored.pixels(rows[old])
        self._write(pixels)

    def _continues(self, chunk: Chunk) -> bool:
        """Whether the chunk has the same content as the next images of the earlier set."""
        if self._stored is None or self._same is None:
            return False
        before = self._stored.table["content_digest"].iloc[self._same : self._same + len(chunk.table)]
        return np.array_equal(before, chunk.table["content_digest"])

    def _write_stored(self, rows: np.ndarray) -> None:
        if self._stored:
            for start in range(0, len(rows), MOST_COPIED):
                self._write(self._stored.pixels(rows[start : start + MOST_COPIED]))

    def _write(self, pixels: np.ndarray) -> None:
        for start in range(0, len(pixels), self._shard_images):
            part = np.ascontiguousarray(pixels[start : start + self._shard_images])
            array = pa.FixedShapeTensorArray.from_numpy_ndarray(part)
            batch = pa.RecordBatch.from_arrays([array], ["pixels"])
            if self._writer is None or self._rows + len(part) > self._shard_images:
                self._close()
                self._writer = pa.ipc.new_file(str(self._folder / f"pixels-{self._files:05d}.arrow"), batch.schema)
                self._files, self._rows = self._files + 1, 0
            self._writer.write_batch(batch)
            self._rows += len(part)

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _link(file: Path, link: Path) -> None:
    """A second name for a file that is never changed, or a copy where the disk has no such thing."""
    try:
        os.link(file, link)
    except OSError:
        shutil.copyfile(file, link)


def open_image_set(folder: Path) -> ImageSet:
    """Open a set without reading its pixels.

    Raises:
        ValueError: When the files of the set do not belong together.
    """
    card = json.loads((folder / "set.json").read_text())
    table = pd.read_parquet(folder / "table.parquet")
    size, channels = card["image_format"]["image_size_px"], card["image_format"]["channels"]
    shape = (size, size, channels)
    shards = tuple(shard for file in sorted(folder.glob("pixels-*.arrow")) for shard in _map_shard(file, shape))
    stored = sum(len(shard) for shard in shards)
    if not len(table) == stored == card["images"]:
        raise ValueError(
            f"The image set {folder} is damaged: set.json promises {card['images']} images, the table has "
            f"{len(table)}, the shards hold {stored}. Run the preprocess stage again."
        )
    return ImageSet(
        table=table,
        rejected=pd.read_parquet(folder / "rejected.parquet"),
        class_names=tuple(card["class_names"]),
        image_shape=shape,
        fingerprint=card["fingerprint"],
        shards=shards,
        name=card["name"],
        notes=pd.read_parquet(folder / "notes.parquet"),
        attributes=_read_attributes(folder),
        image_format=ImageFormat.model_validate(card["image_format"]),
    )


def _read_attributes(folder: Path) -> pd.DataFrame:
    """Sets that were written before there were any have none."""
    file = folder / "attributes.parquet"
    return pd.read_parquet(file) if file.exists() else no_attributes()


def _map_shard(file: Path, shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
    """The record batches of one file as arrays that share its memory map."""
    with pa.memory_map(str(file)) as source:
        reader = pa.ipc.open_file(source)
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index).column("pixels").to_numpy_ndarray().reshape(-1, *shape)
