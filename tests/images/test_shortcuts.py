import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_transfer.images import ImageSet, shortcut_guesses
from cnn_transfer.images.reasons import rejected_table
from cnn_transfer.images.shortcuts import MOST_IMAGES, POINT_TO, find_shortcut

CLASSES = ("a", "b", "c")


def files(number=60, per_group=1, seed=0, **columns):
    """Images of three classes with nothing in their files that tells which."""
    rng = np.random.default_rng(seed)
    group = np.arange(number) // per_group
    labels = np.array(CLASSES)[rng.permutation(group.max() + 1) % 3][group]
    table = pd.DataFrame(
        {
            "id": [f"{row}.{'png' if rng.random() < 0.4 else 'jpg'}" for row in range(number)],
            "label": labels,
            "group": [f"group {one}" for one in group],
            "width_px": rng.integers(100, 600, group.max() + 1)[group],
            "height_px": rng.integers(100, 600, group.max() + 1)[group],
            "notes": np.where(rng.random(number) < 0.3, "palette", ""),
        }
    )
    return table.assign(**{name: column(table) for name, column in columns.items()})


def sized(table):
    """Wider images of b."""
    return table["width_px"].where(table["label"] != "b", table["width_px"] + 600)


def test_sizes_that_tell_a_class_are_found_with_the_classes_that_differ_most():
    table = files(300, width_px=sized)
    found = find_shortcut(table)
    assert found.by == "size"
    assert found.accuracy == pytest.approx(2 / 3, abs=0.1)  # b is told, a and c are guessed
    assert found.chance == pytest.approx(1 / 3)
    middle = table[table["label"] == "b"][["width_px", "height_px"]].median().astype(int)
    assert found.largest == ("b", *middle)
    assert found.smallest[0] in {"a", "c"}
    assert found.describe()["largest"] == found.largest


@pytest.mark.parametrize(
    "form",
    [
        {"id": lambda table: table["id"].where(table["label"] != "a", table["id"].str[:-3] + "TIFF")},
        {"notes": lambda table: np.where(table["label"] == "a", "palette alpha", "palette")},
    ],
    ids=["extension", "colours"],
)
def test_forms_that_tell_a_class_are_found(form):
    assert find_shortcut(files(300, **form)).by == "form"


def test_rare_forms_and_classes_of_few_groups_take_no_part():
    rare = files(300, notes=lambda table: np.where(np.arange(len(table)) < 4, "cmyk", ""), id=lambda table: "x.png")
    assert find_shortcut(rare) is None
    table = files(300, width_px=sized)
    few = table["label"].ne("b") | (np.arange(300) < 12)
    assert find_shortcut(table[few]) is None
    assert find_shortcut(table[table["label"] == "b"]) is None
    assert find_shortcut(table[:0]) is None


def test_images_of_one_size_and_form_tell_nothing():
    alike = files(300, width_px=lambda table: 28, height_px=lambda table: 28, notes=lambda table: "")
    assert find_shortcut(alike.assign(id="row 00000001")) is None


@settings(max_examples=25)  # trees take a tenth of a second each
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_groups_of_one_size_are_no_evidence(seed, per_group):
    """A tree knows the sizes of groups that it has seen; left out are whole groups."""
    assert find_shortcut(files(240, per_group, seed)) is None


@pytest.mark.parametrize("seed", [16, 33])
def test_what_thirty_groups_show_by_chance_is_no_evidence_however_many_images_they_have(seed):
    of_one_form = {"id": lambda table: table.index.astype(str) + ".png", "notes": lambda table: ""}
    assert find_shortcut(files(600, 20, seed, **of_one_form)) is None


def test_of_large_sets_a_sample_is_looked_at():
    table = files(3 * MOST_IMAGES, width_px=sized)
    assert find_shortcut(table).accuracy == pytest.approx(2 / 3, abs=0.03)


def test_forms_that_no_test_image_has_part_them_all_the_same():
    table = files(400, notes=lambda table: np.where(table["label"] == "a", "alpha", ""))
    table["split"] = np.where(table.index < 200, "training", "test")
    table.loc[table.index >= 200, "notes"] = "cmyk"
    images = ImageSet(table, rejected_table([]), CLASSES, (16, 16, 3), "", ())
    guesses = shortcut_guesses(images, table[["id", "label", "split", "group"]]).set_index("id")[POINT_TO]
    labels = table.set_index("id")["label"][guesses.index]
    assert (guesses[labels == "a"] != "a").all()


def test_test_images_are_parted_by_what_their_files_point_to():
    table = files(400, width_px=sized)
    odd = table.index[table["label"] == "b"][-5:]
    table.loc[odd, "width_px"] -= 600
    table["split"] = np.where(table.index < 200, "training", "test")
    images = ImageSet(table, rejected_table([]), CLASSES, (16, 16, 3), "", ())
    splits = table[["id", "label", "split", "group"]]
    guesses = shortcut_guesses(images, splits).set_index("id")[POINT_TO]
    assert set(guesses.index) == set(table["id"][200:])
    assert (guesses[table["id"][odd]] != "b").all()
    others = table.index[(table["label"] == "b") & (table["split"] == "test")].difference(odd)
    assert (guesses[table["id"][others]] == "b").all()
    nothing = ImageSet(files(400), rejected_table([]), CLASSES, (16, 16, 3), "", ())
    assert shortcut_guesses(nothing, splits).columns.tolist() == ["id"]


def test_of_few_and_large_groups_some_images_each_are_looked_at():
    table = files(7 * 2000, per_group=2000, width_px=sized)
    table["label"] = np.array(CLASSES)[np.arange(len(table)) % 3]
    table["width_px"] = sized(table.assign(width_px=np.random.default_rng(0).integers(100, 600, len(table))))
    assert find_shortcut(table).by == "size"


def test_one_large_group_leaves_the_others_to_be_looked_at():
    table = files(MOST_IMAGES + 900, width_px=sized)
    large = table["group"].where(np.arange(len(table)) < 600, "one camera")
    assert find_shortcut(table.assign(group=large)).by == "size"
