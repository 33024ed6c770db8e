import logging
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cnn_transfer.transfer import judge_mirroring, rows_to_mirror
from cnn_transfer.transfer.depths import MOST_IMAGES
from cnn_transfer.transfer.features import MIRRORED, FeatureSet

HEAD = SimpleNamespace(taps=("tap",), grid=1, tap_weights=np.ones(1), blind=False)
NAMES = ("ball", "left", "right")


def features_and_splits(images=20, signed=True, mirrored=True):
    """Images of which one feature says which way something points and another that it is a ball.

    Args:
        images: Of each class.
        signed: Whether a mirror turns that way round.
        mirrored: Whether images are there left for right.
    """
    rng = np.random.default_rng(0)
    labels = np.array(NAMES).repeat(images)
    splits = pd.DataFrame({"id": [f"{number}.png" for number in range(len(labels))], "label": labels})
    splits = splits.assign(split="training", group=splits["id"])
    points = np.where(labels == "left", -1.0, np.where(labels == "right", 1.0, 0.0))
    own = np.stack([points, labels == "ball"], axis=1) + 0.2 * rng.standard_normal((len(labels), 2))
    turned = own * (-1 if signed else 1, 1) + 0.02 * rng.standard_normal(own.shape)
    table = splits[["id"]].assign(copy=0)
    values = [own, turned] if mirrored else [own]
    table = pd.concat([table, table.assign(copy=MIRRORED)][: len(values)], ignore_index=True)
    rows = np.concatenate(values).astype(np.float32)
    return FeatureSet(table, rows, ("tap",), {1: [2]}, "digest", 0), splits


def test_one_image_of_each_class_does_not_tell_whether_mirroring_harms(caplog):
    features, splits = features_and_splits(images=1)
    found = judge_mirroring(features, splits, SimpleNamespace(**vars(HEAD) | {"blind": True}))
    assert not found["harms"]
    assert found["sentence"].startswith("Whether mirroring harms cannot be told: every class has one training image")
    assert not caplog.records


def test_classes_that_are_others_in_a_mirror_are_harmed_by_it(caplog):
    features, splits = features_and_splits()
    found = judge_mirroring(features, splits, HEAD)
    assert found["harms"]
    assert found["images"] == 60
    assert found["accuracy"] > 0.95
    assert found["accuracy_mirrored"] < 0.8  # a third is left, a third right
    assert found["difference"] == pytest.approx(found["accuracy_mirrored"] - found["accuracy"])
    assert found["difference"] < -3 * found["standard_error"]
    for part in (
        "Mirroring harms, most of all ",
        "of 60 left-out training images right",
        "Unless images left for right will come, too",  # left-out images cannot tell
        "migrate_model.augmentation.horizontal_flip=false,",
    ):
        assert part in found["sentence"]
    (larger,) = re.findall(r", with a squared error (\d+)% larger, which is far more than chance", found["sentence"])
    assert int(larger) > 100
    assert any(f"most of all {one}, taken for {other}" in found["sentence"] for one, other in (NAMES[1:], NAMES[:0:-1]))
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.WARNING, found["sentence"])


def test_where_a_mirror_changes_nothing_there_is_no_harm(caplog):
    found = judge_mirroring(*features_and_splits(signed=False), HEAD)
    assert not found["harms"]
    assert found["sentence"].startswith("Mirroring does no clear harm: ")
    assert not caplog.records


def test_two_images_of_a_class_are_too_few_to_tell():
    found = judge_mirroring(*features_and_splits(images=2), HEAD)
    assert not found["harms"]


def test_images_of_one_group_are_no_more_evidence_than_one():
    features, splits = features_and_splits()
    splits["group"] = splits["label"]
    assert not judge_mirroring(features, splits, HEAD)["harms"]


def test_without_mirrored_images_nothing_is_judged():
    assert judge_mirroring(*features_and_splits(mirrored=False), HEAD) is None


def test_training_images_are_mirrored_where_copies_are(shapes, shape_splits, augmentation):
    assert not len(rows_to_mirror(shapes, shape_splits, augmentation(), 0))
    rows = rows_to_mirror(shapes, shape_splits, augmentation(horizontal_flip=True), 0)
    training = shapes.rows(shape_splits, "training")
    assert set(rows) <= set(training)
    assert len(rows) == min(MOST_IMAGES, len(training))
