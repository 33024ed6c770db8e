import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn_transfer.images import (
    Examples,
    ImageSet,
    feeding,
    image_batches,
    images_a_batch,
    ordered_batches,
    split_examples,
    training_batches,
)


@pytest.fixture(scope="module")
def rows():
    return np.arange(0, 400, 7)  # 58 images of all classes


@pytest.fixture(scope="module")
def pick(shapes):
    """The images at some rows with their labels; drawn equally often unless weights are given."""

    def make(rows, weights=None):
        weights = np.ones(len(rows)) if weights is None else weights
        return Examples(shapes, rows, one_hot(shapes.classes[rows]), weights)

    return make


@pytest.fixture(scope="module")
def examples(pick, rows):
    return pick(rows)


@pytest.fixture(scope="module")
def still(augmentation):
    return augmentation()


def take(dataset, count):
    """The first batches: pixels and targets."""
    return [(pixels.numpy(), targets.numpy()) for pixels, targets in dataset.take(count)]


def one_hot(classes):
    return np.eye(4, dtype=np.float32)[classes]


def assert_same(first, second):
    assert len(first) == len(second)
    for (pixels, targets), (other_pixels, other_targets) in zip(first, second, strict=True):
        np.testing.assert_array_equal(pixels, other_pixels)
        np.testing.assert_array_equal(targets, other_targets)


def positions(shapes, batches):
    """The row of the set that each image of the batches is; every image of the set is another one."""
    row_of = {image.tobytes(): row for row, image in enumerate(shapes.pixels(np.arange(len(shapes))))}
    return [row_of[image.tobytes()] for pixels, _ in batches for image in pixels]


def test_a_batch_has_uint8_pixels_and_float32_targets_of_its_size(examples, still):
    dataset = training_batches(examples, 16, 0, still)
    assert [spec.shape.as_list() for spec in dataset.element_spec] == [[16, 28, 28, 1], [16, 4]]
    assert [spec.dtype.name for spec in dataset.element_spec] == ["uint8", "float32"]


def test_targets_belong_to_their_pixels(shapes, examples, still):
    batches = take(training_batches(examples, 16, 0, still), 20)
    targets = np.concatenate([targets for _, targets in batches])
    np.testing.assert_array_equal(targets, one_hot(shapes.classes[positions(shapes, batches)]))


@pytest.mark.parametrize("mixing", [{"mixup_alpha": 1}, {"cutmix_alpha": 1}])
def test_targets_of_mixed_images_are_shares_of_two_classes(examples, augmentation, mixing):
    targets = np.concatenate(
        [targets for _, targets in take(training_batches(examples, 16, 0, augmentation(**mixing)), 8)]
    )
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
    assert set((targets > 0).sum(axis=1)) == {1, 2}


def test_colour_of_images_with_one_channel_is_refused(examples, augmentation):
    with pytest.raises(ValueError, match=r"^augmentation\.hue_degrees must be 0"):
        training_batches(examples, 16, 0, augmentation(hue_degrees=10))


@pytest.mark.parametrize("batch_size", [10, 16, 29])
def test_every_image_comes_once_in_each_pass_over_the_set(shapes, examples, rows, still, batch_size):
    seen = positions(shapes, take(training_batches(examples, batch_size, 0, still), -(-3 * len(rows) // batch_size)))
    passes = [seen[start : start + len(rows)] for start in range(0, 3 * len(rows), len(rows))]
    assert [sorted(one) for one in passes] == [rows.tolist()] * 3
    assert passes[0] != passes[1] != passes[2]


def test_a_batch_may_be_larger_than_the_set(shapes, pick, still):
    examples = pick(np.array([0, 150, 350]))
    ((pixels, targets),) = batches = take(training_batches(examples, 8, 0, still), 1)
    assert pixels.shape == (8, 28, 28, 1)
    seen = positions(shapes, batches)
    assert [sorted(seen[:3]), sorted(seen[3:6])] == [[0, 150, 350]] * 2
    np.testing.assert_array_equal(targets, one_hot(shapes.classes[seen]))


def test_the_seed_decides_order_and_augmentation(examples, augmentation):
    moving = augmentation(rotation_degrees=20, shift_fraction=0.1)
    batches = take(training_batches(examples, 16, 3, moving), 5)
    assert_same(batches, take(training_batches(examples, 16, 3, moving), 5))
    other = take(training_batches(examples, 16, 4, moving), 5)
    assert not all(np.array_equal(mine[0], theirs[0]) for mine, theirs in zip(batches, other, strict=True))


def test_starting_at_a_later_step_continues_the_same_stream(examples, augmentation):
    moving = augmentation(rotation_degrees=20, shift_fraction=0.1)
    stream = take(training_batches(examples, 16, 3, moving), 30)
    assert_same(stream[7:], take(training_batches(examples, 16, 3, moving, first_step=7), 23))


def test_batches_are_the_same_however_many_are_read_at_once(examples, augmentation, monkeypatch):
    moving = augmentation(shift_fraction=0.1)
    together = take(training_batches(examples, 16, 3, moving), 20)
    monkeypatch.setattr("cnn_transfer.images.feeding.READ_BYTES", 1)
    assert_same(together, take(training_batches(examples, 16, 3, moving), 20))


def test_the_same_image_is_moved_differently_each_time(pick, augmentation):
    moving = augmentation(rotation_degrees=20, shift_fraction=0.1)
    batches = take(training_batches(pick(np.array([5])), 4, 0, moving), 2)
    images = {image.tobytes() for pixels, _ in batches for image in pixels}
    assert len(images) == 8


def test_ordered_batches_give_each_image_once_unchanged(shapes, examples, rows):
    batches = take(ordered_batches(examples, batch_size=25), 99)
    assert [len(targets) for _, targets in batches] == [25, 25, 8]
    np.testing.assert_array_equal(np.concatenate([pixels for pixels, _ in batches]), shapes.pixels(rows))
    targets = np.concatenate([targets for _, targets in batches])
    np.testing.assert_array_equal(targets, one_hot(shapes.classes[rows]))


def test_ordered_batches_keep_the_order_that_is_asked_for(shapes, pick):
    rows = np.array([399, 0, 200, 0])
    ((pixels, _),) = take(ordered_batches(pick(rows)), 9)
    np.testing.assert_array_equal(pixels, shapes.pixels(rows))


@pytest.mark.parametrize(("room", "reads"), [(0, 1), (-1, 3)])
def test_a_set_is_read_once_where_it_fits_and_each_time_where_it_does_not(
    monkeypatch, shapes, examples, rows, room, reads
):
    read, read_pixels = [], ImageSet.pixels
    monkeypatch.setattr(ImageSet, "pixels", lambda images, chosen: read.extend(chosen) or read_pixels(images, chosen))
    monkeypatch.setattr(feeding, "MOST_CACHED_BYTES", len(rows) * int(np.prod(shapes.image_shape)) + room)
    batches = ordered_batches(examples)
    passes = [np.concatenate([pixels for pixels, _ in batches]) for _ in range(3)]
    assert read == [*rows] * reads
    monkeypatch.undo()
    for found in passes:
        np.testing.assert_array_equal(found, shapes.pixels(rows))


def test_large_images_come_in_small_batches(monkeypatch, shapes, rows):
    sizes = [images_a_batch((side, side, 3)) for side in (28, 45, 64, 160, 1024)]
    assert sizes == [256, 256, 128, 20, 1]
    monkeypatch.setattr(feeding, "PIXELS_A_BATCH", 7 * int(np.prod(shapes.image_shape[:2])))
    batches = list(image_batches(shapes, rows))
    assert [len(batch) for batch in batches] == [7] * (len(rows) // 7) + [len(rows) % 7] * bool(len(rows) % 7)
    np.testing.assert_array_equal(np.concatenate(batches), shapes.pixels(rows))


def test_image_batches_give_the_pixels_of_ordered_batches(shapes, examples, rows):
    (batch,) = image_batches(shapes, rows)
    np.testing.assert_array_equal(batch, next(iter(ordered_batches(examples)))[0])


def test_no_stream_is_tuned_while_it_runs(shapes, examples, rows, augmentation):
    streams = training_batches(examples, 16, 0, augmentation()), ordered_batches(examples), image_batches(shapes, rows)
    assert [stream.options().autotune.enabled for stream in streams] == [False] * 3


def test_equal_weights_give_permutations_that_the_seed_and_the_epoch_alone_decide(pick, rows):
    for weight in (1.0, 0.3):
        same = pick(rows, np.full(len(rows), weight))
        for epoch in (0, 5):
            expected = np.random.default_rng([3, epoch]).permutation(len(rows))
            np.testing.assert_array_equal(same.draws(3, epoch), expected)


@given(weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=60), seed=st.integers(0, 9))
def test_in_each_epoch_an_image_comes_as_often_as_its_weight_says_rounded_up_or_down(pick, weights, seed):
    weights = np.array(weights)
    examples = pick(np.arange(len(weights)), weights)
    expected = len(weights) * weights / weights.sum()
    for epoch in range(3):
        counts = np.bincount(examples.draws(seed, epoch), minlength=len(weights))
        assert counts.sum() == len(weights)
        assert (np.abs(counts - expected) < 1 + 1e-9).all()


def test_over_many_epochs_an_image_comes_as_often_as_its_weight_says(pick):
    weights = np.array([0.5, 0.25, 1, 3, 0.25, 1, 1, 1.7])
    examples = pick(np.arange(0, 400, 50), weights)
    counts = sum(np.bincount(examples.draws(0, epoch), minlength=8) for epoch in range(2000))
    np.testing.assert_allclose(counts / 2000, 8 * weights / weights.sum(), atol=0.05)


def test_a_stream_with_unequal_weights_continues_at_any_step(pick, rows, augmentation):
    examples, moving = pick(rows, 1.0 + np.arange(len(rows))), augmentation(shift_fraction=0.1)
    stream = take(training_batches(examples, 16, 3, moving), 20)
    assert_same(stream[7:], take(training_batches(examples, 16, 3, moving, first_step=7), 13))


def test_a_balanced_split_draws_every_class_equally_often_in_each_epoch(shapes, shape_splits):
    few = shape_splits[~shape_splits["label"].eq("row") | (shape_splits.groupby("label").cumcount() % 5 == 0)]
    usual = split_examples(shapes, few, "training")
    balanced = split_examples(shapes, few, "training", class_balance=1)
    np.testing.assert_array_equal(balanced.rows, usual.rows)
    classes = shapes.classes[balanced.rows]
    assert np.bincount(classes).min() < np.bincount(classes).max() / 3
    for epoch in range(3):
        drawn = np.bincount(classes[balanced.draws(0, epoch)])
        assert np.ptp(drawn) <= 1
        np.testing.assert_array_equal(np.bincount(classes[usual.draws(0, epoch)]), np.bincount(classes))


def test_examples_of_a_split_have_its_rows_and_one_hot_targets(shapes, shape_splits):
    examples = split_examples(shapes, shape_splits, "validation")
    np.testing.assert_array_equal(examples.rows, shapes.rows(shape_splits, "validation"))
    np.testing.assert_array_equal(examples.targets, one_hot(shapes.classes[examples.rows]))
    assert examples.targets.dtype == np.float32


def test_a_split_without_images_is_refused_by_name(shapes, shape_splits):
    with pytest.raises(ValueError, match="The split unused has no images"):
        split_examples(shapes, shape_splits, "unused")


def test_images_without_a_label_are_refused(shapes, shape_splits):
    table = shapes.table.assign(label=shapes.table["label"].where(shapes.table.index > 4))
    without = dataclasses.replace(shapes, table=table)
    splits = shape_splits.assign(split=np.where(shape_splits.index < 10, "test", shape_splits["split"]))
    with pytest.raises(ValueError, match=r"5 of \d+ images of the split test without one"):
        split_examples(without, splits, "test")


def test_joined_examples_draw_the_second_part_as_often_as_its_share(shapes, pick, still):
    labelled, others = pick(np.arange(0, 400, 20)), pick(np.arange(1, 400, 5))
    soft = dataclasses.replace(others, targets=0.9 * others.targets + 0.025)
    joined = labelled.joined(soft, share=0.3)
    drawn = [joined.draws(0, epoch) for epoch in range(5)]
    share = np.mean(np.concatenate(drawn) >= len(labelled))
    assert share == pytest.approx(0.3, abs=0.02)
    batches = take(training_batches(joined, 50, 0, still), 4)
    seen = positions(shapes, batches)
    wanted = dict.fromkeys(labelled.rows, 1.0) | dict.fromkeys(soft.rows, 0.925)
    largest = np.concatenate([targets for _, targets in batches]).max(axis=1)
    np.testing.assert_allclose(largest, [wanted[row] for row in seen], rtol=1e-6)


@pytest.mark.parametrize("share", [0.0, 1.0, float("nan")])
def test_a_share_out_of_bounds_is_refused(examples, share):
    with pytest.raises(ValueError, match=r"share must be above 0 and below 1\. Received"):
        examples.joined(examples, share)


def test_examples_of_two_sets_are_not_joined(examples):
    other = dataclasses.replace(examples, images=dataclasses.replace(examples.images, fingerprint="another"))
    with pytest.raises(ValueError, match="of one set with the same classes"):
        examples.joined(other, 0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": np.array([], int)}, "at least one image"),
        ({"targets": np.ones((58, 3), np.float32)}, r"targets of shape \(58, 4\)"),
        ({"weights": np.ones(57)}, r"weights of shape \(58,\)"),
        ({"weights": np.arange(58.0)}, "above 0"),
        ({"weights": np.full(58, np.inf)}, "finite"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(examples, change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(examples, **change)
