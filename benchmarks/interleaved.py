"""Two runs side by side, stage by stage in processes of their own, on one store: does one ever read the other's?

python benchmarks/interleaved.py [--repetitions 20] [--env test] [--stages 5]

The two differ in their seed. After each repetition, what each has made is compared with the same run alone, byte by
byte but for times and memory, and the digests of what its nodes read with those of what it made.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from project_copy import copy_project
from run_outputs import contents, differences, foreign_inputs

KEDRO = Path(sys.executable).with_name("kedro")
STAGES = ("preprocess", "pretrain_source", "migrate_model", "finetune_target", "evaluate")


def run_stages(project: Path, run: str, seed: int, environment: str, pauses: list[float]) -> None:
    """One run: a process a stage, as many as there are pauses, with one before each."""
    for stage, pause in zip(STAGES, pauses, strict=False):
        time.sleep(pause)
        command = [
            str(KEDRO),
            "run",
            "--env",
            environment,
            "--pipelines",
            stage,
            "--params",
            f"seed={seed},reuse=false",
        ]
        variables = os.environ | {"DO_NOT_TRACK": "1", "TRANSFER_RUN_ID": run}
        done = subprocess.run(command, cwd=project, env=variables, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{run}, {stage}: {done.stdout[-3000:]} {done.stderr[-1000:]}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--env", default="test")
    parser.add_argument("--stages", type=int, default=len(STAGES))
    arguments = parser.parse_args()
    chance = random.Random(0)
    wrong = []
    with tempfile.TemporaryDirectory() as temporary:
        project = copy_project(Path(temporary) / "project")
        alone = {}
        for seed in (0, 1):
            run_stages(project, f"alone-{seed}", seed, arguments.env, [0.0] * arguments.stages)
            alone[seed] = contents(project, f"alone-{seed}")
        print(f"the two differ in {len(differences(alone[0], alone[1]))} of {len(alone[0])} files", flush=True)
        for repetition in range(arguments.repetitions):
            runs = {seed: f"pair-{repetition}-{seed}" for seed in (0, 1)}
            threads = [
                threading.Thread(
                    target=run_stages,
                    args=(project, run, seed, arguments.env, [chance.uniform(0, 2) for _ in range(arguments.stages)]),
                )
                for seed, run in runs.items()
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for seed, run in runs.items():
                wrong += [f"{run}: {name}" for name in differences(alone[seed], contents(project, run))]
                wrong += foreign_inputs(project, run)
            print(f"repetition {repetition}: {len(wrong)} cross-reads so far", flush=True)
    print(f"cross-reads: {len(wrong)} in {arguments.repetitions} repetitions", *wrong, sep="\n  ")


if __name__ == "__main__":
    main()
