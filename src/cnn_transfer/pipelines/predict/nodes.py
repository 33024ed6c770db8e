"""Nodes of the stage `predict`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cnn_transfer.evaluation import Figure
from cnn_transfer.images import ImageListing
from cnn_transfer.pipelines.predict.parameters import PredictParameters
from cnn_transfer.prediction import Predictor
from cnn_transfer.prediction.drift import DriftCounts, drift_report, drift_table
from cnn_transfer.prediction.drift_figure import drift_plot
from cnn_transfer.prediction.labelling import ImagesToLabel, LabelledImages, count_labels


def label_images(images: ImageListing, predictor: Predictor, parameters: Mapping[str, Any]) -> ImagesToLabel:
    """Say which images are labelled, and by what; it is done while they are saved."""
    block = PredictParameters.parse(parameters, "predict")
    return ImagesToLabel(predictor, images, block.decoding_threads)


def count(labelled: LabelledImages) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Gather the rejected images, and count what became of all."""
    return count_labels(labelled)


def measure_drift(
    labelled: LabelledImages, predictor: Predictor, parameters: Mapping[str, Any]
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Compare the labelled images with those that the network was made with."""
    block = PredictParameters.parse(parameters, "predict")
    counts = DriftCounts.empty(predictor.facts, predictor.references)
    for part in labelled.parts():
        counts = counts.add(part)
    report = drift_report(counts, predictor.references, predictor.facts, block.drift_confidence)
    return report, drift_table(report)


def draw_drift(report: Mapping[str, Any]) -> Figure:
    """Draw both sides of each aspect."""
    return drift_plot(report)
