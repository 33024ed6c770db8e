import numpy as np
import pandas as pd
import pytest

from cnn_transfer.evaluation.reliance import describe_reliance, judge_reliance


def judged(rows, group=None):
    """Rows of (class, class that the file points to, class that the network says, number of such images)."""
    table = pd.DataFrame(rows, columns=["label", "pointed", "predicted", "images"])
    table = table.loc[table.index.repeat(table["images"])].reset_index(drop=True)
    table["id"] = [f"image {row}" for row in table.index]
    predictions = table[["id", "label", "predicted"]].sample(frac=1, random_state=0)
    if group is not None:
        predictions["group"] = predictions["label"] + (predictions.index // group).astype("str")
    return judge_reliance(predictions, table.set_index("id")["pointed"], 0.95)


TWO_CLASSES = [
    ("a", "b", "b", 4),
    ("a", "b", "a", 6),
    ("a", "a", "b", 2),
    ("a", "a", "a", 38),
    ("b", "a", "a", 3),
    ("b", "a", "b", 7),
    ("b", "b", "a", 1),
    ("b", "b", "b", 9),
]


def test_images_of_a_class_are_compared_by_where_their_files_point():
    found = judged(TWO_CLASSES)
    of_a, of_b = 10 * 40 / 50, 10 * 10 / 20
    assert found["images"] == 20
    assert found["compared"] == pytest.approx(of_a + of_b)
    assert found["said"] == pytest.approx((of_a * 0.4 + of_b * 0.3) / (of_a + of_b))
    assert found["said_of_others"] == pytest.approx((of_a * 0.05 + of_b * 0.1) / (of_a + of_b))
    assert found["difference"] == pytest.approx(found["said"] - found["said_of_others"])
    assert found["difference_low"] > 0
    assert found["relies"] is True


def test_the_interval_is_at_least_that_of_agresti_and_caffo():
    found = judged([("a", "b", "a", 10), ("a", "a", "a", 40)])  # no mistake, which is no certainty
    shares, images = np.array([1 / 12, 1 / 42]), np.array([12, 42])
    half = 1.959964 * np.sqrt((shares * (1 - shares) / images).sum())
    assert found["difference_high"] - found["difference"] == pytest.approx(half)


def test_that_one_class_is_harder_than_another_is_no_reliance():
    """Files of both point to a; b is taken for a often, wherever its files point."""
    found = judged([("a", "a", "a", 100), ("b", "a", "a", 40), ("b", "a", "b", 60), ("b", "b", "a", 80),
                    ("b", "b", "b", 120)])  # fmt: skip
    assert found["difference"] == pytest.approx(0)
    assert found["relies"] is not True


def test_where_nothing_differs_within_a_class_nothing_can_be_said():
    found = judged([("a", "a", "a", 100), ("b", "a", "a", 30), ("b", "a", "b", 70), ("c", "c", "c", 25)])
    assert (found["compared"], found["relies"], found["difference"]) == (0, None, None)
    assert "Whether the network goes by size and form of the files cannot be told" in describe_reliance(found)
    one = judged([("a", "a", "a", 100), ("b", "a", "a", 30), ("b", "a", "b", 70), ("b", "b", "b", 1)])
    assert one["compared"] == pytest.approx(100 / 101)
    assert one["difference"] is None


def test_of_few_images_nothing_can_be_said_and_of_many_that_there_is_no_sign():
    few = judged([("a", "b", "a", 12), ("a", "a", "a", 12)])
    assert few["difference"] == 0
    assert few["difference_high"] > 0.1
    assert few["relies"] is None
    many = judged([("a", "b", "a", 200), ("a", "a", "a", 200)])
    assert many["relies"] is False
    assert 0 < many["difference_high"] < 0.03


def test_images_of_groups_tell_less():
    apart, together = judged(TWO_CLASSES), judged(TWO_CLASSES, group=10)
    assert together["difference"] == apart["difference"]
    assert together["difference_low"] < apart["difference_low"]


def simulated(rng, reliance):
    """Three classes, hard to tell in different degrees, whose files point elsewhere in a third of the cases."""
    label = rng.integers(0, 3, 300)
    pointed = np.where(rng.random(300) < 1 / 3, rng.integers(0, 3, 300), label)
    predicted = np.where(rng.random(300) < np.array([0.02, 0.1, 0.3])[label], rng.integers(0, 3, 300), label)
    predicted = np.where(rng.random(300) < reliance, pointed, predicted)
    ids = pd.Index([f"image {row}" for row in range(300)])
    names = np.array(["a", "b", "c"])
    predictions = pd.DataFrame({"id": ids, "label": names[label], "predicted": names[predicted]})
    return judge_reliance(predictions, pd.Series(names[pointed], ids), 0.95)["relies"]


def test_reliance_is_seen_where_there_is_some_and_hardly_ever_where_there_is_none():
    rng = np.random.default_rng(0)
    without, some = ([simulated(rng, share) for _ in range(300)] for share in (0.0, 0.3))
    assert np.mean([relies is True for relies in without]) < 0.05
    assert np.mean([relies is True for relies in some]) > 0.9


def test_what_was_found_is_said_in_a_sentence():
    assert describe_reliance({}) == ""
    found = judged(TWO_CLASSES)
    assert describe_reliance(found).startswith(
        "Size and form of the files of 20 test images point to another class. The network says that class for 36.2% of "
        "them, and for 6.9% of images of their classes whose files do not point there (+29.2 points, "
    )
    assert "IT SEEMS TO GO BY WHERE IMAGES COME FROM" in describe_reliance(found)
    assert "no sign that it goes by where images come from." in describe_reliance(found | {"relies": False})
    assert "these are too few to tell" in describe_reliance(found | {"relies": None})
