"""Which number format trains a network fastest on this machine.

bfloat16 pays where the processor multiplies it in hardware (AVX512-BF16, AMX-BF16, recent GPUs); elsewhere it is
emulated and slower than float32, or, on a graphics card, may lack operations. Nor does it pay on a processor for
depthwise convolutions, as EfficientNet and MobileNet have them, for which TensorFlow has no fast kernel there. Then
float32 is taken rather than float16, whose range is so small that it needs scaled losses and skipped steps.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    import keras

Precision = Literal["auto", "float32", "mixed_bfloat16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)

LOGGER = logging.getLogger(__name__)

CPU_INFO = Path("/proc/cpuinfo")
BFLOAT16_CAPABILITY = (8, 0)  # Ampere
BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


def choose_precision(wanted: str, network: keras.Model | None = None) -> str:
    """The Keras dtype policy to train in.

    Args:
        wanted: `auto`, or a policy, which is returned as it is; but a graphics card without bfloat16 gets `float32`,
            with a logged message.
        network: What is to be trained; None: a network without depthwise convolutions.

    Returns:
        `mixed_bfloat16` or `float32`.

    Raises:
        ValueError: When `wanted` is not one of `PRECISIONS`.
    """
    if wanted not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}. Received: {wanted!r}.")
    if wanted == "float32":
        return wanted
    capabilities = _gpu_capabilities()
    if capabilities:
        if all(capability >= BFLOAT16_CAPABILITY for capability in capabilities):
            return "mixed_bfloat16"
        LOGGER.warning(
            "precision is float32 instead of %s: not all graphics cards multiply bfloat16 (compute capability %s, "
            "needed 8.0).",
            wanted,
            ", ".join(".".join(map(str, capability)) or "unknown" for capability in capabilities),
        )
        return "float32"
    if wanted == "mixed_bfloat16":
        return wanted
    return "mixed_bfloat16" if _cpu_has_bfloat16() and not _is_depthwise(network) else "float32"


def _is_depthwise(network: keras.Model | None) -> bool:
    if network is None:
        return False
    import keras

    kinds = (keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)
    return any(isinstance(layer, kinds) for layer in network.layers)


def _cpu_has_bfloat16() -> bool:
    """Read the processor's flags; False where the system does not list them."""
    if not CPU_INFO.exists():
        return False
    flags = next((line for line in CPU_INFO.read_text().splitlines() if line.startswith("flags")), "")
    return not BFLOAT16_FLAGS.isdisjoint(flags.split())


def _gpu_capabilities() -> list[tuple[int, ...]]:
    """Compute capability of each graphics card; empty for one that does not say."""
    import tensorflow as tf

    details = tf.config.experimental.get_device_details
    return [details(card).get("compute_capability", ()) for card in tf.config.list_physical_devices("GPU")]
