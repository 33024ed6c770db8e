import re
from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odd_images import photograph
from scipy.stats import binom

from cnn_transfer.images import ImageSet, series
from cnn_transfer.images.reasons import rejected_table
from cnn_transfer.images.series import (
    MOST_COMPARED,
    PATTERNS,
    find_named_series,
    find_series,
    find_successive_series,
)

SERIES, COPIES = 30, 4


@lru_cache
def copies(number):
    """A picture; mirrored; upside down and darker; moved and brighter: (4, 32, 32, 3)."""
    picture = np.asarray(photograph(number, 32, 32))
    moved = np.roll(picture, 2, axis=1)
    return np.stack([picture, picture[:, ::-1], picture[::-1] // 10 * 9, np.minimum(moved, 235) + 20])


def image_set(names, pictures, labels):
    """A set of names of `<class>/<name>`, or as they are where the label is None."""
    table = pd.DataFrame({"id": names, "label": labels}, dtype="str")
    classes = tuple(sorted(table["label"].dropna().unique()))
    return ImageSet(table, rejected_table([]), classes, pictures.shape[1:], "", (pictures,))


def series_set(name, rng=None, series=SERIES):
    """Series of four images by class; `name` makes a name of number of the series and of the copy. With rng: mixed."""
    names = [name(one, copy) for one in range(series) for copy in range(COPIES)]
    labels = [f"class{one % 2}" for one in range(series) for _ in range(COPIES)]
    pictures = np.concatenate([copies(one) for one in range(series)])
    if rng is not None:
        pictures = pictures[rng.permutation(len(pictures))]
    paths = [f"{label}/{name}" for label, name in zip(labels, names, strict=True)]
    return image_set(paths, pictures, labels)


def found(images):
    return find_named_series(images, np.arange(len(images)))


def positions(named):
    """Sets of positions of images of one series."""
    return {frozenset(members) for members in named.names.groupby(named.names).groups.values()}


def noise(*numbers):
    return int(np.random.default_rng(numbers).integers(1e9))


NAMES = {
    "Keras ImageDataGenerator": lambda one, copy: f"aug_Y{one}_0_{noise(one, copy) % 9999}.jpg",
    "Roboflow": lambda one, copy: f"IMG_{7000 + one}_jpg.rf.{noise(one, copy):032x}.jpg",
    "Augmentor": lambda one, copy: f"bolt_original_{one:03}.png_{noise(one, copy):x}-{noise(copy, one):x}.png",
    "the original and its copies": lambda one, copy: f"bolt{one}{['', '_flip', '_rot180', '_bright'][copy]}.png",
    "copies that begin with what was done": lambda one, copy: f"{['', 'flip_', 'rot180_', 'x_'][copy]}{one}bolt.png",
    "copies of a file manager": lambda one, copy: f"{one} no{['', ' - Copy', ' - Copy (2)', ' (3)'][copy]}.jpeg",
    "frames of films": lambda one, copy: f"film{one}frame{copy:04}.png",
    "frames of films, the frame first": lambda one, copy: f"{copy:04}_film{one}.png",
    "a folder a patient": lambda one, copy: f"patient {one}/{noise(one, copy)}.png",
    "patient, side and date": lambda one, copy: f"p{one:03}-{'LR'[one % 2]}-{noise(one, copy) % 365}-{copy}",
    "no latin letters": lambda one, copy: f"Straße_Björn{one}_Größe{copy}.png",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_series_are_found_however_names_tell_them(name):
    named = found(series_set(name))
    assert positions(named) == {frozenset(range(COPIES * one, COPIES * (one + 1))) for one in range(SERIES)}
    assert named.nearest > 0.6
    assert named.chance == pytest.approx((COPIES - 1) / (SERIES // 2 * COPIES - 1))


def test_a_series_has_a_name_and_its_pattern_is_one_for_a_parameter():
    images = series_set(NAMES["frames of films"])
    named = find_named_series(images, np.arange(2, len(images)))
    assert len(named.names) == SERIES * COPIES - 2
    for name, path in zip(named.names, images.table["id"].iloc[named.names.index], strict=True):
        assert name == f"{re.search(named.pattern, path)[1]} of {path[:6]}"


@pytest.mark.slow
@given(st.sampled_from(list(NAMES.values())), st.integers(0, 2**32 - 1))
def test_names_that_mean_nothing_are_no_series(name, seed):
    assert found(series_set(name, np.random.default_rng(seed))) is None


def test_images_of_one_camera_are_no_series():
    """Few large parts: they may be alike for many reasons, and would leave little to be split."""
    assert found(series_set(lambda one, copy: f"camera{one // 10}_{noise(one, copy)}.png")) is None


def test_names_that_are_numbers_and_images_without_names_are_no_series():
    assert found(series_set(lambda one, copy: f"{COPIES * one + copy:05}.png")) is None
    pictures = np.concatenate([copies(one) for one in range(SERIES)])
    rows = image_set([f"row {row:08}" for row in range(len(pictures))], pictures, ["a", "b"] * (len(pictures) // 2))
    assert found(rows) is None


def test_numbers_that_begin_anew_in_each_class_say_nothing_about_images_of_two_classes():
    images = series_set(lambda one, copy: f"{one // 2}_{copy}.png")
    labels = images.table["label"].where(np.arange(len(images)) < 100).tolist()
    named = found(image_set(images.table["id"], images.shards[0], labels))
    assert not named.across_classes
    assert set(named.names.iloc[:8]) == {"0 of class0", "0 of class1"}
    assert named.names.iloc[100] == "12"  # of images without a label


def in_two_classes(of_class, rng=None):
    """Names p<number>_<copy>.png; `of_class` gives the class of a copy, None: without a label. With rng: mixed."""
    images = series_set(lambda one, copy: f"p{one}_{noise(one, copy)}.png")
    names = images.table["id"].str.removeprefix("class0/").str.removeprefix("class1/")
    labels = [of_class(position // COPIES, position % COPIES) for position in range(len(images))]
    pictures = images.shards[0] if rng is None else images.shards[0][rng.permutation(len(images))]
    return image_set(names, pictures, labels)


@pytest.mark.parametrize(
    "of_class",
    [
        lambda one, copy: ["ill", "well"][copy % 2],  # two of each series are of one class
        lambda one, copy: ["a", "b", "c", "d"][copy],  # and here one
        lambda one, copy: ["ill", "well"][one % 2] if copy % 2 else None,
    ],
    ids=["several of a class", "one of a class", "without a label"],
)
def test_series_go_across_classes_where_images_of_several_show_it(of_class):
    named = found(in_two_classes(of_class))
    assert named.across_classes
    assert positions(named) == {frozenset(range(COPIES * one, COPIES * (one + 1))) for one in range(SERIES)}
    assert set(named.names) == {f"p{one}" for one in range(SERIES)}


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1))
def test_names_that_mean_nothing_are_no_series_across_classes(seed):
    mixed = in_two_classes(lambda one, copy: ["a", "b", "c", "d"][copy], np.random.default_rng(seed))
    assert found(mixed) is None


@pytest.mark.parametrize("kinds", [2, 6])
def test_what_names_say_of_classes_is_no_series_where_some_labels_are_others(kinds):
    """Folders of classes, or of kinds of them, whose pictures are alike, and every tenth image with another label."""
    rng = np.random.default_rng(0)
    shades = np.repeat(np.linspace(20, 230, kinds), 240 // kinds)
    pictures = np.clip(shades[:, None, None, None] + rng.normal(0, 8, (240, 32, 32, 3)), 0, 255).astype(np.uint8)
    names = [f"kind{number * kinds // 240}/{number:03}.png" for number in range(240)]
    labels = np.array(["a", "b"])[np.arange(240) // 120]
    labels[::10] = np.where(labels[::10] == "a", "b", "a")
    assert found(image_set(names, pictures, labels)) is None


def test_a_few_that_go_across_classes_are_seen_where_the_names_are_known_to_mean_something():
    """Of 30 patients four are in both classes, the third image of each."""
    named = found(in_two_classes(lambda one, copy: "ill" if one % 2 or (one < 8 and copy > 1) else "well"))
    assert named.across_classes
    assert len(positions(named)) == SERIES


def test_what_has_no_mate_by_name_is_looked_at_by_its_order():
    """The rest of a set, numbered: half of it are copies of pictures, one after the other."""
    named = series_set(NAMES["frames of films"])
    pictures = np.concatenate([copies(SERIES + one) for one in range(SERIES)])
    names = [*named.table["id"], *(f"class0/{number:04}.png" for number in range(len(pictures)))]
    both = image_set(names, np.concatenate([named.shards[0], pictures]), [*named.table["label"], *["class0"] * 120])
    by_name, by_order = find_series(both, np.arange(len(both)))
    assert by_name.names.index.max() < len(named)
    assert by_order.names.index.min() >= len(named)
    assert by_order.pattern is None
    assert [one.pattern for one in find_series(named, np.arange(len(named)))] == [by_name.pattern]


def test_of_large_sets_whole_series_are_compared():
    names = [f"s{one}_{copy}.png" for one in range(1500) for copy in range(2)]
    rng = np.random.default_rng(0)
    pictures = np.repeat(rng.integers(0, 256, (1500, 16, 16, 1), np.uint8), 2, axis=0)
    assert len(names) > MOST_COMPARED
    named = found(image_set(names, pictures, ["a"] * 1500 + ["b"] * 1500))
    assert len(positions(named)) == 1500
    assert named.nearest == 1
    for others, expected in ((9000, 1500), (15_000, 0)):  # that stand alone: a quarter is in series, or a sixth
        alone = [f"t{number}.png" for number in range(others)]
        more = rng.integers(0, 256, (others, 16, 16, 1), np.uint8)
        mixed = found(image_set(names + alone, np.concatenate([pictures, more]), ["a"] * (others + 3000)))
        assert (len(positions(mixed)) if mixed else 0) == expected


def test_of_large_series_some_images_are_compared():
    chosen = series._draw_series(np.repeat(np.arange(1000), 1000))
    assert len(chosen) == MOST_COMPARED
    _, counts = np.unique(chosen // 1000, return_counts=True)
    assert counts.tolist() == [20] * 100


@pytest.mark.parametrize(
    "name",
    [lambda one, copy: f"IMG_{COPIES * one + copy}.jpg", lambda one, copy: f"{copy}x_{COPIES * one}.jpg"],
    ids=["by name", "by the last number"],
)
def test_images_that_follow_one_another_are_of_one_series_where_they_are_alike(name):
    images = series_set(name)
    alike = find_successive_series(images, np.arange(len(images)))
    assert alike.nearest > 0.4
    assert alike.chance == pytest.approx(4 / 59, abs=0.01)
    assert alike.pattern is None
    members = positions(alike)
    assert len(members) >= SERIES / 2
    of_one = [len({position // COPIES for position in one}) == 1 for one in members]
    assert np.mean(of_one) > 0.9
    assert min(map(len, members)) > 1
    firsts = {min(images.table["id"].iloc[list(one)]) for one in members}
    assert set(alike.names) == firsts


def test_without_two_that_are_alike_there_is_no_series(monkeypatch):
    images = series_set(lambda one, copy: f"IMG_{COPIES * one + copy}.jpg")
    monkeypatch.setattr(series, "FAR_APART", len(images))  # nothing to compare neighbours with
    assert find_successive_series(images, np.arange(len(images))) is None


def test_series_are_of_rows_of_the_set():
    images = series_set(lambda one, copy: f"IMG_{COPIES * one + copy}.jpg")
    some = find_successive_series(images, np.arange(20, len(images)))
    assert some.names.index.min() >= 20
    assert np.mean([len({position // COPIES for position in one}) == 1 for one in positions(some)]) > 0.9


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1))
def test_images_in_no_order_are_not_successive(seed):
    images = series_set(lambda one, copy: f"IMG_{COPIES * one + copy}.jpg", np.random.default_rng(seed))
    assert find_successive_series(images, np.arange(len(images))) is None


def test_too_few_images_are_neither():
    images = series_set(lambda one, copy: f"IMG_{COPIES * one + copy}.jpg", series=2)
    rows = np.arange(len(images))
    assert find_successive_series(images, rows) is None
    assert find_named_series(series_set(NAMES["frames of films"], series=2), rows) is None
    assert find_named_series(images, rows[:0]) is None


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_mean_the_same_to_python_where_they_are_parameters(pattern):
    assert re.compile(pattern).groups == 1
    names = [name(one, copy) for name in NAMES.values() for one in range(20) for copy in range(COPIES)]
    odd = ["", "/", "a", "a/", "1", "a/b/c.d/e", "--", "a b\n1.png", "..x", "x.", "_7_", "苹果12_翻转.jpg", "\x7f1/a 2"]
    ids = pd.Series([*(f"class/{name}" for name in names), *names, *odd], dtype="str")
    pd.testing.assert_series_equal(
        series._extract(ids, pattern), ids.str.extract(pattern, expand=False), check_names=False
    )


@pytest.fixture(scope="module")
def alike():
    """Of 50 series of two, 20 whose images have one vector; and what is in no series by any measure."""
    rng = np.random.default_rng(0)
    numbers = np.repeat(np.arange(50), 2)
    vectors, other = series._units(rng.normal(size=(100, 64))), series._units(rng.normal(size=(100, 64)))
    vectors[1:40:2] = vectors[:40:2]
    return lambda *limits: series._judge(
        (other, vectors), series._within_classes(numbers, np.zeros(100)), series.Limits(*limits)
    )


def test_the_measure_that_shows_most_says_how_often_the_nearest_is_of_ones_series(alike):
    seen = alike(0, -np.inf, 1)
    assert seen.measure == 1
    assert 0.4 <= seen.nearest < 0.45
    assert seen.chance == pytest.approx(1 / 99)


def test_each_limit_by_itself_decides_whether_it_is_a_series(alike):
    seen = alike(0, -np.inf, 1)
    pairs = round(100 * seen.nearest) // 2
    p_value = binom.sf(pairs - 1, 50, 1 / 99)  # two that are each other's nearest are one piece of evidence
    for place, value in enumerate((seen.nearest / seen.chance, seen.bits, p_value)):
        limits = [0, -np.inf, 1]
        limits[place] = value * (1.01 if place == 2 else 0.99)
        assert alike(*limits) == seen
        limits[place] = value * (0.99 if place == 2 else 1.01)
        assert alike(*limits) is None


def test_edges_count_by_their_direction_whichever_side_is_bright_and_faint_ones_little():
    row, column = np.mgrid[:16, :16]
    halves = [column > 7, column < 8, row > 7, row < 8]
    ramps = [5 * column + 10 * row, 75 - 5 * column + 10 * row]  # at 63 and 117 degrees of 180, in eighths
    odd = [1 * halves[0], 0 * row]
    pictures = np.stack([*(200 * half for half in halves), *ramps, *odd]).astype(np.uint8)[..., None]
    cells = series._edges(pictures).reshape(8, 64, 8)
    assert cells[:6].sum(axis=1).argmax(axis=1).tolist() == [0, 0, 4, 4, 2, 5]
    *strong, faint, none = np.linalg.norm(cells, axis=2).max(axis=1)
    assert min(strong) > 0.8
    assert 0 < faint < 0.5
    assert none == 0
