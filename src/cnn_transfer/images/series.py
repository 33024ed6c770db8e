"""Images in series: copies of one picture, frames of a film, slices of a patient, as names and pixels together show.

Images of one series are alike in more than their class, and a network that was trained on some of them knows the
others. Names often tell which they are (`aug_Y100_0_2052.jpg` and `aug_Y100_0_4855.jpg` were made of `Y100`), but which
part of a name does, only the pixels can say: a part that names a series is one whose images have the picture most like
them in their own series, far more often than chance would have it. Where that is so of images of different classes
with one name, too, as of a patient's with and without a finding, a series goes across classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cnn_transfer.images.duplicates import connected

if TYPE_CHECKING:
    from cnn_transfer.images.image_set import ImageSet

MOST_COMPARED = 2000  # images, for each way to read the names
MOST_OF_A_SERIES = 20  # of these
COMPARED_PX = 32  # side, about, of what is compared of each image
COARSE_PX = 8
LEVELS = 16  # of a histogram
DIRECTIONS = 8  # of edges, over half a turn
EDGES = 2  # the measure's number
FAINT = 4.0  # length of a gradient, in levels of grey, below which an edge counts little
LEAST_IN_SERIES = 0.2  # share of the images that have another of their series
MOST_OF_SET = 0.2  # share of the images: what is larger is no series, but images of one camera
MOST_CHANCE = 0.2  # that the nearest image is of one's series: with fewer, larger ones little is left to split
FEWEST_OF_A_CLASS = 5  # series, on average, of which some may go across classes: fewer may be names of the classes
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
    """When images have the one most like them in their own series often enough for it to be a series."""

    least_lift: float  # times as often as by chance
    least_bits: float  # what names tell of which image is the nearest; see `_Found.bits`
    most_p_value: float


BY_NAME = Limits(least_lift=5.0, least_bits=0.3, most_p_value=1e-6)
BY_ORDER = Limits(least_lift=4.0, least_bits=0.15, most_p_value=1e-6)
OF_KNOWN_NAMES = Limits(least_lift=5.0, least_bits=0.0, most_p_value=1e-3)  # across classes, of what is one in a class


@dataclass(frozen=True)
class Series:
    """Images that come in series by a part of their names, or by the order of names or of the last numbers in them.

    Attributes:
        names: Of the images in series, by row of the set; of several series there are several.
        pattern: Regular expression on the id whose first group names the series; None: by order.
        across_classes: Whether images of several classes are of one series.
        nearest: Share of the compared images for which the picture most like them is of their series. It is sought
            among all of their class, or where series are of images of different classes alone, among those of the
            other classes; by order, among a hundred of their class that follow one another, where at most two places
            away is enough.
        chance: The share that would be expected if names meant nothing.
    """

    names: pd.Series
    pattern: str | None
    across_classes: bool
    nearest: float
    chance: float


class _Found(NamedTuple):
    nearest: float
    chance: float
    measure: int  # of appearance, by which so many are nearest

    @property
    def kappa(self) -> float:
        """The share that is of one's series, chance discounted (Cohen 1960)."""
        return (self.nearest - self.chance) / (1 - self.chance)

    @property
    def bits(self) -> float:
        """What a name tells of which image is the nearest: Kullback and Leibler's divergence of the two shares."""
        shares, expected = np.array([self.nearest, 1 - self.nearest]), np.array([self.chance, 1 - self.chance])
        return float(np.sum(shares * np.log2(np.maximum(shares, 1e-12) / expected)))


class _Unit(NamedTuple):
    """Images, those among which the nearest is sought for each of them, and which of these would be of its series."""

    asked: np.ndarray  # (n,) positions
    sought: np.ndarray  # (m,) positions
    mates: np.ndarray  # (n, m) bool


def find_series(images: ImageSet, rows: np.ndarray) -> list[Series]:
    """What names and pixels tell of images in series: by a part of the names, and of the others by their order."""
    found = []
    if (named := find_named_series(images, rows)) is not None:
        found.append(named)
        table = images.table.loc[named.names.index]
        rows = np.setdiff1d(rows, named.names.index[_in_class(named.names, table["label"].fillna(""))])
    if (successive := find_successive_series(images, rows)) is not None:
        found.append(successive)
    return found


def find_named_series(images: ImageSet, rows: np.ndarray) -> Series | None:
    """The part of the names by which images come in series; None where no part is borne out by the pixels.

    Of all parts that are, it is the one that sets most images beside the picture most like them (`_Found.kappa`, times
    the share of images in series).

    Args:
        images: The set; at most 2,000 images are compared for each part.
        rows: The rows to look at.
    """
    table = images.table.iloc[rows]
    labels = table["label"].fillna("")
    best: Series | None = None
    best_score = 0.0
    for pattern, names in _readings(table["id"], labels):
        codes = pd.factorize(names)[0]
        chosen = _draw_series(codes)
        codes, classes = codes[chosen], pd.factorize(labels.iloc[chosen])[0]
        appearance = _appearance(images, rows[chosen])
        inside = _judge(appearance, _within_classes(codes, classes), BY_NAME)
        limits = BY_NAME if inside is None else OF_KNOWN_NAMES
        others = _across_classes(codes, classes) if _may_go_across(names, labels) else ()
        across = _judge(appearance, others, limits)
        if (found := inside or across) is None:
            continue
        in_series = names.notna() if across else _in_class(names, labels)
        if (score := in_series.mean() * found.kappa) > best_score and in_series.mean() >= LEAST_IN_SERIES:
            kept = names[in_series] if across else (names + _of_class(labels))[in_series]
            best, best_score = Series(kept, pattern, across is not None, found.nearest, found.chance), score
    return best


def find_successive_series(images: ImageSet, rows: np.ndarray) -> Series | None:
    """Images in series whose names follow one another; None where names that do so mean nothing.

    Of one series are images of one class at most two places apart that are more alike than 99% of the pairs that are
    far apart, and what is joined by such pairs. Each has the name of its first image.

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
        appearance = _appearance(images, rows[np.concatenate(drawn)])
        found = _judge(appearance, _neighbours([len(run) for run in drawn]), BY_ORDER)
        if found is not None and (best is None or found.nearest > best.nearest):
            best, best_order = found, order
    if best is None:
        return None
    pairs = np.concatenate([members[_alike(images, rows[members], best.measure)] for members in best_order])
    components = pd.Series(connected(pairs, len(rows)), table.index)
    components = components[components.duplicated(keep=False)]
    if components.empty:
        return None
    names = table["id"].loc[components.index].groupby(components).transform("min")
    return Series(names, None, False, best.nearest, best.chance)


def _alike(images: ImageSet, rows: np.ndarray, measure: int) -> np.ndarray:
    """Pairs of places at most `PLACES` apart, (m, 2), that are more alike than nearly all pairs far apart."""
    (vectors,) = _appearance(images, rows, [measure])
    first, second = np.random.default_rng(SEED).integers(0, len(rows), (2, FAR_PAIRS))
    far = np.abs(first - second) > FAR_APART
    if not far.any():
        return np.empty((0, 2), int)
    limit = np.quantile(np.einsum("ij,ij->i", vectors[first[far]], vectors[second[far]]), ALIKE)
    pairs = []
    for apart in range(1, PLACES + 1):
        near = np.flatnonzero(np.einsum("ij,ij->i", vectors[:-apart], vectors[apart:]) >= limit)
        pairs.append(np.stack([near, near + apart], axis=1))
    return np.concatenate(pairs)


def _readings(ids: pd.Series, labels: pd.Series) -> Iterator[tuple[str, pd.Series]]:
    """Ways to read series from names that are worth a look: the pattern, and the series, missing where there is none.

    Each way to part the images is there once, and enough images have another one of their series, in their class or in
    the others, whose series are so many that the nearest image cannot easily be of one's own by chance.
    """
    has_name = ~ids.str.fullmatch(UNNAMED)
    sizes = labels.groupby(labels).transform("size")
    seen = set()
    for pattern in PATTERNS if has_name.any() else ():
        names = _extract(ids, pattern).where(has_name)
        names = names.where(names.groupby(names).transform("size").between(2, MOST_OF_SET * len(ids)))
        if names.notna().mean() < LEAST_IN_SERIES:
            continue
        of_class = names.groupby([names, labels]).transform("size")
        elsewhere = names.groupby(names).transform("size") - of_class
        if not _may_go_across(names, labels):
            elsewhere *= 0
        chances = ((of_class - 1) / (sizes - 1))[of_class > 1], (elsewhere / (len(ids) - sizes))[elsewhere > 0]
        enough = [len(part) >= LEAST_IN_SERIES * len(ids) and part.mean() <= MOST_CHANCE for part in chances]
        partition = pd.factorize(names)[0].tobytes()
        if any(enough) and partition not in seen:
            seen.add(partition)
            yield pattern, names


def _may_go_across(names: pd.Series, labels: pd.Series) -> bool:
    """Whether the names are so many that they cannot be the classes in other words, of labels that were corrected."""
    return bool(names.nunique() >= FEWEST_OF_A_CLASS * labels.nunique())


def _in_class(names: pd.Series, labels: pd.Series) -> pd.Series:
    """Of which images there is another of their series in their class."""
    return names.notna() & pd.DataFrame({"name": names, "label": labels}).duplicated(keep=False)


def _of_class(labels: pd.Series) -> pd.Series:
    return (" of " + labels).where(labels != "", "")


def _extract(ids: pd.Series, pattern: str) -> pd.Series:
    """The group `series` of the pattern, missing where it does not match, as `Series.str.extract` does more slowly."""
    found = pc.struct_field(pc.extract_regex(pa.array(ids, pa.string()), pattern), "series")
    return pd.Series(pd.array(found, "str"), ids.index)


def _appearance(images: ImageSet, rows: np.ndarray, measures: Sequence[int] = (0, 1, 2)) -> tuple[np.ndarray, ...]:
    """What images look like, by up to three measures, each n unit vectors whose products say how alike two images are.

    Levels of grey or colour survive mirroring, turning and moving; coarse pixels survive changes of the light; edges,
    too, and they tell apart what is of one build, such as the chests of patients. A vector takes up to 2 KB.
    """
    step = max(1, images.image_shape[0] // COMPARED_PX)
    found: list[list[np.ndarray]] = [[] for _ in measures]
    for part in np.array_split(rows, -(-len(rows) // READ_AT_ONCE)):
        seen = images.pixels(part)[:, step // 2 :: step, step // 2 :: step]
        for vectors, measure in zip(found, measures, strict=True):
            vectors.append((_levels, _coarse, _edges)[measure](seen))
    return tuple(
        _units(np.concatenate(vectors), centred=measure == EDGES)  # all have edges where most have
        for vectors, measure in zip(found, measures, strict=True)
    )


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
    return _units(means)


def _edges(seen: np.ndarray) -> np.ndarray:
    """Histograms of the directions of edges in 8 x 8 cells (Dalal and Triggs 2005).

    An edge counts by its length; each cell has the same length, but for one without edges.
    """
    grey = seen.sum(axis=-1, dtype=np.float32) / seen.shape[-1]
    cell = grey.shape[1] // COARSE_PX
    side = cell * COARSE_PX
    along, across = np.zeros_like(grey[:, :side, :side]), np.zeros_like(grey[:, :side, :side])
    along[:, 1:-1] = grey[:, 2:side, :side] - grey[:, : side - 2, :side]
    across[:, :, 1:-1] = grey[:, :side, 2:side] - grey[:, :side, : side - 2]
    direction = np.floor(np.arctan2(along, across) * (DIRECTIONS / np.pi)).astype(int) % DIRECTIONS
    row = np.arange(side) // cell
    cell_of_pixel = np.arange(len(seen))[:, None, None] * COARSE_PX**2 + row[:, None] * COARSE_PX + row
    lengths = np.bincount(
        (cell_of_pixel * DIRECTIONS + direction).ravel(),
        np.hypot(along, across).ravel(),
        len(seen) * COARSE_PX**2 * DIRECTIONS,
    )
    cells = lengths.reshape(-1, DIRECTIONS).astype(np.float32)
    return np.asarray((cells / (np.linalg.norm(cells, axis=1, keepdims=True) + FAINT)).reshape(len(seen), -1))


def _units(vectors: np.ndarray, centred: bool = False) -> np.ndarray:
    """The rows with a length of 1, after their mean was taken off if they are to be centred; of one without, 0.

    In place: they may take most of the memory.
    """
    if centred:
        vectors -= vectors.mean(axis=0)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    return vectors


def _within_classes(series: np.ndarray, classes: np.ndarray) -> Iterator[_Unit]:
    """Images of one class each, among which those of one series are mates.

    Args:
        series: (n,) number of the series, below 0 for an image by itself.
        classes: (n,) number of the class.
    """
    for number in np.unique(classes):
        members = np.flatnonzero(classes == number)
        mates = _of_one(series[members], series[members])
        np.fill_diagonal(mates, False)
        yield _Unit(members, members, mates)


def _across_classes(series: np.ndarray, classes: np.ndarray) -> Iterator[_Unit]:
    """Images of one class each and those of all others, of which those of one series are mates; arguments as before."""
    for number in np.unique(classes):
        members, others = (np.flatnonzero(side) for side in (classes == number, classes != number))
        yield _Unit(members, others, _of_one(series[members], series[others]))


def _neighbours(lengths: Sequence[int]) -> Iterator[_Unit]:
    """Runs of images, of which those at most two places apart are mates."""
    for length, end in zip(lengths, np.cumsum(lengths), strict=True):
        places = np.arange(length)
        mates = np.abs(places[:, None] - places) <= PLACES
        np.fill_diagonal(mates, False)
        yield _Unit(places + end - length, places + end - length, mates)


def _of_one(series: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.asarray((series[:, None] == others) & (series[:, None] >= 0))


def _judge(appearance: Sequence[np.ndarray], units: Iterable[_Unit], limits: Limits) -> _Found | None:
    """How often the nearest image is of one's series, and how often it would be by chance; None: not often enough.

    Args:
        appearance: Unit vectors of images, by one measure or several, of which the one that shows most counts.
        units: Within which the nearest is sought.
        limits: What is often enough.
    """
    hits, expected, asked = np.zeros(len(appearance)), 0.0, 0
    for unit in units:
        inside = unit.mates.any(axis=1)
        if not inside.any():
            continue
        members, mates = unit.asked[inside], unit.mates[inside]
        itself = members[:, None] == unit.sought
        for measure, vectors in enumerate(appearance):
            products = vectors[members] @ vectors[unit.sought].T
            products[itself] = -np.inf
            hits[measure] += mates[np.arange(len(members)), products.argmax(axis=1)].sum()
        asked += len(members)
        expected += (mates.sum(axis=1) / np.maximum(1, (~itself).sum(axis=1))).sum()
    if not asked:
        return None
    found = _Found(float(hits.max() / asked), float(expected / asked), int(hits.argmax()))
    if found.nearest < limits.least_lift * found.chance or found.bits < limits.least_bits:
        return None
    from scipy.stats import binom  # half a second, for what is rarely needed

    # Two images may be each other's nearest, which is one piece of evidence.
    may_be_chance = binom.sf(hits.max() // 2 - 1, asked // 2, found.chance) > limits.most_p_value
    return None if may_be_chance else found


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
