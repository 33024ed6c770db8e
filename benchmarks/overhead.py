"""What the machinery of runs costs: identity, fingerprints, records, claims, checkpoints, the check of the store.

python benchmarks/overhead.py [--env base]

One run in this process, with a clock around every function of the machinery; time in one that another calls counts
once. The rest of the run is the work itself.
"""

import argparse
import functools
import os
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from kedro.framework.startup import bootstrap_project
from project_copy import copy_project

from cnn_transfer import fingerprints, runner
from cnn_transfer.context import RunSession
from cnn_transfer.datasets import RunRecordsDataset, claim, versions
from cnn_transfer.hooks import checks, records
from cnn_transfer.training import checkpoints


class Clock:
    """Seconds in functions, by what they belong to; only the outermost of nested calls counts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()
        self._inside = False

    def around(self, owner: Any, name: str, what: str) -> None:
        """Replace a function by one that is timed."""
        function: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            if self._inside:
                return function(*arguments, **named)
            self._inside, start = True, time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self._inside = False
                self.seconds[what] += time.perf_counter() - start
                self.calls[what] += 1

        setattr(owner, name, timed)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--env", default="base")
    environment = parser.parse_args().env
    os.environ.pop("TRANSFER_RUN_ID", None)
    clock = Clock()
    clock.around(fingerprints.Fingerprints, "of", "fingerprints of nodes")
    for name in ("save", "find", "records", "digests", "_read_file"):
        clock.around(RunRecordsDataset, name, "records")
    for name in ("__enter__", "__exit__"):
        clock.around(claim.Claim, name, "claims")
    for name in ("digest", "discard", "exists"):
        clock.around(versions, name, "digests and removal of versions")
    for name in ("read", "write", "flush", "clear"):
        clock.around(checkpoints.Checkpoints, name, "checkpoints")
    fit = import_module("cnn_transfer.training.fit")
    for name in ("key_of_fit", "_values"):
        clock.around(fit, name, "checkpoints")
    clock.around(checks, "check_store", "check of the store")
    for name in ("reset_peak_memory", "peak_memory_mb", "count_images"):
        clock.around(records, name, "memory and images")
    clock.around(runner._Progress, "take_over", "looking for earlier runs")
    with tempfile.TemporaryDirectory() as temporary:
        project = copy_project(Path(temporary) / "project")
        bootstrap_project(project)
        with RunSession.create(project_path=project, env=environment) as session:
            start = time.perf_counter()
            session.run()
            total = time.perf_counter() - start
    spent = sum(clock.seconds.values())
    for what, seconds in sorted(clock.seconds.items(), key=lambda item: -item[1]):
        print(f"{what:35} {seconds:7.3f} s in {clock.calls[what]:5} calls")
    print(
        f"machinery {spent:.2f} s of {total:.1f} s: {spent / total:.2%}; beside the rest {spent / (total - spent):.2%}"
    )


if __name__ == "__main__":
    main()
