"""Several photographs of each thing: what does a random split promise, and what do the checks make of it?

    python benchmarks/images_in_series.py FOLDER

FOLDER is a clone of github.com/abin24/Magnetic-tile-defect-datasets. (of "Saliency of magnetic tile surface defects" by
Huang et al.): 1,344 photographs of magnetic tiles without and with five kinds of defects, most tiles under six
exposures. Its files are named exp<exposure>_num<number>; those that follow one another within 100 of that number, with
rising exposure, are taken for photographs of one tile. Splits are drawn three times: as if all photographs stood alone,
with the near copies that the checks find on one side, and with those of one tile on one side.
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


def list_photographs(folder: Path) -> pd.DataFrame:
    """Of each photograph `path`, `label` and the number of its `tile`."""
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
    return table.assign(tile=first.cumsum())[["path", "label", "tile"]]


def measure(project: Path, photographs: pd.DataFrame) -> dict[str, Any]:
    """What the newest run of a project promises, and how much of its test it had seen."""
    metrics, plan = (
        json.loads(latest_version(project / f"data/{name}").read_text())
        for name in ("08_reporting/target_metrics.json", "06_models/transfer_plan.json")
    )
    splits = pd.read_parquet(latest_version(project / "data/03_primary/target_splits.parquet"))
    checked = pd.read_parquet(latest_version(project / "data/02_intermediate/target_checked_images.parquet"))
    table = photographs.merge(checked[["id", "group"]], left_on="path", right_on="id").merge(splits[["id", "split"]])
    test, training = (table.loc[table["split"] == split, "tile"] for split in ("test", "training"))
    of_tile, found = (table.groupby(columns).size() for columns in ("tile", ["tile", "group"]))
    return {
        "right of the test images": metrics["accuracy"],
        "low": metrics["accuracy_low"],
        "high": metrics["accuracy_high"],
        "right of left-out training images": plan["evidence"]["transferred"]["accuracy"],
        "test images whose tile was trained on": test.isin(training).mean(),
        "pairs of one tile in one group": (found * (found - 1)).sum() / (of_tile * (of_tile - 1)).sum(),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    photographs = list_photographs(parser.parse_args().folder)
    print(f"{len(photographs):,} photographs of {photographs['tile'].nunique():,} tiles", flush=True)
    rows = {}
    with tempfile.TemporaryDirectory() as temporary:
        project = copy_project(Path(temporary) / "project")
        for name, group, near_copies in (("alone", None, False), ("near copies", None, True), ("tiles", "tile", False)):
            manifest = project / f"data/{name.replace(' ', '_')}.csv"
            photographs.rename(columns={group: "group"} if group else {}).drop(columns=[] if group else "tile").to_csv(
                manifest, index=False
            )
            parameters = {} if near_copies else {"preprocess.target.check.near_duplicates": "null"}
            run_kedro(
                project, *OPTIONS, target_images=manifest, **parameters, **{"migrate_model.random_weights": "false"}
            )
            rows[name] = measure(project, photographs)
    print(pd.DataFrame(rows).round(3).to_string())


if __name__ == "__main__":
    main()
