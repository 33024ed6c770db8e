"""What a training changed in a network: representations at each depth, and attribution maps, before and after.

Representations are compared by linear centred kernel alignment (CKA; Kornblith et al. 2019, arXiv 1905.00414): 1 for
the same up to rotation and scale, 0 for unrelated. Its usual form rises towards 1 by itself when there are more
features than images; here each part is estimated without bias (Song et al. 2012, equation 5; arXiv 2010.15327).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cnn_transfer.evaluation.faithfulness import rank_correlation
from cnn_transfer.evaluation.figures import TRANSFER_COLOUR, Figure, draw_words, drawable, new_figure
from cnn_transfer.evaluation.intervals import student_interval
from cnn_transfer.images import images_a_batch
from cnn_transfer.models import tap_layers, tap_network, tap_widths

if TYPE_CHECKING:
    import keras

GRID = 4  # cells a side that each depth is read in, so that memory stays small at any image size
FEWEST_IMAGES = 5  # below, the estimate without bias is not defined for a part of the jackknife
MOST_GROUPS = 32  # of images that the jackknife leaves out together


def similarity_by_depth(
    first: keras.Model,
    second: keras.Model,
    pixels: np.ndarray,
    taps: Sequence[str] | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """CKA between two networks of the same architecture at each depth, on the same images.

    Each depth is read as means over at most 4 × 4 cells and ranges within 2 × 2. Intervals are those of the jackknife
    over (groups of) images.

    Args:
        first: A network, such as the one before fine-tuning.
        second: Another with the same layers, such as the one after.
        pixels: (n, height, width, channels) uint8, at least 5 images, better 200.
        taps: Names of layers, from shallow to deep; None: the ends of the blocks that both have.
        confidence: Level of the intervals, 0-1.

    Returns:
        One row a depth: `layer`, `depth` (from 1), `cka`, `cka_low`, `cka_high`; missing where all images look the same
        at this depth of one of the networks.

    Raises:
        ValueError: When there are too few images, or the networks have no tap in common.
    """
    if len(pixels) < FEWEST_IMAGES:
        raise ValueError(f"CKA needs at least {FEWEST_IMAGES} images. Received: {len(pixels)}.")
    if taps is None:
        known = set(tap_layers(second))
        taps = [name for name in tap_layers(first) if name in known]
        if not taps:
            raise ValueError(
                f"The networks must have blocks of the same names. Received: {', '.join(tap_layers(first))}; "
                f"{', '.join(tap_layers(second))}."
            )
    rows = []
    features = [_features(network, pixels, taps) for network in (first, second)]
    for depth, (name, x, y) in enumerate(zip(taps, *features, strict=True), start=1):
        grams = _gram(x), _gram(y)
        try:
            estimate, low, high = _jackknife(*grams, confidence)
        except _ConstantError:
            estimate = low = high = np.nan
        rows.append({"layer": name, "depth": depth, "cka": estimate, "cka_low": low, "cka_high": high})
    return pd.DataFrame(rows)


def map_similarity(first: np.ndarray, second: np.ndarray, confidence: float = 0.95) -> dict[str, Any]:
    """Mean rank correlation of the attribution maps that two networks give for the same images and classes.

    Args:
        first: (n, height, width) maps.
        second: (n, height, width) maps.
        confidence: Level of the interval, 0-1.

    Returns:
        `correlation`, `correlation_low`, `correlation_high` (None where they cannot be estimated), `images`,
        `undefined` (images with a map that is the same everywhere; they are left out), `statement`.

    Raises:
        ValueError: When the maps do not have the same shape.
    """
    if first.shape != second.shape:
        raise ValueError(f"Maps must be of the same images. Received: {first.shape} and {second.shape}.")
    correlations = rank_correlation(first, second)
    defined = correlations[~np.isnan(correlations)]
    interval = student_interval(defined, confidence)
    undefined = len(correlations) - len(defined)
    left_out = f"; {undefined} of {len(correlations)} images have a map without structure and are left out"
    if interval is None:
        return {
            "correlation": None,
            "correlation_low": None,
            "correlation_high": None,
            "images": len(correlations),
            "undefined": undefined,
            "statement": "Fewer than 2 images have maps that can be compared" + left_out * (undefined > 0) + ".",
        }
    low, high = max(-1.0, interval.low), min(1.0, interval.high)
    return {
        "correlation": interval.estimate,
        "correlation_low": low,
        "correlation_high": high,
        "images": len(correlations),
        "undefined": undefined,
        "statement": f"The maps before and after have a mean rank correlation of {interval.estimate:.2f} "
        f"({low:.2f} to {high:.2f})" + left_out * (undefined > 0) + ".",
    }


def draw_similarity(table: pd.DataFrame) -> Figure:
    """CKA by depth with its interval.

    Args:
        table: See `similarity_by_depth`; may be empty.
    """
    if table.empty:
        return draw_words("No depths to compare")
    figure = new_figure(max(4.0, 2.5 + 0.4 * len(table)), 3.2)
    axes = figure.subplots()
    places = table["depth"].to_numpy()
    values = table["cka"].to_numpy(float)
    ends = np.abs(np.stack([values - table["cka_low"], table["cka_high"] - values]))
    axes.errorbar(places, values, yerr=ends, fmt="o-", ms=5, capsize=3, color=TRANSFER_COLOUR)
    for place, value in zip(places, values, strict=True):
        if np.isfinite(value):
            axes.annotate(f"{value:.2f}", (place, value), (6, -12), textcoords="offset points", fontsize=8)
    many = len(table) > 6
    axes.set_xticks(
        places,
        [drawable(name) for name in table["layer"]],
        rotation=45 if many else 0,
        ha="right" if many else "center",
        fontsize=8,
        parse_math=False,
    )
    axes.set_ylim(min(0.0, float(np.nanmin([*values, 0]))), 1.05)
    axes.set_xlim(places.min() - 0.5, places.max() + 0.5)
    axes.set_ylabel("similarity before and after (CKA)", fontsize=9)
    axes.set_title("What the fine-tuning left as it was (1: unchanged)", fontsize=10)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.patch.set_alpha(0)
    return figure


class _ConstantError(ValueError):
    """All images look the same in a representation."""


def _features(network: keras.Model, pixels: np.ndarray, taps: Sequence[str]) -> list[np.ndarray]:
    tapped = tap_network(network, taps, GRID)
    step = images_a_batch(pixels.shape[1:])
    parts = [pixels[start : start + step] for start in range(0, len(pixels), step)]
    values = np.concatenate([np.asarray(tapped(part, training=False)) for part in parts])
    if not np.isfinite(values).all():
        raise ValueError(
            f"The features of {network.name} must be finite. Received NaN or infinity for "
            f"{(~np.isfinite(values).all(axis=1)).sum()} of {len(pixels)} images. Its training has diverged."
        )
    return np.split(values, np.cumsum(tap_widths(network, taps, GRID))[:-1], axis=1)


def _gram(features: np.ndarray) -> np.ndarray:
    """Scalar products between images, without the diagonal; centring first only makes the numbers smaller."""
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    gram = centred @ centred.T
    np.fill_diagonal(gram, 0)
    return np.asarray(gram)


def _hsic(k: np.ndarray, m: np.ndarray) -> float:
    """Song et al. 2012, equation 5, of two Gram matrices with a diagonal of 0, up to the factor 1 / n(n-3)."""
    n = len(k)
    rows_k, rows_m = k.sum(axis=0), m.sum(axis=0)
    shared = np.vdot(k, m) + rows_k.sum() * rows_m.sum() / ((n - 1) * (n - 2)) - 2 * rows_k @ rows_m / (n - 2)
    return float(shared)


def _cka(k: np.ndarray, m: np.ndarray) -> float:
    own = _hsic(k, k), _hsic(m, m)
    if min(own[0] / max(np.vdot(k, k), 1e-300), own[1] / max(np.vdot(m, m), 1e-300)) < 1e-12:
        raise _ConstantError
    return _hsic(k, m) / float(np.sqrt(own[0] * own[1]))


def _jackknife(k: np.ndarray, m: np.ndarray, confidence: float) -> tuple[float, float, float]:
    """CKA with the interval of the delete-a-group jackknife (Kott 2001); a bootstrap would draw images twice.

    Two copies of an image resemble each other in both representations, which would make all resamples look alike.
    """
    from scipy import stats

    n = len(k)
    groups = min(MOST_GROUPS, n)
    estimate = _cka(k, m)
    left_out = []
    for group in range(groups):
        kept = np.arange(n) % groups != group
        left_out.append(_cka(k[np.ix_(kept, kept)], m[np.ix_(kept, kept)]))
    error = np.sqrt((groups - 1) / groups * ((np.array(left_out) - np.mean(left_out)) ** 2).sum())
    margin = float(stats.t.ppf(0.5 + confidence / 2, groups - 1) * error)
    return estimate, max(-1.0, estimate - margin), min(1.0, max(estimate, estimate + margin))
