"""Points of a learning curve as versions that grow."""

import pandas as pd
import pytest
from kedro.io import DatasetError, Version

from cnn_transfer.datasets import CurvePointsDataset
from cnn_transfer.evaluation.curve_points import PlannedPoint


def planned(calls, number, fails=()):
    def measure(labels):
        if labels in fails:
            raise ValueError("cut off")
        calls.append(labels)
        return pd.DataFrame({"id": ["a"], "label": ["x"], "predicted": ["x"]})

    return [
        PlannedPoint("transfer", labels, 0, "d", lambda labels=labels: measure(labels))
        for labels in range(1, number + 1)
    ]


def dataset(folder, version):
    return CurvePointsDataset(filepath=str(folder / "points"), version=Version(None, version))


def test_a_version_that_was_cut_off_is_none_and_its_points_are_taken(tmp_path):
    calls = []
    with pytest.raises(DatasetError, match="cut off"):
        dataset(tmp_path, "1").save(planned(calls, 3, fails={3}))
    assert not dataset(tmp_path, None).exists()
    dataset(tmp_path, "2").save(planned(calls, 3))
    assert calls == [1, 2, 3]
    assert [point.labels for point in dataset(tmp_path, None).load()] == [1, 2, 3]


def test_a_finished_version_serves_the_next_one_which_may_have_more(tmp_path):
    calls = []
    for version, number in (("1", 2), ("2", 3)):
        dataset(tmp_path, version).save(planned(calls, number))
    assert calls == [1, 2, 3]
    first = CurvePointsDataset(filepath=str(tmp_path / "points"), version=Version("1", None))
    assert len(first.load()) == 2
    assert len(dataset(tmp_path, "2").load()) == 3


def test_a_version_that_was_cut_off_can_be_finished_under_its_own_name(tmp_path):
    calls = []
    with pytest.raises(DatasetError):
        dataset(tmp_path, "1").save(planned(calls, 2, fails={2}))
    dataset(tmp_path, "1").save(planned(calls, 2))
    assert calls == [1, 2]
    assert not list(tmp_path.rglob(".partial*"))


def test_without_versions_it_is_replaced(tmp_path):
    calls = []
    for number in (1, 2):
        CurvePointsDataset(filepath=str(tmp_path / "points")).save(planned(calls, number))
    assert calls == [1, 2]
    assert len(CurvePointsDataset(filepath=str(tmp_path / "points")).load()) == 2
