"""Which release is served, and what becomes of damaged ones."""

import json
import os
import shutil

import pytest
from services import VERSION, serving

from cnn_transfer.serving import ModelSlot, NoReleaseError, Settings, find_releases
from cnn_transfer.serving.metrics import Metrics
from cnn_transfer.serving.releases import load_release


def versions(location):
    return [release.version for release in find_releases(location)]


def completed(folder, seconds):
    os.utime(folder / "exports.json", (seconds, seconds))


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch):
    """How quickly a release labels images is what the tests of the service are about."""
    monkeypatch.setattr("cnn_transfer.serving.releases._quick_images", lambda model, most: most)


@pytest.fixture
def slot(releases):
    """A slot whose seconds pass when `wait` is called; it pauses for 5 of them first."""
    metrics, now = Metrics(), [0.0]

    def load(release):
        return load_release(release, Settings(release=str(releases)))

    def wait(seconds):
        now[0] += seconds

    slot = ModelSlot(releases, load, metrics, 5, lambda: now[0])
    slot.wait = wait
    slot.loads = lambda result: metrics.registry.get_sample_value("cnn_transfer_model_loads_total", {"result": result})
    assert slot.refresh()
    return slot


def test_the_newest_is_the_one_completed_last_whatever_its_name(releases, copy_release):
    first = releases / VERSION / "release"
    completed(copy_release("a-nightly"), 3_000)
    completed(copy_release("z-nightly"), 1_000)
    completed(first, 2_000)
    assert versions(releases) == ["a-nightly", VERSION, "z-nightly"]
    assert versions(first) == [VERSION]


def test_what_is_not_complete_is_no_release(releases, copy_release, tmp_path):
    (copy_release("half") / "exports.json").unlink()
    (releases / "a file").write_text("")
    (releases / "empty").mkdir()
    assert versions(releases) == [VERSION]
    assert versions(tmp_path / "nothing") == []


def test_a_new_release_is_swapped_in_and_pictures_of_the_last_one_stay(slot, copy_release):
    assert not slot.refresh()
    copy_release("second")
    assert slot.refresh()
    assert slot.current.version == "second"
    assert slot.pictures(VERSION)[0] == slot.pictures("second")[0] == slot.pictures(None)[0]
    copy_release("third")
    assert slot.refresh()
    with pytest.raises(KeyError):
        slot.pictures(VERSION)
    assert slot.loads("served") == 3


@pytest.mark.parametrize("name", ["predictor.json", "model.onnx", "features.npz", "training.parquet", "exports.json"])
def test_a_damaged_release_is_logged_and_the_old_one_stays_until_it_is_whole(slot, copy_release, caplog, name):
    damaged = copy_release("damaged")
    content = (damaged / name).read_bytes()
    (damaged / name).write_bytes(content[: len(content) // 2])
    written = (damaged / "exports.json").stat().st_mtime
    assert not slot.refresh()
    slot.wait(4.9)
    assert not slot.refresh()  # it is not tried again yet
    assert slot.current.version == VERSION
    assert slot.loads("failed") == 1
    assert f"damaged/release cannot be served; {VERSION} stays; it is tried again in 5 s" in caplog.text
    (damaged / name).write_bytes(content)
    completed(damaged, written)  # as rsync leaves it
    slot.wait(0.1)
    assert slot.refresh()
    assert slot.current.version == "damaged"


def test_a_damaged_release_that_is_written_again_is_tried_at_once(slot, copy_release):
    damaged = copy_release("damaged")
    content = (damaged / "model.onnx").read_bytes()
    (damaged / "model.onnx").write_bytes(b"no model")
    assert not slot.refresh()
    (damaged / "model.onnx").write_bytes(content)
    completed(damaged, 4_000_000_000)
    assert slot.refresh()


def test_pauses_between_tries_double_up_to_ten_minutes(slot, copy_release, monkeypatch):
    def time_out(_):
        raise ConnectionError("Read timed out")

    load = slot._load
    monkeypatch.setattr(slot, "_load", time_out)
    copy_release("second")
    assert not slot.refresh()
    for tries, pause in enumerate([5, 10, 20, 40, 80, 160, 320, 600, 600], 1):
        slot.wait(pause - 1)
        assert not slot.refresh()
        assert slot.loads("failed") == tries
        slot.wait(1)
        assert not slot.refresh()
        assert slot.loads("failed") == tries + 1
    monkeypatch.setattr(slot, "_load", load)
    assert not slot.refresh()
    slot.wait(600)
    assert slot.refresh()
    assert slot.current.version == "second"


@pytest.mark.parametrize("name", ["predictor.json", "model.onnx", "features.npz", "README.md"])
def test_a_release_with_a_missing_file_is_not_served(slot, copy_release, name):
    (copy_release("damaged") / name).unlink()
    assert not slot.refresh()
    assert slot.loads("failed") == 1


def test_a_release_that_is_written_over_is_loaded_again_until_all_of_it_is_there(slot, releases):
    folder = releases / VERSION / "release"
    completed(folder, 4_000_000_000)  # the first file that is copied
    assert slot.refresh()
    (folder / "README.md").write_text("# Another model")
    assert slot.refresh()
    assert slot.current.predictor.card == "# Another model"
    assert not slot.refresh()


def test_exports_of_another_form_or_outside_their_tolerance_are_not_served(slot, copy_release, caplog):
    for version, change in (("old", {"form": 0}), ("bad", {"exports": [{"name": "onnx", "passed": False}]})):
        folder = copy_release(version)
        content = json.loads((folder / "exports.json").read_text()) | change
        (folder / "exports.json").write_text(json.dumps(content))
        assert not slot.refresh()
    slot.wait(1e9)
    assert not slot.refresh()
    assert slot.loads("failed") == 2  # neither is tried again
    assert caplog.text.count("it is tried again when it is written again") == 2
    assert "is of the form 0, this program reads 2" in caplog.text
    assert "export onnx of the release bad is outside its tolerance" in caplog.text


def test_when_the_newest_release_is_removed_the_one_before_is_served_again(slot, copy_release):
    folder = copy_release("second")
    assert slot.refresh()
    shutil.rmtree(folder)
    assert slot.refresh()
    assert slot.current.version == VERSION


def test_a_release_stays_in_memory_when_all_are_removed_which_is_said_once(slot, releases, caplog):
    shutil.rmtree(releases)
    for _ in range(2):
        assert not slot.refresh()
    assert slot.current.version == VERSION
    assert caplog.text.count(f"There is no release in {releases} any more. {VERSION} stays") == 1


def test_a_store_that_is_away_is_counted_and_told_of_with_one_traceback(slot, monkeypatch, caplog):
    caplog.set_level("INFO")

    def refuse(_):
        raise ConnectionError("Connect call failed")

    with monkeypatch.context() as away:
        away.setattr("cnn_transfer.serving.releases.find_releases", refuse)
        for _ in range(3):
            slot.look()
    assert slot._metrics.registry.get_sample_value("cnn_transfer_failed_looks_total") == 3
    assert caplog.text.count(f"{VERSION} stays: ConnectionError Connect call failed") == 3
    assert caplog.text.count("Traceback") == 1
    slot.look()
    slot.look()
    assert caplog.text.count("can be looked at again") == 1


def test_without_a_release_it_says_how_to_make_one(tmp_path):
    slot = ModelSlot(tmp_path, None, Metrics(), 5)
    assert not slot.refresh()
    with pytest.raises(NoReleaseError, match=r"kedro run --pipelines export"):
        _ = slot.current


def test_images_that_training_took_may_be_too_large_for_the_service(releases):
    release = find_releases(releases)[0]
    usual = load_release(release, Settings(release=str(releases), most_megapixels=1_000))
    small = load_release(release, Settings(release=str(releases), most_megapixels=2))
    assert usual.image_format == usual.predictor.facts.image_format
    assert small.image_format.most_megapixels == 2


def test_the_service_takes_in_a_new_release_while_it_runs(releases, copy_release, encode_png, shapes):
    image = encode_png(shapes.pixels([0])[0, ..., 0])
    with serving(releases, watch_seconds=0.05) as client:
        assert client.get("/ready").json["version"] == VERSION
        copy_release("second")
        while client.get("/ready").json["version"] != "second":
            assert client.send(("a.png", image)).status == 200
        assert client.send(("a.png", image)).json["model"]["version"] == "second"
        assert client.metric('cnn_transfer_model_info{runtime="onnx",version="second"}') == 1
        assert client.metric(f'cnn_transfer_model_info{{runtime="onnx",version="{VERSION}"}}') == 0
        completed = (releases / "second/release/exports.json").stat().st_mtime
        assert client.metric("cnn_transfer_model_completed_timestamp_seconds") == pytest.approx(completed)


@pytest.mark.slow
def test_a_release_on_an_object_store_is_served_like_one_on_a_disk(bucket, releases, encode_png, shapes):
    import s3fs

    store = s3fs.S3FileSystem()
    address = f"s3://{bucket}/models/release"
    assert find_releases(address) == []
    store.put(str(releases / VERSION), f"{bucket}/models/release/", recursive=True)
    image = encode_png(shapes.pixels([0])[0, ..., 0])
    with serving(address, watch_seconds=0.2) as client, serving(releases) as other:
        assert client.get("/ready").json["version"] == VERSION
        assert client.send(("a.png", image)).json == other.send(("a.png", image)).json
        store.put(str(releases / VERSION / "release"), f"{bucket}/models/release/second/release", recursive=True)
        while client.get("/ready").json["version"] != "second":
            assert client.get("/live").status == 200
    assert versions(f"{address}/second/release") == ["second"]
