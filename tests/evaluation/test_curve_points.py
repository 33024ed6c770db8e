"""Points of a learning curve on disk."""

import json

import pandas as pd
import pytest

from cnn_transfer.evaluation.curve_points import PlannedPoint, open_curve_points, write_curve_points


class Measured:
    """Points that count how often each was measured, and fail on demand."""

    def __init__(self):
        self.calls = []

    def point(self, labels, digest="d", fails=False):
        def measure():
            if fails:
                raise MemoryError("too large")
            self.calls.append(labels)
            return pd.DataFrame({"id": ["a", "b"], "label": ["x", "y"], "predicted": ["x", "x"]})

        return PlannedPoint("scratch", labels, 0, digest, measure)


@pytest.fixture
def measured():
    return Measured()


def computed(folder):
    return json.loads((folder / "written.json").read_text())["computed"]


def test_points_are_read_back_in_their_order(measured, tmp_path):
    write_curve_points([measured.point(10), measured.point(5)], tmp_path / "points")
    points = open_curve_points(tmp_path / "points")
    assert [(point.side, point.labels, point.seed) for point in points] == [("scratch", 10, 0), ("scratch", 5, 0)]
    assert points[0].predictions["predicted"].tolist() == ["x", "x"]


def test_what_a_broken_off_collection_holds_is_not_measured_again(measured, tmp_path):
    with pytest.raises(MemoryError):
        write_curve_points([measured.point(5), measured.point(10, fails=True)], tmp_path / "first")
    assert not (tmp_path / "first/points.json").exists()
    write_curve_points([measured.point(5), measured.point(10)], tmp_path / "second", [tmp_path / "first"])
    assert measured.calls == [5, 10]
    assert computed(tmp_path / "second") == [False, True]


def test_the_same_folder_goes_on_where_it_stopped(measured, tmp_path):
    with pytest.raises(MemoryError):
        write_curve_points([measured.point(5), measured.point(10, fails=True)], tmp_path / "points")
    write_curve_points([measured.point(5), measured.point(10)], tmp_path / "points")
    assert measured.calls == [5, 10]
    assert len(open_curve_points(tmp_path / "points")) == 2


def test_a_point_made_from_something_else_is_measured(measured, tmp_path):
    write_curve_points([measured.point(5)], tmp_path / "first")
    write_curve_points([measured.point(5, digest="other")], tmp_path / "second", [tmp_path / "first"])
    assert measured.calls == [5, 5]


def test_half_a_file_is_no_point(measured, tmp_path):
    (tmp_path / "points").mkdir()
    (tmp_path / "points" / f".{measured.point(5).file}").write_bytes(b"half")  # as a killed process leaves it
    write_curve_points([measured.point(5)], tmp_path / "points")
    assert measured.calls == [5]
    assert len(open_curve_points(tmp_path / "points")[0].predictions) == 2


def test_a_point_is_taken_where_the_disk_has_no_links(measured, tmp_path, monkeypatch):
    write_curve_points([measured.point(5)], tmp_path / "first")

    def refuse(*_):
        raise OSError

    monkeypatch.setattr("os.link", refuse)
    write_curve_points([measured.point(5)], tmp_path / "second", [tmp_path / "first"])
    assert measured.calls == [5]
    assert len(open_curve_points(tmp_path / "second")) == 1


def test_every_point_is_said_with_what_became_of_it(measured, tmp_path, caplog):
    caplog.set_level("INFO")
    write_curve_points([measured.point(5)], tmp_path / "first")
    write_curve_points([measured.point(5), measured.point(10)], tmp_path / "second", [tmp_path / "first"])
    messages = [record.getMessage() for record in caplog.records]
    assert messages[1] == "point 1 of 2: scratch, 5 labels a class, seed 0: known already"
    assert messages[2].startswith("point 2 of 2: scratch, 10 labels a class, seed 0: 0.")
