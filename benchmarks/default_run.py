"""The default run over several seeds: accuracy, baseline, cost, wall time and peak memory of whole processes.

python benchmarks/default_run.py [--seeds 5]
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import pandas as pd
from project_copy import copy_project, run_transfer

COLUMNS = [
    "target_accuracy", "baseline_accuracy", "random_accuracy", "difference", "difference_low", "difference_high",
    "verdict", "training_cost_ratio", "training_cost_ratio_low", "training_cost_ratio_high",
]  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for seed in range(parser.parse_args().seeds):
            project = copy_project(Path(temporary) / f"seed{seed}")
            start = time.perf_counter()
            summary = run_transfer(project, seed=seed)
            seconds = time.perf_counter() - start
            rows.append([seed, *(summary[name] for name in COLUMNS), seconds])
            print(dict(zip(["seed", *COLUMNS, "seconds"], rows[-1], strict=True)), flush=True)
    table = pd.DataFrame(rows, columns=["seed", *COLUMNS, "seconds"])
    print(table.round(4).to_string(index=False))
    means = table[
        ["target_accuracy", "baseline_accuracy", "random_accuracy", "difference", "training_cost_ratio", "seconds"]
    ].mean()
    print("mean:", means.round(4).to_dict())
    print("median cost ratio, a run that never reached the level counting as infinite:", end=" ")
    print(round(table["training_cost_ratio"].fillna(float("inf")).median(), 3))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"largest peak memory of a run: {peak:.2f} GiB")


if __name__ == "__main__":
    main()
