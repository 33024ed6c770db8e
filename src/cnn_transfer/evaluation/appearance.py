"""How an image was taken, whatever it shows: seven figures that blur, noise, another light or another lens change.

Networks look past most of that, by design and by augmentation, and may be sure of an image that is hardly more than
noise. So it is measured on the pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import scipy


class Aspect(NamedTuple):
    """One of the figures: its name, and the spread below which images count as alike in it."""

    name: str
    least_spread: float


ASPECTS = (
    Aspect("brightness", 5.0),
    Aspect("contrast", 5.0),
    Aspect("fine detail", 0.2),
    Aspect("noise", 0.2),
    Aspect("detail", 0.2),
    Aspect("coarse detail", 0.2),
    Aspect("colour", 5.0),
)
LEAST_SEEN = 4.0  # grey levels of 255; noise of 5 costs the default run no accuracy (docs/measured.md)
SCALES = 3  # of detail, each half as fine as the one before
CHUNK_PIXELS = 2**21  # of images that are worked on at once


def appearance(pixels: np.ndarray) -> np.ndarray:
    """The figures of images, (n, 7) float32, in the order of `ASPECTS`.

    Brightness and contrast are mean and standard deviation of the grey values. Detail is the logarithm of the standard
    deviation of each band of a Laplacian pyramid (Burt and Adelson 1983), of which blur takes the finest first; noise
    that of the median magnitude in the finest band, which a few sharp edges leave alone (after Donoho and Johnstone
    1994). Colour is the mean difference of the largest and the smallest channel; 0 for grey images.

    Args:
        pixels: (n, height, width, channels) uint8.
    """
    size = max(1, CHUNK_PIXELS // max(1, int(np.prod(pixels.shape[1:3]))))
    parts = [_appearance(pixels[start : start + size]) for start in range(0, len(pixels), size)]
    return np.concatenate(parts) if parts else np.empty((0, len(ASPECTS)), np.float32)


def standardised(taken: np.ndarray, spread: Mapping[str, Any]) -> np.ndarray:
    """Appearances (n, 7) as float64 in standard deviations of others.

    Args:
        taken: See `appearance`.
        spread: `centre` and `spread` of the others, 7 numbers each.
    """
    return np.asarray((taken.astype(np.float64) - spread["centre"]) / spread["spread"])


def _appearance(pixels: np.ndarray) -> np.ndarray:
    channels = [pixels[..., channel] for channel in range(pixels.shape[-1])]  # one by one: several times as fast
    grey = sum(channel.astype(np.float32) for channel in channels) / np.float32(len(channels))
    colour = (np.maximum.reduce(channels) - np.minimum.reduce(channels)).mean(axis=(1, 2))
    figures = [grey.mean(axis=(1, 2)), grey.std(axis=(1, 2))]
    for scale in range(SCALES):
        smooth = scipy.ndimage.gaussian_filter(grey, (0, 1, 1), mode="nearest", truncate=2)  # five taps, as there
        band = grey - smooth
        figures.append(_log(band.std(axis=(1, 2))))
        if scale == 0:
            some = np.abs(band[:, ::2, ::2])  # a quarter of the pixels, in less than half the time
            figures.append(_log(np.median(some.reshape(len(some), -1), axis=1)))
        grey = smooth[:, ::2, ::2]
    return np.stack([*figures, colour], axis=1).astype(np.float32)


def _log(grey_levels: np.ndarray) -> np.ndarray:
    """Of a spread in grey levels, of which less than `LEAST_SEEN` is next to nothing."""
    return np.asarray(np.log1p(grey_levels / LEAST_SEEN))
