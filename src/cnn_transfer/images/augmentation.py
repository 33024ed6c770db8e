"""Random changes of a batch of training images: geometry, outlines, backgrounds, colour, holes, mixtures of two images.

Each image gets one affine transform of its plane; of some only outlines are left; of every second one the middle is put
on the background of its neighbour in the batch; each gets one transform of its colours, and one hole; then it is mixed
with its neighbour in the batch by mixup or CutMix, which makes the targets soft. XLA compiles what is switched on, but
for backgrounds, into a few loops over the pixels, uint8 in and uint8 out: many times faster than the chain of Keras
preprocessing layers that does the same. What is switched off costs nothing and leaves the random numbers of all else as
they are. Pixels are in 0-255 throughout.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, reduce
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from cnn_transfer.parameters import Parameters

if TYPE_CHECKING:
    import tensorflow as tf

# Rows: Y (the luma of ITU-R BT.601), I and Q, as in NTSC's YIQ.
YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
GREY_PART = np.tile(YIQ[0], (3, 1))  # of a colour: its luma in all three channels
COLOUR_PART = np.eye(3) - GREY_PART
COLOUR_QUARTER_TURN = np.linalg.solve(YIQ, np.array([[0, 0, 0], [0, 0, -1], [0, 1, 0]]) @ YIQ)
# A thing is what differs from the ground by more than a share of the most that any pixel does, drawn from this range.
OUTLINE_LEVELS = 0.08, 0.47
LINES_A_SIDE = 28  # thin lines, one beside the other, that would fill a side of the image; thick ones are twice as wide
HOLE_GREY = 127.0  # zero for networks that scale pixels to -1 … 1, as in the paper
# Each image has one random number for each of these. Add names at the end: the others keep their numbers.
DRAWS = (
    "rotation", "scale", "stretch", "shift_x", "shift_y", "horizontal_flip", "vertical_flip", "brightness", "contrast",
    "saturation", "hue", "hole_y", "hole_x", "patch_y", "patch_x", "shear", "background", "outline", "outline_level",
    "outline_width",
)  # fmt: skip


class Augmentation(Parameters):
    """How far training images may be changed; each range is symmetric around "not at all", and 0 switches it off."""

    rotation_degrees: float = Field(ge=0, le=180)
    shift_fraction: float = Field(ge=0, le=0.5)  # of the image's size, in each direction
    scale_fraction: float = Field(ge=0, le=1)  # 0.1: between 1/1.1 and 1.1 times; applied to size and to aspect
    shear_fraction: float = Field(ge=0, le=1)  # 0.2: an upright line leans by up to a fifth of its height
    horizontal_flip: bool
    vertical_flip: bool
    outline_fraction: float = Field(ge=0, le=1)  # of the images: only outlines are left of them
    background_fraction: float = Field(ge=0, lt=1)  # of the area, around the middle, that shows another image
    brightness_fraction: float = Field(ge=0, lt=1)  # 0.2: between 0.8 and 1.2 times; so are contrast and saturation
    contrast_fraction: float = Field(ge=0, lt=1)  # of the distance to the image's mean luma
    saturation_fraction: float = Field(ge=0, lt=1)
    hue_degrees: float = Field(ge=0, le=180)
    cutout_fraction: float = Field(ge=0, lt=1)  # side of the hole as a share of the image's side
    mixup_alpha: float = Field(ge=0, le=10)  # shares of two images: Beta(alpha, alpha)
    cutmix_alpha: float = Field(ge=0, le=10)  # shares of their areas: Beta(alpha, alpha)

    def check_channels(self, channels: int) -> None:
        """Refuse to change the colour of images that have none.

        Raises:
            ValueError: When saturation or hue is to change and `channels` is 1.
        """
        for key, value in (("saturation_fraction", self.saturation_fraction), ("hue_degrees", self.hue_degrees)):
            if value and channels == 1:
                raise ValueError(
                    f"augmentation.{key} must be 0 for images with one channel, which are grey. Received: {value}. "
                    "Set it to 0, or image_format.channels to 3."
                )


def augment(
    images: tf.Tensor, targets: tf.Tensor, seed: tf.Tensor, augmentation: Augmentation
) -> tuple[tf.Tensor, tf.Tensor]:
    """Change each image of a batch at random, then mix it with its neighbour.

    Args:
        images: (n, height, width, 1 or 3) in 0-255, uint8 or float; all but n static.
        targets: (n, classes) float32, the share of each class in each image.
        seed: (2,) integers; the same seed gives the same changes.
        augmentation: How far the images may be changed.

    Returns:
        Changed images, same shape and dtype, and their targets.

    Raises:
        ValueError: When saturation or hue is to change and the images have one channel.
    """
    import tensorflow as tf

    height, width, channels = images.shape[1:]
    augmentation.check_channels(channels)
    uniform = tf.random.stateless_uniform((len(DRAWS), tf.shape(images)[0]), seed, minval=-1.0)
    draws = dict(zip(DRAWS, tf.unstack(uniform), strict=True))
    mixture = _mixture(draws, seed, height, width, augmentation)
    if mixture is not None:
        share, (top, left, bottom, right) = mixture
        share = (share * (1 - (bottom - top) * (right - left) / (height * width)))[:, None]
        targets = share * targets + (1 - share) * tf.roll(targets, 1, axis=0)
    return _changed(images, draws, mixture, augmentation), targets


def move_copies(
    pixels: np.ndarray, draws: np.ndarray, augmentation: Augmentation, backgrounds: np.ndarray | None = None
) -> np.ndarray:
    """Change each image by numbers of its own, so that what becomes of it depends on no other image.

    Args:
        pixels: (n, height, width, 1 or 3) uint8.
        draws: (n, len(DRAWS)) float32 in -1 … 1.
        augmentation: How far the images may be changed; it must not mix them.
        backgrounds: (n, height, width, 1 or 3) uint8, on whose backgrounds all are put, with `background_fraction`.

    Returns:
        Changed images, same shape and dtype.
    """
    import tensorflow as tf

    augmentation.check_channels(pixels.shape[3])
    named = dict(zip(DRAWS, tf.unstack(tf.constant(draws.T, tf.float32)), strict=True))
    return np.asarray(_changed(tf.constant(pixels), named, None, augmentation, backgrounds))


def middle_of(height: int, width: int, share: float) -> tuple[slice, slice]:
    """Rows and columns of the rectangle in the middle that has a share of the area, 0-1."""
    top, left = (round(side * (1 - share**0.5) / 2) for side in (height, width))
    return slice(top, height - top), slice(left, width - left)


def _changed(
    images: tf.Tensor,
    draws: dict[str, tf.Tensor],
    mixture: tuple[tf.Tensor, list[tf.Tensor]] | None,
    augmentation: Augmentation,
    backgrounds: np.ndarray | None = None,
) -> tf.Tensor:
    height, width, channels = images.shape[1:]
    transforms = _plane_transforms(draws, height, width, augmentation)
    if transforms is not None:
        images = _compiled(_move)(images, transforms)
    outlines = _outlines(draws, augmentation)
    if outlines is not None:
        images = _compiled(_draw_outlines)(images, *outlines)
    if augmentation.background_fraction:
        images = _on_backgrounds(images, draws["background"], backgrounds, 1 - augmentation.background_fraction)
    colours = _colour_transforms(draws, channels, augmentation)
    holes = _holes(draws, height, width, augmentation)
    if any(part is not None for part in (colours, holes, mixture)):
        images = _compiled(_paint)(images, colours, holes, mixture)
    return images


def _plane_transforms(
    draws: dict[str, tf.Tensor], height: int, width: int, augmentation: Augmentation
) -> list[tf.Tensor] | None:
    """[a b c; d e f], each (n,), maps an output pixel to the input pixel that it shows, x before y.

    About the centre: zoom, times rotation, times stretch, times shear, times flips.
    """
    import tensorflow as tf

    ranges = augmentation.rotation_degrees + augmentation.shift_fraction + augmentation.scale_fraction
    if not (ranges or augmentation.shear_fraction or augmentation.horizontal_flip or augmentation.vertical_flip):
        return None
    angle = draws["rotation"] * np.pi / 180 * augmentation.rotation_degrees
    zoom = tf.exp(draws["scale"] * np.log1p(augmentation.scale_fraction))
    stretch = tf.exp(draws["stretch"] * np.log1p(augmentation.scale_fraction) / 2)
    flip_x = tf.where(draws["horizontal_flip"] > 0, -1.0, 1.0) if augmentation.horizontal_flip else 1.0
    flip_y = tf.where(draws["vertical_flip"] > 0, -1.0, 1.0) if augmentation.vertical_flip else 1.0
    a, b = tf.cos(angle) * zoom * stretch, -tf.sin(angle) * zoom / stretch
    d, e = tf.sin(angle) * zoom * stretch, tf.cos(angle) * zoom / stretch
    lean = draws["shear"] * augmentation.shear_fraction
    a, b, d, e = a * flip_x, (a * lean + b) * flip_y, d * flip_x, (d * lean + e) * flip_y
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    c = centre_x - a * centre_x - b * centre_y + draws["shift_x"] * augmentation.shift_fraction * width
    f = centre_y - d * centre_x - e * centre_y + draws["shift_y"] * augmentation.shift_fraction * height
    return [a, b, c, d, e, f]


def _outlines(draws: dict[str, tf.Tensor], augmentation: Augmentation) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor] | None:
    """Of which images outlines are drawn, how much things differ from the ground at least, which lines are thick."""
    if not augmentation.outline_fraction:
        return None
    low, high = OUTLINE_LEVELS
    level = low + (high - low) * (draws["outline_level"] + 1) / 2
    return draws["outline"] < 2 * augmentation.outline_fraction - 1, level, draws["outline_width"] > 0


def _on_backgrounds(images: tf.Tensor, draw: tf.Tensor, backgrounds: np.ndarray | None, middle: float) -> tf.Tensor:
    """The middles of all images on the given backgrounds, or those of every second one on its neighbour's.

    Whose class the neighbour is does not matter, so that a background tells nothing ("Mixed-Rand" of Xiao et al. 2020,
    arXiv 2006.09994, with a rectangle in place of a thing that somebody cut out).
    """
    import tensorflow as tf

    inside = np.zeros((*images.shape[1:3], 1), bool)
    inside[middle_of(images.shape[1], images.shape[2], middle)] = True
    if backgrounds is None:
        backgrounds = tf.where(draw[:, None, None, None] > 0, tf.roll(images, 1, axis=0), images)
    return tf.where(inside, images, backgrounds)


def _colour_transforms(
    draws: dict[str, tf.Tensor], channels: int, augmentation: Augmentation
) -> tuple[tf.Tensor, tf.Tensor | None] | None:
    """Matrices (n, channels, channels), and how much of its mean luma each image gets on top, (n,).

    Brightness multiplies, contrast scales the distance to the mean luma; saturation scales and hue turns the colour in
    the plane of I and Q, and neither changes the luma.
    """
    import tensorflow as tf

    greys = augmentation.brightness_fraction + augmentation.contrast_fraction
    if not greys + augmentation.saturation_fraction + augmentation.hue_degrees:
        return None
    brightness = 1 + draws["brightness"] * augmentation.brightness_fraction
    contrast = 1 + draws["contrast"] * augmentation.contrast_fraction
    of_mean_luma = brightness * (1 - contrast) if augmentation.contrast_fraction else None
    matrices = (brightness * contrast)[:, None, None]
    if channels == 3:
        saturation = (1 + draws["saturation"] * augmentation.saturation_fraction)[:, None, None]
        hue = (draws["hue"] * np.pi / 180 * augmentation.hue_degrees)[:, None, None]
        turned = tf.cos(hue) * tf.constant(COLOUR_PART, tf.float32)
        turned += tf.sin(hue) * tf.constant(COLOUR_QUARTER_TURN, tf.float32)
        matrices *= tf.constant(GREY_PART, tf.float32) + saturation * turned
    return matrices, of_mean_luma


def _holes(draws: dict[str, tf.Tensor], height: int, width: int, augmentation: Augmentation) -> list[tf.Tensor] | None:
    """One box an image, part of which may lie outside; the paper found this important (arXiv 1708.04552)."""
    if not augmentation.cutout_fraction:
        return None
    high, wide = (float(max(1, round(augmentation.cutout_fraction * size))) for size in (height, width))
    return _boxes(draws["hole_y"], draws["hole_x"], high, wide, height, width)


def _mixture(
    draws: dict[str, tf.Tensor], seed: tf.Tensor, height: int, width: int, augmentation: Augmentation
) -> tuple[tf.Tensor, list[tf.Tensor]] | None:
    """Share (n,) that each image keeps outside its box, and the boxes, which show the neighbour alone.

    Mixup (arXiv 1710.09412) draws shares and leaves the boxes empty; CutMix (arXiv 1905.04899) draws boxes and leaves
    the shares at 1. When both are on, each batch draws one of them.
    """
    import tensorflow as tf

    if not augmentation.mixup_alpha + augmentation.cutmix_alpha:
        return None
    mixup_seed, cutmix_seed, choice_seed = tf.unstack(tf.random.split(seed, 3))
    share = kept_area = tf.ones_like(draws["patch_y"])
    if augmentation.mixup_alpha:
        share = _beta(share, mixup_seed, augmentation.mixup_alpha)
    if augmentation.cutmix_alpha:
        kept_area = _beta(kept_area, cutmix_seed, augmentation.cutmix_alpha)
    if augmentation.mixup_alpha and augmentation.cutmix_alpha:
        mixup = tf.random.stateless_uniform((), choice_seed) < 0.5
        share, kept_area = tf.where(mixup, share, 1.0), tf.where(mixup, 1.0, kept_area)
    high, wide = (tf.round(tf.sqrt(1 - kept_area) * size) for size in (height, width))
    return share, _boxes(draws["patch_y"], draws["patch_x"], high, wide, height, width)


def _beta(like: tf.Tensor, seed: tf.Tensor, alpha: float) -> tf.Tensor:
    """As many draws from Beta(alpha, alpha) as `like` has; float64, since a small alpha soon leaves float32's range."""
    import tensorflow as tf

    gamma = tf.random.stateless_gamma((2, tf.size(like)), seed, tf.constant(alpha, tf.float64), dtype=tf.float64)
    return tf.cast(tf.math.divide_no_nan(gamma[0], gamma[0] + gamma[1]), like.dtype)


def _boxes(y: tf.Tensor, x: tf.Tensor, high: Any, wide: Any, height: int, width: int) -> list[tf.Tensor]:
    """[top, left, bottom, right], each (n,) and whole, of boxes around any pixel, cut off at the image's edges.

    Args:
        y: (n,) where the middle is, from -1 (top) to 1 (bottom).
        x: (n,) where the middle is, from -1 (left) to 1 (right).
        high: Whole number, of all boxes or (n,).
        wide: Whole number, of all boxes or (n,).
        height: Of the image.
        width: Of the image.
    """
    import tensorflow as tf

    top = tf.floor((y + 1) / 2 * height) - high // 2
    left = tf.floor((x + 1) / 2 * width) - wide // 2
    rows = [tf.clip_by_value(edge, 0.0, float(height)) for edge in (top, top + high)]
    columns = [tf.clip_by_value(edge, 0.0, float(width)) for edge in (left, left + wide)]
    return [rows[0], columns[0], rows[1], columns[1]]


@cache
def _compiled(function: Callable[..., tf.Tensor]) -> Any:
    """The function compiled by XLA, once a process: each fit uses what the one before it has compiled."""
    import tensorflow as tf

    return tf.function(function, jit_compile=True, autograph=False)


def _move(images: tf.Tensor, transforms: list[tf.Tensor]) -> tf.Tensor:
    """Bilinear interpolation; pixels from outside the image repeat its edge.

    Args:
        images: (n, height, width, channels).
        transforms: See `_plane_transforms`.
    """
    import tensorflow as tf

    height, width, channels = images.shape[1:]
    a, b, c, d, e, f = (value[:, None, None] for value in transforms)
    x, y = tf.range(width, dtype=tf.float32), tf.range(height, dtype=tf.float32)[:, None]
    x, y = a * x + b * y + c, d * x + e * y + f
    x, y = tf.clip_by_value(x, 0.0, width - 1.0), tf.clip_by_value(y, 0.0, height - 1.0)
    left, top = tf.floor(x), tf.floor(y)
    right, bottom = tf.minimum(left + 1, width - 1.0), tf.minimum(top + 1, height - 1.0)
    flat = tf.reshape(images, (-1, height * width, channels))

    def pixels(rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.gather(flat, tf.cast(rows * width + columns, tf.int32), batch_dims=1), tf.float32)

    across, down = (x - left)[..., None], (y - top)[..., None]
    upper = pixels(top, left) * (1 - across) + pixels(top, right) * across
    lower = pixels(bottom, left) * (1 - across) + pixels(bottom, right) * across
    return _as(upper * (1 - down) + lower * down, images.dtype)


def _draw_outlines(images: tf.Tensor, chosen: tf.Tensor, level: tf.Tensor, thick: tf.Tensor) -> tf.Tensor:
    """Of some images, only a line along the inside of things: white on black, or black on a light ground.

    The ground is the median luma along the image's edge. Networks go by texture and area where these tell classes apart
    (Geirhos et al. 2019, arXiv 1811.12231); an outline has neither, and looks like what is drawn or written.

    Args:
        images: (n, height, width, channels).
        chosen: (n,) bool, those of which lines are drawn.
        level: (n,) how much a thing differs from the ground at least, as a share of the most that any pixel does.
        thick: (n,) bool, whether the lines are twice as wide.
    """
    import tensorflow as tf

    height, width, channels = images.shape[1:]
    chosen, level, thick = (value[:, None, None, None] for value in (chosen, level, thick))
    pixels = tf.cast(images, tf.float32)
    luma = pixels if channels == 1 else tf.tensordot(pixels, tf.constant(YIQ[0], tf.float32), 1)[..., None]
    edge = tf.concat([luma[:, 0], luma[:, -1], luma[:, :, 0], luma[:, :, -1]], axis=1)
    ground = tf.sort(edge, axis=1)[:, edge.shape[1] // 2, None, None]
    difference = tf.abs(luma - ground)
    thing = tf.cast(difference > level * tf.reduce_max(difference, axis=(1, 2), keepdims=True), tf.float32)
    line = max(1, round(min(height, width) / LINES_A_SIDE))
    lines = thing - tf.where(thick, _eroded(thing, 2 * line), _eroded(thing, line))
    return tf.where(chosen, tf.cast(255 * tf.where(ground < 127.5, lines, 1 - lines), images.dtype), images)


def _eroded(things: tf.Tensor, pixels: int) -> tf.Tensor:
    """1 where a thing is within a square of so many pixels to each side, else 0; beyond the image's edge it goes on."""
    import tensorflow as tf

    height, width = things.shape[1:3]
    padded = tf.pad(things, [[0, 0], [pixels, pixels], [pixels, pixels], [0, 0]], constant_values=1)
    # One after the other XLA makes them one loop: five times as fast as pooling.
    rows = reduce(tf.minimum, [padded[:, start : start + height] for start in range(2 * pixels + 1)])
    return reduce(tf.minimum, [rows[:, :, start : start + width] for start in range(2 * pixels + 1)])


def _paint(
    images: tf.Tensor,
    colours: tuple[tf.Tensor, tf.Tensor | None] | None,
    holes: list[tf.Tensor] | None,
    mixture: tuple[tf.Tensor, list[tf.Tensor]] | None,
) -> tf.Tensor:
    """Colours, then holes, then mixtures, whichever are not None."""
    import tensorflow as tf

    pixels = tf.cast(images, tf.float32)
    if colours is not None:
        pixels = _recolour(pixels, *colours)
    if holes is not None:
        inside = _inside(holes, images)
        pixels = inside * HOLE_GREY + (1 - inside) * pixels
    if mixture is not None:
        share, boxes = mixture
        own = (1 - _inside(boxes, images)) * share[:, None, None, None]
        pixels = own * pixels + (1 - own) * tf.roll(pixels, 1, axis=0)
    return _as(pixels, images.dtype)


def _recolour(pixels: tf.Tensor, matrices: tf.Tensor, of_mean_luma: tf.Tensor | None) -> tf.Tensor:
    import tensorflow as tf

    channels = range(pixels.shape[3])
    # A sum of products becomes one loop with all else; as a product of matrices it takes five times as long.
    result = sum(matrices[:, None, None, :, channel] * pixels[..., channel, None] for channel in channels)
    if of_mean_luma is not None:
        means = tf.reduce_mean(tf.reduce_mean(pixels, axis=1), axis=1)
        luma = means[:, 0] if len(channels) == 1 else tf.reduce_sum(means * tf.constant(YIQ[0], tf.float32), axis=1)
        result += (of_mean_luma * luma)[:, None, None, None]
    return tf.clip_by_value(result, 0.0, 255.0)


def _inside(boxes: list[tf.Tensor], images: tf.Tensor) -> tf.Tensor:
    """(n, height, width, 1): 1 for pixels in the box of their image, 0 for others; as numbers, XLA can vectorise it."""
    import tensorflow as tf

    top, left, bottom, right = (edge[:, None, None, None] for edge in boxes)
    y = tf.range(images.shape[1], dtype=tf.float32)[:, None, None]
    x = tf.range(images.shape[2], dtype=tf.float32)[:, None]
    return tf.cast((top <= y) & (y < bottom) & (left <= x) & (x < right), tf.float32)


def _as(pixels: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Rounded where the type has whole numbers only: cutting fractions off would darken the images."""
    import tensorflow as tf

    return tf.cast(tf.round(pixels) if dtype.is_integer else pixels, dtype)
