"""Nodes of the stage `preprocess`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cnn_transfer.evaluation import Figure, draw_examples, draw_groups, draw_image_histograms, draw_rejected
from cnn_transfer.images import (
    DecodedImages,
    ImageListing,
    ImageSet,
    assign_splits,
    check_image_set,
    check_share,
    check_test_images,
    count_splits,
)
from cnn_transfer.pipelines.preprocess.parameters import ImageSetParameters


def decode_images(raw_images: ImageListing, parameters: Mapping[str, Any], seed: int) -> DecodedImages:
    """Choose the images to use; they are read, decoded and resized while the image set is written."""
    block = ImageSetParameters.parse(parameters, "preprocess")
    rows = raw_images.sample(block.max_images_per_class, seed)
    return DecodedImages(raw_images, block.image_format, rows, block.preparation)


def check_images(
    images: ImageSet, parameters: Mapping[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Set aside copies, contradictions and leaks, and find what must stay on one side; say what was found."""
    block = ImageSetParameters.parse(parameters, "preprocess")
    checked = check_image_set(images, block.check, block.split)
    return checked.table, checked.rejected, checked.notes, checked.describe()


def split_images(
    checked_images: pd.DataFrame, intake: Mapping[str, Any], parameters: Mapping[str, Any], seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Stop when too much was set aside, or nothing can be tested; assign each image to a split, and count them."""
    block = ImageSetParameters.parse(parameters, "preprocess")
    check_share(intake, block.check.most_set_aside)
    splits = assign_splits(checked_images, block.split, seed)
    check_test_images(splits, block.split)
    return splits, count_splits(splits)


def draw_images(images: ImageSet, splits: pd.DataFrame, rejected_images: pd.DataFrame) -> tuple[Figure, Figure, Figure]:
    """Draw examples of each class, histograms of classes, splits and sizes, and groups that stay on one side."""
    histograms = draw_image_histograms(images, splits, rejected_images)
    return draw_examples(images, splits), histograms, draw_groups(images, splits)


def draw_rejected_images(images: ImageSet, rejected_images: pd.DataFrame) -> Figure:
    """Draw examples of what was set aside for each reason."""
    return draw_rejected(images, rejected_images)
