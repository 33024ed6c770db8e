"""Commands that only look: their cost against `kedro --version`, medians of several turns.

python benchmarks/commands.py [--turns 5]
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
KEDRO = Path(sys.executable).with_name("kedro")
COMMANDS = [
    "--version",
    "registry list",
    "registry describe transfer",
    "catalog describe-datasets",
    "catalog resolve-patterns",
]


def main() -> None:
    """Measure all commands in turn, several times, and print medians and ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=5)
    seconds: dict[str, list[float]] = {command: [] for command in COMMANDS}
    for _ in range(parser.parse_args().turns):
        for command in COMMANDS:
            start = time.perf_counter()
            environment = os.environ | {"DO_NOT_TRACK": "1"}
            subprocess.run([KEDRO, *command.split()], cwd=ROOT, env=environment, check=True, capture_output=True)
            seconds[command].append(time.perf_counter() - start)
    reference = statistics.median(seconds["--version"])
    for command, times in seconds.items():
        median = statistics.median(times)
        print(f"kedro {command:<28} {median:5.2f} s   {median / reference:4.2f} times kedro --version")


if __name__ == "__main__":
    main()
