"""Marks at the edge that tell where an image was taken: does a run find out that its network goes by them?

    python benchmarks/backgrounds.py [--shares 0 0.5 0.8 0.95 1] [--seed 0] [--fraction 0]
    python benchmarks/backgrounds.py --null 250

Digits of the repository with a light mark at the upper or lower edge, one of ten places, as X-ray images have letters
of the hospital (Zech et al. 2018, PLoS Medicine 15(11)). Of a share of the images the place is that of their class, of
the others it is drawn at random, in training and in test images alike: so the test says nothing of it. What another
hospital would see are the same test images with marks at random.

A row a share: what is right of the test images as they come and elsewhere, and what is lost there; what the run says is
lost on backgrounds of another class, how many more are taken for the class of the background than otherwise, with the
interval, and whether its summary warns. With `--fraction` 0.5 the run is told to train on other backgrounds, too.

With `--null` so many networks are simulated that backgrounds draw to classes which have nothing to do with their own:
how often is one said to go by them, by the interval of the run and by one that takes only the things into account?
"""

import argparse
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from project_copy import ROOT, copy_project, latest_version, run_transfer

from cnn_transfer.evaluation import judge_backgrounds
from cnn_transfer.evaluation.backgrounds import draw_backgrounds
from cnn_transfer.evaluation.verdict import paired_difference
from cnn_transfer.prediction import Predictor

HEIGHT, WIDTH, LIGHT = 3, 4, 200  # of a mark; the digits are 28 x 28 px, and dark in the outer 4


def marked(encoded: bytes, place: int) -> bytes:
    """A digit with a mark at one of ten places."""
    pixels = np.array(Image.open(io.BytesIO(encoded)))
    column, row = 1 + (place % 5) * 5, 0 if place < 5 else pixels.shape[0] - HEIGHT
    pixels[row : row + HEIGHT, column : column + WIDTH] = LIGHT
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def with_marks(digits: pd.DataFrame, share: float, rng: np.random.Generator) -> pd.DataFrame:
    """The digits with marks, of which a share tells the class."""
    own = pd.factorize(digits["label"], sort=True)[0]
    places = np.where(rng.random(len(digits)) < share, own, rng.integers(0, 10, len(digits)))
    images = [
        {"bytes": marked(image["bytes"], place), "path": image["path"]}
        for image, place in zip(digits["image"], places, strict=True)
    ]
    return digits.assign(image=pd.Series(images, digits.index))


def claims_without_cause(images: int, classes: int, draws: int, repetitions: int) -> dict[str, float]:
    """How often a network is said to go by backgrounds that draw it to any class."""
    rng = np.random.default_rng(0)
    claims = {"by the run": 0, "by the things alone": 0}
    for _ in range(repetitions):
        labels = rng.integers(0, classes, images)
        kept, own, other = draw_backgrounds(labels, None, draws, int(rng.integers(1_000_000)))
        things, edges = rng.normal(0, 1, (images, classes)), rng.normal(0, 0.7, (images, classes))
        said = {}
        for name, behind in (("on_own_background", own), ("on_other_background", other)):
            scores = things[kept] + edges[behind] + rng.normal(0, 0.3, (len(kept), classes))
            scores[np.arange(len(kept)), labels[kept]] += 1
            said[name] = scores.argmax(axis=1)
        told = {"id": kept, "label": labels[kept], "predicted": labels[kept], "other_label": labels[other]}
        table = pd.DataFrame(told | said | {"own_background": own, "other_background": other}).astype("str")
        follows, anyway = (said[name] == labels[other] for name in ("on_other_background", "on_own_background"))
        claims["by the run"] += judge_backgrounds(table, 0.95)["difference_low"] > 0
        claims["by the things alone"] += paired_difference(follows, anyway, 0.95, kept).low > 0
    shares = {name: count / repetitions for name, count in claims.items()}
    return {"images": images, "classes": classes, "backgrounds of each": draws} | shares


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--null", type=int, default=0)
    parser.add_argument("--shares", type=float, nargs="+", default=[0, 0.5, 0.8, 0.95, 1])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fraction", type=float, default=0)
    arguments = parser.parse_args()
    if arguments.null:
        settings = [(12, 2, 5), (30, 2, 5), (60, 3, 5), (200, 10, 2), (500, 10, 1)]
        table = pd.DataFrame([claims_without_cause(*setting, arguments.null) for setting in settings])
        print(table.round(3).to_string(index=False))
        return
    digits = pd.read_parquet(ROOT / "data/01_raw/mnist_digits.parquet")
    ids = pd.Series([image["path"] for image in digits["image"]])
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for share in arguments.shares:
            rng = np.random.default_rng(arguments.seed)
            project = copy_project(Path(temporary) / f"share{share:g}")
            with_marks(digits, share, rng).to_parquet(project / "data/marked.parquet")
            told = {
                f"{stage}.augmentation.background_fraction": arguments.fraction
                for stage in ("migrate_model", "finetune_target")
            }
            summary = run_transfer(project, seed=arguments.seed, target_images="data/marked.parquet", **told)
            reliance, predictor, splits = (
                latest_version(project / f"data/{name}")
                for name in (
                    "08_reporting/background_reliance.json",
                    "06_models/predictor",
                    "03_primary/target_splits.parquet",
                )
            )
            found, sides = json.loads(reliance.read_text()), pd.read_parquet(splits)
            tested = digits[ids.isin(sides.loc[sides["split"] == "test", "id"])]
            elsewhere = project / "data/elsewhere.parquet"
            with_marks(tested, 0, rng).drop(columns="label").to_parquet(elsewhere)
            said = Predictor.load(predictor)(elsewhere).set_index("id")["predicted"]
            right = (said == tested.set_index(ids.loc[tested.index])["label"].loc[said.index]).mean()
            rows.append(
                {
                    "marks that tell": share,
                    "right": summary["delivered_accuracy"],
                    "elsewhere": right,
                    "lost": summary["delivered_accuracy"] - right,
                    "said to be lost": found["right_on_own_background"] - found["right_on_other_background"],
                    "follow": found["difference"],
                    "low": found["difference_low"],
                    "high": found["difference_high"],
                    "warns": any("BACKGROUND" in statement for statement in summary["statements"]),
                }
            )
            print(rows[-1], flush=True)
    print(pd.DataFrame(rows).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
