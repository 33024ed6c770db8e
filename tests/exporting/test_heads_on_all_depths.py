"""Networks with the head on all depths, on real digits: every export passes, preprocessing inside."""

from pathlib import Path

import numpy as np
import pytest

from cnn_transfer.evaluation import (
    calibrate,
    choose_threshold,
    fit_calibration,
    fit_sets,
    predict,
    predictions_without_labels,
    try_damage,
)
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
from cnn_transfer.models import ModelCard, NetworkSource, build_network, read_network
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

pytestmark = pytest.mark.slow

DIGITS = Path(__file__).parents[2] / "data/01_raw/mnist_digits.parquet"
IMAGES = 3000
NETWORKS = {"compact_cnn": (28, 28, 1), "efficientnet_lite0": (64, 64, 3)}  # random weights, ImageNet's weights
LEAST_ACCURACY = {"compact_cnn": 0.8, "efficientnet_lite0": 0.9}
TOLERANCES = {"saved_model": 1e-4, "onnx": 1e-4, "litert": 1e-3}


@pytest.fixture(scope="module", params=["compact_cnn", pytest.param("efficientnet_lite0", marks=pytest.mark.nightly)])
def name(request):
    return request.param


@pytest.fixture(scope="module")
def digits(name, tmp_path_factory):
    """Handwritten digits, and their splits: 15 labels a class."""
    listing = list_images(DIGITS)
    rows = np.sort(np.random.default_rng(0).choice(len(listing.table), IMAGES, replace=False))
    folder = tmp_path_factory.mktemp("digits") / "set"
    side, _, channels = NETWORKS[name]
    write_image_set(DecodedImages(listing, ImageFormat(image_size_px=side, channels=channels), rows), folder)
    images = open_image_set(folder)
    rule = SplitRule(test_fraction=0.1, labels_per_class=15, validation_ratio=1.0)
    return images, assign_splits(images.table, rule, seed=0)


@pytest.fixture(scope="module")
def predictor(name, digits, augmentation, familiarity_of, tmp_path_factory):
    images, splits = digits
    if name == "compact_cnn":
        base = build_network(name, NETWORKS[name], n_classes=10, seed=0)
    else:
        base = read_network(NetworkSource(network=name, weights=None, pixel_range=None), NETWORKS[name]).network
    rule = HeadRule(
        taps=None,
        grids=(2, 3),
        depth_steepness=0,
        copies=0,
        augmentation=augmentation(),
        most_unlabelled=0,
        class_shares="estimated",
    )
    folder = tmp_path_factory.mktemp("features") / "set"
    write_features(plan_extraction(base, images, splits, rule.grids, 0, rule.augmentation, 0, 0), folder)
    features = open_features(folder)
    head = choose_head(features, splits, rule, 0)
    card = ModelCard(
        architecture=name, image_shape=NETWORKS[name], class_names=images.class_names, trained_on="digits",
        training_fingerprint=images.fingerprint, training_images=150, precision="float32", initialised_from="imagenet",
        strategy="probe", metrics={}, licence="Apache-2.0",
    )  # fmt: skip
    plan = plan_transfer(base, card, features, head, None)
    network = build_target_network(base, plan, head_weights(head, images.class_names))
    validation = predict(network, images, splits, "validation")
    calibration = fit_calibration(validation)
    calibrated = calibrate(validation, calibration)
    threshold = choose_threshold(calibrated, 0.9, 0.9)
    tried = try_damage(network, images, splits, calibration, None, 0, 0)
    return build_predictor(
        network, card.model_dump(mode="json"), "# Digits\n", images, splits, validation, calibration,
        threshold, fit_sets(calibrated, 0.9), familiarity_of(network, images, splits, threshold, tried, learnt=False),
        tried, predictions_without_labels((), np.empty((0, 10)), images.class_names), 0,
    )  # fmt: skip


def test_all_exports_pass(name, predictor, digits):
    images, splits = digits
    files = export(predictor, list(FORMATS), calibration_pixels(images, splits, 100, 0))
    compared = images_to_compare(predictor, images, splits, 2000, 0)
    entries = compare(predictor, files, compared, TOLERANCES, 0.01, 0.95)
    assert {entry["name"]: entry["passed"] for entry in entries} == dict.fromkeys(FORMATS, True), entries
    assert entries[0]["keras_accuracy"] > LEAST_ACCURACY[name]
    assert entries[-1]["agreement"] > 0.97
    assert len(files["model_int8.tflite"]) < 0.35 * len(files["model.tflite"])
