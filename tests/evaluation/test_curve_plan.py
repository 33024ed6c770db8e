"""All that a point of a learning curve is made from is in its name, or an old one would be taken for it."""

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

from cnn_transfer.evaluation.curve_plan import Training, plan_points

DRAW = pd.DataFrame(
    {
        "id": ["1", "2", "3"],
        "label": ["a", "b", "a"],
        "split": ["training", "training", "test"],
        "group": ["1", "2", "3"],
    }
)


def parameters(**values):
    """A block of which only these are known."""
    return SimpleNamespace(model_dump=lambda mode: values, **values)


TRAINING = Training(
    head=parameters(grids=[1]),
    fine_tuning=parameters(steps=5),
    pseudo_labels=parameters(share=0.5),
    baseline=parameters(steps=5, architecture=None),
    augmentation=parameters(degrees=5),
    class_balance=0.0,
    precision="float32",
)


def digests(training, fingerprint="f", network="n", layers="l", seed=0, draw=DRAW):
    """By side, of one point each."""
    draws = {(1, seed): draw}
    migrated = SimpleNamespace(to_json=lambda: layers, output_shape=(None, 2))
    features, images = SimpleNamespace(network_digest=network), SimpleNamespace(fingerprint=fingerprint)
    points = plan_points(None, migrated, images, features, draws, draws, training)
    return {point.side: point.digest for point in points}


@pytest.mark.parametrize(
    ("change", "of_head", "of_transfer", "of_scratch"),
    [
        ({"head": parameters(grids=[2])}, True, True, False),
        ({"pseudo_labels": parameters(share=0.9)}, False, True, False),
        ({"baseline": parameters(steps=6, architecture=None)}, False, False, True),
        ({"augmentation": parameters(degrees=9)}, False, True, True),
        ({"class_balance": 0.5}, False, True, True),
        ({"precision": "bfloat16"}, False, True, True),
        ({"fingerprint": "g"}, True, True, True),
        ({"network": "o"}, True, True, False),
        ({"layers": "k"}, False, False, True),
        ({"seed": 1}, True, True, True),
        ({"draw": DRAW.assign(label=["b", "a", "a"])}, True, True, True),
        ({"draw": DRAW.assign(group="one")}, True, True, True),
    ],
)
def test_a_point_has_another_name_when_what_it_is_made_from_is_another(change, of_head, of_transfer, of_scratch):
    of_training = {name: change[name] for name in change if hasattr(TRAINING, name)}
    others = {name: change[name] for name in change if name not in of_training}
    for fine_tuning, expected in ((None, of_head), (TRAINING.fine_tuning, of_transfer)):
        training = replace(TRAINING, fine_tuning=fine_tuning)
        before, after = digests(training), digests(replace(training, **of_training), **others)
        assert (before["transfer"] != after["transfer"], before["scratch"] != after["scratch"]) == (
            expected,
            of_scratch,
        )


def test_fine_tuning_is_in_the_name():
    trainings = [replace(TRAINING, fine_tuning=block) for block in (None, parameters(steps=5), parameters(steps=6))]
    found = [digests(training) for training in trainings]
    assert len({names["transfer"] for names in found}) == 3
    assert len({names["scratch"] for names in found}) == 1
