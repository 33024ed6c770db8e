"""What damage does a network bear? Images are damaged by degrees, and labelled.

Kinds and degrees follow Hendrycks and Dietterich (2019, arXiv 1903.12261), as far as they leave alone what is in the
picture; sizes are shares of the picture, so that they mean the same for small and large ones. What becomes of test
images is measured, and nothing is chosen by it; what is chosen by damage at random, `tried_damage` says.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance, ImageFilter

from cnn_transfer.evaluation.intervals import proportion_interval
from cnn_transfer.evaluation.probabilities import counted, percent_text
from cnn_transfer.evaluation.selective import UNFAMILIAR
from cnn_transfer.images import ImageSet
from cnn_transfer.images.listing import hash_ranks

Change = Callable[[Image.Image, np.random.Generator], Image.Image]

UNDAMAGED = "as they are"
COLUMNS = [
    "damage", "degree", "images", "right", "right_low", "right_high", "unfamiliar", "answered", "right_answers",
    "wrong_answers", "wrong_answers_low", "wrong_answers_high",
]  # fmt: skip


class Judged(Protocol):
    """What is said of n images: `predicted` and `withheld` (n,) of text, see `prediction.Judged`."""

    @property
    def predicted(self) -> np.ndarray:
        """Classes."""

    @property
    def withheld(self) -> np.ndarray:
        """Codes of why there is no answer, empty where there is one."""


class Damage(NamedTuple):
    """One kind of damage in one degree.

    Attributes:
        kind: What is done.
        degree: How much of it, in words.
        change: Does it to one picture.
    """

    kind: str
    degree: str
    change: Change


def _jpeg(quality: int) -> Change:
    def change(image: Image.Image, _: np.random.Generator) -> Image.Image:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=quality)
        return Image.open(io.BytesIO(stream.getvalue()))

    return change


def noise(grey_levels: float) -> Change:
    """Gaussian noise of so many grey levels, added to each channel of each pixel."""

    def change(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        pixels = np.asarray(image)
        noisy = pixels + rng.normal(0, grey_levels, pixels.shape)
        return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))

    return change


def _blur(share: float) -> Change:
    return lambda image, _: image.filter(ImageFilter.GaussianBlur(share * image.width))


def _brightness(factor: float) -> Change:
    return lambda image, _: ImageEnhance.Brightness(image).enhance(factor)


def _contrast(factor: float) -> Change:
    return lambda image, _: ImageEnhance.Contrast(image).enhance(factor)


def _coarse(factor: float) -> Change:
    def change(image: Image.Image, _: np.random.Generator) -> Image.Image:
        small = (max(2, round(image.width / factor)), max(2, round(image.height / factor)))
        return image.resize(small, Image.Resampling.BILINEAR).resize(image.size, Image.Resampling.BILINEAR)

    return change


def _covered(share: float) -> Change:
    def change(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        pixels, side = np.array(image), max(1, round(share**0.5 * image.width))
        top, left = rng.integers(0, image.height - side + 1), rng.integers(0, image.width - side + 1)
        pixels[top : top + side, left : left + side] = rng.integers(0, 256)
        return Image.fromarray(pixels)

    return change


def _turned(degrees: float) -> Change:
    def change(image: Image.Image, _: np.random.Generator) -> Image.Image:
        corners = np.asarray(image)[[0, 0, -1, -1], [0, -1, 0, -1]]
        ground = tuple(np.atleast_1d(np.median(corners, axis=0).astype(int)).tolist())
        fill = ground if len(ground) > 1 else ground[0]
        return image.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=fill)

    return change


DAMAGES = (
    *(Damage("JPEG", f"quality {quality}", _jpeg(quality)) for quality in (75, 40, 10)),
    *(Damage("noise", f"{levels} grey levels", noise(levels)) for levels in (5, 20, 50)),
    *(Damage("blur", f"{100 * share:g}% of the side", _blur(share)) for share in (0.01, 0.02, 0.04)),
    *(
        Damage("fewer pixels", f"{words} of the resolution", _coarse(n))
        for words, n in (("2/3", 1.5), ("1/2", 2), ("1/3", 3))
    ),
    *(Damage("darker", f"{factor:.0%} of the light", _brightness(factor)) for factor in (0.8, 0.5, 0.2)),
    *(Damage("brighter", f"{factor:.0%} of the light", _brightness(factor)) for factor in (1.25, 1.6, 2.5)),
    *(Damage("flatter", f"{factor:.0%} of the contrast", _contrast(factor)) for factor in (0.75, 0.5, 0.2)),
    *(Damage("covered", f"{share:.0%} of the picture", _covered(share)) for share in (0.05, 0.1, 0.25)),
    *(Damage("turned", f"{degrees} degrees", _turned(degrees)) for degrees in (5, 15, 30)),
)
# Of each way a degree at random, from hardly any to more than any network bears; what covers or turns is left out.
AT_RANDOM: tuple[Callable[[np.random.Generator], Change], ...] = (
    lambda rng: _jpeg(int(rng.integers(5, 96))),
    lambda rng: noise(_between(rng, 2, 80)),
    lambda rng: _blur(_between(rng, 0.005, 0.06)),
    lambda rng: _coarse(_between(rng, 1.1, 4)),
    lambda rng: _brightness(_between(rng, 0.15, 3)),
    lambda rng: _contrast(_between(rng, 0.15, 1.8)),
)
AT_ONCE = (0.5, 0.3, 0.2)  # chances that one, two or three of them come together


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """At random, such that each doubling is as probable."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def damage_at_random(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Copies of images, each damaged in one to three ways by a degree at random, one after the other.

    Args:
        pixels: (n, height, width, channels) uint8 of 1 or 3 channels.
        rng: Of what is drawn.
    """
    result = np.empty_like(pixels)
    for row, image in enumerate(pixels):
        picture = _picture(image)
        for way in rng.choice(len(AT_RANDOM), 1 + rng.choice(len(AT_ONCE), p=AT_ONCE), replace=False):
            picture = AT_RANDOM[way](rng)(picture, rng).convert(picture.mode)
        result[row] = np.asarray(picture).reshape(image.shape)
    return result


def _picture(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def damaged(pixels: np.ndarray, damage: Damage, seed: int) -> np.ndarray:
    """Damaged copies of images, (n, height, width, channels) uint8 of 1 or 3 channels.

    Args:
        pixels: The images, likewise.
        damage: What is done to them.
        seed: Of what is drawn; the same images are damaged in the same way.
    """
    rng, result = np.random.default_rng(seed), np.empty_like(pixels)
    for row, image in enumerate(pixels):
        picture = _picture(image)
        result[row] = np.asarray(damage.change(picture, rng).convert(picture.mode)).reshape(image.shape)
    return result


def measure_damage(
    judge: Callable[[np.ndarray], Judged],
    images: ImageSet,
    splits: pd.DataFrame,
    most: int,
    seed: int,
    confidence: float,
    damages: Sequence[Damage] = DAMAGES,
) -> pd.DataFrame:
    """Label test images as they are, and damaged.

    Args:
        judge: Labels pixels, (n, height, width, channels) uint8.
        images: The set that holds them.
        splits: Which of them are test images.
        most: Number of images, drawn whatever their order, that are damaged.
        seed: Of the draw and the damage.
        confidence: Level of the intervals, 0-1, which respect groups.
        damages: What is done.

    Returns:
        One row a damage and degree, the first without any: `damage`, `degree`, `images`, `right` (share of them that
        the network takes for what they are) with `_low` and `_high`, `unfamiliar`, `answered`, `right_answers`,
        `wrong_answers` with `_low` and `_high`, all shares of all images, 0-1. No row without a test image.
    """
    rows = drawn_test_images(images, splits, most, seed)
    table = splits.set_index("id").loc[images.table["id"].iloc[rows]]
    labels, groups = table["label"].to_numpy(object), table.get("group")
    pixels = images.pixels(rows)
    found = []
    for damage in (None, *damages) if len(rows) else ():
        said = judge(pixels if damage is None else damaged(pixels, damage, seed))
        right, answered = said.predicted == labels, said.withheld == ""
        known = proportion_interval(right, confidence, groups)
        wrong = proportion_interval(answered & ~right, confidence, groups)
        shares = [part.mean() for part in (said.withheld == UNFAMILIAR, answered, answered & right)]
        name = (UNDAMAGED, "") if damage is None else damage[:2]
        found.append([*name, len(rows), *known, *shares, *wrong])
    types: dict[str, Any] = {"damage": "str", "degree": "str", "images": int}
    return pd.DataFrame(found, columns=COLUMNS).astype(types | dict.fromkeys(COLUMNS[3:], float))


def drawn_test_images(images: ImageSet, splits: pd.DataFrame, most: int, seed: int) -> np.ndarray:
    """Row numbers of up to `most` test images, the same whatever their order."""
    rows = images.rows(splits, "test")
    ranks = np.asarray(hash_ranks(images.table["id"].iloc[rows], seed))
    return np.sort(rows[np.argsort(ranks)[:most]])


def describe_damage(table: pd.DataFrame, promised: float | None) -> tuple[str, list[str]]:
    """What the network bears in a sentence, and each damage that breaks the promise.

    Args:
        table: See `measure_damage`.
        promised: Accuracy of the answers, 0-1; None: there are no answers.
    """
    if table.empty:
        return "No test images were damaged.", []
    if promised is None:
        return "Nothing is answered, whatever the images are like.", []
    whole, *rest = table.to_dict("records")
    worst = max(rest, key=lambda row: float(row["wrong_answers"]))
    if worst["wrong_answers"]:
        named = f"{worst['damage']}, {worst['degree']}"
        wrongly = f"at most {worst['wrong_answers']:.1%} are answered wrongly ({named}); the others"
    else:
        wrongly = "none is answered wrongly; they"
    as_before = "as it is" if whole["images"] == 1 else "as they are"
    text = (
        f"Of {counted(whole['images'], 'test image')} {as_before} {whole['answered']:.1%} are answered, "
        f"{whole['wrong_answers']:.1%} wrongly. Damaged in {len({row['damage'] for row in rest})} ways by degrees, "
        f"{wrongly} are answered rightly or not at all."
    )
    return text, [
        f"{row['damage']}, {row['degree']}: {row['wrong_answers']:.1%} of the images are answered wrongly, where at "
        f"most {percent_text(1 - promised)} of the answers were promised to be wrong. Keep such images away, or "
        "train with some."
        for row in rest
        if row["wrong_answers_low"] > 1 - promised
    ]
