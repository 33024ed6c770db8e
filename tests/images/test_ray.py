"""The same preparation on a Ray cluster: two nodes on one machine, each with its own processes and object store."""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cnn_transfer.images import DecodedImages, ImageFormat, Workers, list_images, open_image_set, write_image_set
from cnn_transfer.images.listing import RemoteFile

pytestmark = pytest.mark.slow

IMAGE_FORMAT = ImageFormat(image_size_px=512, channels=3)  # 10 images a chunk


@pytest.fixture(scope="module")
def cluster():
    """Two nodes with one CPU each, found as Ray's users have theirs found."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    cluster.add_node(**node)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes of 50 pictures, and what cannot be used: a damaged, an empty and a hidden file."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (folder / label).mkdir()
        for index in range(50):
            Image.fromarray(rng.integers(0, 256, (40, 30, 3), np.uint8)).save(folder / label / f"{index:02d}.png")
    (folder / "cat/10.png").write_bytes((folder / "cat/10.png").read_bytes()[:600])
    (folder / "dog/empty.png").touch()
    (folder / "dog/.hidden.png").touch()
    return folder


def prepare(listing, folder, engine, earlier=None):
    rows = np.arange(len(listing.table))
    images = DecodedImages(listing, IMAGE_FORMAT, rows, Workers(engine=engine, workers=None))
    write_image_set(images, folder, earlier)
    return open_image_set(folder)


def assert_same(one, other):
    assert one.fingerprint == other.fingerprint
    pd.testing.assert_frame_equal(one.table, other.table)
    pd.testing.assert_frame_equal(one.rejected, other.rejected)
    rows = np.arange(len(one))
    np.testing.assert_array_equal(one.pixels(rows), other.pixels(rows))


def watched(listing, read=Path.read_bytes, note_reader=lambda: None):
    """The listing, with files that are read in this way."""

    class WatchedFiles:  # of no module, as the function below, so that they travel to the workers with their code
        def cat_ranges(self, paths, starts, ends, on_error):
            note_reader()
            return [read(Path(path)) for path in paths]

    def read_watched(rows):
        return (RemoteFile(WatchedFiles(), str(file)) for file in listing.read(rows))

    return replace(listing, read=read_watched)


def test_prepares_the_same_set_as_threads_with_both_nodes_at_work(cluster, photos, tmp_path):
    listing = list_images(photos)
    local = prepare(listing, tmp_path / "local", "threads")
    (readers := tmp_path / "readers").mkdir()

    def meet():  # else one node may have done all the work before the other has started
        import ray

        (readers / ray.get_runtime_context().get_node_id()).touch()
        patience = time.monotonic() + 60
        while len(list(readers.iterdir())) < 2 and time.monotonic() < patience:
            time.sleep(0.01)

    remote = prepare(watched(listing, note_reader=meet), tmp_path / "remote", "ray")
    assert len(remote) == 99
    assert set(remote.rejected["reason"]) == {"truncated", "empty_file", "hidden_file"}
    assert_same(local, remote)
    assert {reader.name for reader in readers.iterdir()} == {node.node_id for node in cluster.list_all_nodes()}


def test_prepares_the_images_of_a_table_the_same_as_threads(cluster, photos, tmp_path):
    files = sorted(photos.glob("*/[0-9]*.png"))
    frame = pd.DataFrame(
        {"image": [file.read_bytes() for file in files], "label": [file.parent.name for file in files]}
    )
    frame.to_parquet(tmp_path / "photos.parquet", row_group_size=30)
    listing = list_images(tmp_path / "photos.parquet")
    local, remote = (prepare(listing, tmp_path / engine, engine) for engine in ("threads", "ray"))
    assert len(remote) == 99
    assert_same(local, remote)


def test_decodes_only_what_an_earlier_set_lacks(cluster, photos, tmp_path):
    listing = list_images(photos)
    some = replace(listing, table=listing.table[3:].reset_index(drop=True), read=lambda rows: listing.read(rows + 3))
    prepare(some, tmp_path / "earlier", "threads")
    remote = prepare(listing, tmp_path / "remote", "ray", tmp_path / "earlier")
    assert json.loads((tmp_path / "remote/written.json").read_text())["decoded"] == 3
    assert_same(prepare(listing, tmp_path / "local", "threads"), remote)


def test_survives_the_death_of_a_worker(cluster, photos, tmp_path):
    def read_or_die(file):
        if file.stem == "30" and not (died := tmp_path / "died").exists():
            died.touch()
            os._exit(1)
        return file.read_bytes()

    remote = prepare(watched(list_images(photos), read_or_die), tmp_path / "remote", "ray")
    assert (tmp_path / "died").exists()
    assert len(remote) == 99


def test_names_the_extra_when_ray_is_not_installed(photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'cnn-transfer\[ray\]'. Or set engine to threads"):
        prepare(list_images(photos), tmp_path / "remote", "ray")
