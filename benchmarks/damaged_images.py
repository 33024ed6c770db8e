"""Does a predictor stay silent where damage makes it wrong, and answer where it does not? Test images, damaged.

    kedro run
    python benchmarks/damaged_images.py [STORE] [--images 1000]

STORE is where the run keeps its data (default: data). Its test images, as the network takes them in, are damaged in the
ways of the report, in harsher ones, and in several at once; the last line has foreign images (--foreign PATH), none of
which can be right. Beside what the predictor does stands what it would if no damage had been tried on validation
images, and what features alone would withhold at the same rate of false alarms. Half a minute for the default run.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from cnn_transfer.evaluation.damage import DAMAGES, Damage, damaged, noise
from cnn_transfer.images import DecodedImages, Workers, open_image_set
from cnn_transfer.images.listing import hash_ranks
from cnn_transfer.prediction import Predictor
from cnn_transfer.prediction.predictor import Judged, as_listing

KNOWN = {(damage.kind, damage.degree): damage for damage in DAMAGES}


def together(*names: tuple[str, str]) -> Damage:
    """Several damages one after the other."""
    parts = [KNOWN[name] for name in names]

    def change(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        for part in parts:
            image = part.change(image, rng).convert(image.mode)
        return image

    return Damage(" and ".join(part.kind for part in parts), ", ".join(part.degree for part in parts), change)


MORE = (
    *(Damage("noise", f"{levels} grey levels", noise(levels)) for levels in (10, 30, 100)),
    together(("blur", "2% of the side"), ("JPEG", "quality 40")),
    together(("blur", "2% of the side"), ("noise", "20 grey levels")),
    together(("flatter", "75% of the contrast"), ("noise", "20 grey levels")),
    together(("darker", "80% of the light"), ("blur", "1% of the side"), ("JPEG", "quality 40")),
    Damage("turned", "45 degrees", lambda image, _: image.rotate(45, Image.Resampling.BILINEAR)),
    Damage("upside down", "", lambda image, _: image.rotate(180)),
)


def newest(store: Path, pattern: str) -> Path:
    """The newest of the versions in the store."""
    found = sorted(store.glob(pattern))
    if not found:
        raise SystemExit(f"There is no {store}/{pattern}. Run first: kedro run")
    return found[-1]


def without_appearance(predictor: Predictor) -> Predictor:
    """One that calls unfamiliar what is so by its features alone, at the same rate of false alarms."""
    familiarity = predictor.facts.familiarity
    nothing = {"distances": [1e9], "shares": [1.0], "exponent": 1.0}
    changed = {
        "tails": familiarity["tails"] | {"appearance": nothing},
        "limit": familiarity["features_limit"],
        "tried": {},
    }
    return replace(predictor, facts=predictor.facts.model_copy(update={"familiarity": familiarity | changed}))


def untried(predictor: Predictor) -> Predictor:
    """One that knows of no damage that is borne."""
    familiarity = predictor.facts.familiarity | {"tried": {}}
    return replace(predictor, facts=predictor.facts.model_copy(update={"familiarity": familiarity}))


def report(name: str, judged: Judged, right: np.ndarray, others: list[Judged]) -> None:
    """A line of the table."""
    answered = judged.withheld == ""
    of_answers = f"{right[answered].mean():.1%}" if answered.any() else "-"
    unfamiliar = judged.withheld == "unfamiliar"
    figures = [f"{right.mean():.1%}", f"{unfamiliar.mean():.1%}", f"{answered.mean():.1%}", of_answers]
    figures.append(f"{(answered & ~right).mean():.1%}")
    for other in others:
        answered = other.withheld == ""
        figures += [f"{answered.mean():.1%}", f"{(answered & ~right).mean():.1%}"]
    print(f"| {name} | {' | '.join(figures)} |", flush=True)


def main() -> None:
    """Damage, label and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path, nargs="?", default=Path("data"))
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--foreign", type=Path, default=Path("data/01_raw/fashion_mnist.parquet"))
    options = parser.parse_args()
    start = time.perf_counter()
    predictor = Predictor.load(newest(options.store, "06_models/predictor/*/predictor"))
    images = open_image_set(newest(options.store, "02_intermediate/target_images/*/target_images"))
    splits = pd.read_parquet(newest(options.store, "03_primary/target_splits.parquet/*/target_splits.parquet"))
    rows = images.rows(splits, "test")
    rows = np.sort(rows[np.argsort(np.asarray(hash_ranks(images.table["id"].iloc[rows], 1)))[: options.images]])
    pixels, facts = images.pixels(rows), predictor.facts
    labels = splits.set_index("id")["label"].loc[images.table["id"].iloc[rows]].to_numpy(object)
    predictors = [predictor, untried(predictor), without_appearance(predictor)]
    promise = f"answered from a confidence of {facts.threshold} on, which promises {facts.promised_accuracy}"
    print(f"{len(rows):,} test images, {promise}; tried: {facts.familiarity['tried']}\n")
    heads = ["damage", "right", "unfamiliar", "answered", "of these right", "wrong answers"]
    heads += ["none tried: answered", "wrong answers", "features alone: answered", "wrong answers"]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for damage in (None, *DAMAGES, *MORE):
        changed = pixels if damage is None else damaged(pixels, damage, 1)
        judged, *others = (one.judge(changed) for one in predictors)
        name = "as they are" if damage is None else f"{damage.kind}, {damage.degree}".rstrip(", ")
        report(name, judged, judged.predicted == labels, others)
    listing = as_listing(options.foreign)
    drawn = np.sort(np.random.default_rng(0).permutation(len(listing.table))[: options.images])
    chunks = DecodedImages(listing, facts.image_format, drawn, Workers(engine="threads", workers=None)).chunks()
    foreign = np.concatenate([chunk.pixels for chunk in chunks])
    judged, *others = (one.judge(foreign) for one in predictors)
    report(f"images of {options.foreign.name}", judged, np.zeros(len(foreign), bool), others)
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
