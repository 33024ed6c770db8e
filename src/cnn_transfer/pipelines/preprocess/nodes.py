"""Nodes of the stage `preprocess`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cnn_transfer.evaluation import Figure, draw_examples
from cnn_transfer.images import DecodedImages, ImageListing, ImageSet, assign_splits, count_splits
from cnn_transfer.pipelines.preprocess.parameters import ImageSetParameters


def decode_images(raw_images: ImageListing, parameters: Mapping[str, Any], seed: int) -> DecodedImages:
    """Choose the images to use; they are decoded and resized while the image set is written."""
    block = ImageSetParameters.parse(parameters, "preprocess")
    return DecodedImages(raw_images, raw_images.sample(block.max_images_per_class, seed), block.image_format)


def split_images(
    images: ImageSet, parameters: Mapping[str, Any], seed: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Assign each image to a split; report what was set aside and how many images each split has."""
    block = ImageSetParameters.parse(parameters, "preprocess")
    splits = assign_splits(images, block.split, seed)
    return splits, images.rejected, count_splits(splits)


def draw_image_sheet(images: ImageSet, splits: pd.DataFrame) -> Figure:
    """Draw examples of each class."""
    return draw_examples(images, splits)
