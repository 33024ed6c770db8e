import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.ndimage import binary_erosion

from cnn_transfer.images.augmentation import DRAWS, YIQ, Augmentation, augment, middle_of, move_copies


@pytest.fixture(scope="module")
def pictures(shapes):
    return shapes.pixels(np.arange(0, 400, 10))


def change(pixels, augmentation, seed=(0, 0)):
    """Changed images, and targets; each image is of a class of its own."""
    import tensorflow as tf

    images, targets = augment(tf.constant(pixels), tf.eye(len(pixels)), tf.constant(seed), augmentation)
    return images.numpy(), targets.numpy()


def move(pixels, augmentation, seed=(0, 0)):
    return change(pixels, augmentation, seed)[0]


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


@pytest.fixture(scope="module")
def photographs():
    """40 pictures of 24 x 24 with smooth random colours, none near black or white."""
    corners = np.random.default_rng(0).uniform(90, 160, (40, 2, 2, 3))
    along = np.linspace(0, 1, 24)
    weights = np.stack([1 - along, along])
    return np.einsum("nijc,ih,jw->nhwc", corners, weights, weights).round().astype(np.uint8)


def neighbours(values):
    """What each image is mixed with."""
    return np.roll(values, 1, axis=0)


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


def test_a_shear_moves_rows_against_each_other_by_less_than_its_share_of_their_distance(augmentation):
    images = np.zeros((60, 41, 41, 1), np.float32)
    images[:, :, 19:22] = 1  # an upright line
    moved = move(images, augmentation(shear_fraction=0.3))
    where = (moved[..., 0] * np.arange(41)).sum(axis=2) / moved[..., 0].sum(axis=2)  # of the line, row by row
    np.testing.assert_allclose(where[:, 20], 20, atol=0.01)
    leans = (where[:, -1] - where[:, 0]) / 40
    np.testing.assert_allclose(where, 20 + leans[:, None] * (np.arange(41) - 20), atol=0.02)
    assert abs(leans).max() <= 0.3 + 1e-3
    assert leans.max() > 0.2
    assert leans.min() < -0.2
    level = np.zeros((20, 41, 41, 1), np.float32)
    level[:, 19:22] = 1
    np.testing.assert_allclose(move(level, augmentation(shear_fraction=0.3)), level, atol=1e-4)


def test_a_sheared_image_that_is_mirrored_leans_the_other_way(augmentation):
    images = np.zeros((60, 41, 41, 1), np.float32)
    images[:, :, 19:22] = 1
    sheared = move(images, augmentation(shear_fraction=0.3))
    flipped = move(images, augmentation(shear_fraction=0.3, horizontal_flip=True))
    same, mirrored = (abs(flipped - other).max(axis=(1, 2, 3)) < 1e-3 for other in (sheared, sheared[:, :, ::-1]))
    assert (same ^ mirrored).all()
    assert 0.2 < mirrored.mean() < 0.8


def test_pixels_from_outside_repeat_the_edge(augmentation):
    bright = np.full((20, 28, 28, 1), 200, np.uint8)
    moved = move(bright, augmentation(rotation_degrees=45, shift_fraction=0.3))
    assert (moved >= 199).all()


def test_moving_uint8_images_does_not_darken_them(pictures, augmentation):
    moving = augmentation(shift_fraction=0.1)
    as_float = move(pictures.astype(np.float32), moving)
    difference = move(pictures, moving) - as_float
    assert abs(difference.mean()) < 0.1


def test_geometry_is_that_of_tensorflows_own_operation(photographs, augmentation):
    import tensorflow as tf

    from cnn_transfer.images.augmentation import _move

    rng = np.random.default_rng(1)
    transforms = rng.normal([1, 0, 1, 0, 1, 1], [0.3, 0.3, 4, 0.3, 0.3, 4], (40, 6)).astype(np.float32)
    expected = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.constant(photographs, tf.float32),
        transforms=np.pad(transforms, [(0, 0), (0, 2)]),
        output_shape=[24, 24],
        interpolation="BILINEAR",
        fill_mode="NEAREST",
        fill_value=0.0,
    )
    moved = _move(tf.constant(photographs, tf.float32), list(tf.constant(transforms.T)))
    np.testing.assert_allclose(moved, expected, atol=0.01)


def test_a_vertical_flip_turns_about_half_of_the_images_upside_down(pictures, augmentation):
    moved = move(pictures, augmentation(vertical_flip=True))
    flipped = np.array([np.array_equal(m, p[::-1]) for m, p in zip(moved, pictures, strict=True)])
    unchanged = np.array([np.array_equal(m, p) for m, p in zip(moved, pictures, strict=True)])
    assert (flipped ^ unchanged).all()
    assert 0.2 < flipped.mean() < 0.8


def test_both_flips_are_drawn_independently(pictures, augmentation):
    moved = move(pictures, augmentation(vertical_flip=True, horizontal_flip=True))
    kinds = [(slice(None), slice(None)), (slice(None, None, -1), slice(None)), (slice(None), slice(None, None, -1))]
    kinds.append((slice(None, None, -1), slice(None, None, -1)))
    counts = [sum(np.array_equal(m, p[kind]) for m, p in zip(moved, pictures, strict=True)) for kind in kinds]
    assert sum(counts) == len(pictures)
    assert min(counts) > 2


def test_geometry_never_touches_colours(augmentation):
    colours = np.random.default_rng(0).integers(0, 256, (20, 1, 1, 3), np.uint8)
    plain = np.tile(colours, (1, 16, 16, 1))
    everything = augmentation(
        rotation_degrees=90, shift_fraction=0.3, scale_fraction=0.3, horizontal_flip=True, vertical_flip=True
    )
    np.testing.assert_array_equal(move(plain, everything), plain)


@pytest.mark.parametrize("channels", [1, 3])
def test_brightness_multiplies_each_image_by_its_own_factor_within_the_range(augmentation, channels):
    images = np.tile(np.array([0, 50, 100, 150], np.float32)[:, None, None], (60, 1, 4, channels))
    bright = move(images, augmentation(brightness_fraction=0.2))
    factors = bright[:, 1:] / images[:, 1:]
    np.testing.assert_allclose(factors, np.broadcast_to(factors[:, :1, :1, :1], factors.shape), rtol=1e-5)
    assert (bright[:, 0] == 0).all()
    assert factors.min() >= 0.8
    assert factors.max() <= 1.2
    assert factors.max() - factors.min() > 0.3
    assert len(np.unique(factors[:, 0, 0, 0])) == len(images)


@pytest.mark.parametrize("channels", [1, 3])
def test_contrast_scales_the_distance_to_the_mean_luma_within_the_range(photographs, augmentation, channels):
    images = photographs[..., :channels].astype(np.float32)
    changed = move(images, augmentation(contrast_fraction=0.3))
    luma = images.mean(axis=(1, 2)) @ (YIQ[0] if channels == 3 else [1])
    factors = (changed - luma[:, None, None, None]).std(axis=(1, 2, 3)) / (images - luma[:, None, None, None]).std(
        axis=(1, 2, 3)
    )
    expected = luma[:, None, None, None] + factors[:, None, None, None] * (images - luma[:, None, None, None])
    np.testing.assert_allclose(changed, expected, atol=0.05)
    assert factors.min() >= 0.69
    assert factors.max() <= 1.31
    assert factors.max() - factors.min() > 0.45


def in_yiq(images):
    return np.moveaxis(images.astype(float) @ YIQ.T, -1, 0)


def test_saturation_scales_the_colour_within_the_range_and_keeps_the_luma(photographs, augmentation):
    images = photographs.astype(np.float32)
    before, after = in_yiq(images), in_yiq(move(images, augmentation(saturation_fraction=0.4)))
    np.testing.assert_allclose(after[0], before[0], atol=0.01)
    factors = (after[1:] * before[1:]).sum(axis=(0, 2, 3)) / (before[1:] ** 2).sum(axis=(0, 2, 3))
    np.testing.assert_allclose(after[1:], before[1:] * factors[:, None, None], atol=0.02)
    assert factors.min() >= 0.6
    assert factors.max() <= 1.4
    assert factors.max() - factors.min() > 0.6


def test_hue_turns_the_colour_within_the_angle_and_keeps_luma_and_saturation(photographs, augmentation):
    images = photographs.astype(np.float32)
    before, after = in_yiq(images), in_yiq(move(images, augmentation(hue_degrees=30)))
    np.testing.assert_allclose(after[0], before[0], atol=0.01)
    np.testing.assert_allclose(np.hypot(*after[1:]), np.hypot(*before[1:]), atol=0.02)
    colours = [yiq[1] + 1j * yiq[2] for yiq in (before, after)]
    turns = np.degrees(np.angle((colours[1] * colours[0].conj()).sum(axis=(1, 2))))
    assert abs(turns).max() <= 30.1
    assert turns.max() > 20
    assert turns.min() < -20


def test_saturation_and_hue_leave_grey_pixels_alone(pictures, augmentation):
    grey = np.repeat(pictures, 3, axis=3)
    np.testing.assert_array_equal(move(grey, augmentation(saturation_fraction=0.9, hue_degrees=180)), grey)


def test_colours_stay_within_0_and_255_without_wrapping_around(augmentation):
    images = np.tile(np.array([0, 20, 128, 235, 255], np.uint8)[:, None, None], (40, 1, 5, 3))
    changed = move(images, augmentation(brightness_fraction=0.6, contrast_fraction=0.6)).astype(int)
    assert (np.diff(changed, axis=1) >= 0).all()  # what was brighter still is
    assert changed.max() == 255
    assert changed.min() == 0


@pytest.mark.parametrize(("key", "value"), [("saturation_fraction", 0.2), ("hue_degrees", 10)])
def test_colour_of_images_with_one_channel_is_refused(pictures, augmentation, key, value):
    with pytest.raises(ValueError, match=rf"augmentation\.{key} must be 0 .* Received: {value}\..*channels to 3"):
        move(pictures, augmentation(**{key: value}))


def hole_edges(holes):
    """First row, last row, first column, last column of each of the masks (n, height, width)."""
    rows, columns = holes.any(axis=2), holes.any(axis=1)
    return [
        np.stack([line.argmax(axis=1), line.shape[1] - 1 - line[:, ::-1].argmax(axis=1)]) for line in (rows, columns)
    ]


def outlines(things, thickness):
    """(n, height, width): what of them is within so many pixels of their outside; written with SciPy."""
    square = np.ones((2 * thickness + 1,) * 2)
    return np.stack([thing & ~binary_erosion(thing, square, border_value=True) for thing in things])


@pytest.mark.parametrize(("ground", "ink"), [(0, 200), (240, 30)])
@pytest.mark.parametrize(("shape", "dtype"), [((28, 28, 1), np.uint8), ((60, 90, 3), np.float32)])
def test_of_a_share_of_the_images_thin_or_thick_lines_along_the_inside_are_left(
    ground, ink, shape, dtype, augmentation
):
    rng = np.random.default_rng(0)
    things = np.zeros((300, *shape[:2]), bool)
    for thing, (top, left) in zip(things, rng.integers(2, 12, (300, 2)), strict=True):
        thing[top : top + 13, left : left + 14] = True
        thing[20:, 3:18] = True  # reaches the edge of the image, where no line is drawn
    pixels = np.where(things[..., None], ink, np.full((300, *shape), ground)).astype(dtype)
    changed = move(pixels, augmentation(outline_fraction=0.3))
    thin = round(min(shape[:2]) / 28)
    as_drawn = [
        np.where(outlines(things, width)[..., None], 255 - round(ground / 255) * 255, round(ground / 255) * 255)
        for width in (thin, 2 * thin)
    ]
    is_thin, is_thick, is_left = (
        (changed == wanted).all(axis=(1, 2, 3))
        for wanted in (*(np.broadcast_to(d, changed.shape) for d in as_drawn), pixels)
    )
    assert (is_thin.astype(int) + is_thick + is_left == 1).all()
    assert 0.2 < 1 - is_left.mean() < 0.4
    assert 0.3 < is_thin.sum() / (is_thin.sum() + is_thick.sum()) < 0.7
    assert changed.dtype == dtype


def test_what_counts_as_the_thing_is_drawn_for_each_image_between_8_and_47_percent_of_its_contrast(augmentation):
    luma = np.array([0.07, 0.2, 0.35, 0.48, 1]) * 200
    steps = np.zeros((400, 29, 29, 1), np.float32)
    for place, value in enumerate(luma):
        steps[:, 2 + 2 * place : 27 - 2 * place, 2 + 2 * place : 27 - 2 * place] = value
    changed = move(steps, augmentation(outline_fraction=1))[:, 14, :, 0]
    outermost = (changed > 0).argmax(axis=1)
    assert set(outermost) == {4, 6, 8}
    expected = np.diff([0.08, 0.2, 0.35, 0.47]) / 0.39
    np.testing.assert_allclose([(outermost == place).mean() for place in (4, 6, 8)], expected, atol=0.08)


def test_of_an_image_without_any_contrast_no_line_is_left(augmentation):
    grey = np.full((8, 16, 16, 3), 90, np.uint8)
    assert not move(grey, augmentation(outline_fraction=1)).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_every_second_middle_is_put_on_the_background_of_the_neighbour(dtype, augmentation):
    pixels = (np.arange(200)[:, None, None, None] + np.zeros((1, 20, 30, 3))).astype(dtype)
    changed = move(pixels, augmentation(background_fraction=0.5))
    middle = np.zeros((20, 30), bool)
    middle[middle_of(20, 30, 0.5)] = True
    assert middle.sum() == 14 * 22
    np.testing.assert_array_equal(changed[:, middle], pixels[:, middle])
    is_own, is_neighbours = (
        (changed[:, ~middle] == source[:, ~middle]).all(axis=(1, 2)) for source in (pixels, neighbours(pixels))
    )
    assert (is_own ^ is_neighbours).all()
    assert 0.35 < is_neighbours.mean() < 0.65
    assert changed.dtype == dtype


def test_copies_are_put_on_the_backgrounds_that_are_given(photographs, augmentation):
    draws = np.zeros((len(photographs), len(DRAWS)), np.float32)
    others = photographs[::-1].copy()
    changed = move_copies(photographs, draws, augmentation(background_fraction=0.4), others).copy()
    inside = middle_of(24, 24, 0.6)
    np.testing.assert_array_equal(changed[:, *inside], photographs[:, *inside])
    changed[:, *inside] = others[:, *inside]
    np.testing.assert_array_equal(changed, others)


def test_cutout_fills_one_square_that_may_reach_over_the_edge_with_grey(augmentation):
    white = np.full((400, 20, 20, 3), 255, np.uint8)
    cut = move(white, augmentation(cutout_fraction=0.3))
    assert set(np.unique(cut)) == {127, 255}
    holes = (cut == 127).all(axis=3)
    np.testing.assert_array_equal(holes, (cut == 127).any(axis=3))
    (top, bottom), (left, right) = hole_edges(holes)
    high, wide = bottom - top + 1, right - left + 1
    np.testing.assert_array_equal(holes.sum(axis=(1, 2)), high * wide)
    assert high.max() == wide.max() == 6
    inside = (top > 0) & (bottom < 19) & (left > 0) & (right < 19)
    assert (high[inside] == 6).all()
    assert (wide[inside] == 6).all()
    assert {0, 14} <= set(top[high == 6])
    assert 0.6 * 0.09 < holes.mean() < 0.09
    np.testing.assert_allclose(holes.mean(axis=0)[5:15, 5:15], 0.09, atol=0.06)  # anywhere alike but near the edges


def test_cutout_leaves_all_pixels_outside_the_hole_as_they_would_be_without_it(photographs, augmentation):
    others = {"rotation_degrees": 20, "brightness_fraction": 0.1}
    with_hole = move(photographs, augmentation(cutout_fraction=0.4, **others))
    without = move(photographs, augmentation(**others))
    holes = (with_hole == 127).all(axis=3)
    assert 0.05 < holes.mean() < 0.2
    np.testing.assert_array_equal(with_hole[~holes], without[~holes])


@given(alpha=st.floats(0.001, 10), seed=st.integers(0, 2**31 - 1))
@settings(max_examples=10)
def test_mixup_is_a_convex_combination_of_neighbours_and_of_their_targets(photographs, augmentation, alpha, seed):
    mixed, targets = change(photographs, augmentation(mixup_alpha=alpha), (seed, 1))
    shares = targets.diagonal()
    identity = np.eye(len(photographs))
    assert shares.min() >= 0
    assert shares.max() <= 1
    np.testing.assert_allclose(targets, shares[:, None] * identity + (1 - shares[:, None]) * neighbours(identity))
    share = shares[:, None, None, None].astype(float)
    expected = share * photographs + (1 - share) * neighbours(photographs)
    np.testing.assert_allclose(mixed, expected, atol=0.501)


def test_mixup_draws_its_shares_from_the_beta_distribution(augmentation):
    images = np.zeros((2000, 16, 16, 1), np.uint8)
    for alpha in (0.2, 1.0, 5.0):
        shares = change(images, augmentation(mixup_alpha=alpha))[1].diagonal()
        assert shares.mean() == pytest.approx(0.5, abs=0.04)
        assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


@given(alpha=st.floats(0.1, 10), seed=st.integers(0, 2**31 - 1))
@settings(max_examples=10)
def test_cutmix_pastes_one_box_of_the_neighbour_and_targets_are_the_areas(augmentation, alpha, seed):
    plain = np.tile(np.arange(50, dtype=np.uint8)[:, None, None, None], (1, 20, 20, 1))
    mixed, targets = change(plain, augmentation(cutmix_alpha=alpha), (seed, 1))
    own, pasted = (mixed == plain)[..., 0], (mixed == neighbours(plain))[..., 0]
    assert (own ^ pasted).all()
    (top, bottom), (left, right) = hole_edges(pasted)
    areas = np.where(pasted.any(axis=(1, 2)), (bottom - top + 1) * (right - left + 1), 0)
    np.testing.assert_array_equal(pasted.sum(axis=(1, 2)), areas)
    np.testing.assert_allclose(targets.diagonal(), own.mean(axis=(1, 2)), atol=1e-6)
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)


def test_with_mixup_and_cutmix_each_batch_draws_one_of_both(augmentation):
    plain = np.tile(np.arange(0, 250, 25, dtype=np.uint8)[:, None, None, None], (1, 20, 20, 1))
    blended = [
        np.mean(
            [len(np.unique(image)) == 1 for image in move(plain, augmentation(mixup_alpha=1, cutmix_alpha=1), (0, n))]
        )
        for n in range(40)
    ]
    assert all(share == 1 or share < 0.5 for share in blended)
    assert 0.25 < np.mean([share == 1 for share in blended]) < 0.75


def test_without_mixing_targets_stay_as_they_are(photographs, augmentation):
    _, targets = change(photographs, augmentation(rotation_degrees=9, cutout_fraction=0.4, hue_degrees=9))
    np.testing.assert_array_equal(targets, np.eye(len(photographs)))


fractions = st.sampled_from([0.0, 0.1, 0.4])


@given(
    ranges=st.fixed_dictionaries(
        {
            name: st.booleans() if field.annotation is bool else fractions
            for name, field in Augmentation.model_fields.items()
        }
    ),
    seed=st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)),
)
@settings(max_examples=30)  # most compile anew
def test_any_augmentation_is_decided_by_its_seed_and_keeps_shape_type_and_sums(photographs, ranges, seed):
    augmentation = Augmentation(**ranges)
    images, targets = change(photographs, augmentation, seed)
    assert images.shape == photographs.shape
    assert images.dtype == np.uint8
    assert targets.dtype == np.float32
    assert targets.min() >= 0
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
    again = change(photographs, augmentation, seed)
    np.testing.assert_array_equal(images, again[0])
    np.testing.assert_array_equal(targets, again[1])


@pytest.mark.parametrize(
    "bad",
    [
        {"rotation_degrees": 181},
        {"shift_fraction": 0.6},
        {"scale_fraction": -0.1},
        {"shear_fraction": 1.1},
        {"horizontal_flip": 2},
        {"vertical_flip": 2},
        {"outline_fraction": 1.1},
        {"background_fraction": 1},
        {"brightness_fraction": 1},
        {"contrast_fraction": 1},
        {"saturation_fraction": 1},
        {"hue_degrees": 181},
        {"cutout_fraction": 1},
        {"mixup_alpha": -1},
        {"cutmix_alpha": 11},
    ],
)
def test_an_impossible_range_is_refused(augmentation, bad):
    with pytest.raises(ValidationError, match=next(iter(bad))):
        Augmentation(**augmentation().model_dump() | bad)
