"""Nodes of the stage `audit`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cnn_transfer.evaluation import Figure
from cnn_transfer.images import DecodedImages, ImageListing, ImageSet
from cnn_transfer.pipelines.audit.parameters import AuditParameters
from cnn_transfer.prediction.audit import (
    ANSWERED,
    WITHHELD,
    collect_audited_images,
    draw_audit,
    draw_audit_mistakes,
    find_known_labels,
    measure_audit,
    write_audit_page,
)
from cnn_transfer.prediction.labelling import LabelledImages


def draw(
    labelled: LabelledImages, images: ImageListing, parameters: Mapping[str, Any], seed: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Draw images at random from those that were answered, and from those that were not."""
    block = AuditParameters.parse(parameters, "audit")
    sample, population = draw_audit(labelled, {ANSWERED: block.answered, WITHHELD: block.withheld}, seed)
    return sample, population | {"images_changed": labelled.have_changed(images)}


def collect(images: ImageListing, sample: pd.DataFrame) -> DecodedImages:
    """Say which pictures people are shown; they are decoded while they are saved."""
    return collect_audited_images(images, sample)


def write_page(
    images: ImageSet, sample: pd.DataFrame, population: Mapping[str, Any], earlier: Mapping[str, Any]
) -> tuple[pd.DataFrame, str]:
    """Find what somebody said of them before, and put the others on a page on which somebody says what they are."""
    known = find_known_labels(images.table, population, earlier)
    return known, write_audit_page(images, sample, population, known)


def measure(
    sample: pd.DataFrame,
    population: Mapping[str, Any],
    images: ImageSet,
    told: pd.DataFrame,
    earlier: Mapping[str, Any],
    page: str,  # noqa: ARG001
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Compare what the network said with what somebody said, here and in audits until now, also of this sample.

    The page is written before: where something is left to say, this node says so and fails.
    """
    known = find_known_labels(images.table, population, earlier)
    return measure_audit(sample, population, images.table, known, told, earlier)


def draw_mistakes(answers: pd.DataFrame, images: ImageSet) -> Figure:
    """Draw the answers that are wrong."""
    return draw_audit_mistakes(answers, images)
