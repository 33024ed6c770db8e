"""What does a sample of 100 answers show? Test images as they are, and changed, whose labels are known.

    kedro run
    python benchmarks/audit.py [STORE] [--audits 1000] [--answered 100] [--foreign PATH]

STORE is where the run keeps its data (default: data). Its test images are labelled as new ones through the predictor:
as they are, damaged, mirrored, upside down (all, and every tenth), and with as many foreign images (--foreign) as make
a tenth of all. Of each so many audits are drawn, in which everybody tells the truth. Beside what is true of all answers
stands how often an audit says that the promise is kept, broken or neither, how often its interval holds what is true,
and whether drift is called, of all images at once. Six minutes for the default run.

Then a year of weekly audits is drawn as often, for answers of which other shares are right: how often their sum ever
says that the promise is kept or broken, and when; and how often it would with intervals that hold for one look.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
from damaged_images import KNOWN, MORE, newest
from PIL import Image
from scipy import stats

from cnn_transfer.evaluation.damage import Damage, damaged
from cnn_transfer.evaluation.intervals import anytime_interval
from cnn_transfer.images import DecodedImages, Workers, open_image_set
from cnn_transfer.prediction import Predictor
from cnn_transfer.prediction.audit import draw_audit, measure_audit
from cnn_transfer.prediction.drift import DriftCounts, drift_report
from cnn_transfer.prediction.labelling import ImagesToLabel, LabelledImages, open_labels, write_labels
from cnn_transfer.prediction.predictor import as_listing

MIRRORED = Damage("mirrored", "", lambda image, _: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
UPSIDE_DOWN = next(damage for damage in MORE if damage.kind == "upside down")
CHANGES = (
    KNOWN["JPEG", "quality 10"],
    KNOWN["noise", "20 grey levels"],
    KNOWN["blur", "2% of the side"],
    MIRRORED,
    UPSIDE_DOWN,
)
VERDICTS = ("kept", "open", "broken")
WEEKS = 52
FROM_THE_PROMISE = (0.015, 0.01, 0.0, -0.0001, -0.01, -0.02, -0.05)  # true shares of right answers


def label(predictor: Predictor, pixels: np.ndarray) -> LabelledImages:
    """Labels of images, in the files that predict writes, whose folder goes with the process."""
    folder = Path(tempfile.mkdtemp())
    images = ImagesToLabel(predictor, as_listing(list(pixels)))
    write_labels(images, 0, lambda name, content: (folder / name).write_bytes(content))
    return open_labels(fsspec.filesystem("file"), str(folder))


def conditions(store: Path, predictor: Predictor, foreign: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, pixels and labels (None: of none of the classes)."""
    images = open_image_set(newest(store, "02_intermediate/target_images/*/target_images"))
    splits = pd.read_parquet(newest(store, "03_primary/target_splits.parquet/*/target_splits.parquet"))
    rows = images.rows(splits, "test")
    pixels = images.pixels(rows)
    labels = splits.set_index("id")["label"].loc[images.table["id"].iloc[rows]].to_numpy(object)
    yield "as they are", pixels, labels
    for damage in CHANGES:
        yield f"{damage.kind}, {damage.degree}".rstrip(", "), damaged(pixels, damage, 1), labels
    tenth = np.arange(len(pixels)) % 10 == 0
    yield (
        "every tenth upside down",
        np.where(tenth[:, None, None, None], damaged(pixels, UPSIDE_DOWN, 1), pixels),
        labels,
    )
    listing = as_listing(foreign)
    drawn = np.sort(np.random.default_rng(0).permutation(len(listing.table))[: len(pixels) // 9])
    chunks = DecodedImages(
        listing, predictor.facts.image_format, drawn, Workers(engine="threads", workers=None)
    ).chunks()
    others = np.concatenate([chunk.pixels for chunk in chunks])
    yield (
        f"a tenth of {foreign.stem}",
        np.concatenate([pixels, others]),
        np.concatenate([labels, np.full(len(others), None, object)]),
    )


def print_years(promised: float, confidence: float, answered: int, years: int) -> None:
    """Whether the sum of a year's audits ever says that a promise is kept or broken, by either kind of interval."""
    looked_at = answered * np.arange(1, WEEKS + 1)

    @cache
    def ends(interval: str, right: int, trials: int) -> tuple[float, float]:
        if interval == "anytime":
            return anytime_interval(right, trials, confidence)[1:]
        one_look = stats.binomtest(right, trials).proportion_ci(confidence, method="exact")
        return float(one_look.low), float(one_look.high)

    print(f"\n{years:,} years of {WEEKS} weekly audits of {answered} answers, the sum looked at every week\n")
    heads = ["right", "ever kept", "median week", "ever broken", "median week", "for one look: kept", "broken"]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for truth in (promised + distance for distance in FROM_THE_PROMISE):
        right = np.random.default_rng(0).binomial(answered, truth, (years, WEEKS)).cumsum(axis=1)
        cells = []
        for interval in ("anytime", "one look"):
            both = [
                [ends(interval, int(count), int(trials)) for count in right[:, week]]
                for week, trials in enumerate(looked_at)
            ]
            low, high = np.array(both).T
            for said in (low >= promised, high < promised):
                ever = said.any(axis=1)
                cells.append(f"{ever.mean():.1%}")
                if interval == "anytime":
                    cells.append(f"{np.median(said[ever].argmax(axis=1) + 1):.0f}" if ever.any() else "-")
        print(f"| {truth:.2%} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Label, audit and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path, nargs="?", default=Path("data"))
    parser.add_argument("--audits", type=int, default=1000)
    parser.add_argument("--answered", type=int, default=100)
    parser.add_argument("--withheld", type=int, default=20)
    parser.add_argument("--foreign", type=Path, default=Path("data/01_raw/fashion_mnist.parquet"))
    options = parser.parse_args()
    start = time.perf_counter()
    predictor = Predictor.load(newest(options.store, "06_models/predictor/*/predictor"))
    numbers = {"answered": options.answered, "withheld": options.withheld}
    print(
        f"Promised: {predictor.facts.promised_accuracy} of the answers right, with {predictor.facts.confidence:.0%} "
        f"confidence. {options.audits:,} audits of {options.answered} answered and {options.withheld} withheld images\n"
    )
    heads = [
        "images",
        "answered",
        "of these right",
        *VERDICTS,
        "interval holds",
        "over all: right",
        "holds",
        "drift in",
    ]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for name, pixels, labels in conditions(options.store, predictor, options.foreign):
        labelled = label(predictor, pixels)
        table = pd.concat(labelled.parts(), ignore_index=True)
        drift = drift_report(
            DriftCounts.empty(predictor.facts, predictor.references).add(table),
            predictor.references, predictor.facts, 0.99,
        )["drift"]  # fmt: skip
        truth = pd.Series(labels, table["id"], name="label").astype("str")
        new = ~table["notes"].str.contains("training_image").to_numpy()
        right = (truth.to_numpy() == table["predicted"].to_numpy())[new]
        answered = (table["withheld"] == "").to_numpy()[new]
        results = []
        for seed in range(options.audits):
            sample, population = draw_audit(labelled, numbers, seed)
            told = truth.loc[sample["id"]].reset_index()
            pictures = sample[["id"]].assign(content_digest=sample["id"])  # each another image
            results.append(measure_audit(sample, population, pictures, told[:0], told, {})[0])
        verdicts = [np.mean([result["verdict"] == verdict for result in results]) for verdict in VERDICTS]
        of_answers, of_all = right[answered].mean(), right.mean()
        holds = np.mean([
            result["answered"]["accuracy_low"] <= of_answers <= result["answered"]["accuracy_high"]
            for result in results
        ])  # fmt: skip
        holds_all = np.mean([result["accuracy_low"] <= of_all <= result["accuracy_high"] for result in results])
        shares = [answered.mean(), of_answers, *verdicts, holds, of_all, holds_all]
        print(f"| {name} | {' | '.join(f'{share:.1%}' for share in shares)} | {', '.join(drift) or '-'} |", flush=True)
    if predictor.facts.promised_accuracy is not None:
        print_years(predictor.facts.promised_accuracy, predictor.facts.confidence, options.answered, options.audits)
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
