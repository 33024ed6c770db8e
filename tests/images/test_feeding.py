import numpy as np
import pytest

from cnn_transfer.images import ordered_batches, training_batches


@pytest.fixture(scope="module")
def rows():
    return np.arange(0, 400, 7)  # 58 images of all classes


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


def test_a_batch_has_uint8_pixels_and_float32_targets_of_its_size(shapes, rows, still):
    dataset = training_batches(shapes, rows, 16, 0, still)
    assert [spec.shape.as_list() for spec in dataset.element_spec] == [[16, 28, 28, 1], [16, 4]]
    assert [spec.dtype.name for spec in dataset.element_spec] == ["uint8", "float32"]


def test_targets_belong_to_their_pixels(shapes, rows, still):
    batches = take(training_batches(shapes, rows, 16, 0, still), 20)
    targets = np.concatenate([targets for _, targets in batches])
    np.testing.assert_array_equal(targets, one_hot(shapes.classes[positions(shapes, batches)]))


@pytest.mark.parametrize("mixing", [{"mixup_alpha": 1}, {"cutmix_alpha": 1}])
def test_targets_of_mixed_images_are_shares_of_two_classes(shapes, rows, augmentation, mixing):
    targets = np.concatenate(
        [targets for _, targets in take(training_batches(shapes, rows, 16, 0, augmentation(**mixing)), 8)]
    )
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
    assert set((targets > 0).sum(axis=1)) == {1, 2}


def test_colour_of_images_with_one_channel_is_refused(shapes, rows, augmentation):
    with pytest.raises(ValueError, match=r"^augmentation\.hue_degrees must be 0"):
        training_batches(shapes, rows, 16, 0, augmentation(hue_degrees=10))


@pytest.mark.parametrize("batch_size", [10, 16, 29])
def test_every_image_comes_once_in_each_pass_over_the_set(shapes, rows, still, batch_size):
    seen = positions(
        shapes, take(training_batches(shapes, rows, batch_size, 0, still), -(-3 * len(rows) // batch_size))
    )
    passes = [seen[start : start + len(rows)] for start in range(0, 3 * len(rows), len(rows))]
    assert [sorted(one) for one in passes] == [rows.tolist()] * 3
    assert passes[0] != passes[1] != passes[2]


def test_a_batch_may_be_larger_than_the_set(shapes, still):
    rows = np.array([0, 150, 350])
    ((pixels, targets),) = batches = take(training_batches(shapes, rows, 8, 0, still), 1)
    assert pixels.shape == (8, 28, 28, 1)
    seen = positions(shapes, batches)
    assert [sorted(seen[:3]), sorted(seen[3:6])] == [[0, 150, 350]] * 2
    np.testing.assert_array_equal(targets, one_hot(shapes.classes[seen]))


def test_the_seed_decides_order_and_augmentation(shapes, rows, augmentation):
    moving = augmentation(rotation_degrees=20, shift_fraction=0.1)
    batches = take(training_batches(shapes, rows, 16, 3, moving), 5)
    assert_same(batches, take(training_batches(shapes, rows, 16, 3, moving), 5))
    other = take(training_batches(shapes, rows, 16, 4, moving), 5)
    assert not all(np.array_equal(mine[0], theirs[0]) for mine, theirs in zip(batches, other, strict=True))


def test_starting_at_a_later_step_continues_the_same_stream(shapes, rows, augmentation):
    moving = augmentation(rotation_degrees=20, shift_fraction=0.1)
    stream = take(training_batches(shapes, rows, 16, 3, moving), 30)
    assert_same(stream[7:], take(training_batches(shapes, rows, 16, 3, moving, first_step=7), 23))


def test_batches_are_the_same_however_many_are_read_at_once(shapes, rows, augmentation, monkeypatch):
    moving = augmentation(shift_fraction=0.1)
    together = take(training_batches(shapes, rows, 16, 3, moving), 20)
    monkeypatch.setattr("cnn_transfer.images.feeding.READ_BYTES", 1)
    assert_same(together, take(training_batches(shapes, rows, 16, 3, moving), 20))


def test_the_same_image_is_moved_differently_each_time(shapes, augmentation):
    moving = augmentation(rotation_degrees=20, shift_fraction=0.1)
    batches = take(training_batches(shapes, np.array([5]), 4, 0, moving), 2)
    images = {image.tobytes() for pixels, _ in batches for image in pixels}
    assert len(images) == 8


def test_ordered_batches_give_each_image_once_unchanged(shapes, rows):
    batches = take(ordered_batches(shapes, rows, batch_size=25), 99)
    assert [len(targets) for _, targets in batches] == [25, 25, 8]
    np.testing.assert_array_equal(np.concatenate([pixels for pixels, _ in batches]), shapes.pixels(rows))
    targets = np.concatenate([targets for _, targets in batches])
    np.testing.assert_array_equal(targets, one_hot(shapes.classes[rows]))


def test_ordered_batches_keep_the_order_that_is_asked_for(shapes):
    rows = np.array([399, 0, 200, 0])
    ((pixels, _),) = take(ordered_batches(shapes, rows), 9)
    np.testing.assert_array_equal(pixels, shapes.pixels(rows))
