"""Several images of each thing: what does a random split promise, and what do the checks make of it?

    python benchmarks/images_in_series.py tiles FOLDER
    python benchmarks/images_in_series.py scans FOLDER
    python benchmarks/images_in_series.py chests FOLDER

`tiles`: FOLDER is a clone of github.com/abin24/Magnetic-tile-defect-datasets. (of "Saliency of magnetic tile surface
defects" by Huang et al.): 1,344 photographs of magnetic tiles without and with five kinds of defects, most tiles under
six exposures. Its files are named exp<exposure>_num<number>; those that follow one another within 100 of that number,
with rising exposure, are taken for photographs of one tile.

`scans`: FOLDER is a clone of github.com/MohamedAliHabib/Brain-Tumor-Detection: 253 scans of brains with and without a
tumour, and 2,065 copies of 252 of them, turned, moved, sheared, mirrored and made darker or brighter by Keras's
ImageDataGenerator: aug_<scan>_0_<number>.jpg. It is the copies that are used, as somebody would who took that folder.

`chests`: FOLDER is a clone of github.com/muhammedtalo/COVID-19: 1,125 X-ray images of chests, 1,000 of them of 683
patients of the National Institutes of Health's collection, <patient>_<number>.png, some of whom are in two classes; of
the others, with Covid-19, nothing is known, and each counts as a thing of its own.

Splits are drawn four times: as if all images stood alone; with the near copies on one side that the checks find; with
all on one side that they find, by names, too; and with those of one thing.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from project_copy import copy_project, latest_version, run_kedro

MOST_APART = 100
OPTIONS = ("--env", "photos", "--pipelines", "transfer_pretrained", "--to-nodes", "evaluate.measure_target")


def list_tiles(folder: Path) -> pd.DataFrame:
    """Of each photograph `path`, `label` and the number of its tile, `thing`."""
    paths = sorted(folder.glob("MT_*/Imgs/*.jpg"))
    names = pd.Series([path.stem for path in paths]).str.extract(r"exp(\d)_num_(\d+)").astype(int)
    table = pd.DataFrame(
        {
            "path": [str(path.resolve()) for path in paths],
            "label": [path.parts[-3].removeprefix("MT_").lower() for path in paths],
            "exposure": names[0],
            "number": names[1],
        }
    ).sort_values("number")
    first = (table["number"].diff().fillna(MOST_APART + 1) > MOST_APART) | (table["exposure"].diff() <= 0)
    return table.assign(thing=first.cumsum())[["path", "label", "thing"]]


def list_scans(folder: Path) -> pd.DataFrame:
    """Of each copy `path`, `label` and the scan that it was made of, `thing`."""
    paths = sorted(folder.glob("augmented data/*/*.jpg"))
    table = pd.DataFrame({"path": [str(path.resolve()) for path in paths], "label": [path.parts[-2] for path in paths]})
    names = pd.Series([path.stem for path in paths]).str.extract(r"aug_(.*)_0_\d+")[0]
    return table.assign(thing=table["label"] + " " + names)


def list_chests(folder: Path) -> pd.DataFrame:
    """Of each X-ray image `path`, `label` and the patient, or itself, `thing`."""
    paths = sorted(path for path in folder.glob("X-Ray Image DataSet/*/*") if path.suffix in (".png", ".jpg", ".jpeg"))
    table = pd.DataFrame({"path": [str(path.resolve()) for path in paths], "label": [path.parts[-2] for path in paths]})
    return table.assign(thing=table["path"].str.extract(r"/(\d{8})_\d{3}\.png$")[0].fillna(table["path"]))


LISTS = {"tiles": list_tiles, "scans": list_scans, "chests": list_chests}


def measure(project: Path, images: pd.DataFrame) -> dict[str, Any]:
    """What the newest run of a project promises, and how much of its test it had seen."""
    metrics, plan = (
        json.loads(latest_version(project / f"data/{name}").read_text())
        for name in ("08_reporting/target_metrics.json", "06_models/transfer_plan.json")
    )
    splits = pd.read_parquet(latest_version(project / "data/03_primary/target_splits.parquet"))
    checked = pd.read_parquet(latest_version(project / "data/02_intermediate/target_checked_images.parquet"))
    table = images.merge(checked[["id", "group"]], left_on="path", right_on="id").merge(splits[["id", "split"]])
    test, training = (table.loc[table["split"] == split, "thing"] for split in ("test", "training"))
    of_thing, found = (table.groupby(columns).size() for columns in ("thing", ["thing", "group"]))
    return {
        "right of the test images": metrics["accuracy"],
        "low": metrics["accuracy_low"],
        "high": metrics["accuracy_high"],
        "right of left-out training images": plan["evidence"]["transferred"]["accuracy"],
        "test images whose thing was trained on": test.isin(training).mean(),
        "pairs of one thing in one group": (found * (found - 1)).sum() / (of_thing * (of_thing - 1)).sum(),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("images", choices=LISTS)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    images = LISTS[arguments.images](arguments.folder)
    print(f"{len(images):,} images of {images['thing'].nunique():,} things", flush=True)
    nothing = {"preprocess.target.check.group_pattern": "null"}
    asked = {
        "alone": nothing | {"preprocess.target.check.near_duplicates": "null"},
        "near copies": nothing,
        "checks": {},
        "things": {},
    }
    rows = {}
    with tempfile.TemporaryDirectory() as temporary:
        project = copy_project(Path(temporary) / "project")
        for name, parameters in asked.items():
            manifest = project / f"data/{name.replace(' ', '_')}.csv"
            told = images.rename(columns={"thing": "group"}) if name == "things" else images.drop(columns="thing")
            told.to_csv(manifest, index=False)
            run_kedro(
                project, *OPTIONS, target_images=manifest, **parameters, **{"migrate_model.random_weights": "false"}
            )
            rows[name] = measure(project, images)
    print(pd.DataFrame(rows).round(3).to_string())


if __name__ == "__main__":
    main()
