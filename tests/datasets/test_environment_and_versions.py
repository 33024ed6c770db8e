"""Read-only inputs: the machine, and all versions of a file."""

import json

import pandas as pd
import pytest
from kedro.io import DatasetError, Version

from cnn_transfer.datasets import AllVersionsDataset, EnvironmentDataset, JSONDataset


def test_the_environment_says_versions_and_hardware():
    environment = EnvironmentDataset().load()
    assert environment["packages"]["kedro"].startswith("1.")
    assert {"platform", "cpu", "cores", "memory_gb", "gpus"} == set(environment["hardware"])
    assert environment["hardware"]["cores"] >= 1
    assert environment["hardware"]["cpu"]
    assert json.loads(json.dumps(environment)) == environment


def test_the_environment_is_never_written():
    with pytest.raises(DatasetError, match="never written"):
        EnvironmentDataset().save({})


def test_all_versions_are_read_the_oldest_first_and_damaged_ones_say_why(tmp_path):
    path = tmp_path / "summary.json"
    for version, value in (("1", {"a": 1}), ("2", {"a": 2})):
        JSONDataset(filepath=str(path), version=Version(None, version)).save(value)
    (path / "3").mkdir()
    (path / "3/summary.json").write_text('{"a": ')
    (path / "4").mkdir()  # cut off before the file had its name
    (path / "4/.partial-summary.json").write_text("{}")
    content = AllVersionsDataset(filepath=str(path)).load()
    assert list(content) == ["1", "2", "3"]
    assert (content["1"], content["2"]) == ({"a": 1}, {"a": 2})
    assert content["3"].startswith("JSONDecodeError: ")


def test_all_versions_of_a_table_are_tables(tmp_path):
    path = tmp_path / "answers.parquet"
    for version in "12":
        (path / version).mkdir(parents=True)
    table = pd.DataFrame({"id": ["a"], "right": pd.array([None], "boolean")})
    table.to_parquet(path / "1" / path.name)
    (path / "2" / path.name).write_bytes(b"PAR1")
    content = AllVersionsDataset(filepath=str(path)).load()
    pd.testing.assert_frame_equal(content["1"], table)
    assert content["2"].startswith("ArrowInvalid: ")


def test_without_versions_nothing_exists_and_the_mapping_is_empty(tmp_path):
    dataset = AllVersionsDataset(filepath=str(tmp_path / "summary.json"))
    assert not dataset.exists()
    assert dataset.load() == {}
    with pytest.raises(DatasetError, match="by its own entry"):
        dataset.save({})
