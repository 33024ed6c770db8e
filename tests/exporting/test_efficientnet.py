"""EfficientNet-Lite0 with ImageNet's weights and the head on all depths: every export passes, preprocessing inside."""

from pathlib import Path

import numpy as np
import pytest

from cnn_transfer.evaluation import calibrate, choose_threshold, fit_calibration, fit_sets, predict
from cnn_transfer.exporting import FORMATS, calibration_pixels, compare, export, images_to_compare
from cnn_transfer.images import (
    DecodedImages,
    ImageFormat,
    SplitRule,
    assign_splits,
    list_images,
    open_image_set,
    write_image_set,
)
from cnn_transfer.models import ModelCard, NetworkSource, read_network
from cnn_transfer.prediction import build_predictor
from cnn_transfer.transfer import (
    HeadRule,
    build_target_network,
    choose_head,
    head_weights,
    open_features,
    plan_extraction,
    plan_transfer,
    write_features,
)

pytestmark = [pytest.mark.slow, pytest.mark.nightly]

DIGITS = Path(__file__).parents[2] / "data/01_raw/mnist_digits.parquet"
IMAGES = 700
TOLERANCES = {"saved_model": 1e-4, "onnx": 1e-4, "litert": 1e-3}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Handwritten digits at 64 px in three channels, and their splits: 15 labels a class."""
    listing = list_images(DIGITS)
    rows = np.sort(np.random.default_rng(0).choice(len(listing.table), IMAGES, replace=False))
    folder = tmp_path_factory.mktemp("digits") / "set"
    write_image_set(DecodedImages(listing, ImageFormat(image_size_px=64, channels=3), rows), folder)
    images = open_image_set(folder)
    rule = SplitRule(test_fraction=0.1, labels_per_class=15, validation_ratio=1.0)
    return images, assign_splits(images.table, rule, seed=0)


@pytest.fixture(scope="module")
def predictor(digits, augmentation, tmp_path_factory):
    images, splits = digits
    imported = read_network(NetworkSource(network="efficientnet_lite0", weights=None, pixel_range=None), (64, 64, 3))
    rule = HeadRule(
        taps=None, grids=(2,), copies=0, augmentation=augmentation(), most_unlabelled=0, class_shares="estimated"
    )
    folder = tmp_path_factory.mktemp("features") / "set"
    write_features(plan_extraction(imported.network, images, splits, (2,), 0, rule.augmentation, 0, 0), folder)
    features = open_features(folder)
    head = choose_head(features, splits, rule, 0)
    card = ModelCard(
        architecture="efficientnet_lite0", image_shape=(64, 64, 3), class_names=images.class_names, trained_on="digits",
        training_fingerprint=images.fingerprint, training_images=150, precision="float32", initialised_from="imagenet",
        strategy="probe", metrics={}, licence="Apache-2.0",
    )  # fmt: skip
    plan = plan_transfer(imported.network, card, features, head, None)
    network = build_target_network(imported.network, plan, head_weights(head, images.class_names))
    validation = predict(network, images, splits, "validation")
    calibration = fit_calibration(validation)
    calibrated = calibrate(validation, calibration)
    return build_predictor(
        network, card.model_dump(mode="json"), "# Digits\n", images, splits, validation, calibration,
        choose_threshold(calibrated, 0.9, 0.9), fit_sets(calibrated, 0.9), 0.05, 0,
    )  # fmt: skip


def test_all_exports_pass(predictor, digits):
    images, splits = digits
    files = export(predictor, list(FORMATS), calibration_pixels(images, splits, 100, 0))
    compared = images_to_compare(predictor, images, splits, 300, 0)
    entries = compare(predictor, files, compared, TOLERANCES, 0.01, 0.95)
    assert {entry["name"]: entry["passed"] for entry in entries} == dict.fromkeys(FORMATS, True), entries
    assert entries[0]["keras_accuracy"] > 0.85
    assert entries[-1]["agreement"] > 0.97
    assert len(files["model_int8.tflite"]) < 0.35 * len(files["model.tflite"])
