"""What mirrored copies cost where classes are others in a mirror, and whether the run says so before it trains.

python benchmarks/mirrored_copies.py [--signs FOLDER]

The bundled digits, and the German Traffic Sign Recognition Benchmark (Stallkamp et al. 2012) where FOLDER has it:
`Final_Training/Images` and `Final_Test/Images` with a folder a class. Of each class three images of twelve tracks train
and validate, and twelve test. Each set is run with mirrored copies and without, without a baseline. About 4 minutes on
2 cores, 10 more with the signs.
"""

import argparse
import json
import random
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

from project_copy import copy_project, latest_version, run_kedro

TRACKS, OF_A_TRACK, TEST_IMAGES = 12, 3, 12
FLIPS = [f"{stage}.augmentation.horizontal_flip" for stage in ("migrate_model", "finetune_target")]


def draw_signs(source: Path, folder: Path) -> None:
    """Copy the images that are drawn, into `train` and `test`."""
    drawn = random.Random(1)
    for side, part in (("train", "Final_Training"), ("test", "Final_Test")):
        for place in sorted((source / part / "Images").iterdir()):
            if not place.is_dir():
                continue
            files = sorted(place.glob("*.ppm"))
            if side == "train":
                tracks = defaultdict(list)
                for file in files:
                    tracks[file.name.split("_")[0]].append(file)
                names = sorted(tracks)
                drawn.shuffle(names)
                picked = [drawn.sample(tracks[name], min(OF_A_TRACK, len(tracks[name]))) for name in names[:TRACKS]]
                files = [file for track in picked for file in track]
            else:
                files = drawn.sample(files, min(TEST_IMAGES, len(files)))
            (folder / side / place.name).mkdir(parents=True)
            for file in files:
                shutil.copy(file, folder / side / place.name)


def measure(project: Path, name: str, *options: str, **parameters: str) -> None:
    """Run with mirrored copies and without, and print what each reached and what the plan says."""
    for flip in ("true", "false"):
        run_kedro(
            project,
            *options,
            **parameters,
            **dict.fromkeys(FLIPS, flip),
            **{"finetune_target.baseline.enabled": "false"},
        )
        summary, plan = (
            json.loads(latest_version(project / "data" / file).read_text())
            for file in ("08_reporting/summary.json", "06_models/transfer_plan.json")
        )
        said = plan["mirroring"]["sentence"] if plan["mirroring"] else "-"
        print(f"{name}, mirrored {flip}: {summary['target_accuracy']:.1%} of test images right. {said}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--signs", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        measure(copy_project(Path(temporary, "digits")), "digits")
        if arguments.signs:
            draw_signs(arguments.signs, Path(temporary, "drawn"))
            project = copy_project(Path(temporary, "signs"))
            measure(project, "signs", "--env", "folders", target_images=str(Path(temporary, "drawn")))


if __name__ == "__main__":
    main()
