"""Are attribution maps worth looking at? Two tests, each against what a meaningless map would get.

Insertion and deletion (Petsiuk et al. 2018, arXiv 1806.07421): the pixels that a map ranks highest are shown first on a
blurred image, or blurred first in the image, and the probability of the class is followed; a map that knows what counts
makes it rise, or fall, at once. The comparison is with random maps that are as smooth as the map itself.

Randomisation (Adebayo et al. 2018, arXiv 1810.03292): with new random weights in the whole network, the map must become
another one. A map that stays shows the image, such as its edges, and not what was learnt.

Maps are (n, height, width) float, high where something speaks for the class; areas are in 0-1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cnn_transfer.evaluation.attribution import LogitNetwork, Reference, prepared, reference_images
from cnn_transfer.evaluation.intervals import student_interval

if TYPE_CHECKING:
    import keras

CURVES = ("insertion", "deletion")
RANDOM_MAPS = 2  # an image; more images narrow the interval more than more random maps of each
RANDOM_NETWORKS = 3
NOISE_LEVELS = 2  # of 255: an image that looks the same, which a map must survive
# Of a mean absolute rank correlation: below it, two maps share less than a quarter of the variance of their ranks.
HIGHEST_CORRELATION = 0.5

Method = Callable[[LogitNetwork, np.ndarray, np.ndarray], np.ndarray]


def faithfulness(
    network: keras.Model | LogitNetwork,
    pixels: np.ndarray,
    classes: np.ndarray,
    maps: np.ndarray,
    steps: int,
    seed: int,
    reference: Reference = "blurred",
) -> pd.DataFrame:
    """Areas under the insertion and deletion curves of each image's map, and of random maps of the same smoothness.

    Args:
        network: The network, or one that is prepared already.
        pixels: (n, height, width, channels) uint8.
        classes: (n,) index of the class that the maps are about.
        maps: (n, height, width), finite.
        steps: Steps of each curve; the images are classified six times as often.
        seed: Of the random maps, and of the order of pixels with the same value.
        reference: What replaces a pixel; see `attribution.reference_images`.

    Returns:
        One row an image: `insertion`, `insertion_random`, `insertion_gain` (map - random), `deletion`,
        `deletion_random`, `deletion_gain` (random - map, so that better is above 0 in both).

    Raises:
        ValueError: When maps and images do not fit, or a map is not finite.
    """
    network = prepared(network)
    rng = np.random.default_rng(seed)
    areas = curve_areas(network, pixels, classes, maps, steps, rng, reference)
    random = [
        curve_areas(network, pixels, classes, random_maps(maps, rng), steps, rng, reference) for _ in range(RANDOM_MAPS)
    ]
    table: dict[str, np.ndarray] = {}
    for curve, sign in zip(CURVES, (1, -1), strict=True):
        chance = np.mean([areas_of_one[curve] for areas_of_one in random], axis=0)
        table |= {curve: areas[curve], f"{curve}_random": chance, f"{curve}_gain": sign * (areas[curve] - chance)}
    return pd.DataFrame(table)


def curve_areas(
    network: LogitNetwork,
    pixels: np.ndarray,
    classes: np.ndarray,
    maps: np.ndarray,
    steps: int,
    rng: np.random.Generator,
    reference: Reference = "blurred",
) -> dict[str, np.ndarray]:
    """Area under the probability of the class against the share of pixels that are shown, or taken away: each (n,)."""
    if maps.shape != pixels.shape[:3]:
        raise ValueError(f"maps must have the shape of the images, {pixels.shape[:3]}. Received: {maps.shape}.")
    if not np.isfinite(maps).all():
        raise ValueError(f"maps must be finite. Received NaN or infinity in {(~np.isfinite(maps)).sum()} places.")
    if steps < 1:
        raise ValueError(f"steps must be at least 1. Received: {steps}.")
    n, size = len(maps), maps[0].size
    # Equal values in random order: row by row, the flat parts of a map would be ranked from the top.
    order = np.lexsort((rng.random((n, size)), -maps.reshape(n, size)))
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(size)[None], axis=1)
    rank = rank.reshape(*maps.shape, 1)
    images, taken = pixels.astype(np.float32), reference_images(pixels, reference)
    chosen = np.arange(n), classes
    curves: dict[str, list[np.ndarray]] = {curve: [] for curve in CURVES}
    for pixels_changed in np.linspace(0, size, steps + 1):
        first = rank < pixels_changed
        curves["insertion"].append(network.probabilities(np.where(first, images, taken))[chosen])
        curves["deletion"].append(network.probabilities(np.where(first, taken, images))[chosen])
    return {curve: np.asarray(np.trapezoid(values, dx=1 / steps, axis=0)) for curve, values in curves.items()}


def random_maps(maps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Maps with the amplitudes of the given ones at each spatial frequency, and random phases: as smooth, elsewhere.

    Pixel by pixel random would be no fair opponent of a smooth map: it shows a little of everything at once.
    """
    amplitudes = np.abs(np.fft.rfft2(maps - maps.mean(axis=(1, 2), keepdims=True)))
    phases = np.angle(np.fft.rfft2(rng.standard_normal(maps.shape)))
    return np.asarray(np.fft.irfft2(amplitudes * np.exp(1j * phases), s=maps.shape[1:]))


def mean_faithfulness(table: pd.DataFrame, confidence: float = 0.95) -> dict[str, Any]:
    """Means over images, with the interval of the paired gains.

    Args:
        table: See `faithfulness`.
        confidence: Level of the intervals, 0-1.

    Returns:
        `images`; for insertion and deletion: `<curve>`, `<curve>_random`, `<curve>_gain`, `<curve>_gain_low`,
        `<curve>_gain_high` (None for fewer than 2 images).
    """
    figures: dict[str, Any] = {"images": len(table)}
    for curve in CURVES:
        gain = student_interval(table[f"{curve}_gain"].to_numpy(), confidence)
        figures |= {
            curve: float(table[curve].mean()),
            f"{curve}_random": float(table[f"{curve}_random"].mean()),
            f"{curve}_gain": float(table[f"{curve}_gain"].mean()),
            f"{curve}_gain_low": gain.low if gain else None,
            f"{curve}_gain_high": gain.high if gain else None,
        }
    return figures


def randomisation_check(
    network: keras.Model | LogitNetwork,
    pixels: np.ndarray,
    classes: np.ndarray,
    method: Method,
    seed: int,
    confidence: float = 0.95,
    maps: np.ndarray | None = None,
) -> dict[str, Any]:
    """Rank correlation between the maps of the network and those of the same network with random weights.

    All weights are drawn anew, three times. The check passes when, for each of the three, the mean absolute correlation
    is surely below 0.5 and surely below what remains on the trained network when the image is changed invisibly: a
    method whose maps are noise changes with the weights, too, and must not pass for that.

    Args:
        network: The network, or one that is prepared already.
        pixels: (n, height, width, channels) uint8.
        classes: (n,) index of the class to explain.
        method: Makes maps from a prepared network, pixels and classes.
        seed: Of the random weights and of the invisible change.
        confidence: Level of the intervals, 0-1.
        maps: The method's maps of these images, where they are made already.

    Returns:
        `correlation` (mean over images and networks), `correlation_low`, `correlation_high` (the lowest and highest end
        of the networks' intervals), `magnitude_correlation` (of the maps without their signs), `stability`,
        `stability_low`, `pairs` and `undefined` (pairs in which a map is the same everywhere, so that it has no ranks;
        they are left out), `passes` (None where too few are left), `statement`.
    """
    network = prepared(network)
    rng = np.random.default_rng(seed)
    trained = method(network, pixels, classes) if maps is None else maps
    noise = rng.integers(-NOISE_LEVELS, NOISE_LEVELS + 1, pixels.shape)
    changed = method(network, np.clip(pixels.astype(int) + noise, 0, 255).astype(np.uint8), classes)
    same = rank_correlation(trained, changed)
    stability = student_interval(same[~np.isnan(same)], confidence)
    intervals, correlations, magnitudes = [], [], []
    for weights_seed in rng.integers(0, 2**20, RANDOM_NETWORKS):
        with network.reinitialised(int(weights_seed)) as random_network:
            random = method(random_network, pixels, classes)
        correlation = np.abs(rank_correlation(trained, random))
        correlations.append(correlation)
        magnitudes.append(rank_correlation(np.abs(trained), np.abs(random)))
        if interval := student_interval(correlation[~np.isnan(correlation)], confidence):
            intervals.append(interval)
    undefined = int(np.isnan(correlations).sum())
    pairs = {"pairs": len(trained) * RANDOM_NETWORKS, "undefined": undefined}
    if not intervals or stability is None:
        nothing = dict.fromkeys(
            ("correlation", "correlation_low", "correlation_high", "magnitude_correlation", "stability")
        )
        return {
            **nothing,
            "stability_low": None,
            **pairs,
            "passes": None,
            "statement": "The randomisation check needs at least 2 images whose maps are not the same everywhere. "
            f"Received: {len(trained)}; {undefined} of {pairs['pairs']} pairs of maps had no ranks to compare.",
        }
    low, high = min(interval.low for interval in intervals), max(interval.high for interval in intervals)
    limit = min(HIGHEST_CORRELATION, stability.low)
    passes = bool(high < limit)
    mean, magnitude = float(np.nanmean(correlations)), float(np.nanmean(magnitudes))
    statement = (
        f"Randomisation check {'passed' if passes else 'FAILED'}: with random weights the maps keep a rank correlation "
        f"of {mean:.2f} (at most {min(1.0, high):.2f}, which must be below {limit:.2f}), with the same weights and an "
        f"image changed invisibly {stability.estimate:.2f}."
    )
    if passes and magnitude > HIGHEST_CORRELATION:
        statement += (
            f" Without their signs they keep {magnitude:.2f}: how strong a place is depends on the image more than on "
            "what was learnt; whether it speaks for or against is what was learnt."
        )
    return {
        "correlation": mean,
        "correlation_low": max(0.0, low),
        "correlation_high": min(1.0, high),
        "magnitude_correlation": magnitude,
        "stability": stability.estimate,
        "stability_low": stability.low,
        **pairs,
        "passes": passes,
        "statement": statement,
    }


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of two maps of each image, (n,); NaN where one is the same everywhere."""
    from scipy import stats

    ranks = [stats.rankdata(maps.reshape(len(maps), -1), axis=1) for maps in (first, second)]
    x, y = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    scale = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return np.asarray(np.where(scale > 0, (x * y).sum(axis=1) / np.where(scale > 0, scale, 1), np.nan))
