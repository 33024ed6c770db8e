"""Attribution without gradients: what happens to a class when places of the image are covered.

For a network that only answers, such as an exported one, whatever computes it. An image is covered at one place after
the other by its own blurred self, softly, and the fall of the class's log-odds is what the place brought (Zeiler and
Fergus 2014, arXiv 1311.2901). The places overlap, so each fall is a weighted sum of what the pixels brought; a ridge
solves for these, and allows a pixel the more the more covering changes it: what stays the same cannot have counted.
`attribution` has the methods for a network of Keras, `faithfulness` the tests, and benchmarks/attribution.py what these
say of all of them.

A map is (height, width) float32, above 0 where something speaks for the class and below 0 where it speaks against.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from cnn_transfer.evaluation.attribution import Reference, reference_images

PLACES = 12  # a side
WIDTH = 0.7  # deviation of a place's bell, in distances between places
RIDGE = 0.3  # of the mean variance of a fall; from 0.03 to 0.3 the faithfulness is the same within 0.015
AT_ONCE = 32  # images handed over together
STRONGEST = 99.0  # percentile of a map's absolute values that gets the full colour: single pixels would leave it pale
FOR, AGAINST = (213, 94, 0), (0, 114, 178)  # orange and blue of the report (Okabe and Ito)

Compute = Callable[[np.ndarray], np.ndarray]


def occlusion_map(
    compute: Compute, pixels: np.ndarray, class_index: int, places: int = PLACES, reference: Reference = "blurred"
) -> np.ndarray:
    """What speaks for a class, found by covering places of the image.

    The network computes places² + 1 images, 145 with the default.

    Args:
        compute: Logits (n, classes) of images (n, height, width, channels) uint8.
        pixels: (height, width, channels) uint8.
        class_index: The class to explain.
        places: Places along a side, at least 2.
        reference: What covers a place; see `attribution.reference_images`.

    Returns:
        (height, width) float32: what each pixel brings, in log-odds; all 0 where covering changes nothing.

    Raises:
        ValueError: When the pixels are others, there is no such class, or a logit is not finite.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3:
        raise ValueError(
            f"pixels must be one image, uint8 of the shape (height, width, channels). Received: {pixels.dtype} "
            f"{pixels.shape}."
        )
    if places < 2:
        raise ValueError(f"places must be at least 2. Received: {places}.")
    down, across = (_bells(side, places) for side in pixels.shape[:2])
    whole = _log_odds(compute, pixels[None], class_index)[0]
    image, filler = pixels.astype(np.float32), reference_images(pixels[None], reference)[0]
    rows, columns = np.divmod(np.arange(places**2), places)
    falls = np.empty(places**2)
    for start in range(0, len(falls), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        share = down[rows[part], :, None, None] * across[columns[part], None, :, None]
        covered = np.rint(image + share * (filler - image)).astype(np.uint8)
        falls[part] = whole - _log_odds(compute, covered, class_index)
    return _shares(falls, down, across, np.abs(filler - image).mean(axis=-1))


def overlay(values: np.ndarray, scale: int = 1) -> bytes:
    """A map as a picture to lay over its image: orange speaks for the class, blue against it, the rest is transparent.

    Args:
        values: (height, width), finite.
        scale: Times that the picture is larger than the map.

    Returns:
        A PNG with transparency.
    """
    strongest = np.percentile(np.abs(values), STRONGEST) or np.abs(values).max()
    strength = np.clip(np.abs(values) / strongest, 0, 1) if strongest else np.zeros(values.shape)
    colours = np.where(values[..., None] >= 0, FOR, AGAINST)
    picture = np.concatenate([colours, np.rint(255 * strength)[..., None]], axis=-1).astype(np.uint8)
    image = Image.fromarray(picture, "RGBA")
    if scale > 1:
        image = image.resize((image.width * scale, image.height * scale), Image.Resampling.BICUBIC)
    encoded = io.BytesIO()
    image.save(encoded, "PNG", optimize=True)
    return encoded.getvalue()


def _bells(side: int, places: int) -> np.ndarray:
    """How far each pixel along a side is covered at each place, (places, side) float32 in 0-1."""
    centres = (np.arange(places) + 0.5) * side / places
    distance = np.arange(side) + 0.5 - centres[:, None]
    return np.asarray(np.exp(-0.5 * (distance * places / side / WIDTH) ** 2), np.float32)


def _shares(falls: np.ndarray, down: np.ndarray, across: np.ndarray, change: np.ndarray) -> np.ndarray:
    """The most probable shares of the pixels, whose variance is in proportion to their change, given the falls.

    A cover is the product of a bell down and a bell across, so that no matrix of places and pixels is needed.
    """
    if not change.any():
        return np.zeros(change.shape, np.float32)
    places = len(down)
    down_pairs, across_pairs = ((bells[:, None] * bells).reshape(places**2, -1) for bells in (down, across))
    covariance = (down_pairs @ change @ across_pairs.T).reshape(places, places, places, places).astype(float)
    covariance = covariance.transpose(0, 2, 1, 3).reshape(places**2, places**2)
    covariance += RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    solved = np.linalg.solve(covariance, falls).reshape(places, places)
    return np.asarray(down.T @ solved @ across * change, np.float32)


def _log_odds(compute: Compute, pixels: np.ndarray, class_index: int) -> np.ndarray:
    """Log-odds of the class against all others, (n,)."""
    from scipy.special import logsumexp

    logits = np.asarray(compute(pixels), float)
    if not 0 <= class_index < logits.shape[1]:
        raise ValueError(f"class_index must be from 0 to {logits.shape[1] - 1}. Received: {class_index}.")
    if not np.isfinite(logits).all():
        raise ValueError("logits must be finite. Received NaN or infinity: the weights of the network are damaged.")
    return np.asarray(logits[:, class_index] - logsumexp(np.delete(logits, class_index, axis=1), axis=1))
