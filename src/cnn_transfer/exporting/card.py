"""What the card of a release says beside that of the model: its files, and how it compares with the release before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cnn_transfer.exporting.speed import BATCHES, CALL

USE = """
## Exports

All take `pixels`, uint8 0–255 of the shape (n, {shape}), and give `probabilities` (calibrated, in the order of
`class_names.json`), `logits` and `features`, float32. Scaling and calibration are inside. In Python, with everything that
stands under "Out of scope":

```python
from cnn_transfer.prediction import Predictor

table = Predictor.load("FOLDER OF THIS CARD", runtime="onnx")("photos")
```

| file | runtime | size | one image (95th percentile) | images/s{batch} | same class as Keras | largest difference of logits | accuracy |
|---|---|---|---|---|---|---|---|
{rows}

Compared on {images} images, {validation} of them validation images with a label, none of the test images. Timed on {cores} cores of
{cpu}; there Keras's `predict` takes {predict:.1f} ms for one image and its compiled call {call:.2f} ms.

{verdicts}
"""  # noqa: E501
COMPARED = """
## Compared with the release before

{statement}

{notes}
"""
PROGRAMS = {
    "saved_model": "TensorFlow, TensorFlow Serving",
    "onnx": "ONNX Runtime",
    "litert": "LiteRT",
    "litert_int8": "LiteRT, 8 bits",
}


def card_of_release(
    card: str,
    table: pd.DataFrame,
    image_shape: tuple[int, int, int],
    machine: Mapping[str, Any],
    comparison: Mapping[str, Any],
) -> str:
    """The card of the model with a section on its exports, and one on the release before.

    Args:
        card: Of the model, Markdown.
        table: See `export_table`.
        image_shape: (height, width, channels).
        machine: `cores` and `cpu` where it was timed.
        comparison: See `champion.compare_with_champion`.
    """
    exports = table[table["passed"].notna()]
    latency = table.set_index("name")["latency_ms"]
    timed = [size for size in BATCHES if exports[f"images_per_second_{size}"].notna().all()]
    batch = max(timed, default=None)  # none of large images
    section = USE.format(
        shape=", ".join(map(str, image_shape)),
        batch=f", batch {batch}" if batch else "",
        rows="\n".join(_row(row, batch) for row in exports.to_dict("records")),
        images=f"{exports['images'].max():,}",
        validation=f"{exports['validation_images'].max():,}",
        predict=latency.iloc[0],
        call=latency[CALL],
        verdicts="\n".join(f"- `{row['file']}`: {row['verdict']}." for row in exports.to_dict("records")),
        **machine,
    )
    compared = COMPARED.format(
        statement=comparison["statement"], notes="\n".join(f"- {note}" for note in comparison["notes"])
    )
    return f"{card.rstrip()}\n{section}{compared.rstrip()}\n"


def _row(row: Mapping[Any, Any], batch: int | None) -> str:
    accuracy = (
        "not measured" if pd.isna(row["accuracy"]) else f"{row['accuracy']:.1%} (Keras {row['keras_accuracy']:.1%})"
    )
    cells = [
        f"`{row['file']}`",
        PROGRAMS[row["name"]],
        f"{row['megabytes']:.2f} MB",
        f"{row['latency_ms']:.2f} ms ({row['latency_p95_ms']:.2f})",
        f"{row[f'images_per_second_{batch}']:,.0f}" if batch else "not measured",
        f"{row['agreement']:.2%}",
        f"{row['logits_difference']:.1e}",
        accuracy,
    ]
    return f"| {' | '.join(cells)} |"
