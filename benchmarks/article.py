"""The article's script against `kedro run --env article`: wall time of whole processes and accuracy.

    python benchmarks/article.py [--seeds 3]

Both run in new processes, in turn, on the same images and splits of each seed. The
schedule of conf/article was chosen on its validation images.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from project_copy import copy_project, latest_version

ROOT = Path(__file__).parents[1]
KEDRO = Path(sys.executable).with_name("kedro")
ENVIRONMENT = os.environ | {"DO_NOT_TRACK": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}


def timed(command: list[str], folder: Path) -> float:
    """Wall time of one whole process, in seconds."""
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, env=ENVIRONMENT, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    rows, parts = [], []
    with tempfile.TemporaryDirectory() as temporary:
        for seed in range(parser.parse_args().seeds):
            project = copy_project(Path(temporary) / f"seed{seed}")
            ours = timed([str(KEDRO), "run", "--env", "article", "--params", f"seed={seed}"], project)
            summary = json.loads(latest_version(project / "data/08_reporting/summary.json").read_text())
            splits = latest_version(project / "data/03_primary/target_splits.parquet")
            result = project / "script.json"
            script = [sys.executable, str(ROOT / "benchmarks/article_script.py"), str(splits), str(result), str(seed)]
            theirs = timed(script, project)
            other = json.loads(result.read_text())
            rows.append([seed, ours, theirs, ours / theirs, summary["target_accuracy"], other["accuracy"]])
            print(f"seed {seed}: ours {ours:.1f} s {summary['target_accuracy']:.4f}, ", end="")
            print(f"script {theirs:.1f} s {other['accuracy']:.4f}", flush=True)
            parts.append({**summary["seconds"], "precision": summary["precision"], "script": other["seconds"]})
    table = pd.DataFrame(rows, columns=["seed", "ours s", "script s", "ratio", "our accuracy", "script accuracy"])
    print(table.round(4).to_string(index=False))
    print(f"median ratio of wall times {statistics.median(table['ratio']):.2f}")
    print(f"mean accuracy {table['our accuracy'].mean():.4f} against {table['script accuracy'].mean():.4f}")
    print("where the time goes (last seed):", json.dumps(parts[-1], indent=2))


if __name__ == "__main__":
    main()
