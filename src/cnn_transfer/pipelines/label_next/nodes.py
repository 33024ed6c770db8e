"""Nodes of the stage `label_next`, which reads neither validation nor test images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cnn_transfer.evaluation import Figure
from cnn_transfer.images import ImageSet
from cnn_transfer.pipelines.label_next.parameters import LabelNextParameters
from cnn_transfer.prediction import Predictor
from cnn_transfer.prediction.label_next import choose_images_to_label, draw_images_to_label, write_page_to_label


def choose(predictor: Predictor, images: ImageSet, splits: pd.DataFrame, parameters: Mapping[str, Any]) -> pd.DataFrame:
    """Choose the images whose labels would tell most."""
    block = LabelNextParameters.parse(parameters, "label_next")
    return choose_images_to_label(predictor, images, splits, block.images)


def draw(table: pd.DataFrame, images: ImageSet) -> Figure:
    """Draw the first of them, with the classes that they may be."""
    return draw_images_to_label(images, table)


def write_page(table: pd.DataFrame, images: ImageSet, predictor: Predictor) -> str:
    """Put them on a page on which they can be labelled."""
    return write_page_to_label(images, table, predictor.facts.class_names)
