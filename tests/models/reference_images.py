"""Images made by integer arithmetic alone, so that they are the same everywhere; no library but numpy."""

import numpy as np

SIZES = {"96": (96, 96), "224": (224, 224), "odd": (75, 50)}


def reference_image(height, width):
    """A bright disc and stripes on a colour gradient with noise: uint8 (height, width, 3)."""
    rows, columns = np.indices((height, width))
    noise = (rows * 7919 + columns * 104729 + rows * columns * 31) % 41
    red = rows * 200 // height
    green = columns * 200 // width
    blue = ((rows + 2 * columns) // 9 % 2) * 150
    disc = (3 * rows - height) ** 2 + (2 * columns - width) ** 2 < (height * width) // 4
    picture = np.stack([np.where(disc, 210, red), np.where(disc, 160, green), np.where(disc, 40, blue)], axis=-1)
    return (picture + noise[..., None]).astype(np.uint8)
