"""What a run has made, told across processes."""

import json
import time

import pytest
from kedro.io import DatasetError, Version

from cnn_transfer.datasets import RunRecordsDataset


@pytest.fixture(params=["folder", "s3"])
def place(request, tmp_path):
    if request.param == "folder":
        return str(tmp_path / "store [1]/records")
    return f"s3://{request.getfixturevalue('bucket')}/store [1]/records"


def records(place, run):
    return RunRecordsDataset(filepath=place, version=Version(run, run))


def record(finished=1.0, fingerprint="f00d", outputs=None, reused_from=None):
    return {
        "fingerprint": fingerprint,
        "inputs": {},
        "outputs": {"y": "digest"} if outputs is None else outputs,
        "seconds": 2.0,
        "reused_from": reused_from,
        "finished": finished,
    }


def test_records_of_a_run_add_up_over_processes_in_the_order_of_their_ends(place):
    records(place, "a").save({"stage.late": record(2.0)})
    records(place, "a").save({"stage.early": record(1.0)})
    records(place, "b").save({"stage.other": record(3.0)})
    assert list(records(place, "a").load()) == ["stage.early", "stage.late"]
    assert records(place, "a").digests() == {"y": "digest"}
    assert records(place, "c").load() == {}


def test_a_claim_that_a_killed_process_left_on_a_node_that_is_done_goes_as_the_run_goes_on(tmp_path):
    place = tmp_path / "records"
    records(str(place), "a").save({"done": record()})
    for node in ("done", "begun"):
        with records(str(place), "a").claim(node):
            file = place / f"a/{node}.claim"
            left = json.loads(file.read_text()) | {"process_started": "0"}
        file.write_text(json.dumps(left))
    assert list(records(str(place), "a").records()) == ["done"]
    assert [file.name for file in place.glob("a/*.claim")] == ["begun.claim"]


def test_a_fingerprint_tells_the_run_that_made_it(place):
    records(place, "a").save({"node": record(fingerprint="f00d")})
    assert list(records(place, "b").find("f00d")) == [("a", record(fingerprint="f00d"))]
    assert list(records(place, "b").find("beef")) == []


def test_all_runs_that_made_the_same_are_found_the_latest_first(place):
    for number, run in enumerate("bacd"):
        records(place, run).save({"node": record(float(number), "f00d")})
    records(place, "e").save({"node": record(9.0, "other")})
    assert [run for run, _ in records(place, "f").find("f00d")] == ["d", "c", "a", "b"]


def test_a_run_that_was_deleted_or_did_it_anew_is_not_found(tmp_path):
    kept = records(str(tmp_path), "a")
    kept.save({"node": record(fingerprint="f00d")})
    file = tmp_path / "a/node.json"
    file.write_text(json.dumps(record(fingerprint="other")))
    assert list(records(str(tmp_path), "b").find("f00d")) == []
    file.unlink()
    assert list(records(str(tmp_path), "b").find("f00d")) == []


def test_inputs_taken_over_count_as_the_runs_own_and_bring_their_costs(place):
    taken = {"stage.taken": record(outputs={"w": "0"}, reused_from="earlier")}
    records(place, "a").save({"stage.node": record(outputs={"x": "1"})} | taken)
    records(place, "c").save({"stage.other": record(outputs={"z": "3"})})
    mine = records(place, "b")
    mine.save_inputs({"x": "1"}, "a")
    mine.save_inputs({"z": "3"}, "c")
    mine.save({"stage.next": record(outputs={"y": "2"})})
    assert mine.digests() == {"x": "1", "y": "2", "z": "3"}
    told = {node: entry["reused_from"] for node, entry in records(place, "b").load().items()}
    assert told == {"stage.node": "a", "stage.taken": "earlier", "stage.other": "c", "stage.next": None}


def test_without_a_run_the_latest_one_is_read(place):
    for run in ("z", "a"):
        records(place, run).save({run: record()})
        time.sleep(1)  # stores know seconds
    assert list(RunRecordsDataset(filepath=place, version=Version(None, "new")).load()) == ["a"]
    with pytest.raises(DatasetError, match="no run has finished a node"):
        RunRecordsDataset(filepath=f"{place}/none", version=Version(None, "new")).load()


def test_a_half_written_record_is_not_read(tmp_path):
    records(str(tmp_path), "a").save({"node": record()})
    (tmp_path / "a/.partial-123.json").write_text('{"half')
    assert list(records(str(tmp_path), "a").load()) == ["node"]
