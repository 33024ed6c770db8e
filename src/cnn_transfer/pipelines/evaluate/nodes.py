"""Nodes of the stage `evaluate`, which read the test split and choose nothing by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cnn_transfer.evaluation import (
    Figure,
    RunResults,
    TriedDamage,
    calibrate,
    choose_threshold,
    compare,
    confident_mistakes,
    confused_pairs,
    confusion_table,
    draw_accuracies,
    draw_backgrounds_exchanged,
    draw_confused_pairs,
    draw_confusion,
    draw_damage,
    draw_explanations,
    draw_mistakes,
    draw_nearest,
    draw_reliability,
    draw_risk_coverage,
    draw_similarity,
    draw_suspected_labels,
    draw_training_curves,
    draw_unfamiliar,
    embed_images,
    explain,
    familiarity_table,
    fine_tuning_change,
    fit_calibration,
    fit_familiarity,
    fit_sets,
    image_attributes,
    judge_backgrounds,
    judge_reliance,
    left_out_rows,
    limits_of_use,
    measure,
    measure_backgrounds,
    measure_damage,
    measure_familiarity,
    measure_sets,
    measure_threshold,
    no_predictions,
    per_class_table,
    predict,
    prediction_sets,
    reference_rows,
    reliability_table,
    risk_coverage_area,
    risk_coverage_table,
    slice_table,
    suspected_labels,
    try_damage,
    write_model_card,
    write_report,
)
from cnn_transfer.evaluation.provenance import provenance
from cnn_transfer.evaluation.report.model_card import RANDOM_WEIGHTS
from cnn_transfer.evaluation.report.suspected_page import write_suspected_page
from cnn_transfer.images import POINT_TO, ImageSet, shortcut_guesses
from cnn_transfer.models import ModelCard, Network
from cnn_transfer.pipelines.evaluate.parameters import EvaluateParameters
from cnn_transfer.prediction import Predictor, build_predictor
from cnn_transfer.transfer import last_doubling

NEAREST_SHOWN = 8  # mistakes that are shown beside the training images nearest to them


def predict_test_images(
    network: Network, card: Mapping[str, Any], images: ImageSet, splits: pd.DataFrame
) -> pd.DataFrame:
    """Predict the test images; a network that was not trained predicts nothing."""
    if ModelCard.model_validate(card).training_images == 0:
        return no_predictions(images.used_in(splits))
    return predict(network, images, splits, "test", _called(card))


def predict_for_calibration(
    network: Network,
    card: Mapping[str, Any],
    target_card: Mapping[str, Any],
    images: ImageSet,
    splits: pd.DataFrame,
    left_out_predictions: pd.DataFrame,
) -> pd.DataFrame:
    """Predict images that the network has not seen: everything that makes the probabilities useful is fitted on them.

    They are the validation images and, if the transferred head is delivered as it was fitted, the training images, each
    by such a head that lacks it.
    """
    facts, parts = ModelCard.model_validate(card), []
    if facts.training_images and splits["split"].eq("validation").any():
        parts.append(predict(network, images, splits, "validation", _called(card)).assign(left_out=False))
    if facts.training_images and _is_head_as_fitted(card, target_card):
        parts.append(left_out_predictions.assign(left_out=True))
    nothing = no_predictions(images.used_in(splits)).assign(left_out=pd.Series(dtype=bool))
    return pd.concat(parts, ignore_index=True) if parts else nothing


def _is_head_as_fitted(card: Mapping[str, Any], target_card: Mapping[str, Any]) -> bool:
    """Whether a network is the transferred head as it was fitted in closed form."""
    return card == target_card and not ModelCard.model_validate(card).features_learnt


def _called(card: Mapping[str, Any]) -> str:
    """What tells the networks of a run apart, for an error."""
    return f"The network {card['architecture']} ({card['strategy']}, from {card['initialised_from']})"


def measure_network(
    predictions: pd.DataFrame, card: Mapping[str, Any], parameters: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """Metrics with intervals; none of a network that was not trained."""
    if predictions.empty:
        return {}
    block = EvaluateParameters.parse(parameters, "evaluate")
    names = ModelCard.model_validate(card).class_names
    return measure(predictions, list(names), block.confidence, block.bootstrap_samples, seed)


def tabulate(
    predictions: pd.DataFrame, card: Mapping[str, Any], parameters: Mapping[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table by class and the confusion table."""
    block = EvaluateParameters.parse(parameters, "evaluate")
    names = list(ModelCard.model_validate(card).class_names)
    return per_class_table(predictions, names, block.confidence), confusion_table(predictions, names)


def slice_accuracy(
    images: ImageSet, splits: pd.DataFrame, predictions: pd.DataFrame, parameters: Mapping[str, Any]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Accuracy by size, brightness, sharpness, every other column of the manifest, and what files alone tell.

    Where they do tell the class: whether the network goes by that.
    """
    block = EvaluateParameters.parse(parameters, "evaluate")
    guesses = shortcut_guesses(images, splits)
    attributes = image_attributes(images, splits, "test").merge(guesses, on="id", how="left")
    pointed = guesses.set_index("id").get(POINT_TO)
    reliance = {} if pointed is None else judge_reliance(predictions, pointed, block.confidence)
    return slice_table(predictions, attributes, block.confidence), reliance


def calibrate_probabilities(
    calibration_predictions: pd.DataFrame,
    predictions: pd.DataFrame,
    card: Mapping[str, Any],
    parameters: Mapping[str, Any],
    seed: int,
) -> tuple[dict[str, Any], pd.DataFrame, dict[str, Any], pd.DataFrame]:
    """Fit the calibration on images before the test, apply it to the test images, and measure both there."""
    block = EvaluateParameters.parse(parameters, "evaluate")
    calibration = fit_calibration(calibration_predictions)
    calibrated = calibrate(predictions, calibration)
    reliability = pd.concat(
        [
            reliability_table(table, block.reliability_bins, block.confidence).assign(probabilities=name)
            for name, table in (("before", predictions), ("after", calibrated))
        ],
        ignore_index=True,
    )
    return calibration, calibrated, measure_network(calibrated, card, parameters, seed), reliability


def abstain(
    calibration_predictions: pd.DataFrame,
    calibration: Mapping[str, Any],
    calibrated_predictions: pd.DataFrame,
    parameters: Mapping[str, Any],
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Risk by coverage, and a threshold for a wished accuracy with what it does on the test images."""
    block = EvaluateParameters.parse(parameters, "evaluate")
    judged = calibrate(calibration_predictions, calibration)
    chosen = choose_threshold(judged, block.wished_accuracy, block.confidence, block.least_accuracy)
    return risk_coverage_table(calibrated_predictions), {
        "chosen": chosen,
        "on_test": measure_threshold(calibrated_predictions, chosen["threshold"], block.confidence),
        "area": risk_coverage_area(calibrated_predictions),
    }


def predict_sets(
    calibration_predictions: pd.DataFrame,
    calibration: Mapping[str, Any],
    calibrated_predictions: pd.DataFrame,
    parameters: Mapping[str, Any],
) -> tuple[dict[str, Any], pd.DataFrame, dict[str, Any]]:
    """Sets of classes that hold the true one as often as wished; none when no coverage is wished."""
    block = EvaluateParameters.parse(parameters, "evaluate")
    if block.set_coverage is None:
        everything = {"classes": calibration["classes"], "least_probability": 0.0}
        return {}, prediction_sets(calibrated_predictions.iloc[:0], everything), {}
    sets = fit_sets(calibrate(calibration_predictions, calibration), block.set_coverage)
    table = prediction_sets(calibrated_predictions, sets)
    return sets, table, measure_sets(table, sets, block.confidence)


def try_damage_on_validation_images(
    network: Network,
    images: ImageSet,
    splits: pd.DataFrame,
    calibration: Mapping[str, Any],
    abstention: Mapping[str, Any],
    copies: int,
    seed: int,
) -> pd.DataFrame:
    """Label damaged copies of validation images, to see what damage keeps the promise."""
    return try_damage(network, images, splits, calibration, abstention["chosen"]["threshold"], copies, seed)


def judge_familiarity(
    network: Network,
    card: Mapping[str, Any],
    images: ImageSet,
    splits: pd.DataFrame,
    tried_damage: pd.DataFrame,
    abstention: Mapping[str, Any],
    parameters: Mapping[str, Any],
    seed: int,
) -> tuple[dict[str, Any], pd.DataFrame, dict[str, Any]]:
    """How strange each test image is beside the training images, and which of them are nearest to it."""
    block = EvaluateParameters.parse(parameters, "evaluate")
    known = reference_rows(network, images, splits, seed)
    training, validation, test = (
        embed_images(network, images, rows, splits)
        for rows in (known, *(images.rows(splits, split) for split in ("validation", "test")))
    )
    learnt = ModelCard.model_validate(card).features_learnt
    tried, promised = TriedDamage.of(tried_damage), abstention["chosen"]["promised_accuracy"]
    familiarity = fit_familiarity(
        training, validation, block.false_alarm_rate, block.most_false_alarms, learnt, tried, promised
    )
    table = familiarity_table(training, test, familiarity, tried=tried)
    return familiarity, table, measure_familiarity(table, familiarity, block.confidence)


def draw_familiarity(images: ImageSet, familiarity: pd.DataFrame, predictions: pd.DataFrame) -> tuple[Figure, Figure]:
    """Draw the training images nearest to the most confident mistakes, and the images least like any of them."""
    wrong = confident_mistakes(predictions, NEAREST_SHOWN)["id"]
    return draw_nearest(images, familiarity, list(wrong), predictions), draw_unfamiliar(images, familiarity)


def find_confusions(images: ImageSet, predictions: pd.DataFrame) -> tuple[pd.DataFrame, Figure]:
    """The pairs of classes that are confused most often, with pictures."""
    pairs = confused_pairs(predictions)
    return pairs.assign(examples=pairs["examples"].str.join(", ")), draw_confused_pairs(images, pairs)


def suspect_labels(
    images: ImageSet,
    left_out_predictions: pd.DataFrame,
    calibration_predictions: pd.DataFrame,
    calibration: Mapping[str, Any],
    calibrated_predictions: pd.DataFrame,
) -> tuple[pd.DataFrame, Figure]:
    """Labels that look wrong, by what is said of each image by a network or head that was not fitted to it."""
    judged, left_out = calibrate(calibration_predictions, calibration), left_out_rows(calibration_predictions)
    by_split = {
        "training": judged[left_out] if left_out.any() else left_out_predictions,
        "validation": judged[~left_out],
        "test": calibrated_predictions,
    }
    suspected = pd.concat(
        [suspected_labels(table).assign(split=split) for split, table in by_split.items()], ignore_index=True
    ).sort_values("margin", ascending=False, kind="stable", ignore_index=True)
    return suspected, draw_suspected_labels(images, suspected)


def write_page_of_suspects(images: ImageSet, suspected: pd.DataFrame, splits: pd.DataFrame) -> str:
    """Put them on a page on which they can be looked at again."""
    return write_suspected_page(images, suspected, splits)


def explain_predictions(
    network: Network, images: ImageSet, predictions: pd.DataFrame, parameters: Mapping[str, Any], seed: int
) -> tuple[dict[str, Any], Figure]:
    """Attribution maps of some predictions, with what tests say of the methods that made them."""
    block = EvaluateParameters.parse(parameters, "evaluate")
    wanted = block.explanations
    explanations = explain(
        network,
        images,
        predictions,
        wanted.methods,
        wanted.images_shown,
        wanted.images_judged,
        wanted.curve_steps,
        wanted.path_steps,
        seed,
        block.confidence,
    )
    return explanations.describe(), draw_explanations(images, explanations)


def compare_representations(
    migrated_model: Network,
    target_model: Network,
    images: ImageSet,
    predictions: pd.DataFrame,
    parameters: Mapping[str, Any],
    seed: int,
) -> tuple[pd.DataFrame, dict[str, Any], Figure]:
    """What the fine-tuning changed: what the network knows of images at each depth, and where it looks."""
    block = EvaluateParameters.parse(parameters, "evaluate")
    depths, maps = fine_tuning_change(migrated_model, target_model, images, predictions, block.confidence, seed)
    return depths, maps, draw_similarity(depths)


def judge_transfer(
    target_predictions: pd.DataFrame,
    baseline_predictions: pd.DataFrame,
    random_predictions: pd.DataFrame,
    target_log: pd.DataFrame,
    baseline_log: pd.DataFrame,
    baseline_trials: pd.DataFrame,
    baseline_card: Mapping[str, Any],
    depths: pd.DataFrame,
    transfer_plan: Mapping[str, Any],
    parameters: Mapping[str, Any],
) -> dict[str, Any]:
    """Is the transferred network better, was it cheaper, what does the difference come from, and what else to try?"""
    block = EvaluateParameters.parse(parameters, "evaluate")
    validation_images = float(baseline_card["metrics"].get("validation_images", 0))
    return compare(
        target_predictions,
        baseline_predictions,
        random_predictions,
        target_log,
        baseline_log,
        validation_images,
        block.confidence,
        depths,
        transfer_plan,
        last_doubling(baseline_trials, validation_images),
    )


def draw_results(
    images: ImageSet,
    predictions: pd.DataFrame,
    confusion: pd.DataFrame,
    target_metrics: Mapping[str, Any],
    baseline_metrics: Mapping[str, Any],
    random_metrics: Mapping[str, Any],
    source_log: pd.DataFrame,
    target_log: pd.DataFrame,
    baseline_log: pd.DataFrame,
    parameters: Mapping[str, Any],
) -> tuple[Figure, Figure, Figure, Figure]:
    """Draw the accuracies, the confusion matrix, the training curves and the most confident mistakes."""
    block = EvaluateParameters.parse(parameters, "evaluate")
    networks = {"transfer": target_metrics, "from scratch": baseline_metrics, "random weights": random_metrics}
    return (
        draw_accuracies({name: metrics for name, metrics in networks.items() if metrics}),
        draw_confusion(confusion),
        draw_training_curves(source_log, target_log, baseline_log),
        draw_mistakes(images, predictions, block.mistakes_shown),
    )


def draw_probabilities(
    reliability: pd.DataFrame, risk_coverage: pd.DataFrame, abstention: Mapping[str, Any]
) -> tuple[Figure, Figure]:
    """Draw the reliability before and after calibration, and what not answering is worth."""
    before, after = (reliability[reliability["probabilities"] == name] for name in ("before", "after"))
    return draw_reliability(before, after), draw_risk_coverage(risk_coverage, abstention["on_test"])


def report(**results: Any) -> str:
    """Put everything that the run found out on one page; the arguments are the fields of `RunResults`."""
    return write_report(RunResults(**results))


def describe_delivered_model(
    card: Mapping[str, Any],
    metrics: Mapping[str, Any],
    per_class_metrics: pd.DataFrame,
    summary: Mapping[str, Any],
    calibration: Mapping[str, Any],
    images: ImageSet,
    abstention: Mapping[str, Any],
    familiarity: Mapping[str, Any],
) -> str:
    """Write the card of the delivered model."""
    limits = limits_of_use(images.image_format, abstention["chosen"], familiarity)
    return write_model_card(card, metrics, per_class_metrics, summary, calibration, limits)


def pack_predictor(
    network: Network,
    card: Mapping[str, Any],
    target_card: Mapping[str, Any],
    card_text: str,
    images: ImageSet,
    splits: pd.DataFrame,
    calibration_predictions: pd.DataFrame,
    calibration: Mapping[str, Any],
    abstention: Mapping[str, Any],
    sets: Mapping[str, Any],
    familiarity: Mapping[str, Any],
    tried_damage: pd.DataFrame,
    unlabelled_predictions: pd.DataFrame,
    seed: int,
) -> Predictor:
    """Put the delivered network together with all that is needed to label new images.

    What a head says of unlabelled images without them holds for this head alone, of other networks nobody knows it.
    What was trained from scratch has learnt from none.
    """
    if not _is_head_as_fitted(card, target_card):
        unlabelled_predictions = unlabelled_predictions[["id"]]
    if card["initialised_from"] == RANDOM_WEIGHTS:
        unlabelled_predictions = unlabelled_predictions.iloc[:0]
    return build_predictor(
        network,
        card,
        card_text,
        images,
        splits,
        calibration_predictions,
        calibration,
        abstention["chosen"],
        sets,
        familiarity,
        tried_damage,
        unlabelled_predictions,
        seed,
    )


def exchange_test_backgrounds(
    network: Network,
    images: ImageSet,
    calibrated_predictions: pd.DataFrame,
    calibration: Mapping[str, Any],
    parameters: Mapping[str, Any],
    seed: int,
) -> tuple[pd.DataFrame, dict[str, Any], Figure]:
    """Predict test images on other backgrounds, and say whether the network goes by these."""
    block = EvaluateParameters.parse(parameters, "evaluate")
    most, middle = block.backgrounds.exchanges, block.backgrounds.middle
    table = measure_backgrounds(network, images, calibrated_predictions, calibration, most, middle, seed)
    figures = judge_backgrounds(table, block.confidence) | {"middle": middle}
    return table, figures, draw_backgrounds_exchanged(images, table, middle)


def damage_test_images(
    predictor: Predictor,
    images: ImageSet,
    splits: pd.DataFrame,
    most: int,
    confidence: float,
    seed: int,
) -> pd.DataFrame:
    """Label test images that are damaged by degrees; nothing is chosen by what comes of it."""
    return measure_damage(predictor.judge, images, splits, most, seed, confidence)


def draw_damaged_images(images: ImageSet, splits: pd.DataFrame, table: pd.DataFrame, most: int, seed: int) -> Figure:
    """Draw what damage looks like, and what becomes of damaged images."""
    return draw_damage(images, splits, table, most, seed)


def describe_run(
    parameters: Mapping[str, Any],
    source_model_card: Mapping[str, Any],
    target_model_card: Mapping[str, Any],
    environment: Mapping[str, Any],
) -> dict[str, Any]:
    """Keep what the run was made with: parameters, data, programs and machine.

    The parameters are those of the process that evaluates; stages that ran before with others are not known here.
    """
    source, target = (ModelCard.model_validate(card) for card in (source_model_card, target_model_card))
    fingerprints = {"source_images": source.training_fingerprint, "target_images": target.training_fingerprint}
    return provenance(parameters, fingerprints, target.precision, environment)
