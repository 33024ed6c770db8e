"""How often is drift called where there is none, and how often where there is? Real digits, the default predictor.

    kedro run
    python benchmarks/drift.py [--predictor PATH] [--quiet-draws 500] [--draws 50]

New images are drawn from the bundled digits that are neither training nor validation images of the run (9,600),
without replacement. "No drift, anew": the references are drawn anew as well, as many as the predictor has, so that it
counts how often chance alone calls drift, which must be in at most 1% of the draws. "No drift, its own": with those
that the predictor has, which are one draw. All others are test images (2,999), changed before the predictor reads
them. About a quarter of an hour on 2 busy cores.
"""

import argparse
import io
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter

from cnn_transfer.prediction import Predictor, PredictorFacts, References
from cnn_transfer.prediction.drift import DriftCounts, drift_report, drift_table

DIGITS, FASHION = Path("data/01_raw/mnist_digits.parquet"), Path("data/01_raw/fashion_mnist.parquet")
SIZES = (1, 5, 20, 100, 1000, 9000)


def newest(pattern: str) -> Path:
    """The newest of the versions in `data`."""
    found = sorted(Path("data").glob(pattern))
    if not found:
        raise SystemExit(f"There is no data/{pattern}. Run first: kedro run")
    return found[-1]


def pictures(path: Path) -> list[Image.Image]:
    """All images of a table."""
    return [Image.open(io.BytesIO(entry["bytes"])).convert("L") for entry in pd.read_parquet(path)["image"]]


def label(predictor: Predictor, images: list[Image.Image]) -> pd.DataFrame:
    """Predictions, in the order of the images."""
    parts = [images[start : start + 500] for start in range(0, len(images), 500)]
    return pd.concat([predictor([np.asarray(image) for image in part]) for part in parts], ignore_index=True)


def found(new: pd.DataFrame, references: References, facts: PredictorFacts, confidence: float) -> list[str]:
    """The aspects in which drift is called."""
    return list(drift_report(DriftCounts.empty(facts, references).add(new), references, facts, confidence)["drift"])


def report(name: str, images: int, draws: list[list[str]]) -> None:
    """A line of the table."""
    share = np.mean([bool(drift) for drift in draws])
    aspects = Counter(aspect for drift in draws for aspect in drift)
    words = ", ".join(f"{aspect} {100 * count / len(draws):.3g}%" for aspect, count in aspects.most_common())
    print(f"| {name} | {images:,} | {len(draws)} | {share:.1%} | {words} |", flush=True)


def main() -> None:
    """Label, draw and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--predictor", type=Path)
    parser.add_argument("--quiet-draws", type=int, default=500)
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--confidence", type=float, default=0.99)
    options = parser.parse_args()
    start = time.perf_counter()
    predictor = Predictor.load(options.predictor or newest("06_models/predictor/*/predictor"))
    facts, own, rng = predictor.facts, predictor.references, np.random.default_rng(0)
    splits = pd.read_parquet(newest("03_primary/target_splits.parquet/*/target_splits.parquet"))
    digits, table = pictures(DIGITS), pd.read_parquet(DIGITS)
    names = table["image"].map(lambda entry: entry["path"])
    split = names.map(splits.set_index("id")["split"]).to_numpy(object)
    held_out = np.flatnonzero(np.isin(split, ["test", "unlabelled"]))
    test = np.flatnonzero(split == "test")
    known = [digits[row] for row in held_out]
    labelled = label(predictor, known)
    print(f"{len(held_out):,} images labelled in {time.perf_counter() - start:.0f} s\n")
    print("| images | new | draws | drift called | in |\n|---|---|---|---|---|")

    def draws(pool: pd.DataFrame, images: int, times: int) -> list[list[str]]:
        return [
            found(pool.iloc[rng.permutation(len(pool))[:images]], own, facts, options.confidence) for _ in range(times)
        ]

    for images in SIZES:
        anew = []
        for _ in range(options.quiet_draws):
            rows = rng.permutation(len(labelled))
            first, second = len(own.training), len(own.training) + len(own.validation)
            references = replace(
                own, training=labelled.iloc[rows[:first]], validation=labelled.iloc[rows[first:second]]
            )
            new = labelled.iloc[rows[second : second + images]]
            anew.append(found(new, references, facts, options.confidence))
        report("no drift, anew", images, anew)
    for images in SIZES:
        report("no drift, its own", images, draws(labelled, images, options.quiet_draws))
    plain = [digits[row] for row in test]
    clothes = pictures(FASHION)
    strange = label(predictor, [clothes[row] for row in rng.permutation(len(clothes))[:1000]])
    unchanged = label(predictor, plain)
    changed = {
        "darkened by half": label(predictor, [image.point(lambda value: value // 2) for image in plain]),
        "darkened by a tenth": label(predictor, [image.point(lambda value: value * 9 // 10) for image in plain]),
        "blurred (Gaussian, 1 px)": label(predictor, [image.filter(ImageFilter.GaussianBlur(1)) for image in plain]),
        "half the resolution": label(predictor, [image.resize((14, 14)) for image in plain]),
        "only even digits": unchanged[table["label"].iloc[test].isin(list("02468")).to_numpy()],
    }
    for name, pool in changed.items():
        for images in (5, 20, 100, 1000):
            report(name, images, draws(pool, images, options.draws))
    for share in (0.1, 0.03):
        for images in (20, 100, 1000):
            mixed = []
            for _ in range(options.draws):
                others = int(rng.binomial(images, share))
                parts = [
                    strange.iloc[rng.permutation(1000)[:others]],
                    unchanged.iloc[rng.permutation(len(test))[: images - others]],
                ]
                mixed.append(found(pd.concat(parts), own, facts, options.confidence))
            report(f"{share:.0%} Fashion images", images, mixed)
    result = drift_report(DriftCounts.empty(facts, own).add(labelled), own, facts, options.confidence)
    print(f"\n{drift_table(result).drop(columns='statement').to_string(index=False)}\n\n{result['statement']}")
    print(f"\nconfidence {options.confidence}, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
