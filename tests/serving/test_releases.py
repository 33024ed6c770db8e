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


@pytest.fixture
def slot(releases):
    metrics = Metrics()
    slot = ModelSlot(releases, lambda release: load_release(release, Settings(release=str(releases))), metrics)
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
def test_a_damaged_release_is_logged_and_the_old_one_stays(slot, copy_release, caplog, name):
    damaged = copy_release("damaged")
    content = (damaged / name).read_bytes()
    (damaged / name).write_bytes(content[: len(content) // 2])
    assert not slot.refresh()
    assert not slot.refresh()  # it is not tried again
    assert slot.current.version == VERSION
    assert slot.loads("failed") == 1
    assert f"damaged/release cannot be served; {VERSION} stays" in caplog.text
    (damaged / name).write_bytes(content)
    completed(damaged, 4_000_000_000)  # written again
    assert slot.refresh()
    assert slot.current.version == "damaged"


@pytest.mark.parametrize("name", ["predictor.json", "model.onnx", "features.npz", "README.md"])
def test_a_release_with_a_missing_file_is_not_served(slot, copy_release, name):
    (copy_release("damaged") / name).unlink()
    assert not slot.refresh()
    assert slot.loads("failed") == 1


def test_exports_of_another_form_or_outside_their_tolerance_are_not_served(slot, copy_release, caplog):
    for version, change in (("old", {"form": 0}), ("bad", {"exports": [{"name": "onnx", "passed": False}]})):
        folder = copy_release(version)
        content = json.loads((folder / "exports.json").read_text()) | change
        (folder / "exports.json").write_text(json.dumps(content))
        assert not slot.refresh()
    assert "is of the form 0, this program reads 2" in caplog.text
    assert "export onnx of the release bad is outside its tolerance" in caplog.text


def test_when_the_newest_release_is_removed_the_one_before_is_served_again(slot, copy_release):
    folder = copy_release("second")
    assert slot.refresh()
    shutil.rmtree(folder)
    assert slot.refresh()
    assert slot.current.version == VERSION


def test_a_release_stays_in_memory_when_all_are_removed(slot, releases):
    shutil.rmtree(releases)
    assert not slot.refresh()
    assert slot.current.version == VERSION


def test_without_a_release_it_says_how_to_make_one(tmp_path):
    slot = ModelSlot(tmp_path, None, Metrics())
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
