"""Is an image like those that the network has learnt from, and which of them are nearest to it?

- How far: the distance to the k-th nearest training image, in two views. Among the features that the network's last
  dense layer reads, each image's scaled to length 1 (deep nearest neighbours; Sun et al. 2022, arXiv 2204.06507): they
  see what the head ignores, which is what foreign images are made of. Where the layer reads several depths, each has
  its own neighbours and distance, and the geometric mean counts; together, the depth with the largest numbers would
  speak for all. And among figures of how an image was taken (`appearance`), since a network that looks past noise and
  blur finds noise itself familiar.
- How strange: in each view the share of left-out training images that would be as far is estimated, by a Pareto tail
  beyond the farthest tenth (Hill 1975). The negative decimal logarithms of both are added as the sides of a right angle
  are: one view alone can tell, and two that are in doubt can tell together. An image is called unfamiliar when it is
  stranger than all but a stated share of held-out validation images: a conformal test, so that this share is the
  false-alarm rate on images like them, however well the tails are estimated.
- Not so: an image that only its appearance makes unfamiliar is familiar all the same where damage of that kind was
  tried and borne (`tried_damage`).
- Which: the training images nearest in what the head makes of the features, its logits. On the default run these have
  the predicted class for 97% of the test images, neighbours among all features for 87%: they explain the decision.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cnn_transfer.evaluation.appearance import ASPECTS, standardised
from cnn_transfer.evaluation.conformal import conformal_rank, coverage_range
from cnn_transfer.evaluation.embedding import EmbeddedImages
from cnn_transfer.evaluation.intervals import Units, proportion_interval
from cnn_transfer.evaluation.predictions import LEFT_OUT_IMAGES, VALIDATION_IMAGES
from cnn_transfer.evaluation.tried_damage import NEIGHBOURS, NOTHING_TRIED, TriedDamage, bears, fit_tried

MOST_NEIGHBOURS = 5  # the distance to the fifth nearest: steadier than to the first, and still within a class
SEPARATOR = " · "
LEAST_WIDTH = 24  # of a block of columns: among fewer than 600 all are looked at
CHUNK_ROWS = 1024  # images compared at once with all training images
CONTENT = "content"  # what is strange about an image that is far in features rather than in appearance
TAIL_SHARE = 0.1  # of left-out training images, the farthest, that say how fast the others thin out
LEAST_DISTANCE = {"features": 1e-3, "appearance": 0.1}  # less is rounding, or copies of one image
LEAST_EXCESS = 1e-3  # mean logarithm of how much farther the farthest are; less is rounding
NO_NAMES = pd.Index([])


class ScaledImages(NamedTuple):
    """Images as a network sees them, ready to be compared: logits and each part of the features have length 1.

    Attributes:
        ids: (n,) of text; empty where they have no names, and none is one of those that they are compared with.
        labels: (n,) of text, the true classes; likewise.
        features: (n, d) float32.
        logits: (n, c) float32.
        appearance: (n, 7) float32, as it is.
        parts: See `EmbeddedImages`.
        groups: (n,) of text, see `EmbeddedImages`.
    """

    ids: pd.Index
    labels: np.ndarray
    features: np.ndarray
    logits: np.ndarray
    appearance: np.ndarray
    parts: tuple[int, ...]
    groups: np.ndarray | None = None


def scaled(images: EmbeddedImages) -> ScaledImages:
    """Scale features and logits to length 1, and lay them out by columns.

    So a few images are compared with them in a third of the time: by rows, each product would turn all of them first.

    Raises:
        ValueError: When a feature is not finite.
    """
    features = np.asfortranarray(_unit_parts(images.features, images.parts))
    logits = np.asfortranarray(_unit(images.logits))
    ids, parts = pd.Index(images.ids), images.parts
    return ScaledImages(ids, images.labels, features, logits, images.appearance, parts, images.groups)


def scaled_nameless(
    features: np.ndarray, logits: np.ndarray, taken: np.ndarray, parts: tuple[int, ...]
) -> ScaledImages:
    """The same of images without names; `taken` is their appearance."""
    units = _unit_parts(features, parts)
    return ScaledImages(NO_NAMES, np.empty(0, object), units, _unit(logits), taken, parts)


def fit_familiarity(
    training: EmbeddedImages,
    validation: EmbeddedImages | None,
    false_alarm_rate: float,
    most_false_alarms: float,
    learnt: bool = True,
    tried: TriedDamage = NOTHING_TRIED,
    promised: float | None = None,
) -> dict[str, Any]:
    """Find how strange an image may be that is like the validation images.

    Args:
        training: Images that the network was trained on, at least 1.
        validation: Images that it was not; None or empty: the training images are left out, each with its group. Where
            the features were learnt from them, more of the new images are called unfamiliar than stated.
        false_alarm_rate: Share of the images like these that may be called unfamiliar, above 0, below 0.5.
        most_false_alarms: Where there are too few images to keep that rate, the lowest that they keep takes its place,
            up to this one.
        learnt: Whether the features were learnt from the training images; not those of a head on features as they were.
        tried: Damaged copies of validation images.
        promised: Accuracy of the answers, 0-1; None: nothing is answered, and nothing was tried.

    Returns:
        `neighbour` (k), `tails` (by view `distances`, `shares`, `exponent`), `centre` and `spread` (of the training
        images' appearance), `false_alarm_rate` (that is kept), `images` (compared with), `held_out` (whether they are
        validation images), `strangeness` (theirs, ascending), `limit` (the largest that is familiar; None: nothing can
        be called unfamiliar, for want of images), `false_alarm_low` and `false_alarm_high` (95% range of the true rate
        over draws of so many groups; None likewise), `features_limit` (the same limit for features alone), `tried` (see
        `fit_tried`; empty: no damage is borne), `images_needed` (for the rate that is wished, each of another group),
        `statement`.

    Raises:
        ValueError: When there is no training image, a feature is not finite or the rate is out of bounds.
    """
    if not 0 < false_alarm_rate < 0.5:
        raise ValueError(f"false_alarm_rate must be above 0 and below 0.5. Received: {false_alarm_rate}.")
    if not len(training.ids):
        raise ValueError("Familiarity must be measured against at least one training image. Received: none.")
    known = scaled(training)
    neighbour = max(1, min(MOST_NEIGHBOURS, _fewest_of_a_class(training)))
    fitted = {"neighbour": neighbour, **_spread(training.appearance)}
    left_out = _distances(known, known, fitted)
    fitted["tails"] = {view: _fit_tail(distances, LEAST_DISTANCE[view]) for view, distances in left_out.items()}
    held_out = validation is not None and len(validation.ids) > 0
    reference = validation if validation is not None and held_out else training
    distances = _distances(known, scaled(reference), fitted) if held_out else left_out
    of_view = _strangeness(distances, fitted)
    strangeness = _together(of_view)
    finite = np.isfinite(strangeness)
    units, strangeness = Units(reference.groups, len(strangeness)).of(finite), strangeness[finite]
    n, needed = len(strangeness), math.ceil(1 / false_alarm_rate - 1e-9) - 1
    rate = max(false_alarm_rate, min(1 / (units.number + 1), most_false_alarms))
    rank, place = conformal_rank(strangeness, units, 1 - rate)
    of_features = of_view["features"][finite]
    _, place_of_features = conformal_rank(of_features, units, 1 - rate)
    borne = fit_tried(tried, fitted, promised) if promised is not None and rank is not None else {}
    wants = (
        f"a false-alarm rate of {100 * false_alarm_rate:.4g}% needs at least {needed:,} "
        f"images{' of as many groups' if units.grouped else ''} to compare with, there are {n:,}{units.words}."
    )
    if rank is None:
        rate, statement = false_alarm_rate, f"No image can be called unfamiliar: {wants}"
    else:
        what = (VALIDATION_IMAGES if held_out else LEFT_OUT_IMAGES) + units.words
        statement = (
            f"An image is called unfamiliar when it is farther from the training images than all but "
            f"{100 * rate:.3g}% of {n:,} {what} are, by what the network sees and by how it was taken (brightness, "
            "contrast, detail, noise, colour)."
        )
        if rate > false_alarm_rate:
            statement += f" Fewer false alarms cannot be promised: {wants}"
        if borne:
            statement += (
                " One that was only taken in another way is familiar all the same where, of "
                f"{borne['copies']:,} damaged copies of validation images, the {NEIGHBOURS} that look most like it "
                f"were answered with at most {100 * borne['most_wrong']:.3g}% of mistakes."
            )
        if not held_out and learnt:
            statement += " Its features were learnt from these: more new images will be called unfamiliar than that."
    return fitted | {
        "false_alarm_rate": rate,
        "images": n,
        "held_out": held_out,
        "strangeness": np.sort(strangeness).tolist(),
        "limit": None if rank is None else float(strangeness[place]),
        **_range_of_rate(units.number, rate, rank is None),
        "features_limit": None if rank is None else float(of_features[place_of_features]),
        "tried": borne,
        "images_needed": needed,
        "statement": statement,
    }


def _spread(taken: np.ndarray) -> dict[str, list[float]]:
    """Mean and standard deviation of appearances; the latter not below what counts as alike."""
    least = np.array([aspect.least_spread for aspect in ASPECTS])
    figures = taken.astype(np.float64)
    return {"centre": figures.mean(axis=0).tolist(), "spread": np.maximum(figures.std(axis=0), least).tolist()}


def _fit_tail(distances: np.ndarray, least: float) -> dict[str, Any]:
    """Which share of images is farther than any distance.

    Returns:
        `distances` than which each of the `shares` is farther, from all images down to a tenth of them, at least two;
        beyond the last distance that share falls with the power `exponent` of the distance.
    """
    found = np.sort(np.maximum(distances[np.isfinite(distances)], least))
    beyond = min(max(2, round(TAIL_SHARE * len(found))), len(found) - 1)
    if beyond < 1:
        return {"distances": [1.0], "shares": [1.0], "exponent": 1.0}
    shares = np.linspace(1, beyond / len(found), 10)
    start = found[-beyond - 1]
    places = np.quantile(found[: len(found) - beyond], np.linspace(0, 1, 10))
    excess = float(np.log(found[-beyond:] / start).mean())
    return {"distances": places.tolist(), "shares": shares.tolist(), "exponent": 1 / max(excess, LEAST_EXCESS)}


def _fewest_of_a_class(training: EmbeddedImages) -> int:
    """Images of the own class that are there at least when an image is left out with its group."""
    groups = training.ids if training.groups is None else training.groups
    counts = pd.DataFrame({"label": training.labels, "group": groups}).value_counts().groupby("label")
    return int((counts.sum() - counts.max()).min())


def familiarity_table(
    training: EmbeddedImages | ScaledImages,
    queries: EmbeddedImages,
    familiarity: Mapping[str, Any],
    nearest: int = 3,
    tried: TriedDamage = NOTHING_TRIED,
) -> pd.DataFrame:
    """How familiar each image is, and its nearest training images.

    Args:
        training: What `fit_familiarity` was given; scale it once when it is compared with many images part by part.
        queries: Images to judge; may be empty. One that is a training image itself is not its own neighbour.
        familiarity: What `fit_familiarity` returned.
        nearest: Number of training images that are named; fewer where there are fewer.
        tried: Damaged copies of validation images, as `fit_familiarity` was given them.

    Returns:
        One row an image: `id`, `label`, `distance` (in features, 0-2), `strangeness`, `percentile` (share of the
        compared images that are less strange, 0-1), `unfamiliar` (missing where nothing can be called so), `unlike`
        (what is strange about it: `content`, or the name of an aspect of its appearance; empty where it is not
        unfamiliar), `nearest_1` … (ids of training images, the nearest in logits first), `nearest_labels` (theirs,
        joined by ` · `); `group` where the queries have groups.

    Raises:
        ValueError: When a feature is not finite.
    """
    known, asked = training if isinstance(training, ScaledImages) else scaled(training), scaled(queries)
    near = find_near(known, asked, familiarity, nearest, tried)
    table = pd.DataFrame(
        {
            "id": pd.Series(queries.ids, dtype="str"),
            "label": pd.Series(queries.labels, dtype="str"),
            "distance": near.distance,
            "strangeness": near.strangeness,
            "percentile": near.percentile,
            "unfamiliar": pd.array([pd.NA] * len(queries.ids), "boolean")
            if near.unfamiliar is None
            else near.unfamiliar,
            "unlike": pd.Series(near.unlike, dtype="str"),
        }
    )
    for place in range(near.rows.shape[1]):
        table[f"nearest_{place + 1}"] = pd.Series(training.ids[near.rows[:, place]], dtype="str")
    if queries.groups is not None:
        table["group"] = pd.Series(queries.groups, dtype="str")
    joined = [SEPARATOR.join(map(str, row)) for row in training.labels[near.rows]]
    return table.assign(nearest_labels=pd.Series(joined, dtype="str"))


class Near(NamedTuple):
    """How near n images are to the training images.

    Attributes:
        distance: (n,) float64, in features, 0-2.
        strangeness: (n,) float64, 1: as far as the farthest tenth of the training images are in one view, 2: as about
            a hundredth would be.
        percentile: (n,) float64, share of the compared images that are less strange, 0-1.
        unfamiliar: (n,) booleans; None where nothing can be called so.
        unlike: (n,) of text, see `familiarity_table`.
        rows: (n, k) row numbers of the nearest training images, the nearest in logits first.
    """

    distance: np.ndarray
    strangeness: np.ndarray
    percentile: np.ndarray
    unfamiliar: np.ndarray | None
    unlike: np.ndarray
    rows: np.ndarray


def find_near(
    training: ScaledImages,
    queries: ScaledImages,
    familiarity: Mapping[str, Any],
    nearest: int,
    tried: TriedDamage = NOTHING_TRIED,
) -> Near:
    """The figures of `familiarity_table` as arrays."""
    distances = _distances(training, queries, familiarity)
    of_view = _strangeness(distances, familiarity)
    strangeness = _together(of_view)
    compared, limit = np.asarray(familiarity["strangeness"], np.float64), familiarity["limit"]
    unfamiliar = np.zeros(len(strangeness), bool) if limit is None else strangeness > limit
    if limit is not None:
        taken_otherwise = np.flatnonzero(unfamiliar & (of_view["features"] <= familiarity["features_limit"]))
        borne = bears(queries.appearance[taken_otherwise], tried, familiarity)
        unfamiliar[taken_otherwise[borne]] = False
    unlike = np.where(unfamiliar, CONTENT, "").astype(object)
    if (taken := unfamiliar & (of_view["appearance"] > of_view["features"])).any():
        names = np.array([aspect.name for aspect in ASPECTS], object)
        unlike[taken] = names[np.abs(standardised(queries.appearance[taken], familiarity)).argmax(axis=1)]
    return Near(
        distances["features"],
        strangeness,
        np.searchsorted(compared, strangeness) / max(1, len(compared)),
        None if limit is None else unfamiliar,
        unlike,
        _nearest(training, queries, nearest),
    )


def _strangeness(distances: Mapping[str, np.ndarray], familiarity: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """(n,) float64 by view."""
    of_view = {}
    for view, tail in familiarity["tails"].items():
        distance, places = distances[view], np.asarray(tail["distances"], np.float64)
        usual = np.interp(distance, places, -np.log10(tail["shares"]))
        farther = np.log10(np.maximum(distance, places[-1]) / places[-1])
        of_view[view] = np.where(distance > LEAST_DISTANCE[view], usual + tail["exponent"] * farther, 0)
    return of_view


def _together(of_view: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.asarray(np.hypot(of_view["features"], of_view["appearance"]))


def measure_familiarity(table: pd.DataFrame, familiarity: Mapping[str, Any], confidence: float) -> dict[str, Any]:
    """How many images are unfamiliar, beside how many would be by chance.

    Args:
        table: See `familiarity_table`; may be empty.
        familiarity: What `fit_familiarity` returned.
        confidence: Level of Wilson's interval, 0-1, which respects groups.

    Returns:
        `images`, `unfamiliar`, `unfamiliar_share` with `…_low` and `…_high` (None without images, or where nothing can
        be called unfamiliar), `false_alarm_rate`, `statement`.
    """
    n, rate = len(table), familiarity["false_alarm_rate"]
    unfamiliar = None if familiarity["limit"] is None else int(table["unfamiliar"].sum())
    share: tuple[float | None, ...] = (None, None, None)
    if unfamiliar is not None and n:
        share = proportion_interval(table["unfamiliar"].to_numpy(bool), confidence, table.get("group"))
    if not n:
        statement = "There are no images to judge."
    elif unfamiliar is None:
        statement = familiarity["statement"]
    else:
        counts = f"{unfamiliar:,} of {n:,}" if unfamiliar else f"None of {n:,}"
        statement = (
            f"{counts} images {'are' if unfamiliar > 1 else 'is'} unfamiliar: {share[0]:.1%} "
            f"({share[1]:.1%}–{share[2]:.1%}), where {100 * rate:.3g}% are expected of images "
            f"like the {familiarity['images']:,} compared ones."
        )
        if share[1] > familiarity["false_alarm_high"]:
            statement += " These images differ from them."
    return {
        "images": n,
        "unfamiliar": unfamiliar,
        **dict(zip(("unfamiliar_share", "unfamiliar_share_low", "unfamiliar_share_high"), share, strict=True)),
        "false_alarm_rate": rate,
        "statement": statement,
    }


def _range_of_rate(groups: int, rate: float, unknown: bool) -> dict[str, float | None]:
    if unknown:
        return {"false_alarm_low": None, "false_alarm_high": None}
    low, high = coverage_range(groups, 1 - rate)
    return {"false_alarm_low": 1 - high, "false_alarm_high": 1 - low}


def _unit(features: np.ndarray) -> np.ndarray:
    lengths = np.sqrt(np.einsum("ij,ij->i", features, features))[:, None]
    if not np.isfinite(lengths).all():
        rows = ~np.isfinite(lengths)
        raise ValueError(
            f"Features must be finite. {rows.sum()} of {len(rows)} images have others. Train again, at a lower "
            "learning rate or with gradient_clip: 1."
        )
    return np.asarray(features / np.maximum(lengths, np.finfo(np.float32).tiny))


def _unit_parts(features: np.ndarray, parts: tuple[int, ...]) -> np.ndarray:
    scaled_parts = np.empty_like(features)
    ends = np.cumsum(parts)
    for columns in map(slice, [0, *ends[:-1]], ends):
        scaled_parts[:, columns] = _unit(features[:, columns])
    return scaled_parts


def _similarities(
    known: ScaledImages, asked: ScaledImages, ours: np.ndarray, theirs: np.ndarray
) -> Iterator[tuple[slice, np.ndarray]]:
    """Products of rows (n, training images), some images at a time; neither an image itself nor its group is similar.

    Args:
        known: The training images.
        asked: The images.
        ours: (images, d), what is compared of these.
        theirs: (training images, d), likewise.
    """
    own = known.ids.get_indexer(asked.ids) if len(asked.ids) else None
    grouped = known.groups is not None and asked.groups is not None
    groups = pd.factorize(np.concatenate([known.groups, asked.groups]))[0] if grouped else np.empty(0, int)
    for start in range(0, len(asked.features), CHUNK_ROWS):
        part = slice(start, start + CHUNK_ROWS)
        found = ours[part] @ theirs.T
        if own is not None:
            rows = np.flatnonzero(own[part] >= 0)
            found[rows, own[part][rows]] = -np.inf
        if grouped:
            found[groups[len(known.ids) :][part][:, None] == groups[: len(known.ids)]] = -np.inf
        yield part, found


def _distances(known: ScaledImages, asked: ScaledImages, familiarity: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """By view, (n,) float64 distance to the k-th nearest training image outside its group, infinite without one."""
    neighbour = familiarity["neighbour"]
    ends = np.cumsum(known.parts)
    logarithms = np.zeros(len(asked.features))
    for columns in map(slice, [0, *ends[:-1]], ends):
        ours, theirs = asked.features[:, columns], known.features[:, columns]
        distances = _distances_to_kth(known, asked, 2 * ours, theirs, np.float32(2), neighbour)  # all of length 1
        logarithms += np.log(np.maximum(distances, LEAST_DISTANCE["features"]))
    ours, theirs = (standardised(images.appearance, familiarity) for images in (asked, known))
    our_squares, their_squares = ((images**2).sum(axis=1, keepdims=True) for images in (ours, theirs))
    ours, theirs = np.hstack([2 * ours, np.full_like(our_squares, -1)]), np.hstack([theirs, their_squares])
    taken = _distances_to_kth(known, asked, ours, theirs, our_squares[:, 0], neighbour)
    return {"features": np.exp(logarithms / len(known.parts)), "appearance": taken}


def _distances_to_kth(
    known: ScaledImages,
    asked: ScaledImages,
    ours: np.ndarray,
    theirs: np.ndarray,
    squares: np.ndarray | np.float32,
    neighbour: int,
) -> np.ndarray:
    """Roots of `squares` less the products of rows, of which those to the k-th nearest training image: (n,) float64."""
    largest, k = np.empty(len(ours), ours.dtype), min(neighbour, len(known.ids))
    for part, found in _similarities(known, asked, ours, theirs):
        largest[part] = _kth_largest(found, k)
    return np.sqrt(np.maximum(squares - largest, 0)).astype(float)


def _kth_largest(values: np.ndarray, k: int) -> np.ndarray:
    """Of each row of (n, m) the k-th largest value, (n,); rows are put into another order.

    The k largest values lie in the k blocks of columns with the largest maxima: looking there alone is several
    times as fast among thousands.
    """
    width = math.isqrt(values.shape[1])
    blocks = values.shape[1] // width
    if width >= LEAST_WIDTH and blocks > k:
        inside = values[:, : blocks * width].reshape(len(values), blocks, width)
        likely = np.argpartition(inside.max(axis=2), blocks - k, axis=1)[:, blocks - k :, None]
        found = np.take_along_axis(inside, likely, axis=1).reshape(len(values), k * width)
        values = np.concatenate([found, values[:, blocks * width :]], axis=1)
    values.partition(values.shape[1] - k, axis=1)
    return values[:, -k]


def _nearest(known: ScaledImages, asked: ScaledImages, nearest: int) -> np.ndarray:
    """(n, nearest) rows of the training images whose logits point in the most similar direction."""
    result = np.empty((len(asked.features), min(nearest, len(known.ids))), int)
    for part, found in _similarities(known, asked, asked.logits, known.logits):
        each = np.arange(len(found))
        for place in range(result.shape[1]):
            result[part, place] = found.argmax(axis=1)
            found[each, result[part, place]] = -np.inf
    return result
