"""The same picture twice: exactly, or nearly (rescaled, recompressed, slightly edited, mirrored).

Exact copies have the same stored pixels. Near copies have perceptual hashes (the `pHash` of Zauner, "Implementation and
benchmarking of perceptual image hash functions", 2010: signs of the lowest frequencies) that differ in few bits, and
their pixels agree when compared. The candidates are found without comparing all pairs: hashes that differ in at most b
bits agree in at least one of b + 1 bands (multi-index hashing, Norouzi et al., CVPR 2012).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from cnn_transfer.parameters import Parameters

if TYPE_CHECKING:
    from cnn_transfer.images.image_set import ImageSet

HASH_BITS = 64
FREQUENCIES = 8
ODD_COLUMNS = np.uint64(0x5555555555555555)  # bits of the frequencies that change their sign in the mirror
COMPARED_AT_ONCE = 1024  # pairs
HASHED_AT_ONCE = 2**20  # numbers, in floating point four times as large as the pixels
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow converts
MIRROR_BITS = 6  # that may differ at least
MOST_NEIGHBOURS = 200  # with which a hash is compared within a crowd
MOST_EQUAL = 16  # pictures of one hash that are compared with those of another
MOST_LEVELS = 3  # bands within bands within bands
FLAT_DEVIATION = 2.0  # grey levels: below, an image shows nothing that a correlation could compare


class NearDuplicates(Parameters):
    """When two pictures are nearly the same: both conditions hold."""

    most_bits: int = Field(ge=0, le=16)  # of the 64 bits of their hashes differ
    least_correlation: float = Field(gt=0, le=1)  # of their grey pixels
    compared_px: int | None = Field(ge=8)  # side at which these are compared, about; None: as they are stored
    mirrored: bool  # also one picture and the other one with left and right exchanged


def perceptual_hashes(pixels: np.ndarray) -> np.ndarray:
    """One 64-bit hash an image.

    Args:
        pixels: (n, height, width, channels) uint8, height equal to width.

    Returns:
        (n,) uint64. Bit k says whether the k-th of the 8 × 8 lowest frequencies of the discrete cosine transform is
        above the median of all but the constant one.
    """
    if not len(pixels):
        return np.empty(0, np.uint64)
    size = pixels.shape[1]
    basis = np.cos(np.pi / size * (np.arange(size) + 0.5) * np.arange(FREQUENCIES)[:, None]).astype(np.float32)
    step = max(1, HASHED_AT_ONCE // pixels[0].size)
    blocks = (pixels[start : start + step] for start in range(0, len(pixels), step))
    frequencies = np.concatenate([basis @ _grey(block) @ basis.T for block in blocks])
    flat = frequencies.reshape(len(pixels), HASH_BITS)
    bits = flat > np.median(flat[:, 1:], axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64).ravel()


def near_pairs(images: ImageSet, rows: np.ndarray, rule: NearDuplicates) -> np.ndarray:
    """Pairs of rows that show nearly the same picture: (m, 2), each pair once, the smaller row first."""
    hashes = images.table["perceptual_hash"].to_numpy(np.uint64)[rows]
    found = [_agreeing(images, rows[similar_hashes(hashes, rule.most_bits)], rule, mirrored=False)]
    if rule.mirrored:
        found.append(_agreeing(images, rows[_similar_in_the_mirror(hashes, rule.most_bits)], rule, mirrored=True))
    return _distinct(np.concatenate(found), len(images))


def _similar_in_the_mirror(hashes: np.ndarray, most_bits: int) -> np.ndarray:
    """Pairs of positions, (m, 2), the first of which has about the hash that the second would have if mirrored.

    In the mirror the odd frequencies change their signs, and the median a little, by which the bits are cut: some bits
    may differ for that alone.
    """
    pairs = similar_hashes(np.concatenate([hashes, hashes ^ ODD_COLUMNS]), max(most_bits, MIRROR_BITS))
    across = pairs[(pairs[:, 0] < len(hashes)) & (pairs[:, 1] >= len(hashes))] - [0, len(hashes)]
    return np.asarray(across[across[:, 0] < across[:, 1]])


def _agreeing(images: ImageSet, pairs: np.ndarray, rule: NearDuplicates, mirrored: bool) -> np.ndarray:
    """Those of the pairs of rows whose pixels agree."""
    if not len(pairs):
        return np.empty((0, 2), np.int64)
    agree = []
    for part in np.array_split(pairs, -(-len(pairs) // COMPARED_AT_ONCE)):
        one, other = (_coarse(images.pixels(side), rule.compared_px) for side in part.T)
        agree.append(_correlate(one, other[:, :, ::-1] if mirrored else other) >= rule.least_correlation)
    return np.asarray(pairs[np.concatenate(agree)])


def similar_hashes(hashes: np.ndarray, most_bits: int) -> np.ndarray:
    """Pairs of positions of (n,) uint64 hashes that differ in at most `most_bits`: (m, 2), sorted, each pair once.

    Crowds are the exception: a hash that many pictures share, as blank ones do, has each compared with those next to it
    and a few of them with the pictures of other hashes (`MOST_NEIGHBOURS`, `MOST_EQUAL`).
    """
    unique, code, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    members, starts = np.argsort(code, kind="stable"), np.cumsum(counts) - counts
    close = np.concatenate(
        [
            pairs[np.bitwise_count(unique[pairs[:, 0]] ^ unique[pairs[:, 1]]) <= most_bits]
            for pairs in _candidates(unique, np.arange(len(unique)), 0, most_bits, MOST_LEVELS)
        ]
    )
    one, other = _distinct(close, len(unique)).T
    compared = np.minimum(counts, MOST_EQUAL)
    lengths = compared[one] * compared[other]
    place = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    one, other = np.repeat(one, lengths), np.repeat(other, lengths)
    row, column = np.divmod(place, compared[other])
    across = np.stack([members[starts[one] + row], members[starts[other] + column]], axis=1)
    return _distinct(np.concatenate([across, *_neighbours(members, code[members])]), len(hashes))


def connected(pairs: np.ndarray, size: int) -> np.ndarray:
    """Number of the connected component of each of `size` positions, given (m, 2) pairs: (size,) integers."""
    if not len(pairs):  # most sets have none, and the import below costs more than all else here
        return np.arange(size)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(size, size))
    return np.asarray(connected_components(links, directed=False)[1])


def _candidates(
    hashes: np.ndarray, positions: np.ndarray, known: int, most_bits: int, levels: int
) -> Iterator[np.ndarray]:
    """Pairs of `positions` with equal bits in `known` and in one of `most_bits` + 1 bands of the other bits.

    Where too many are equal the same is done once more within them, so that no pair is lost before the last level.
    """
    yield np.empty((0, 2), np.int64)
    free = [bit for bit in range(HASH_BITS) if not known >> bit & 1]
    for band in np.array_split(free, most_bits + 1):
        mask = known | sum(1 << bit for bit in band.tolist())
        values = hashes[positions] & np.uint64(mask)
        order = np.argsort(values, kind="stable")  # equal values stay in the order of the whole hash
        placed, ordered = positions[order], values[order]
        _, counts = np.unique(ordered, return_counts=True)
        crowded = np.repeat(counts > MOST_NEIGHBOURS, counts)
        if levels > 1 and crowded.any():
            yield from _candidates(hashes, placed[crowded], mask, most_bits, levels - 1)
            placed, ordered = placed[~crowded], ordered[~crowded]
        yield from _neighbours(placed, ordered)


def _neighbours(positions: np.ndarray, values: np.ndarray) -> Iterator[np.ndarray]:
    """Pairs of positions with equal values, which are neighbours: those one place apart, those two apart, and so on."""
    starts = np.arange(len(values))
    for step in range(1, MOST_NEIGHBOURS + 1):
        starts = starts[starts + step < len(values)]
        starts = starts[values[starts] == values[starts + step]]
        if not len(starts):
            return
        yield np.stack([positions[starts], positions[starts + step]], axis=1)


def _distinct(pairs: np.ndarray, size: int) -> np.ndarray:
    """Each pair of positions below `size` once, the smaller one first, sorted."""
    low, high = pairs.min(axis=1), pairs.max(axis=1)
    return np.stack(np.divmod(np.unique(low * size + high), max(1, size)), axis=1)


def _grey(pixels: np.ndarray) -> np.ndarray:
    """(n, height, width) float32 luma in 0-255."""
    values = pixels.astype(np.float32)
    return values[..., 0] if pixels.shape[-1] == 1 else values @ LUMA


def _coarse(pixels: np.ndarray, least_px: int | None) -> np.ndarray:
    """Grey means over blocks that leave at least so many pixels a side, and less than twice as many; None: all."""
    grey = _grey(pixels)
    block = max(1, grey.shape[1] // least_px) if least_px else 1
    side = grey.shape[1] // block
    whole = grey[:, : side * block, : side * block]
    return np.asarray(whole.reshape(len(grey), side, block, side, block).mean(axis=(2, 4)))


def _correlate(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Correlation of each pair of grey images, (n,); flat images correlate fully when they are equally bright."""
    one, two = (grey.reshape(len(grey), -1) for grey in (first, second))
    alike = np.sqrt(((one - two) ** 2).mean(axis=1)) <= FLAT_DEVIATION
    one, two = (values - values.mean(axis=1, keepdims=True) for values in (one, two))
    spread = np.sqrt((one**2).mean(axis=1) * (two**2).mean(axis=1))
    correlation = (one * two).mean(axis=1) / np.maximum(spread, 1e-6)
    return np.where(alike, 1.0, np.where(spread < FLAT_DEVIATION**2, 0.0, correlation))
