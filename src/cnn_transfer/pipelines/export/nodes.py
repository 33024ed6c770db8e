"""Nodes of the stage `export`: test images are read by the comparison with the release before, and by nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from cnn_transfer.evaluation import Figure
from cnn_transfer.exporting import (
    Candidate,
    Files,
    Release,
    Rule,
    calibration_pixels,
    card_of_release,
    changed_images,
    check_same_images,
    choose_champion,
    compare,
    compare_with_champion,
    draw_champion,
    draw_exports,
    draw_lost,
    export,
    export_table,
    images_to_compare,
    judge_both,
    time_exports,
)
from cnn_transfer.images import ImageSet
from cnn_transfer.pipelines.export.parameters import ExportParameters
from cnn_transfer.prediction import Predictor


def write_exports(
    predictor: Predictor, images: ImageSet, splits: pd.DataFrame, parameters: Mapping[str, Any], seed: int
) -> Files:
    """Write the network in other formats; training images show which values occur in it."""
    block = ExportParameters.parse(parameters, "export")
    check_same_images(predictor, images)
    return export(predictor, block.formats, calibration_pixels(images, splits, block.calibration_images, seed))


def compare_exports(
    predictor: Predictor,
    files: Files,
    images: ImageSet,
    splits: pd.DataFrame,
    parameters: Mapping[str, Any],
    confidence: float,
    seed: int,
) -> list[dict[str, Any]]:
    """Compare each export, by its own runtime, with Keras on validation and unlabelled images."""
    block = ExportParameters.parse(parameters, "export")
    compared = images_to_compare(predictor, images, splits, block.compared_images, seed)
    return compare(predictor, files, compared, block.logits_tolerance, block.accuracy_loss, confidence)


def time_all(
    predictor: Predictor,
    files: Files,
    images: ImageSet,
    splits: pd.DataFrame,
    environment: Mapping[str, Any],
    parameters: Mapping[str, Any],
    seed: int,
) -> dict[str, Any]:
    """Measure sizes, latencies and rates on this machine."""
    block = ExportParameters.parse(parameters, "export")
    machine = {name: environment["hardware"][name] for name in ("cpu", "cores")}
    pixels = calibration_pixels(images, splits, block.calibration_images, seed)
    timed = time_exports(predictor, files, pixels, block.timed_calls, block.timed_batches, machine["cores"])
    return {"machine": machine, "exports": timed}


def tabulate_exports(
    parity: list[Mapping[str, Any]], speed: Mapping[str, Any], parameters: Mapping[str, Any]
) -> tuple[pd.DataFrame, Figure]:
    """Put all figures into a table and a plot, whatever is outside its tolerance."""
    block = ExportParameters.parse(parameters, "export")
    table = export_table(parity, speed["exports"])
    return table, draw_exports(table, block.accuracy_loss)


def challenge_champion(
    predictor: Predictor,
    releases: Sequence[Candidate],
    images: ImageSet,
    splits: pd.DataFrame,
    parameters: Mapping[str, Any],
    confidence: float,
) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """Compare the predictor with the release before, on test images that neither has seen."""
    block = ExportParameters.parse(parameters, "export").champion
    check_same_images(predictor, images)
    champion = choose_champion(releases, predictor.version)
    judged = judge_both(predictor, champion, images, splits)
    comparison, classes = compare_with_champion(
        predictor, champion, judged, Rule(block.refuse, block.most_loss, confidence)
    )
    return comparison, classes, changed_images(judged)


def draw_challenge(
    comparison: Mapping[str, Any], classes: pd.DataFrame, changes: pd.DataFrame, images: ImageSet
) -> tuple[Figure, Figure]:
    """Draw what changed by class, and the images that are wrong now."""
    return draw_champion(comparison, classes), draw_lost(images, changes)


def release(
    predictor: Predictor,
    files: Files,
    parity: list[Mapping[str, Any]],
    speed: Mapping[str, Any],
    table: pd.DataFrame,
    comparison: Mapping[str, Any],
) -> Release:
    """Put the predictor and its exports together; refused when one is outside its tolerance, or it is worse."""
    of_speed = {entry["name"]: entry for entry in speed["exports"]}
    exports = tuple({**entry, **of_speed[entry["name"]]} for entry in parity)
    card = card_of_release(predictor.card, table, predictor.facts.card.image_shape, speed["machine"], comparison)
    return Release(replace(predictor, card=card), files, exports, comparison)
