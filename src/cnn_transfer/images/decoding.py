"""From encoded images to uint8 pixels of one size, with a reason for each image that cannot be used."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import Field

from cnn_transfer.images.listing import ImageListing
from cnn_transfer.parameters import Parameters

# Pillow's errors for what is not an image, is cut short, is damaged in its structure, or is declared too large.
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
CHUNK_IMAGES = 4096  # decoded at once: 12 MB at 32 px RGB, 600 MB at 224 px


class ImageFormat(Parameters):
    """The size and colour in which images are stored and enter the network."""

    image_size_px: int = Field(ge=16, le=1024)
    channels: Literal[1, 3]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return (self.image_size_px, self.image_size_px, self.channels)


@dataclass(frozen=True)
class DecodedImages:
    """Images to be decoded while they are written: iterating reads, decodes and resizes them in chunks.

    Attributes:
        listing: Where the encoded images come from.
        rows: Row numbers of the listing to decode, increasing.
        image_format: Size and colour of the result.
    """

    listing: ImageListing
    rows: np.ndarray
    image_format: ImageFormat

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[pd.DataFrame, np.ndarray, pd.DataFrame]]:
        """Yield chunks of (table of used images, pixels (n, h, w, c) uint8, table of rejected images).

        The first table has the columns `id`, `label`, `width_px`, `height_px` (before resizing); the second `id`,
        `label`, `reason`, `detail`.
        """
        encoded = self.listing.read(self.rows)
        for start in range(0, len(self.rows), CHUNK_IMAGES):
            chunk = self.listing.table.iloc[self.rows[start : start + CHUNK_IMAGES]]
            used, pixels, rejected = [], [], []
            for image_id, label in zip(chunk["id"], chunk["label"], strict=True):
                try:
                    image, (width, height) = decode_image(next(encoded), self.image_format)
                except UNREADABLE as error:
                    detail = re.sub(r" <_io\.\w+ object at \w+>", "", " ".join(str(error).split()))
                    rejected.append((image_id, label, "unreadable", detail))
                else:
                    used.append((image_id, label, width, height))
                    pixels.append(image)
            yield (
                pd.DataFrame(used, columns=["id", "label", "width_px", "height_px"]),
                np.stack(pixels) if pixels else np.empty((0, *self.image_format.shape), np.uint8),
                pd.DataFrame(rejected, columns=["id", "label", "reason", "detail"]),
            )


def decode_image(encoded: bytes | Path | np.ndarray, image_format: ImageFormat) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode, convert and resize one image.

    Args:
        encoded: The encoded image, the path of one, or pixels (height, width, channels) uint8.
        image_format: Size and colour of the result; 16-bit grey is scaled to 8 bits.

    Returns:
        Pixels (height, width, channels) uint8 in the wanted format, and the original (width, height) in pixels.

    Raises:
        OSError, SyntaxError, ValueError, Image.DecompressionBombError: When there is no image that Pillow reads whole.
    """
    if isinstance(encoded, np.ndarray):
        image = Image.fromarray(encoded.squeeze(axis=-1) if encoded.shape[-1] == 1 else encoded)
    else:
        image = Image.open(io.BytesIO(encoded.read_bytes() if isinstance(encoded, Path) else encoded))
    original_size = image.size
    if image.mode.startswith("I;16"):
        image = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    image = image.convert("L" if image_format.channels == 1 else "RGB")
    wanted_size = (image_format.image_size_px, image_format.image_size_px)
    if image.size != wanted_size:
        image = image.resize(wanted_size, Image.Resampling.BILINEAR)  # Pillow's bilinear averages when shrinking
    return np.asarray(image, np.uint8).reshape(image_format.shape), original_size
