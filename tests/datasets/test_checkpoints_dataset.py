"""The folder of checkpoints as an input of the graph."""

import pytest
from kedro.io import DataCatalog, Version
from kedro.io.core import DatasetError

from cnn_transfer.datasets import CheckpointsDataset
from cnn_transfer.training.checkpoints import FitState

STATE = FitState([["phase", 0]], [], 0.5, finished=True)


def test_each_run_has_a_folder_of_its_own(tmp_path):
    def handed_out(run):
        return CheckpointsDataset(filepath=str(tmp_path / "kept"), version=run and Version(None, run)).load()

    handed_out("one").write("key", STATE)
    assert (tmp_path / "kept/one/key.npz").exists()
    assert handed_out("one").read("key") == STATE
    assert handed_out("two").read("key") is None
    handed_out(None).write("other", STATE)
    assert (tmp_path / "kept/other.npz").exists()
    handed_out("one").clear()
    assert not (tmp_path / "kept/one").exists()


def test_only_the_states_of_a_run_are_deleted_whatever_its_address(bucket):
    kept = [
        CheckpointsDataset(filepath=f"s3://{bucket}/store [1]/kept", version=Version(None, run)).load()
        for run in ("one", "two")
    ]
    for checkpoints in kept:
        checkpoints.write("key", STATE)
    kept[0].clear()
    assert [checkpoints.read("key") for checkpoints in kept] == [None, STATE]


def test_it_is_always_there_and_never_saved(tmp_path):
    entry = {"type": "cnn_transfer.datasets.CheckpointsDataset", "filepath": str(tmp_path / "kept"), "versioned": True}
    catalog = DataCatalog.from_config({"checkpoints": entry}, save_version="run")
    assert catalog.exists("checkpoints")
    assert not (tmp_path / "kept").exists()
    assert str(catalog.load("checkpoints")) == f"Checkpoints('{tmp_path}/kept/run')"
    with pytest.raises(DatasetError, match="written by fits, not by nodes"):
        catalog.save("checkpoints", STATE)


def test_an_address_of_another_file_system_will_do():
    dataset = CheckpointsDataset(filepath="memory://store/kept", version=Version(None, "run"))
    dataset.load().write("key", STATE)
    assert dataset.load().read("key") == STATE
    dataset.load().clear()
