"""What a run was made with: parameters, data, programs and machine; enough to say why two runs differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OF_A_PROCESS = {"run_id", "reuse", "mlflow", "workers"}  # parameters that change nothing in what a run makes


def provenance(
    parameters: Mapping[str, Any], fingerprints: Mapping[str, str], precision: str, environment: Mapping[str, Any]
) -> dict[str, Any]:
    """Put it together; the keys are an interface that other programs read.

    Args:
        parameters: All blocks of the configuration; anchors of the YAML files, with a leading
            underscore, and the run's id are left out.
        fingerprints: Of the image sets, by name.
        precision: The Keras dtype policy that the target's networks were trained in.
        environment: `python`, `packages` and `hardware`; see `cnn_transfer.datasets.EnvironmentDataset`.

    Returns:
        `parameters`, `data`, `precision`, `python`, `packages`, `hardware`.
    """
    return {
        "parameters": {
            key: _plain(value)
            for key, value in parameters.items()
            if not key.startswith("_") and key not in OF_A_PROCESS
        },
        "data": dict(fingerprints),
        "precision": precision,
        **{name: _plain(environment[name]) for name in ("python", "packages", "hardware")},
    }


def _plain(value: Any) -> Any:
    """The value as JSON has it: lists for tuples, text for what JSON does not know."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
