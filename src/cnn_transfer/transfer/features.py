"""Features of images at several depths of a network, computed once and kept: (images, features) float32 on disk.

A set of features is a folder:

    table.parquet    one row a row of the values: id and pixel digest of the image, and copy: 0 the image itself, from 1
                     on its moved copies, -1 the image left for right
    values.npy       (rows, features) float32, memory-mapped
    written.json     how many rows were computed for it; the others were known from an earlier set
    features.json    the network's digest, taps, grids; written last

What the features depend on is their key: the network's weights and layers, the taps, the grids, the pixels of the image
and, for a copy, its number and how far it may be moved. Nothing else enters, neither seed nor split, so that a later
run with another draw, strategy or seed computes only what is new.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from cnn_transfer.images import DRAWS, Augmentation, ImageSet, images_a_batch, move_copies
from cnn_transfer.models import UnusableNetworkError, frozen, tap_layers, tap_network, tap_widths
from cnn_transfer.transfer.standardised import Rows, StoredRows

if TYPE_CHECKING:
    import keras

MOST_ROWS_A_BATCH = 128  # images, or copies, a call of the network
CHUNK_ROWS = 1024  # taken over at once
MIRRORED = -1  # the copy that is the image itself, left for right
MOST_IN_MEMORY = 2**28  # numbers, 1 GiB: more are read where they lie


@dataclass(frozen=True)
class FeatureExtraction:
    """Features that are computed while they are written.

    Attributes:
        network: The network, from uint8 pixels.
        images: The images.
        rows: (n,) row numbers of the images wanted.
        copied: Row numbers of those, among `rows`, that also come as moved copies.
        taps: Names of layers, from shallow to deep.
        grids: Each tap is read in grid × grid cells (see `tap_network`), for each of these.
        copies: Moved copies of each image in `copied`.
        augmentation: How far the copies are moved.
        mirrored: Row numbers of those, among `rows`, that also come left for right and otherwise as they are.
    """

    network: keras.Model
    images: ImageSet
    rows: np.ndarray
    copied: np.ndarray
    taps: tuple[str, ...]
    grids: tuple[int, ...]
    copies: int
    augmentation: Augmentation
    mirrored: np.ndarray = field(default_factory=lambda: np.empty(0, int))

    @property
    def widths(self) -> dict[int, list[int]]:
        """Features of each tap at each grid."""
        return {grid: tap_widths(self.network, self.taps, grid) for grid in self.grids}

    def tapped(self) -> keras.Model:
        """The network from pixels to all features: one grid after the other, in each one tap after the other."""
        import keras

        parts = [tap_network(self.network, self.taps, grid).output for grid in self.grids]
        joined = parts[0] if len(parts) == 1 else keras.layers.Concatenate(dtype="float32", name="features")(parts)
        return keras.Model(self.network.input, joined, name=self.network.name)

    @property
    def network_digest(self) -> str:
        """Digest of the layers and weights below the taps, and of the taps and the grids."""
        network = self.tapped()
        digest = hashlib.sha256(re.sub(r'"seed": \d+', "", network.to_json()).encode())
        for weight in network.get_weights():
            digest.update(np.ascontiguousarray(weight).tobytes())
        return digest.hexdigest()[:16]

    def table(self) -> pd.DataFrame:
        """The rows to be written.

        Returns:
            `id`, `pixel_digest`, `copy`, `row` (of the image), `background` (row of the image on whose background a
            copy is put; its own where it is not), `key` (within the network).
        """
        numbers = [(row, copy) for row in self.copied for copy in range(1, self.copies + 1)]
        numbers += [(row, MIRRORED) for row in self.mirrored]
        rows = np.concatenate([self.rows, np.array([row for row, _ in numbers], int)])
        copy = np.concatenate([np.zeros(len(self.rows), int), np.array([number for _, number in numbers], int)])
        table = self.images.table.iloc[rows][["id", "pixel_digest"]].reset_index(drop=True).assign(copy=copy, row=rows)
        moved = hashlib.sha256(self.augmentation.model_dump_json().encode()).hexdigest()[:16]
        how = np.where(copy > 0, table["copy"].astype(str) + moved, np.where(copy == 0, "", "mirrored"))
        table["background"] = rows
        if self.augmentation.background_fraction and numbers:
            digests = self.images.table["pixel_digest"].to_numpy(object)
            others = self.copied[np.argsort(digests[self.copied], kind="stable")]
            pairs = zip(table["pixel_digest"][copy > 0], copy[copy > 0], strict=True)
            drawn = np.array([draws_of(*pair)[DRAWS.index("background")] for pair in pairs])
            table.loc[copy > 0, "background"] = others[((drawn + 1) / 2 * len(others)).astype(int)]
            how = np.where(copy > 0, how + digests[table["background"]], how)
        return table.assign(key=table["pixel_digest"] + how)


def plan_extraction(
    network: keras.Model,
    images: ImageSet,
    splits: pd.DataFrame,
    grids: tuple[int, ...],
    copies: int,
    augmentation: Augmentation,
    most_unlabelled: int | None,
    seed: int,
) -> FeatureExtraction:
    """What a head needs: features of the training images with their copies, and of unlabelled images.

    Args:
        network: The network.
        images: The target's images.
        splits: Table of splits; `training` and `unlabelled` are read, nothing else.
        grids: Cells a side.
        copies: Moved copies of each training image.
        augmentation: How far they are moved.
        most_unlabelled: At most so many unlabelled images, drawn by the seed; None: all.
        seed: Of that draw.

    Raises:
        ValueError: When the network has no layer that keeps places apart.
    """
    training, unlabelled = images.rows(splits, "training"), images.rows(splits, "unlabelled")
    if most_unlabelled is not None and most_unlabelled < len(unlabelled):
        unlabelled = np.sort(np.random.default_rng(seed).choice(unlabelled, most_unlabelled, replace=False))
    rows = np.concatenate([training, unlabelled])
    taps = tuple(tap_layers(network))
    if not taps:
        raise ValueError(
            f"A source network must have layers that keep places apart (height × width × channels), which the head can "
            f"read. Received: {network.name}, {len(network.layers)} layers without one. Take a convolutional network."
        )
    return FeatureExtraction(network, images, rows, training, taps, grids, copies, augmentation)


@dataclass(frozen=True)
class FeatureSet:
    """Features on disk, opened and not loaded.

    Attributes:
        table: One row a row of the values: `id`, `pixel_digest`, `copy`, `key`.
        values: (rows, features) float32, memory-mapped.
        taps: Names of layers, from shallow to deep.
        widths: Features of each tap at each grid; grids follow one another, in each the taps.
        network_digest: Of the network that they were computed by.
        copies: Moved copies of those images that have some.
        computed: How many rows were computed for it; the others were known from an earlier set.
    """

    table: pd.DataFrame
    values: np.ndarray
    taps: tuple[str, ...]
    widths: dict[int, list[int]]
    network_digest: str
    copies: int
    computed: int = 0

    def columns(self, taps: Sequence[str], grid: int) -> list[slice]:
        """Where the features of each of some taps are at one grid."""
        grids = list(self.widths)
        before = sum(sum(self.widths[other]) for other in grids[: grids.index(grid)])
        ends = before + np.cumsum([0, *self.widths[grid]])
        places = [self.taps.index(name) for name in taps]
        return [slice(ends[place], ends[place + 1]) for place in places]

    def widths_of(self, taps: Sequence[str], grid: int) -> list[int]:
        """Features of each of some taps at one grid."""
        return [self.widths[grid][self.taps.index(name)] for name in taps]

    @property
    def mirrored(self) -> pd.Series:
        """Ids of the images that are here left for right, too."""
        return self.table["id"][self.table["copy"] == MIRRORED]

    def of(
        self,
        ids: Sequence[str] | pd.Series,
        taps: Sequence[str],
        grid: int,
        copies: bool = False,
        mirrored: bool = False,
    ) -> Rows:
        """Features of images in the order of `ids`: (n, features), or with each image's copies after it.

        With `mirrored` it is the image left for right that follows each, and no copy.

        Up to `MOST_IN_MEMORY` numbers are loaded; of more, each part is read when it is used.

        Raises:
            ValueError: When some image has no features here.
        """
        index = pd.MultiIndex.from_frame(self.table[["id", "copy"]])
        numbers = (0, MIRRORED) if mirrored else range(1 + self.copies if copies else 1)
        wanted = pd.MultiIndex.from_product([list(ids), numbers])
        rows = index.get_indexer(wanted)
        if (missing := rows < 0).any():
            raise ValueError(
                f"Features must be about the images that are split. {missing.sum()} of {len(rows)} rows are missing, "
                f"such as {wanted[missing][0]}. Run migrate_model again, so that both have one version."
            )
        stored = StoredRows(self.values, rows, self.columns(taps, grid))
        return stored if np.prod(stored.shape) > MOST_IN_MEMORY else stored.loaded()


def write_features(extraction: FeatureExtraction, folder: Path, earlier: Iterable[Path] = ()) -> None:
    """Compute features and write them; the caller makes them visible by renaming `folder`.

    Args:
        extraction: What to compute.
        folder: A folder that does not exist yet.
        earlier: Features, the newest first; the first of the same network saves computing what it holds.

    Raises:
        UnusableNetworkError: When a feature is NaN or infinite.
    """
    folder.mkdir(parents=True)
    digest, table = extraction.network_digest, extraction.table()
    width = sum(sum(widths) for widths in extraction.widths.values())
    values = _array_on_disk(folder / "values.npy", (len(table), width))
    known = _known(digest, earlier)
    stored = np.full(len(table), -1)
    if known is not None:
        stored = pd.Index(known.table["key"]).get_indexer(table["key"])
        for rows in np.array_split(np.flatnonzero(stored >= 0), max(1, len(table) // CHUNK_ROWS)):
            values[rows] = _finite(known.values[stored[rows]], extraction)
    _compute(extraction, table, np.flatnonzero(stored < 0), values)
    values.flush()
    table.drop(columns=["row", "background"]).to_parquet(folder / "table.parquet")
    card = {
        "network_digest": digest,
        "taps": extraction.taps,
        "widths": {str(grid): widths for grid, widths in extraction.widths.items()},
        "copies": extraction.copies,
    }
    (folder / "written.json").write_text(json.dumps({"computed": int((stored < 0).sum())}))
    (folder / "features.json").write_text(json.dumps(card, indent=2))


def _array_on_disk(file: Path, shape: tuple[int, int]) -> np.memmap[Any, np.dtype[np.float32]]:
    """A memory-mapped array of float32 whose room is taken at once: a disk that is full later would kill the process.

    Raises:
        OSError: When there is not enough room.
    """
    values = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with file.open("r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
    return values


def open_features(folder: Path) -> FeatureSet:
    """Open features without reading their values."""
    card, written = (json.loads((folder / name).read_text()) for name in ("features.json", "written.json"))
    return FeatureSet(
        table=pd.read_parquet(folder / "table.parquet"),
        values=np.load(folder / "values.npy", mmap_mode="r"),
        taps=tuple(card["taps"]),
        widths={int(grid): widths for grid, widths in card["widths"].items()},
        network_digest=card["network_digest"],
        copies=card["copies"],
        computed=written["computed"],
    )


def draws_of(pixel_digest: str, copy: int) -> np.ndarray:
    """The random numbers of one copy of an image, which depend on its pixels and the copy's number only."""
    return np.random.default_rng([int(pixel_digest[:16], 16), copy]).uniform(-1, 1, len(DRAWS))


def _known(network_digest: str, earlier: Iterable[Path]) -> FeatureSet | None:
    for folder in earlier:
        if json.loads((folder / "features.json").read_text())["network_digest"] == network_digest:
            return open_features(folder)
    return None


def _finite(values: np.ndarray, extraction: FeatureExtraction) -> np.ndarray:
    """The same features (n, features), none of which is NaN or infinite."""
    infinite = ~np.isfinite(values)
    if not infinite.any():
        return values
    widths = np.array(list(extraction.widths.values()))
    first = np.searchsorted(np.cumsum(widths), infinite.any(axis=0).argmax(), side="right")
    raise UnusableNetworkError(
        f"Features must be finite. Received NaN or infinity from {extraction.network.name} after its layer "
        f"{extraction.taps[first % len(extraction.taps)]}, for {infinite.any(axis=1).sum()} of {len(values)} looked at."
        " Say with pixel_range what it takes for black and white; where it computes in float16, save it in float32."
    )


def _compute(extraction: FeatureExtraction, table: pd.DataFrame, rows: np.ndarray, values: np.ndarray) -> None:
    if not len(rows):
        return
    network = frozen(extraction.tapped())
    wanted = table.iloc[rows]
    batch = min(MOST_ROWS_A_BATCH, images_a_batch(extraction.images.image_shape), len(rows))
    with tqdm(total=len(rows), unit="images", desc="features", disable=None) as progress:
        for start in range(0, len(rows), batch):
            part = wanted.iloc[start : start + batch]
            pixels = extraction.images.pixels(part["row"].to_numpy())
            padded = np.arange(batch) % len(pixels)  # one size: nothing is compiled twice
            copy = part["copy"].to_numpy()
            moved, turned = copy > 0, copy == MIRRORED
            pixels[turned] = pixels[turned, :, ::-1]
            if moved.any():
                pairs = zip(part["pixel_digest"], np.maximum(copy, 0), strict=True)
                draws = np.stack([draws_of(digest, copy) for digest, copy in pairs])
                backgrounds = None
                if extraction.augmentation.background_fraction:
                    backgrounds = extraction.images.pixels(part["background"].to_numpy()[padded])
                copies = move_copies(pixels[padded], draws[padded], extraction.augmentation, backgrounds)
                pixels[moved] = copies[: len(pixels)][moved]
            computed = network(pixels[padded]).numpy()[: len(pixels)]
            values[rows[start : start + batch]] = _finite(computed, extraction)
            progress.update(len(pixels))
