import numpy as np
import pytest
from pydantic import ValidationError

from cnn_transfer.images.augmentation import Augmentation, augment


@pytest.fixture(scope="module")
def pictures(shapes):
    return shapes.pixels(np.arange(0, 400, 10))


def move(pixels, augmentation, seed=(0, 0)):
    import tensorflow as tf

    return augment(tf.constant(pixels), tf.constant(seed), augmentation).numpy()


def centre_of_mass(images):
    """(n, 2): mean row and column of the brightness of each image."""
    weights = images[..., 0].astype(float)
    weights /= weights.sum(axis=(1, 2), keepdims=True)
    rows, columns = np.indices(weights.shape[1:])
    return np.stack([(weights * rows).sum(axis=(1, 2)), (weights * columns).sum(axis=(1, 2))], axis=1)


@pytest.fixture(scope="module")
def dots():
    """60 black pictures of 29 x 29 with a bright square a little above the middle."""
    images = np.zeros((60, 29, 29, 1), np.float32)
    images[:, 8:11, 13:16] = 255
    return images


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_nothing_moves_when_all_ranges_are_zero(pictures, augmentation, dtype):
    images = pictures.astype(dtype)
    moved = move(images, augmentation())
    assert moved.dtype == dtype
    np.testing.assert_array_equal(moved, images)


def test_shape_dtype_and_range_are_kept(pictures, augmentation):
    everything = augmentation(rotation_degrees=30, shift_fraction=0.2, scale_fraction=0.3, horizontal_flip=True)
    colour = np.repeat(pictures, 3, axis=3)
    moved = move(colour, everything)
    assert moved.shape == colour.shape
    assert moved.dtype == np.uint8
    assert not np.array_equal(moved, colour)
    np.testing.assert_array_equal(moved[..., 0], moved[..., 1])


def test_a_flip_mirrors_about_half_of_the_images_exactly(pictures, augmentation):
    moved = move(pictures, augmentation(horizontal_flip=True))
    mirrored = np.array([np.array_equal(m, p[:, ::-1]) for m, p in zip(moved, pictures, strict=True)])
    unchanged = np.array([np.array_equal(m, p) for m, p in zip(moved, pictures, strict=True)])
    assert (mirrored ^ unchanged).all()
    assert 0.2 < mirrored.mean() < 0.8


def test_without_permission_nothing_is_flipped(augmentation):
    left_to_right = np.tile(np.linspace(0, 255, 28, dtype=np.uint8)[None, None, :, None], (50, 28, 1, 1))
    moved = move(left_to_right, augmentation(rotation_degrees=10, shift_fraction=0.1, scale_fraction=0.1)).astype(int)
    assert (moved[:, 14, -1] > moved[:, 14, 0]).all()


def test_the_seed_decides_how_images_move(pictures, augmentation):
    moving = augmentation(rotation_degrees=30, shift_fraction=0.2)
    np.testing.assert_array_equal(move(pictures, moving, (1, 2)), move(pictures, moving, (1, 2)))
    assert not np.array_equal(move(pictures, moving, (1, 2)), move(pictures, moving, (1, 3)))
    assert not np.array_equal(move(pictures, moving, (1, 2)), move(pictures, moving, (2, 2)))


def test_each_image_moves_on_its_own(dots, augmentation):
    centres = centre_of_mass(move(dots, augmentation(shift_fraction=0.1)))
    assert len(np.unique(centres.round(3), axis=0)) == len(dots)


def test_a_shift_stays_within_its_range_and_uses_it(dots, augmentation):
    moved = centre_of_mass(move(dots, augmentation(shift_fraction=0.1))) - [9, 14]
    assert abs(moved).max() <= 0.1 * 29 + 0.01
    assert (moved.max(axis=0) > 0.06 * 29).all()
    assert (moved.min(axis=0) < -0.06 * 29).all()


def test_a_rotation_keeps_the_distance_to_the_middle_and_stays_within_its_angle(dots, augmentation):
    moved = centre_of_mass(move(dots, augmentation(rotation_degrees=40))) - [14, 14]
    np.testing.assert_allclose(np.hypot(*moved.T), 5, atol=0.15)
    angles = np.degrees(np.arctan2(moved[:, 1], -moved[:, 0]))
    assert abs(angles).max() <= 41
    assert angles.max() > 25
    assert angles.min() < -25


def test_scaling_stays_within_its_range_and_keeps_the_middle(augmentation):
    images = np.zeros((60, 41, 41, 1), np.float32)
    images[:, 13:28, 13:28] = 1
    moved = move(images, augmentation(scale_fraction=0.2))
    sides = np.sqrt(moved.sum(axis=(1, 2, 3)))
    assert sides.min() >= 15 / 1.2 - 0.3
    assert sides.max() <= 15 * 1.2 + 0.3
    assert sides.max() - sides.min() > 3
    np.testing.assert_allclose(centre_of_mass(moved), 20, atol=0.05)


def test_pixels_from_outside_repeat_the_edge(augmentation):
    bright = np.full((20, 28, 28, 1), 200, np.uint8)
    moved = move(bright, augmentation(rotation_degrees=45, shift_fraction=0.3))
    assert (moved >= 199).all()


def test_moving_uint8_images_does_not_darken_them(pictures, augmentation):
    moving = augmentation(shift_fraction=0.1)
    as_float = move(pictures.astype(np.float32), moving)
    difference = move(pictures, moving) - as_float
    assert abs(difference.mean()) < 0.1


@pytest.mark.parametrize(
    "bad", [{"rotation_degrees": 181}, {"shift_fraction": 0.6}, {"scale_fraction": -0.1}, {"horizontal_flip": 2}]
)
def test_an_impossible_range_is_refused(augmentation, bad):
    with pytest.raises(ValidationError, match=next(iter(bad))):
        Augmentation(**augmentation().model_dump() | bad)
