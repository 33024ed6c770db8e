"""Which number format trains fastest on this machine.

bfloat16 pays where the processor multiplies it in hardware (AVX512-BF16, AMX-BF16, recent GPUs); elsewhere it is
emulated and slower than float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

Precision = Literal["auto", "float32", "mixed_bfloat16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)

CPU_INFO = Path("/proc/cpuinfo")
BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


def choose_precision(wanted: str) -> str:
    """The Keras dtype policy to train in.

    Args:
        wanted: `auto`, or a policy, which is returned as it is.

    Returns:
        `mixed_bfloat16` or `float32`.

    Raises:
        ValueError: When `wanted` is not one of `PRECISIONS`.
    """
    if wanted not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}. Received: {wanted!r}.")
    if wanted != "auto":
        return wanted
    return "mixed_bfloat16" if _gpu_has_bfloat16() or _cpu_has_bfloat16() else "float32"


def _cpu_has_bfloat16() -> bool:
    """Read the processor's flags; False where the system does not list them."""
    if not CPU_INFO.exists():
        return False
    flags = next((line for line in CPU_INFO.read_text().splitlines() if line.startswith("flags")), "")
    return not BFLOAT16_FLAGS.isdisjoint(flags.split())


def _gpu_has_bfloat16() -> bool:
    """Whether the first GPU is of compute capability 8.0 (Ampere) or newer."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability") if gpus else None
    return capability is not None and capability >= (8, 0)
