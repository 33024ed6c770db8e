"""The parameter `class_balance` reaches the training images of each fit, and no others."""

import numpy as np
import pandas as pd
import pytest

from cnn_transfer.pipelines.finetune_target import nodes as finetune_target
from cnn_transfer.pipelines.pretrain_source import nodes as pretrain_source
from cnn_transfer.transfer import FeatureSet, TransferPlan


class ReachedTheFitError(Exception):
    """Ends a node where it would train."""


@pytest.mark.parametrize("class_balance", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("node", ["pretrain", "finetune", "train_from_scratch"])
def test_classes_are_drawn_as_evenly_as_asked(
    node, class_balance, monkeypatch, shapes, shape_splits, tiny_network, card, parameters
):
    seen = []

    def train(network, training, validation, *_, **__):
        seen.extend([training, validation])
        raise ReachedTheFitError

    monkeypatch.setattr(pretrain_source, "fit", train)
    monkeypatch.setattr(finetune_target, "fine_tune", train)
    monkeypatch.setattr(finetune_target, "train_baseline", train)
    network = tiny_network()
    plan = TransferPlan(
        source="shapes",
        source_fingerprint=shapes.fingerprint,
        architecture="tiny",
        taps=("block2",),
        grid=1,
        cut_layer="block2",
        cut_layers=("block1", "block2"),
        head="ridge",
        penalty=1.0,
        self_trained=False,
        transferred_parameters=1,
        new_parameters=1,
        evidence={},
        source_helps=None,
        sentence="",
    ).model_dump(mode="json")
    rare = shape_splits["label"].eq("row") & (shape_splits.groupby("label").cumcount() % 5 > 0)
    data = shapes, shape_splits[~rare]
    nothing = FeatureSet(pd.DataFrame({"id": []}), np.empty((0, 0)), (), {}, "", 0)
    block = parameters["finetune_target"]
    shared = block["augmentation"], class_balance, "float32", 0
    tuning = block["fine_tuning"], block["pseudo_labels"], *shared
    pretraining = parameters["pretrain_source"] | {"class_balance": class_balance}
    start = {
        "pretrain": lambda: pretrain_source.pretrain(*data, pretraining, "float32", 0),
        "finetune": lambda: finetune_target.finetune(network, card, plan, nothing, *data, *tuning),
        "train_from_scratch": lambda: finetune_target.train_from_scratch(
            network, card, *data, block["baseline"], *shared
        ),
    }
    with pytest.raises(ReachedTheFitError):
        start[node]()
    training, validation = seen
    shares = training.weights @ training.targets / training.weights.sum()
    counts = training.targets.sum(axis=0)
    wanted = counts ** (1 - class_balance)
    assert counts.min() < counts.max() / 3
    np.testing.assert_allclose(shares, wanted / wanted.sum())
    np.testing.assert_array_equal(validation.weights, 1)
