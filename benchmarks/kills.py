"""Kill runs at random moments, go on with the same command, and compare with a run that nothing disturbed.

python benchmarks/kills.py [--kills 50] [--env test] [--seed 0]

Each run is killed (SIGKILL, with all its processes) until it survives a random time. Wrong: anything that it made
differs from the undisturbed run's, in any byte but times and memory. Unreadable: a version that is there after a kill
and cannot be loaded. Repeated: a node that was done and runs again, or a fit that does not go on after its last epoch.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from project_copy import copy_project
from run_outputs import contents, differences, foreign_inputs, unreadable

KEDRO = Path(sys.executable).with_name("kedro")
LEAST_SECONDS = 2.0


def start(project: Path, run: str, environment: str, log: Path) -> subprocess.Popen[bytes]:
    """A run in a process group of its own; nothing is taken over from other runs."""
    command = [str(KEDRO), "run", "--env", environment, "--params", "reuse=false"]
    variables = os.environ | {"DO_NOT_TRACK": "1", "TRANSFER_RUN_ID": run, "COLUMNS": "200"}
    with log.open("ab") as stream:
        return subprocess.Popen(
            command, cwd=project, env=variables, stdout=stream, stderr=stream, start_new_session=True
        )


def finished_nodes(project: Path, run: str) -> dict[str, float]:
    """When each node ended that has a record."""
    files = (project / f"data/08_reporting/run_records/{run}").glob("[!.]*.json")
    records = [json.loads(file.read_text()) for file in files]
    return {record["node"]: record["finished"] for record in records}


def interrupted(project: Path, run: str) -> tuple[list[str], list[int]]:
    """The nodes that were being worked on, and the epochs that their unfinished fits had done."""
    nodes = [file.name.removesuffix(".claim") for file in (project / "data").rglob(f"{run}/*.claim")]
    epochs = []
    for file in (project / "data/06_models").glob(f"*_checkpoints/{run}/[!.]*.npz"):
        with np.load(file) as state:
            header = json.loads(str(state["header"]))
        if not header["finished"] and header["epoch"]:
            epochs.append(header["epoch"])
    return nodes, epochs


def disturbed_run(
    project: Path, run: str, environment: str, longest: float, chance: random.Random
) -> tuple[Counter[str], list[str], list[str]]:
    """One run with its kills: where they hit, what was unreadable, and what was repeated."""
    hits: Counter[str] = Counter()
    problems: list[str] = []
    repeated: list[str] = []
    done: dict[str, float] = {}
    log = project / f"{run}.log"
    while True:
        before = log.stat().st_size if log.exists() else 0
        process = start(project, run, environment, log)
        _, epochs = interrupted(project, run)
        try:
            code = process.wait(chance.uniform(LEAST_SECONDS, longest))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code = None
        said = log.read_text()[before:]
        after = finished_nodes(project, run)
        repeated += [node for node, finished in done.items() if after.get(node) != finished]
        trained = len(after) > len(done)
        if epochs and trained and not any(f"goes on after epoch {epoch} of" in said for epoch in epochs):
            repeated.append(f"a fit that had done {epochs} epochs")
        done = after
        if code is not None:
            if code:
                problems.append(f"{run} ended with {code}: {said[-2000:]}")
            return hits, problems, repeated
        nodes, _ = interrupted(project, run)
        hits.update(nodes or ["between nodes"])
        problems += unreadable(project, run)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--env", default="test")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    hits: Counter[str] = Counter()
    wrong: list[str] = []
    unread: list[str] = []
    repeated: list[str] = []
    runs = 0
    with tempfile.TemporaryDirectory() as temporary:
        project = copy_project(Path(temporary) / "project")
        begin = time.perf_counter()
        if start(project, "undisturbed", arguments.env, project / "undisturbed.log").wait():
            raise SystemExit((project / "undisturbed.log").read_text())
        longest = time.perf_counter() - begin
        reference = contents(project, "undisturbed")
        while sum(hits.values()) < arguments.kills:
            run = f"kill-{runs}"
            of_run, problems, again = disturbed_run(project, run, arguments.env, longest, chance)
            runs += 1
            hits.update(of_run)
            unread += problems
            repeated += again
            wrong += [f"{run}: {name}" for name in differences(reference, contents(project, run))]
            wrong += foreign_inputs(project, run)
            left = [
                str(path)
                for path in (project / "data").rglob("*")
                if ".partial-" in path.name or path.suffix == ".claim"
            ]
            wrong += [f"{run} left {path}" for path in left]
            print(f"{run}: {dict(of_run)}", flush=True)
    for title, found in (("wrong results", wrong), ("unreadable", unread), ("repeated", repeated)):
        print(f"{title}: {len(found)}", *found, sep="\n  ")
    print(f"{sum(hits.values())} kills in {runs} runs, each compared in {len(reference)} files; while working on:")
    for node, count in hits.most_common():
        print(f"  {count:3} {node}")


if __name__ == "__main__":
    main()
