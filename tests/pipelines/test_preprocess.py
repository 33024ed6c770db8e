import pandas as pd
import pytest

from cnn_transfer.pipelines.preprocess.nodes import split_images


def test_labels_too_few_to_test_on_stop_the_run_where_they_are_split(parameters):
    block = parameters["preprocess"]["target"]
    split = {"test_fraction": 0.2, "labels_per_class": None, "validation_ratio": 0.25}
    checked = pd.DataFrame({"id": list("abcd"), "label": ["x", "x", "y", "y"], "split": [""] * 4, "group": [None] * 4})
    intake = {"share_set_aside": 0.0, "set_aside": {}}
    with pytest.raises(ValueError, match="No image is left to test on: the largest class has 2 with a label"):
        split_images(checked, intake, block | {"split": split}, 0)
    _, counts = split_images(
        checked, intake, block | {"split": split | {"test_fraction": 0.5, "validation_ratio": 0}}, 0
    )
    assert counts["test"].tolist() == [1, 1]
