import json
from dataclasses import replace

import keras
import numpy as np
import pytest

from cnn_transfer.images import Augmentation, middle_of, move_copies
from cnn_transfer.models import UnusableNetworkError, copy_network, reinitialise, tap_network
from cnn_transfer.transfer import features as module
from cnn_transfer.transfer.features import FeatureExtraction, draws_of, open_features, plan_extraction, write_features

TAPS = ("block1", "block2")


@pytest.fixture(scope="module")
def extraction(shapes, tiny_network, augmentation):
    """Features of 30 images, ten of them with two copies."""
    rows = np.random.default_rng(0).permutation(len(shapes))[:30]
    moves = augmentation(rotation_degrees=20, shift_fraction=0.1)
    return FeatureExtraction(tiny_network(), shapes, rows, rows[:10], TAPS, (2, 3), 2, moves)


@pytest.fixture(scope="module")
def folder(extraction, tmp_path_factory):
    folder = tmp_path_factory.mktemp("features") / "first"
    write_features(extraction, folder)
    return folder


def computed(folder):
    return json.loads((folder / "written.json").read_text())["computed"]


def test_features_are_what_the_network_says_of_the_pixels(extraction, shapes, folder):
    features = open_features(folder)
    ids = shapes.table["id"].iloc[extraction.rows]
    network = tap_network(extraction.network, TAPS, 2)
    expected = network.predict(shapes.pixels(extraction.rows), verbose=0)
    np.testing.assert_allclose(features.of(ids, TAPS, 2), expected, atol=1e-5)
    np.testing.assert_allclose(features.of(ids, ["block2"], 2), expected[:, 2 * 4 * 8 :], atol=1e-5)
    deep = tap_network(extraction.network, ["block2"], 3).predict(shapes.pixels(extraction.rows), verbose=0)
    np.testing.assert_allclose(features.of(ids, ["block2"], 3), deep, atol=1e-5)
    assert features.widths == {2: [8 * 8, 8 * 16], 3: [(9 + 4) * 8, (9 + 4) * 16]}
    assert features.widths_of(["block2"], 3) == [(9 + 4) * 16]
    assert features.values.dtype == np.float32


def test_copies_follow_their_image_and_are_what_the_network_says_of_the_moved_pixels(extraction, shapes, folder):
    first = extraction.rows[0]
    row = shapes.table.iloc[first]
    pixels = shapes.pixels(np.array([first]))
    draws = np.stack([draws_of(row["pixel_digest"], copy) for copy in (1, 2)])
    moved = move_copies(pixels.repeat(2, axis=0), draws, extraction.augmentation)
    network = tap_network(extraction.network, TAPS, 2)
    expected = network.predict(np.stack([pixels[0], *moved]), verbose=0)
    got = open_features(folder).of([row["id"]], TAPS, 2, copies=True)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert np.abs(got[0] - got[1]).max() > 0.01
    assert np.abs(got[1] - got[2]).max() > 0.01


def test_an_image_left_for_right_follows_the_image_and_is_kept_as_others_are(extraction, shapes, folder, tmp_path):
    some = extraction.rows[20:23]
    wanted = replace(extraction, mirrored=some)
    write_features(wanted, tmp_path / "second", [folder])
    features = open_features(tmp_path / "second")
    ids = shapes.table["id"].iloc[some]
    assert features.mirrored.tolist() == ids.tolist()
    pixels = shapes.pixels(some)
    network = tap_network(extraction.network, TAPS, 2)
    both = np.stack([pixels, pixels[:, :, ::-1]], axis=1).reshape(-1, *pixels.shape[1:])
    got = features.of(ids, TAPS, 2, mirrored=True)
    np.testing.assert_allclose(got, network.predict(both, verbose=0), atol=1e-5)
    assert np.abs(got[0] - got[1]).max() > 0.01
    everything = shapes.table["id"].iloc[extraction.rows]
    for copied, of in ((False, everything), (True, everything[:10])):
        np.testing.assert_array_equal(
            features.of(of, TAPS, 2, copies=copied), open_features(folder).of(of, TAPS, 2, copies=copied)
        )
    assert computed(tmp_path / "second") == 3
    write_features(wanted, tmp_path / "third", [tmp_path / "second"])
    assert computed(tmp_path / "third") == 0


def test_a_copy_depends_on_its_image_alone(shapes, extraction):
    pixels = shapes.pixels(np.array([0, 1]))
    draws = np.stack([draws_of("ab12cd34ef", 1), draws_of("ab12cd35ef", 1)])
    together = move_copies(pixels, draws, extraction.augmentation)
    alone = move_copies(pixels[1:], draws[1:], extraction.augmentation)
    np.testing.assert_array_equal(together[1], alone[0])
    assert (together != pixels).any(axis=(1, 2, 3)).all()
    assert (draws_of("ab12cd34ef", 2) != draws[0]).all()


def test_copies_on_other_backgrounds_are_what_the_network_says_of_them(
    extraction, shapes, folder, tmp_path, augmentation
):
    elsewhere = replace(extraction, augmentation=augmentation(background_fraction=0.5))
    write_features(elsewhere, tmp_path / "elsewhere", [folder])
    assert computed(tmp_path / "elsewhere") == len(elsewhere.copied) * elsewhere.copies
    table = elsewhere.table()
    copies = table[table["copy"] > 0]
    assert set(copies["background"]) <= set(elsewhere.copied)
    assert copies["background"].nunique() > len(elsewhere.copied) / 3
    assert (table["background"] == table["row"])[table["copy"] == 0].all()
    last = copies.iloc[-1]
    thing, background = shapes.pixels(last[["row", "background"]].to_numpy(int))
    thing, mixed = thing[middle_of(*thing.shape[:2], 0.5)], background.copy()
    mixed[middle_of(*mixed.shape[:2], 0.5)] = thing
    expected = tap_network(extraction.network, TAPS, 2).predict(mixed[None], verbose=0)
    got = open_features(tmp_path / "elsewhere").of([last["id"]], TAPS, 2, copies=True)[-1:]
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_which_background_a_copy_is_put_on_does_not_depend_on_the_order(extraction, augmentation):
    elsewhere = replace(extraction, augmentation=augmentation(background_fraction=0.5))
    other_order = replace(elsewhere, copied=elsewhere.copied[::-1])
    once, again = (part.table().set_index(["id", "copy"])["key"].sort_index() for part in (elsewhere, other_order))
    assert once.equals(again)
    fewer = replace(elsewhere, copied=elsewhere.copied[1:]).table()
    assert not fewer["key"].isin(once).all()  # others are drawn: these copies are computed anew


def test_only_what_is_new_is_computed(extraction, shapes, folder, tmp_path):
    more = np.setdiff1d(np.arange(len(shapes)), extraction.rows)[:7]
    larger = replace(extraction, rows=np.concatenate([more, extraction.rows[:20]]))
    write_features(larger, tmp_path / "second", [folder])
    assert computed(folder) == 30 + 20
    assert computed(tmp_path / "second") == 7
    write_features(larger, tmp_path / "alone")
    values = [np.asarray(open_features(tmp_path / name).values) for name in ("second", "alone")]
    np.testing.assert_allclose(*values, atol=1e-5)


@pytest.mark.parametrize("change", ["weights", "taps", "grids", "moves"])
def test_other_features_are_computed_anew(extraction, folder, tmp_path, augmentation, change):
    changed = {
        "weights": lambda: replace(extraction, network=reinitialise(extraction.network, 1)),
        "taps": lambda: replace(extraction, taps=("block1",)),
        "grids": lambda: replace(extraction, grids=(1,)),
        "moves": lambda: replace(extraction, augmentation=augmentation(rotation_degrees=5)),
    }[change]()
    write_features(changed, tmp_path / "changed", [folder])
    assert computed(tmp_path / "changed") == (20 if change == "moves" else 50)  # an image that is not moved stays


def test_the_newest_of_the_same_network_is_used(extraction, folder, tmp_path):
    write_features(replace(extraction, grids=(1,)), tmp_path / "newer")
    write_features(extraction, tmp_path / "same", [tmp_path / "newer", folder])
    assert computed(tmp_path / "same") == 0


@pytest.mark.parametrize("taps", [TAPS, TAPS[::-1]])
def test_features_that_are_not_finite_are_refused_with_their_layer(extraction, tmp_path, monkeypatch, taps):
    network = copy_network(extraction.network)
    kernel, bias = network.get_layer("conv2").get_weights()
    network.get_layer("conv2").set_weights([kernel * np.float32(1e38), bias])
    changed = replace(extraction, network=network, taps=taps)
    expected = r"must be finite\. Received NaN or infinity from .* after its layer block2, for \d+ of \d+ looked at"
    with pytest.raises(UnusableNetworkError, match=expected):
        write_features(changed, tmp_path / "computed")
    with monkeypatch.context() as patch:
        patch.setattr(module, "_finite", lambda values, _: values)  # as earlier versions wrote them
        write_features(changed, tmp_path / "earlier")
    with pytest.raises(UnusableNetworkError, match=expected):
        write_features(changed, tmp_path / "taken", [tmp_path / "earlier"])


def test_a_network_without_pictures_inside_is_refused(shapes, shape_splits):
    pixels = keras.Input(shapes.image_shape, dtype="uint8")
    network = keras.Model(pixels, keras.layers.Dense(4, "softmax")(keras.layers.Flatten()(pixels)), name="flat")
    augmentation = Augmentation(**dict.fromkeys(Augmentation.model_fields, 0))
    with pytest.raises(ValueError, match=r"must have layers that keep places apart.*Received: flat, 3 layers"):
        plan_extraction(network, shapes, shape_splits, (2,), 0, augmentation, None, 0)


def test_an_image_without_features_is_named(folder):
    with pytest.raises(ValueError, match=r"1 of 1 rows are missing, such as \('nowhere/1.png', 0\). Run migrate_model"):
        open_features(folder).of(["nowhere/1.png"], TAPS, 2)


def test_one_size_of_batch_whatever_is_left(extraction, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS_A_BATCH", 16)
    write_features(extraction, tmp_path / "batches")
    values = np.asarray(open_features(tmp_path / "batches").values)
    assert np.isfinite(values).all()
    assert computed(tmp_path / "batches") == len(values) == 50


def test_the_room_for_features_is_taken_at_once(tmp_path):
    file = tmp_path / "values.npy"
    module._array_on_disk(file, (1000, 500))
    assert file.stat().st_blocks * 512 >= file.stat().st_size > 1000 * 500 * 4
