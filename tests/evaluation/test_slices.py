import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cnn_transfer.evaluation.intervals import Units, proportion_interval, wilson_interval
from cnn_transfer.evaluation.slices import COLUMNS, image_attributes, slice_table
from cnn_transfer.images import ImageSet


def judged(correct, **columns):
    """Predictions that are right where they should be."""
    ids = [f"i{n}" for n in range(len(correct))]
    return pd.DataFrame({"id": ids, "label": "a", "predicted": np.where(correct, "a", "b")} | columns)


def known(**columns):
    return pd.DataFrame({"id": [f"i{n}" for n in range(len(next(iter(columns.values()))))]} | columns)


def image_set(pixels, attributes=None, sizes=(100, 400)):
    ids = [f"i{n}" for n in range(len(pixels))]
    table = pd.DataFrame({"id": ids, "label": "a", "width_px": sizes[0], "height_px": sizes[1]})
    extra = {} if attributes is None else {"attributes": attributes}
    return ImageSet(table, pd.DataFrame(), ("a", "b"), pixels.shape[1:], "", (pixels,), **extra)


def in_test(images):
    return pd.DataFrame({"id": images.table["id"], "label": "a", "split": "test"})


def test_attributes_are_size_brightness_and_sharpness():
    grey = np.full((3, 8, 8, 3), 51, np.uint8)
    grey[1] = 255
    grey[2, ::2] = 255  # stripes
    images = image_set(grey)
    found = image_attributes(images, in_test(images), "test")
    assert found.columns.tolist() == ["id", "size_px", "brightness", "sharpness"]
    assert found["size_px"].tolist() == [200, 200, 200]
    np.testing.assert_allclose(found["brightness"], [0.2, 1, 0.6], atol=1e-6)
    np.testing.assert_allclose(found["sharpness"][:2], 0, atol=1e-9)
    # Neighbours of a bright line are two dark lines and two of its own: -2 × 0.8, and +2 × 0.8 beside it.
    assert found["sharpness"][2] == pytest.approx(1.6**2, rel=1e-5)


def test_green_is_brighter_than_blue():
    colours = np.zeros((2, 4, 4, 3), np.uint8)
    colours[0, ..., 1] = colours[1, ..., 2] = 255
    images = image_set(colours)
    np.testing.assert_allclose(
        image_attributes(images, in_test(images), "test")["brightness"], [0.587, 0.114], atol=1e-6
    )


def test_attributes_of_the_manifest_come_along_and_keep_their_name_where_they_can():
    pixels = np.zeros((3, 4, 4, 1), np.uint8)
    manifest = pd.DataFrame({"id": ["i2", "i0"], "camera": ["old", "new"], "brightness": [3.0, 1.0]})
    images = image_set(pixels, manifest)
    found = image_attributes(images, in_test(images), "test")
    assert found.columns.tolist() == ["id", "size_px", "brightness", "sharpness", "camera", "brightness (manifest)"]
    assert found["camera"].tolist()[::2] == ["new", "old"]
    assert pd.isna(found["camera"][1])
    assert found["brightness (manifest)"].tolist()[::2] == [1.0, 3.0]


def test_attributes_are_those_of_the_images_of_the_split(shapes, shape_splits):
    found = image_attributes(shapes, shape_splits, "test")
    assert found["id"].tolist() == shape_splits["id"][shape_splits["split"] == "test"].tolist()
    means = shapes.pixels(shapes.rows(shape_splits, "test")).mean(axis=(1, 2, 3)) / 255
    np.testing.assert_allclose(found["brightness"], means, rtol=1e-5)
    nothing = image_attributes(shapes, shape_splits.assign(split="training"), "test")
    assert nothing.empty
    assert nothing.columns.tolist() == found.columns.tolist()


def test_a_slice_is_compared_with_all_others_by_fisher_s_test():
    correct = np.array([True] * 8 + [False] * 12 + [True] * 27 + [False] * 3)
    found = slice_table(judged(correct), known(camera=["old"] * 20 + ["new"] * 30), 0.95)
    assert found.columns.tolist() == COLUMNS
    old = found.set_index("slice").loc["old"]
    assert (old["attribute"], old["images"], old["groups"]) == ("camera", 20, 20)
    assert tuple(old[["accuracy", "accuracy_low", "accuracy_high"]]) == pytest.approx(wilson_interval(8, 20, 0.95))
    assert (old["rest_accuracy"], old["difference"]) == (pytest.approx(0.9), pytest.approx(-0.5))
    assert old["p_value"] == pytest.approx(stats.fisher_exact([[8, 12], [27, 3]]).pvalue)
    assert found["conspicuous"].all()


@pytest.mark.parametrize(("others", "conspicuous"), [(["odd"] * 4 + ["usual"] * 46, True), (["x", "y"] * 25, False)])
def test_p_values_are_corrected_for_all_slices_that_are_judged(others, conspicuous):
    correct = np.array([True] * 12 + [False] * 8 + [True] * 27 + [False] * 3)
    found = slice_table(judged(correct), known(camera=["old"] * 20 + ["new"] * 30, other=others), 0.95)
    assert found["p_value"][0] == pytest.approx(0.0173, abs=1e-4)  # twice is below 0.05, four times is not
    assert found["conspicuous"].tolist() == [conspicuous, conspicuous, False, False]


def test_numbers_are_cut_at_their_quartiles_and_named_by_their_ranges():
    found = slice_table(judged([True] * 40), known(age=np.arange(40.0)[::-1]), 0.95)
    assert found["slice"].tolist() == ["0 to 9", "10 to 19", "20 to 29", "30 to 39"]
    assert found["images"].tolist() == [10] * 4
    assert found["p_value"].tolist() == [1] * 4
    assert not found["conspicuous"].any()


def test_few_different_numbers_and_truth_values_are_slices_by_themselves():
    numbers = known(rooms=np.arange(30) % 3, flash=np.arange(30) % 2 == 0, mostly=[0.0] * 25 + [1, 2, 3, 4, 5])
    found = slice_table(judged([True] * 30), numbers, 0.95)
    assert found["slice"].tolist() == ["0", "1", "2", "False", "True", "0", "1 to 5"]


def test_what_is_the_same_for_all_is_left_out_and_what_is_missing_is_a_slice():
    table = known(same=["x"] * 20, number=[7.0] * 20, age=[1.0] * 12 + [np.nan] * 8, name=["u"] * 14 + [None] * 6)
    found = slice_table(judged([True] * 20), table, 0.95)
    assert found[["attribute", "slice", "images"]].to_numpy().tolist() == [
        ["age", "1", 12],
        ["age", "(missing)", 8],
        ["name", "u", 14],
        ["name", "(missing)", 6],
    ]


def test_rare_values_share_a_slice():
    names = [f"c{n % 25:02d}" for n in range(250)] + ["c00"]
    found = slice_table(judged([True] * 251), known(camera=names), 0.95)
    assert found["slice"].tolist() == [*(f"c{n:02d}" for n in range(20)), "(other)"]
    assert found["images"].tolist() == [11, *[10] * 19, 50]


def test_fewer_than_five_images_show_nothing():
    found = slice_table(judged([False] * 4 + [True] * 96), known(camera=["odd"] * 4 + ["usual"] * 96), 0.95)
    assert found["p_value"].isna().all()
    assert not found["conspicuous"].any()


def test_without_attributes_there_are_no_slices():
    found = slice_table(judged([True] * 5), known(id=[f"i{n}" for n in range(5)]), 0.95)
    assert found.empty
    assert found.columns.tolist() == COLUMNS


def test_an_image_without_attributes_is_named():
    with pytest.raises(ValueError, match=r"Missing: 2 of 5, such as i3\. Make both from the same image set"):
        slice_table(judged([True] * 5), known(camera=["x"] * 3), 0.95)


def test_the_order_of_the_attributes_does_not_matter():
    rng = np.random.default_rng(0)
    table = known(age=rng.normal(size=60), camera=rng.choice(list("xyz"), 60))
    predictions = judged(rng.random(60) < 0.7)
    pd.testing.assert_frame_equal(
        slice_table(predictions, table, 0.95), slice_table(predictions, table.iloc[::-1], 0.95)
    )


def random_attributes(rng, images):
    return known(
        size=rng.normal(size=images),
        brightness=rng.normal(size=images),
        camera=rng.choice(list("pqrst"), images),
        hospital=rng.choice(list("xy"), images, p=[0.85, 0.15]),
    )


def test_a_planted_weakness_is_found():
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(40):
        table = random_attributes(rng, 400)
        dark = (table["brightness"] < np.quantile(table["brightness"], 0.25)).to_numpy()
        conspicuous = slice_table(judged(rng.random(400) < np.where(dark, 0.65, 0.9)), table, 0.95).query("conspicuous")
        found += "brightness" in set(conspicuous["attribute"][conspicuous["difference"] < 0])
    assert found >= 36


@pytest.mark.slow
@pytest.mark.parametrize("grouped", [False, True])
def test_where_there_is_none_at_most_one_run_in_twenty_finds_one(grouped):
    rng = np.random.default_rng(1)
    false = 0
    for _ in range(200):
        if grouped:  # 40 patients of 5 images, of one camera each
            patient = np.repeat(np.arange(40), 5)
            table = random_attributes(rng, 200).assign(camera=rng.choice(list("pqr"), 40)[patient])
            correct = 0.8 + rng.normal(size=40)[patient] + rng.normal(size=200) > 0
            predictions = judged(correct, group=patient)
        else:
            table, predictions = random_attributes(rng, 200), judged(rng.random(200) < 0.8)
        false += slice_table(predictions, table, 0.95)["conspicuous"].any()
    assert false <= 16  # 5% of 200 and two standard errors


def test_a_slice_of_few_groups_is_judged_by_these():
    correct = np.array([False] * 15 + [True] * 85)
    groups = np.arange(100) // 5
    cameras = known(camera=["old"] * 15 + ["new"] * 85)
    careless, careful = (
        slice_table(table, cameras, 0.95).set_index("slice")
        for table in (judged(correct), judged(correct, group=groups))
    )
    assert careful.loc["old", "groups"] == 3
    expected = proportion_interval(correct[:15], 0.95, groups[:15])
    assert careful.loc["old", "accuracy_high"] == pytest.approx(expected.high)
    assert careless.loc["old", "p_value"] < 1e-6 < careful.loc["old", "p_value"]
    influences = np.where(np.arange(100) < 15, (correct - 0.85) / 15, (0.85 - correct) / 85)
    t = abs(influences.sum()) / math.sqrt(Units(groups, 100).variance(influences))
    assert careful.loc["old", "p_value"] == pytest.approx(2 * stats.t.sf(t, 3 - 1))  # of the fewer groups, one less


def test_image_sets_written_before_there_were_attributes_have_the_measured_ones(shapes, shape_splits):
    bare = replace(shapes, attributes=pd.DataFrame({"id": pd.Series(dtype="str")}))
    assert image_attributes(bare, shape_splits, "test").shape == (80, 4)
