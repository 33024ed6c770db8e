"""The machine and the programs as an input of the graph: nodes look at neither by themselves."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset
from kedro.io.core import DatasetError

PACKAGES = ("cnn-transfer", "tensorflow", "keras", "kedro", "numpy", "pandas", "scikit-learn", "scipy", "pillow")
CPU_INFO, NVIDIA_CARDS = Path("/proc/cpuinfo"), Path("/proc/driver/nvidia/gpus")


class EnvironmentDataset(AbstractDataset[NoReturn, dict[str, Any]]):
    """A description of where a process runs, as a mapping.

    - `python`: its version;
    - `packages`: version by name; None for one that is not installed;
    - `hardware`: `platform`, `cpu`, `cores` (that the process may use), `memory_gb`, `gpus` (names).

    Args:
        metadata: For Kedro's plugins.
    """

    def __init__(self, metadata: dict[str, Any] | None = None) -> None:
        self.metadata = metadata

    def load(self) -> dict[str, Any]:
        return {
            "python": platform.python_version(),
            "packages": {name: _version(name) for name in PACKAGES},
            "hardware": {
                "platform": platform.platform(),
                "cpu": _cpu(),
                "cores": _cores(),
                "memory_gb": _memory_gb(),
                "gpus": _gpus(),
            },
        }

    def save(self, data: NoReturn) -> None:
        raise DatasetError(f"The environment is what it is, and never written. Received: {type(data).__name__}.")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    """The processor's name; Linux has it in a file, where `platform` knows the kind only."""
    if CPU_INFO.exists():
        for line in CPU_INFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", maxsplit=1)[1].strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_gb() -> float | None:
    """Of the machine; None where the system does not say."""
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)
    except (AttributeError, OSError, ValueError):
        return None


def _gpus() -> list[str]:
    """Names of NVIDIA's cards, from their driver: TensorFlow, which knows them too, takes seconds to import."""
    lines = [line for file in sorted(NVIDIA_CARDS.glob("*/information")) for line in file.read_text().splitlines()]
    return [line.split(":", maxsplit=1)[1].strip() for line in lines if line.startswith("Model:")]
