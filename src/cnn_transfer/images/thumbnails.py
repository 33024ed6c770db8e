"""Small pictures of images, for pages, figures and predictors."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

THUMBNAIL_PX = 96  # longest side where nothing else is said
EXACT_PX = 32  # longest side of pictures that lose nothing


def reduced(pixels: np.ndarray, most_px: int) -> Image.Image:
    """A picture of at most so many pixels a side; one that is as small already stays as it is.

    Args:
        pixels: (height, width, channels) uint8, of 1 or 3 channels.
        most_px: The longest side that it may have.
    """
    picture = Image.fromarray(pixels.squeeze(axis=-1) if pixels.shape[-1] == 1 else pixels)
    picture.thumbnail((most_px, most_px))
    return picture


def thumbnail(pixels: np.ndarray, most_px: int = THUMBNAIL_PX) -> bytes:
    """A small picture as WebP, at most so wide and high; the smallest without loss, which is faster for them.

    Args:
        pixels: (height, width, channels) uint8.
        most_px: The longest side that it may have.
    """
    picture = reduced(pixels, most_px)
    stream = io.BytesIO()
    how = {"lossless": True, "quality": 0, "method": 0} if max(picture.size) <= EXACT_PX else {"quality": 90}
    picture.convert("RGB").save(stream, "WEBP", **how)
    return stream.getvalue()
