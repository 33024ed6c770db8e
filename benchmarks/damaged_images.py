"""Does a predictor stay silent where damage makes it wrong? Test images of a run, damaged by degrees.

    kedro run
    python benchmarks/damaged_images.py [STORE] [--images 1000]

STORE is where the run keeps its data (default: data). Its test images, as the network takes them in, are damaged in
eight ways; the last line has foreign images (--foreign PATH), none of which can be right. Beside what is withheld
stands what features alone would withhold at the same rate of false alarms. Half a minute for the default run.
"""

import argparse
import io
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance, ImageFilter

from cnn_transfer.images import open_image_set
from cnn_transfer.prediction import Predictor
from cnn_transfer.prediction.predictor import as_listing

Change = Callable[[Image.Image], Image.Image]


def noise(grey_levels: float) -> Change:
    """Gaussian noise."""
    rng = np.random.default_rng(0)

    def change(image: Image.Image) -> Image.Image:
        pixels = np.asarray(image)
        noisy = pixels + rng.normal(0, grey_levels, pixels.shape)
        return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))

    return change


def blur(share: float) -> Change:
    """Gaussian blur, of a share of the side."""
    return lambda image: image.filter(ImageFilter.GaussianBlur(share * image.width))


def brightness(factor: float) -> Change:
    """All pixels multiplied."""
    return lambda image: ImageEnhance.Brightness(image).enhance(factor)


def contrast(factor: float) -> Change:
    """All differences from the mean multiplied."""
    return lambda image: ImageEnhance.Contrast(image).enhance(factor)


def jpeg(quality: int) -> Change:
    """Compressed."""

    def change(image: Image.Image) -> Image.Image:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=quality)
        return Image.open(io.BytesIO(stream.getvalue()))

    return change


def coarse(factor: float) -> Change:
    """As if it had been taken with fewer pixels."""

    def change(image: Image.Image) -> Image.Image:
        small = [max(2, round(side / factor)) for side in image.size]
        return image.resize(small, Image.Resampling.BILINEAR).resize(image.size, Image.Resampling.BILINEAR)

    return change


def covered(share: float) -> Change:
    """A square of one grey over a share of the picture, anywhere."""
    rng = np.random.default_rng(0)

    def change(image: Image.Image) -> Image.Image:
        pixels, side = np.array(image), round(share**0.5 * image.width)
        top, left = rng.integers(0, image.height - side + 1), rng.integers(0, image.width - side + 1)
        pixels[top : top + side, left : left + side] = rng.integers(0, 256)
        return Image.fromarray(pixels)

    return change


def turned(degrees: float) -> Change:
    """Turned, black where nothing was."""
    return lambda image: image.rotate(degrees, Image.Resampling.BILINEAR)


CHANGES: dict[str, Change] = {
    "as they are": lambda image: image,
    "JPEG, quality 75": jpeg(75),
    "JPEG, quality 10": jpeg(10),
    "noise of 5 grey levels": noise(5),
    "noise of 20": noise(20),
    "noise of 50": noise(50),
    "noise of 100": noise(100),
    "blurred by 2% of the side": blur(0.02),
    "blurred by 4%": blur(0.04),
    "blurred by 8%": blur(0.08),
    "four fifths as bright": brightness(0.8),
    "half as bright": brightness(0.5),
    "a fifth as bright": brightness(0.2),
    "twice as bright": brightness(2),
    "three quarters of the contrast": contrast(0.75),
    "half of the contrast": contrast(0.5),
    "a fifth of the contrast": contrast(0.2),
    "half the resolution": coarse(2),
    "a third of the resolution": coarse(3),
    "a tenth covered": covered(0.1),
    "a quarter covered": covered(0.25),
    "turned by 15 degrees": turned(15),
    "turned by 45 degrees": turned(45),
    "upside down": turned(180),
}


def pixels_of(pictures: list[Image.Image], channels: int) -> np.ndarray:
    """(n, height, width, channels) uint8."""
    mode = "L" if channels == 1 else "RGB"
    pixels = np.stack([np.asarray(picture.convert(mode)) for picture in pictures])
    return pixels[..., None] if channels == 1 else pixels


def newest(store: Path, pattern: str) -> Path:
    """The newest of the versions in the store."""
    found = sorted(store.glob(pattern))
    if not found:
        raise SystemExit(f"There is no {store}/{pattern}. Run first: kedro run")
    return found[-1]


def report(name: str, table: pd.DataFrame, right: np.ndarray, farthest: float, threshold: float) -> None:
    """A line of the table."""
    answered = table["answer"].notna().to_numpy()
    alone = table["distance"].to_numpy(float) > farthest
    sure = (table["confidence"].to_numpy(float) >= threshold) & ~alone
    unfamiliar = table["unfamiliar"].fillna(False).to_numpy(bool)
    of_answers = f"{right[answered].mean():.1%}" if answered.any() else "-"
    figures = [f"{right.mean():.1%}", f"{unfamiliar.mean():.1%}", f"{answered.mean():.1%}", of_answers]
    figures += [f"{(answered & ~right).mean():.1%}", f"{alone.mean():.1%}", f"{(sure & ~right).mean():.1%}"]
    why = table["unlike"][unfamiliar].value_counts()
    print(f"| {name} | {' | '.join(figures)} | {why.index[0] if len(why) else ''} |", flush=True)


def main() -> None:
    """Damage, label and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path, nargs="?", default=Path("data"))
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--foreign", type=Path, default=Path("data/01_raw/fashion_mnist.parquet"))
    options = parser.parse_args()
    start, rng = time.perf_counter(), np.random.default_rng(0)
    predictor = Predictor.load(newest(options.store, "06_models/predictor/*/predictor"))
    images = open_image_set(newest(options.store, "02_intermediate/target_images/*/target_images"))
    splits = pd.read_parquet(newest(options.store, "03_primary/target_splits.parquet/*/target_splits.parquet"))
    rows = np.sort(rng.permutation(images.rows(splits, "test"))[: options.images])
    known, channels = images.table.iloc[rows], images.image_shape[2]
    pictures = [Image.fromarray(image.squeeze(-1) if channels == 1 else image) for image in images.pixels(rows)]
    facts = predictor.facts
    compared = np.sort(predictor.references.validation["distance"].to_numpy(float))
    place = math.ceil((len(compared) + 1) * (1 - facts.familiarity["false_alarm_rate"]))
    farthest, threshold = compared[min(place, len(compared)) - 1], facts.threshold or 0.0
    promise = f"answered from a confidence of {threshold:g} on, which promises {facts.promised_accuracy}"
    print(f"{len(rows):,} test images, {promise}\n")
    print(
        "| damage | right | unfamiliar | answered | of these right | wrong answers | features alone: unfamiliar | ",
        end="",
    )
    print("wrong answers | unlike in |\n|---|---|---|---|---|---|---|---|---|")
    for name, change in CHANGES.items():
        pixels = pixels_of([change(picture) for picture in pictures], channels)
        table = predictor.label(pixels, known.assign(notes="", pixel_digest=""))
        report(name, table, (table["predicted"] == known["label"].to_numpy()).to_numpy(), farthest, threshold)
    listing = as_listing(options.foreign)
    others = np.sort(rng.permutation(len(listing.table))[: options.images])
    table = pd.concat([part.predictions for part in predictor.stream(listing, others)], ignore_index=True)
    report(f"images of {options.foreign.name}", table, np.zeros(len(table), bool), farthest, threshold)
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
