"""An export passes when it is as good as the network on real images, and what too few images cannot show is said."""

from dataclasses import replace

import numpy as np
import pytest

from cnn_transfer.exporting import (
    FORMATS,
    Compared,
    calibration_pixels,
    compare,
    images_to_compare,
    parity,
)
from cnn_transfer.images import images_a_batch
from cnn_transfer.prediction import Outputs

TOLERANCES = {"saved_model": 1e-4, "onnx": 1e-4, "litert": 1e-3}


@pytest.fixture(scope="module")
def compared(predictor, shapes, shape_splits):
    return images_to_compare(predictor, shapes, shape_splits, 140, seed=0)


@pytest.fixture(scope="module")
def entries(predictor, exported, compared):
    return {entry["name"]: entry for entry in compare(predictor, exported, compared, TOLERANCES, 0.02, 0.95)}


def judged(monkeypatch, predictor, exported, compared, wrong, loss=0.01, name="litert_int8"):
    """What is said of an export that names another class for the images at `wrong`."""
    whole = predictor.runtime(compared.pixels)

    def spoilt(pixels):
        outputs = predictor.runtime(pixels)
        probabilities = outputs.probabilities.copy()
        places = [place for place in wrong if place < len(pixels)]
        probabilities[places] = np.roll(probabilities[places], 1, axis=1)
        return outputs._replace(probabilities=probabilities)

    assert len(whole.probabilities) <= images_a_batch(compared.pixels.shape[1:])
    monkeypatch.setattr(parity, "open_runtime", lambda folder, wanted, threads=None: spoilt)
    files = {"model_int8.tflite": exported["model_int8.tflite"]}
    (entry,) = compare(predictor, files, compared, TOLERANCES, loss, 0.95)
    return entry


def test_all_formats_pass_with_their_figures(entries):
    assert list(entries) == list(FORMATS)
    for entry in entries.values():
        assert entry["passed"]
        assert entry["images"] == 140
        assert entry["validation_images"] == 80
        assert entry["agreement"] == 1 - entry["changed"] / 140
        assert entry["accuracy"] - entry["keras_accuracy"] == pytest.approx(entry["accuracy_change"])
        assert entry["accuracy_change_low"] <= entry["accuracy_change"] <= entry["accuracy_change_high"]
    assert entries["onnx"]["logits_difference"] < 1e-4 < entries["litert_int8"]["logits_difference"]


def test_test_and_training_images_are_never_compared_on(compared, shapes, shape_splits):
    used = {part.tobytes() for part in compared.pixels}
    for split in ("test", "training"):
        assert not used & {part.tobytes() for part in shapes.pixels(shapes.rows(shape_splits, split))}
    validation = shapes.pixels(shapes.rows(shape_splits, "validation"))
    np.testing.assert_array_equal(compared.pixels[: len(validation)], validation)
    np.testing.assert_array_equal(compared.classes, shapes.classes[shapes.rows(shape_splits, "validation")])


def test_all_validation_images_are_kept_and_the_others_are_the_same_each_time(predictor, shapes, shape_splits):
    few = images_to_compare(predictor, shapes, shape_splits, 1, seed=0)
    assert len(few.pixels) == len(few.classes) == 80
    more, again, other = (images_to_compare(predictor, shapes, shape_splits, 100, seed).pixels for seed in (0, 0, 1))
    np.testing.assert_array_equal(more, again)
    assert not np.array_equal(more, other)


def test_float_export_that_differs_by_more_than_rounding_fails(predictor, exported, compared):
    entries = compare(predictor, exported, compared, TOLERANCES | {"onnx": 1e-12}, 0.02, 0.95)
    failed = {entry["name"]: entry for entry in entries if not entry["passed"]}
    assert list(failed) == ["onnx"]
    assert "(allowed: 1e-12)" in failed["onnx"]["verdict"]
    assert not failed["onnx"]["shown"]


def test_logits_that_are_no_number_fail(predictor, exported, compared, monkeypatch):
    def nothing(pixels):
        outputs = predictor.runtime(pixels)
        return outputs._replace(logits=np.full_like(outputs.logits, np.nan))

    monkeypatch.setattr(parity, "open_runtime", lambda folder, wanted, threads=None: nothing)
    (entry,) = compare(predictor, {"model.onnx": b""}, compared, TOLERANCES, 0.02, 0.95)
    assert not entry["passed"]


def right_ones(predictor, compared):
    """Validation images that Keras has right."""
    found = predictor.runtime(compared.pixels[: len(compared.classes)]).probabilities.argmax(1)
    return np.flatnonzero(found == compared.classes)


def test_export_that_loses_more_accuracy_than_it_may_fails(monkeypatch, predictor, exported, compared):
    wrong = right_ones(predictor, compared)[:4]
    entry = judged(monkeypatch, predictor, exported, compared, wrong)
    assert entry["accuracy_change"] == -4 / 80
    assert not entry["passed"]
    assert entry["verdict"].startswith("-5.0 points of accuracy (")
    assert "4 of 140 images get another class" in entry["verdict"]
    assert judged(monkeypatch, predictor, exported, compared, wrong, loss=0.06)["passed"]


def test_what_few_images_cannot_show_is_said(monkeypatch, predictor, exported, compared):
    entry = judged(monkeypatch, predictor, exported, compared, [])
    assert entry["passed"]
    assert not entry["shown"]
    assert entry["verdict"].startswith("not outside what is allowed, nor shown to be within it: +0.0 points")


def test_images_without_a_label_show_how_little_can_be_lost(monkeypatch, predictor, exported, compared):
    entry = judged(monkeypatch, predictor, exported, compared, [], loss=0.03)
    assert entry["accuracy_change_low"] < -0.03  # 80 validation images show nothing of the kind
    assert entry["most_lost"] < 0.03
    assert entry["shown"]


def test_an_export_that_is_clearly_better_loses_nothing(monkeypatch, predictor, exported, compared):
    better = right_ones(predictor, compared)[:20]
    classes = compared.classes.copy()
    classes[better] = (classes[better] + 1) % predictor.runtime(compared.pixels[:1]).probabilities.shape[1]
    entry = judged(monkeypatch, predictor, exported, Compared(compared.pixels, classes, compared.groups), better)
    assert entry["accuracy_change_low"] > 0
    assert entry["most_lost"] == 0
    assert "so that at most 0.00 points are lost" in entry["verdict"]


def test_changed_classes_of_unlabelled_images_alone_do_not_fail(monkeypatch, predictor, exported, compared):
    entry = judged(monkeypatch, predictor, exported, compared, range(80, 90))
    assert (entry["changed"], entry["accuracy_change"]) == (10, 0)
    assert entry["passed"]
    assert not entry["shown"]


def test_without_validation_images_changed_classes_are_judged(monkeypatch, predictor, exported, compared):
    alone = Compared(compared.pixels[80:], compared.classes[:0], compared.groups[80:])
    whole = judged(monkeypatch, predictor, exported, alone, [])
    assert whole["passed"]
    assert whole["accuracy"] is None
    assert "accuracy not measured, without validation images" in whole["verdict"]
    assert not judged(monkeypatch, predictor, exported, alone, [0, 1, 2])["passed"]


def test_groups_make_the_interval_wider(monkeypatch, predictor, exported, compared):
    wrong = right_ones(predictor, compared)[:4]
    alone = judged(monkeypatch, predictor, exported, compared, wrong)
    grouped = replace(compared, groups=np.arange(len(compared.groups)) // 8)
    together = judged(monkeypatch, predictor, exported, grouped, wrong)
    assert together["accuracy_change_low"] < alone["accuracy_change_low"]


def test_images_of_another_run_are_refused_by_name(predictor, shapes, shape_splits):
    other = replace(shapes, fingerprint="another", name="cats")
    with pytest.raises(ValueError, match=r"Received: cats with another.*--params model_version=RUN"):
        images_to_compare(predictor, other, shape_splits, 100, 0)


def test_neither_validation_nor_unlabelled_images_is_an_error(predictor, shapes, shape_splits):
    training = shape_splits[shape_splits["split"] == "training"]
    with pytest.raises(ValueError, match=r"none of either\. Keep some: raise preprocess\.target\.split"):
        images_to_compare(predictor, shapes, training, 100, 0)


def test_calibration_uses_training_images_only(shapes, shape_splits):
    pixels = calibration_pixels(shapes, shape_splits, 30, seed=0)
    assert len(pixels) == 30
    training = shapes.pixels(shapes.rows(shape_splits, "training"))
    assert {part.tobytes() for part in pixels} <= {part.tobytes() for part in training}


def test_large_images_are_computed_few_at_once():
    """All runtimes are open meanwhile, and each keeps the memory of its largest batch."""
    sizes = []

    def runtime(pixels):
        sizes.append(len(pixels))
        return Outputs(*(pixels[:, :1, 0, 0].astype(np.float32),) * 3)

    pixels = np.arange(25, dtype=np.uint8)[:, None, None, None] + np.zeros((25, 224, 224, 3), np.uint8)
    assert parity._compute(runtime, pixels).logits.ravel().tolist() == list(range(25))
    assert sizes == [10, 10, 5]
