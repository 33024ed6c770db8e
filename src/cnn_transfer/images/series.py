"""Images in series: copies of one picture, frames of a film, slices of a patient, as names and pixels together show.

Images of one series are alike in more than their class, and a network that was trained on some of them knows the
others. Names often tell which they are (`aug_Y100_0_2052.jpg` and `aug_Y100_0_4855.jpg` were made of `Y100`), but which
part of a name does, only the pixels can say: a part that names a series is one whose images have the picture most like
them in their own series, far more often than chance would have it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from cnn_transfer.images.image_set import ImageSet

MOST_COMPARED = 2000  # images, for each way to read the names
MOST_OF_A_SERIES = 20  # of these
COMPARED_PX = 32  # side, about, of what is compared of each image
COARSE_PX = 8
LEVELS = 16  # of a histogram
LEAST_IN_SERIES = 0.2  # share of the images that have another of their series
MOST_P_VALUE = 1e-6  # that so many nearest images are of one series by chance
READ_AT_ONCE = 256  # images in memory at their full size
MOST_RUNS = 10
RUN_LENGTH = 100  # images that follow one another, among which the nearest is sought
FEWEST_OF_A_RUN = 10
PLACES = 2  # from an image to its neighbours by name
FAR_APART = 10  # places
FAR_PAIRS = 20_000
ALIKE = 0.99  # share of the pairs far apart that are less alike than what is taken for a series
SEED = 0
UNNAMED = r"row \d+"  # an image of a table that has no name

# In the dialect that Python and Arrow share: words are of digits, letters and all that is no ASCII character.
_WORD, _GAP = r"[^\x00-/:-@\[-`{-\x7f]+", r"[\x00-.:-@\[-`{-\x7f]+"
_START, _END = r"(?:^|/)", r"(?:\.[^./]*)?$"
PATTERNS = (
    r"(?P<series>[^/]+)/[^/]+$",  # the folder
    # Without the last words; the first words; without the first words; the last words.
    *(rf"{_START}(?P<series>[^/]*?{_WORD[:-1]})(?:{_GAP}{_WORD}){{{n}}}{_GAP[:-1]}*{_END}" for n in (1, 2, 3)),
    *(rf"{_START}(?P<series>{_WORD}(?:{_GAP}{_WORD}){{{n}}})[^/]*$" for n in (0, 1, 2)),
    *(rf"{_START}(?:{_WORD}{_GAP}){{{n}}}(?P<series>[^/]+?){_END}" for n in (1, 2)),
    *(rf"(?:^|/|{_GAP})(?P<series>{_WORD}(?:{_GAP}{_WORD}){{{n}}}){_END}" for n in (0, 1)),
    # Up to one of the last numbers; up to one of the first numbers and with it.
    *(rf"{_START}(?P<series>[^/]*?[^0-9/])(?:[0-9]+[^0-9/]+){{{n}}}[0-9]+[^0-9/]*?{_END}" for n in (0, 1, 2)),
    *(rf"{_START}(?P<series>[^0-9/]*[0-9]+(?:[^0-9/]+[0-9]+){{{n}}})[^/]*$" for n in (0, 1)),
)


class Limits(NamedTuple):
    """What makes images with the one most like them in their own series a series."""

    least_nearest: float  # share of the images
    least_lift: float  # times as many as by chance


BY_NAME = Limits(least_nearest=0.25, least_lift=5.0)
BY_ORDER = Limits(least_nearest=0.15, least_lift=4.0)


@dataclass(frozen=True)
class NamedSeries:
    """Images that come in series by a part of their names.

    Attributes:
        names: Of the images in series, `<name> of <class>`; a series is of one class.
        pattern: Regular expression on the id whose first group names the series.
        nearest: Share of the compared images for which the picture most like them, of their class, is of their series.
        chance: The share that would be expected if names meant nothing.
    """

    names: pd.Series
    pattern: str
    nearest: float
    chance: float


@dataclass(frozen=True)
class SuccessiveSeries:
    """Images that come in series by the order of their names, or of the last numbers in them.

    Attributes:
        pairs: (m, 2) rows of the set: images of one class at most two places apart that are more alike than 99% of the
            pairs that are far apart.
        nearest: Share of the compared images for which the picture most like them, of a hundred of their class that
            follow one another, is at most two places away.
        chance: The share that would be expected if names meant nothing.
    """

    pairs: np.ndarray
    nearest: float
    chance: float


class _Found(NamedTuple):
    nearest: float
    chance: float
    measure: int  # of appearance, by which so many are nearest


def find_named_series(images: ImageSet, rows: np.ndarray) -> NamedSeries | None:
    """The part of the names by which images come in series; None where no part is borne out by the pixels.

    Of all parts that are, it is the one that sets most images beside the picture most like them, chance discounted
    (Cohen's kappa, times the share of images in series).

    Args:
        images: The set; images are compared with those of their class, at most 2,000 of them for each part.
        rows: The rows to look at.
    """
    table = images.table.iloc[rows]
    labels = table["label"].fillna("")
    best: NamedSeries | None = None
    best_score = 0.0
    for pattern, names in _readings(table["id"], labels):
        codes = pd.factorize(names)[0]
        chosen = _draw_series(codes)
        classes = pd.factorize(labels.iloc[chosen])[0]
        if (found := _judge(_appearance(images, rows[chosen]), codes[chosen], classes, BY_NAME)) is None:
            continue
        score = names.notna().mean() * (found.nearest - found.chance) / (1 - found.chance)
        if score > best_score:
            best, best_score = NamedSeries(names.dropna(), pattern, found.nearest, found.chance), score
    return best


def find_successive_series(images: ImageSet, rows: np.ndarray) -> SuccessiveSeries | None:
    """Images in series whose names follow one another; None where names that do so mean nothing.

    Args:
        images: The set; a sample of about 1,000 images says whether it is so.
        rows: The rows to look at.
    """
    table = images.table.iloc[rows]
    labels = table["label"].fillna("").reset_index(drop=True)
    best: _Found | None = None
    best_order: list[np.ndarray] = []
    order: list[np.ndarray] = []
    for key in (_natural, _last_number):
        keys, before = [key(name) for name in table["id"]], order
        order = [np.array(sorted(members, key=keys.__getitem__)) for members in labels.groupby(labels).groups.values()]
        if before and all(map(np.array_equal, before, order)):
            break
        runs = [run for members in order for run in _runs(members)]
        drawn = [runs[run] for run in np.random.default_rng(SEED).permutation(len(runs))[:MOST_RUNS]]
        if not drawn:
            return None
        number = np.repeat(np.arange(len(drawn)), [len(run) for run in drawn])
        found = _judge(_appearance(images, rows[np.concatenate(drawn)]), None, number, BY_ORDER)
        if found is not None and (best is None or found.nearest > best.nearest):
            best, best_order = found, order
    if best is None:
        return None
    pairs = np.concatenate([_alike(images, rows[members], best.measure) for members in best_order])
    return SuccessiveSeries(pairs, best.nearest, best.chance) if len(pairs) else None


def _alike(images: ImageSet, rows: np.ndarray, measure: int) -> np.ndarray:
    """Pairs of rows at most `PLACES` apart, (m, 2), that are more alike than nearly all pairs far apart."""
    vectors = _appearance(images, rows)[measure]
    first, second = np.random.default_rng(SEED).integers(0, len(rows), (2, FAR_PAIRS))
    far = np.abs(first - second) > FAR_APART
    if not far.any():
        return np.empty((0, 2), int)
    limit = np.quantile(np.einsum("ij,ij->i", vectors[first[far]], vectors[second[far]]), ALIKE)
    pairs = []
    for apart in range(1, PLACES + 1):
        near = np.einsum("ij,ij->i", vectors[:-apart], vectors[apart:]) >= limit
        pairs.append(np.stack([rows[:-apart][near], rows[apart:][near]], axis=1))
    return np.concatenate(pairs)


def _readings(ids: pd.Series, labels: pd.Series) -> Iterator[tuple[str, pd.Series]]:
    """Ways to read series from names that are worth a look: the pattern, and the series, missing where there is none.

    Each way to part the images is there once, enough images have another one of their series, and there are so many
    series of each class that the nearest image cannot easily be of one's own by chance.
    """
    has_name = ~ids.str.fullmatch(UNNAMED)
    of_class = (" of " + labels).where(labels != "", "")
    others = labels.groupby(labels).transform("size") - 1
    seen = set()
    for pattern in PATTERNS if has_name.any() else ():
        names = _extract(ids, pattern).where(has_name) + of_class
        names = names.where(names.duplicated(keep=False))
        if names.notna().mean() < LEAST_IN_SERIES:
            continue
        chance = (names.groupby(names).transform("size") - 1) / others
        partition = pd.factorize(names)[0].tobytes()
        if chance.mean() <= 1 / BY_NAME.least_lift and partition not in seen:
            seen.add(partition)
            yield pattern, names


def _extract(ids: pd.Series, pattern: str) -> pd.Series:
    """The group `series` of the pattern, missing where it does not match, as `Series.str.extract` does more slowly."""
    found = pc.struct_field(pc.extract_regex(pa.array(ids, pa.string()), pattern), "series")
    return pd.Series(pd.array(found, "str"), ids.index)


def _appearance(images: ImageSet, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What images look like, by two measures, each n unit vectors whose products say how alike two images are.

    Levels of grey or colour survive mirroring, turning and moving; coarse pixels survive changes of the light.
    """
    step = max(1, images.image_shape[0] // COMPARED_PX)
    parts = np.array_split(rows, -(-len(rows) // READ_AT_ONCE))
    seen = np.concatenate([images.pixels(part)[:, step // 2 :: step, step // 2 :: step] for part in parts])
    return _levels(seen), _coarse(seen)


def _levels(seen: np.ndarray) -> np.ndarray:
    """Roots of the shares of each level of each channel (Hellinger's distance)."""
    n, channels = len(seen), seen.shape[-1]
    flat = seen.reshape(n, -1, channels) // (256 // LEVELS) + LEVELS * np.arange(channels)
    place = flat.reshape(n, -1) + LEVELS * channels * np.arange(n)[:, None]
    counts = np.bincount(place.ravel(), minlength=n * LEVELS * channels).reshape(n, -1)
    return np.asarray(np.sqrt(counts / counts.sum(axis=1, keepdims=True)), np.float32)


def _coarse(seen: np.ndarray) -> np.ndarray:
    """Means over 8 x 8 blocks, without their mean over the image."""
    block = seen.shape[1] // COARSE_PX
    side = block * COARSE_PX
    blocks = seen[:, :side, :side].reshape(len(seen), COARSE_PX, block, COARSE_PX, block, -1)
    means = blocks.mean(axis=(2, 4), dtype=np.float32).reshape(len(seen), -1)
    means -= means.mean(axis=1, keepdims=True)
    return np.asarray(means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-6))


def _judge(
    appearance: tuple[np.ndarray, ...], series: np.ndarray | None, classes: np.ndarray, limits: Limits
) -> _Found | None:
    """How often the nearest image is of one's series, and how often it would be by chance; None: not often enough.

    Args:
        appearance: Unit vectors of n images, by one measure or several, of which the one that shows most counts.
        series: (n,) number of the series, below 0 for an image by itself; None: images at most two places apart.
        classes: (n,) number of the class or run, within which the nearest is sought.
        limits: What is often enough.
    """
    hits, expected, asked = np.zeros(len(appearance)), 0.0, 0
    for number in np.unique(classes):
        members = np.flatnonzero(classes == number)
        places = np.arange(len(members))
        if series is None:
            mates = np.abs(places[:, None] - places) <= PLACES
        else:
            own = series[members]
            mates = (own[:, None] == own) & (own >= 0)
        np.fill_diagonal(mates, False)
        inside = mates.any(axis=1)
        for measure, vectors in enumerate(appearance):
            products = vectors[members] @ vectors[members].T
            np.fill_diagonal(products, -np.inf)
            hits[measure] += mates[places, products.argmax(axis=1)][inside].sum()
        asked += int(inside.sum())
        expected += mates[inside].sum() / max(1, len(members) - 1)
    if not asked:
        return None
    nearest, chance = hits.max() / asked, expected / asked
    if nearest < max(limits.least_nearest, limits.least_lift * chance):
        return None
    from scipy.stats import binom  # half a second, for what is rarely needed

    # Two images may be each other's nearest, which is one piece of evidence.
    if binom.sf(hits.max() // 2 - 1, asked // 2, chance) > MOST_P_VALUE:
        return None
    return _Found(float(nearest), float(chance), int(hits.argmax()))


def _draw_series(codes: np.ndarray) -> np.ndarray:
    """Positions of at most `MOST_COMPARED` images: up to 20 of each of some series, and some that stand alone.

    Args:
        codes: (n,) number of the series of each image, -1 for one that stands alone.
    """
    units = np.where(codes < 0, codes.max() + 1 + np.arange(len(codes)), codes)
    rng = np.random.default_rng(SEED)
    mixed = rng.permutation(len(codes))
    few = mixed[pd.Series(mixed).groupby(units[mixed]).cumcount() < MOST_OF_A_SERIES]
    order = np.argsort(rng.permutation(units.max() + 1)[units[few]], kind="stable")
    return np.sort(few[order[:MOST_COMPARED]])


def _runs(members: np.ndarray) -> Iterator[np.ndarray]:
    """Members that follow one another, a hundred at a time; no run of a few."""
    for start in range(0, len(members) - FEWEST_OF_A_RUN + 1, RUN_LENGTH):
        yield members[start : start + RUN_LENGTH]


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts numbers by their value."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _last_number(name: str) -> int:
    numbers = re.findall(r"\d+", name.rpartition(".")[0] or name)
    return int(numbers[-1]) if numbers else 0
