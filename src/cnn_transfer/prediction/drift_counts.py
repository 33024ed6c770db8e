"""Counts of images by size, brightness, sharpness, predicted class, confidence and distance to the training images.

They take the same memory for any number of images: each figure has bins, cut at quantiles of the references and on a
fixed grid. They hold whole numbers only, so that counts of parts can be merged in any order with the same result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from cnn_transfer.prediction.facts import PredictorFacts
from cnn_transfer.prediction.predictor import TRAINING_IMAGE
from cnn_transfer.prediction.references import References

QUANTILES = np.concatenate([[0, 0.01, 0.02], np.arange(0.05, 0.96, 0.05), [0.98, 0.99, 1]])
DECIMALS = 8  # of edges


class ImageFigure(NamedTuple):
    """A number that each image has.

    Attributes:
        split: Of the references that it is compared with: training or validation.
        step: Smaller differences are none: another runtime may round otherwise.
        grid: Values between which it is shown, ascending; what is outside is shown in the first and last part.
        form: How a mean of it is written.
    """

    split: str
    step: float
    grid: np.ndarray
    form: str

    @property
    def cuts(self) -> np.ndarray:
        """Edges between the parts of the grid, where rounding does not move a round number over one."""
        return (self.grid[1:-1] - self.step / 2).round(DECIMALS)


_PIXELS = np.geomspace(1, 2**16, 65)
IMAGE_FIGURES = {
    "width_px": ImageFigure("training", 1, _PIXELS, "{:,.0f} px wide"),
    "height_px": ImageFigure("training", 1, _PIXELS, "{:,.0f} px high"),
    "brightness": ImageFigure("training", 1e-6, np.linspace(0, 1, 41), "{:.3f}"),
    "sharpness": ImageFigure("training", 1e-6, np.geomspace(1e-5, 10, 97), "{:.2g}"),
    "confidence": ImageFigure("validation", 1e-6, np.linspace(0, 1, 41), "{:.3f}"),
    "distance": ImageFigure("validation", 1e-4, np.linspace(0, 2, 81), "distance {:.3f}"),
}


class Histogram(BaseModel):
    """How many images have which values of one figure.

    Attributes:
        edges: Ascending; a bin holds what is at least its left and below its right edge.
        counts: Images in each bin, the first below all edges, the last from the last one on.
        steps: Sum of the values, in whole steps of the figure.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    steps: int

    @classmethod
    def of(cls, values: pd.Series, edges: tuple[float, ...], step: float) -> Self:
        """Count values; those that are not finite are in no bin."""
        numbers = _finite(values)
        places = np.searchsorted(np.asarray(edges), numbers, side="right")
        counts = np.bincount(places, minlength=len(edges) + 1).tolist()
        return cls(edges=edges, counts=tuple(counts), steps=int(np.rint(numbers / step).astype(np.int64).sum()))

    def merge(self, other: Self) -> Self:
        """Of the images of both, whose edges are the same."""
        counts = tuple(map(sum, zip(self.counts, other.counts, strict=True)))
        return self.model_copy(update={"counts": counts, "steps": self.steps + other.steps})

    def between(self, cuts: np.ndarray) -> np.ndarray:
        """Counts below, between and from some of the edges."""
        return np.add.reduceat(np.asarray(self.counts), np.append(0, np.searchsorted(self.edges, cuts) + 1))


class DriftCounts(BaseModel):
    """Counts of labelled images, of one size for any number of them; equal where they count the same images.

    Attributes:
        images: Counted.
        training_images: Left out, because the network was trained on these very pictures.
        figures: A histogram of each of `IMAGE_FIGURES`.
        classes: Images by predicted class, in the order of the probabilities.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int
    training_images: int
    figures: dict[str, Histogram]
    classes: dict[str, int]

    @classmethod
    def empty(cls, facts: PredictorFacts, references: References) -> Self:
        """No images yet, with the bins that a predictor's references ask for."""
        nothing = pd.Series(dtype="float64")
        figures = {
            name: Histogram.of(nothing, _edges(figure, getattr(references, figure.split)[name]), figure.step)
            for name, figure in IMAGE_FIGURES.items()
        }
        return cls(images=0, training_images=0, figures=figures, classes=dict.fromkeys(facts.class_names, 0))

    def add(self, predictions: pd.DataFrame) -> Self:
        """Counts with further images.

        Args:
            predictions: See `Labelled.predictions`; may be empty.

        Raises:
            ValueError: When a class is not one of the predictor's.
        """
        known = predictions["notes"].str.contains(TRAINING_IMAGE).to_numpy(bool)
        new = predictions[~known]
        part = {
            "images": len(new),
            "training_images": int(known.sum()),
            "figures": {name: self.binned(name, new[name]) for name in self.figures},
            "classes": self.by_class(new["predicted"]),
        }
        return self.merge(self.model_copy(update=part))

    def merge(self, other: Self) -> Self:
        """Counts of the images of both.

        Raises:
            ValueError: When the other ones were counted for another predictor.
        """
        self.check_same_bins(other)
        return self.model_copy(
            update={
                "images": self.images + other.images,
                "training_images": self.training_images + other.training_images,
                "figures": {name: mine.merge(other.figures[name]) for name, mine in self.figures.items()},
                "classes": {name: mine + other.classes[name] for name, mine in self.classes.items()},
            }
        )

    def binned(self, name: str, values: pd.Series) -> Histogram:
        """One figure of other images in the same bins."""
        return Histogram.of(values, self.figures[name].edges, IMAGE_FIGURES[name].step)

    def by_class(self, predicted: pd.Series) -> dict[str, int]:
        """Other images by predicted class.

        Raises:
            ValueError: When a class is not one of the predictor's.
        """
        found = predicted.value_counts().to_dict()
        if unknown := [name for name in found if name not in self.classes]:
            raise ValueError(
                f"Predicted classes must be the predictor's: {', '.join(list(self.classes)[:10])} … Received: "
                f"{unknown[0]}. Count the predictions of this predictor only."
            )
        return {name: found.get(name, 0) for name in self.classes}

    def check_same_bins(self, other: DriftCounts) -> None:
        """Counts of two predictors have nothing in common.

        Raises:
            ValueError: When the bins or classes are not the same.
        """
        bins, others = ([histogram.edges for histogram in side.figures.values()] for side in (self, other))
        if bins != others or list(self.classes) != list(other.classes):
            raise ValueError(
                "Counts must be of one predictor. Received: counts with other bins or classes. Count the images again "
                "with one version of the model."
            )

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, lists and dicts."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """What `to_json` gave, also out of a JSON file."""
        return cls.model_validate(content)


def _finite(values: pd.Series) -> np.ndarray:
    numbers = values.to_numpy(np.float64, na_value=np.nan)
    return np.asarray(numbers[np.isfinite(numbers)])


def _edges(figure: ImageFigure, references: pd.Series) -> tuple[float, ...]:
    """At quantiles of the references, on both sides of values that many of them have, and on the grid.

    Between two of the references, not at one: a bin that holds a single reference by its making would look like chance
    against the new images.
    """
    known = _finite(references)
    parts = [figure.cuts]
    if len(known):
        distinct, half = np.unique(known), figure.step / 2
        after = np.append((distinct[:-1] + distinct[1:]) / 2, distinct[-1] + half)
        cuts, times = np.unique(np.quantile(known, QUANTILES, method="inverted_cdf"), return_counts=True)
        tied = cuts[times > 1]
        parts += [after[np.searchsorted(distinct, cuts)], distinct[:1] - half, tied - half, tied + half]
    return tuple(np.unique(np.concatenate(parts).round(DECIMALS)).tolist())
