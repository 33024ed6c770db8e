"""What the service answers, as JSON: the models that the OpenAPI page shows, and how they are filled."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from pydantic import BaseModel, Field

from cnn_transfer.evaluation.conformal import sets_of
from cnn_transfer.evaluation.occlusion import occlusion_map, overlay
from cnn_transfer.prediction import WITHHELD
from cnn_transfer.prediction.predictor import Judged
from cnn_transfer.serving.releases import ServedModel

PICTURE_PX = 448  # at least, of the longest side of a picture that is explained
FAITHFULNESS = (
    "Orange: places that speak for the class, blue: against it. Each place was covered by the blurred image, and its "
    "colour is how much less sure the network became; what several places show only together may stay pale."
)


class Model(BaseModel):
    """The model that gave the answers."""

    version: str
    runtime: str
    class_names: list[str]


class Nearest(BaseModel):
    """A training image that is like the image."""

    id: str
    label: str
    thumbnail: str = Field(description="address of a small WebP picture")


class LabelledImage(BaseModel):
    """What the model says of one image."""

    name: str
    answer: str | None = Field(description="class; null where none is given")
    withheld: str = Field(description=f"why there is no answer: empty, {', '.join(WITHHELD)}")
    withheld_text: str
    predicted: str = Field(description="the most probable class, whether it is answered or not")
    confidence: float = Field(ge=0, le=1, description="its calibrated probability")
    probabilities: dict[str, float]
    set: list[str] | None = Field(description="classes that may be it, the most probable first; null: no sets fitted")
    unfamiliar: bool | None = Field(description="unlike the training images; null where nothing can be called so")
    unlike: str = Field(description="what is unlike: content, or an aspect such as noise; empty: nothing known of")
    percentile: float | None = Field(description="share of the images it was judged on that are more familiar, 0-1")
    nearest: list[Nearest]
    notes: list[str] = Field(description="what was done to the image, codes of the intake")


class Problem(BaseModel):
    """A code, and words for people."""

    code: str
    detail: str


class RejectedImage(BaseModel):
    """An image that cannot be used."""

    name: str
    error: Problem


class Predictions(BaseModel):
    """One entry an uploaded file, in their order."""

    model: Model
    images: list[LabelledImage | RejectedImage]


class Refusal(BaseModel):
    """Nothing could be labelled."""

    error: Problem
    images: list[RejectedImage] = []


class Explanation(BaseModel):
    """Where the network looks."""

    class_: str = Field(alias="class", description="the class that is explained")
    map: str = Field(description="RGBA picture to lay over `picture`, as an address data:image/png")
    picture: str = Field(description="the image as the network sees it, likewise")
    method: str
    faithfulness_note: str


def model_json(model: ServedModel) -> dict[str, Any]:
    """See `Model`."""
    names = list(model.predictor.facts.class_names)
    return {"version": model.version, "runtime": model.runtime, "class_names": names}


def images_json(model: ServedModel, judged: Judged, notes: Sequence[str]) -> list[dict[str, Any]]:
    """Each image as `LabelledImage` without its name.

    Args:
        model: That judged them.
        judged: What it says.
        notes: What was done to each image, codes separated by spaces.
    """
    names, sets = model.predictor.facts.class_names, _sets(judged.probabilities, model)
    near, nothing = judged.near, [None] * len(notes)
    columns = (
        judged.predicted.tolist(),
        judged.withheld.tolist(),
        judged.confidence.tolist(),
        judged.probabilities.astype(float).tolist(),
        sets,
        nothing if near.unfamiliar is None else near.unfamiliar.tolist(),
        near.unlike.tolist(),
        near.percentile.tolist(),
        near.rows.tolist(),
        notes,
    )
    return [
        {
            "answer": None if withheld else predicted,
            "withheld": withheld,
            "withheld_text": WITHHELD.get(withheld, ""),
            "predicted": predicted,
            "confidence": confidence,
            "probabilities": dict(zip(names, probabilities, strict=True)),
            "set": held,
            "unfamiliar": unfamiliar,
            "unlike": unlike,
            "percentile": percentile if math.isfinite(percentile) else None,
            "nearest": [model.nearest[row] for row in rows],
            "notes": noted.split(),
        }
        for predicted, withheld, confidence, probabilities, held, unfamiliar, unlike, percentile, rows, noted in zip(
            *columns, strict=True
        )
    ]


def _sets(probabilities: np.ndarray, model: ServedModel) -> list[list[str] | None]:
    """The classes that each image may be, the most probable first."""
    facts = model.predictor.facts
    if not facts.sets:
        return [None] * len(probabilities)
    held = sets_of(probabilities, facts.sets)[0]
    order = np.argsort(-probabilities, axis=1, kind="stable")
    return [[facts.class_names[place] for place in row if mask[place]] for row, mask in zip(order, held, strict=True)]


def explanation_json(model: ServedModel, pixels: np.ndarray) -> dict[str, Any]:
    """See `Explanation`; of the most probable class.

    Args:
        model: That is explained.
        pixels: (height, width, channels) uint8.
    """
    place = int(model.predictor.compute(pixels[None]).probabilities[0].argmax())
    values = occlusion_map(lambda images: model.predictor.compute(images).logits, pixels, place)
    scale = -(-PICTURE_PX // max(values.shape))
    image = Image.fromarray(pixels.squeeze(axis=-1) if pixels.shape[-1] == 1 else pixels)
    stream = io.BytesIO()
    image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST).save(stream, "PNG")
    return {
        "class": model.predictor.facts.class_names[place],
        "map": _address(overlay(values, scale)),
        "picture": _address(stream.getvalue()),
        "method": "occlusion",
        "faithfulness_note": FAITHFULNESS,
    }


def _address(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"
