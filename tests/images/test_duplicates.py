import io
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odd_images import encode, photograph
from PIL import Image, ImageEnhance
from scipy.fft import dctn

from cnn_transfer.images import ImageFormat, ImageSet, NearDuplicates, decode_image, duplicates
from cnn_transfer.images.duplicates import connected, near_pairs, perceptual_hashes, similar_hashes

RULE = NearDuplicates(most_bits=4, least_correlation=0.98, compared_px=None, mirrored=False)
MIRRORED = RULE.model_copy(update={"mirrored": True})
DIGITS = Path(__file__).parents[2] / "data/01_raw/mnist_digits.parquet"


def image_set(pixels):
    """A set that has pixels and their hashes."""
    table = pd.DataFrame({"id": [f"{n}" for n in range(len(pixels))], "perceptual_hash": perceptual_hashes(pixels)})
    return ImageSet(table, pd.DataFrame(), ("a", "b"), pixels.shape[1:], "", (pixels,))


def found(pixels, rule=RULE):
    return {tuple(pair) for pair in near_pairs(image_set(pixels), np.arange(len(pixels)), rule).tolist()}


def stored(image, size=32, channels=3):
    """The pixels that a set has of a picture."""
    encoded = image if isinstance(image, bytes) else encode(image)
    return decode_image(encoded, ImageFormat(image_size_px=size, channels=channels)).pixels


def all_pairs(pixels, rule):
    """Every pair compared with every other, as the docstring says."""
    hashes = perceptual_hashes(pixels)
    first, second = np.triu_indices(len(pixels), 1)
    near = np.bitwise_count(hashes[first] ^ hashes[second]) <= rule.most_bits
    grey = (pixels @ duplicates.LUMA if pixels.shape[-1] == 3 else pixels[..., 0]).reshape(len(pixels), -1)
    pairs = set()
    for one, two in zip(first[near].tolist(), second[near].tolist(), strict=True):
        alike = np.sqrt(np.mean((grey[one].astype(float) - grey[two]) ** 2)) <= duplicates.FLAT_DEVIATION
        varied = grey[one].std() * grey[two].std() >= duplicates.FLAT_DEVIATION**2
        if alike or (varied and np.corrcoef(grey[one], grey[two])[0, 1] >= rule.least_correlation):
            pairs.add((one, two))
    return pairs


@pytest.fixture(scope="module")
def digits():
    """2,000 handwritten digits, (2000, 28, 28, 1) uint8."""
    column = pq.ParquetFile(DIGITS).read_row_group(0, ["image"]).column("image")[:2000].to_pylist()
    return np.stack([np.asarray(Image.open(io.BytesIO(image["bytes"])))[..., None] for image in column])


@pytest.fixture(scope="module")
def originals():
    return [photograph(seed, 160, 120) for seed in range(20)]


def test_bits_of_a_hash_are_the_signs_of_the_lowest_frequencies():
    pixels = np.stack([stored(photograph(seed), channels=1) for seed in range(5)])
    for image, value in zip(pixels, perceptual_hashes(pixels), strict=True):
        low = dctn(image[..., 0].astype(float), type=2)[:8, :8].ravel()
        bits = low > np.median(low[1:])
        assert f"{value:064b}" == "".join("1" if bit else "0" for bit in bits)


def test_no_image_has_no_hash():
    assert perceptual_hashes(np.empty((0, 28, 28, 1), np.uint8)).dtype == np.uint64
    assert len(near_pairs(image_set(np.empty((0, 28, 28, 1), np.uint8)), np.arange(0), RULE)) == 0


@given(
    seeds=st.lists(st.integers(0, 2**64 - 1), max_size=8),
    flips=st.lists(st.lists(st.integers(0, 63), max_size=6), max_size=14),
    most_bits=st.integers(0, 16),
)
def test_similar_hashes_are_those_of_a_comparison_of_all_pairs(seeds, flips, most_bits):
    values = list(seeds)
    for number, bits in enumerate(flips if seeds else []):
        changed = seeds[number % len(seeds)]
        for bit in bits:
            changed ^= 1 << bit
        values.append(changed)
    pairs = similar_hashes(np.array(values, np.uint64), most_bits)
    expected = [
        (a, b) for a, b in combinations(range(len(values)), 2) if (values[a] ^ values[b]).bit_count() <= most_bits
    ]
    assert [tuple(pair) for pair in pairs.tolist()] == sorted(expected)


def compared(monkeypatch):
    """The list that numbers of compared pairs are appended to."""
    numbers, neighbours = [], duplicates._neighbours

    def count(positions, values):
        for pairs in neighbours(positions, values):
            numbers.append(len(pairs))
            yield pairs

    monkeypatch.setattr(duplicates, "_neighbours", count)
    return numbers


def test_few_pairs_of_many_hashes_are_compared(monkeypatch):
    numbers = compared(monkeypatch)
    hashes = np.random.default_rng(0).integers(0, 2**64, 20_000, np.uint64)
    similar_hashes(hashes, 4)
    assert sum(numbers) < 0.002 * len(hashes) ** 2 / 2


def test_a_crowd_with_some_equal_bits_is_searched_without_comparing_all_its_pairs_and_none_is_lost(monkeypatch):
    numbers = compared(monkeypatch)
    rng = np.random.default_rng(0)
    crowd = rng.integers(0, 2**50, 8_000, np.uint64)  # equal in 14 bits, as hashes of similar scenes are
    copies = crowd[:500] ^ (np.uint64(1) << rng.integers(0, 50, 500).astype(np.uint64))
    hashes = np.concatenate([crowd, copies])
    pairs = {tuple(pair) for pair in similar_hashes(hashes, 4).tolist()}
    assert {(n, 8_000 + n) for n in range(500)} <= pairs
    assert sum(numbers) < 0.05 * len(hashes) ** 2 / 2


def test_thousands_of_equal_hashes_are_one_component_without_all_their_pairs():
    pairs = similar_hashes(np.array([77] * 5000 + [76] * 3, np.uint64), 4)
    assert len(pairs) < 5000 * (duplicates.MOST_NEIGHBOURS + 1)
    assert set(connected(pairs, 5003)) == {0}


@pytest.mark.parametrize(
    "rule", [RULE, NearDuplicates(most_bits=6, least_correlation=0.9, compared_px=None, mirrored=False)]
)
def test_near_pairs_of_digits_are_those_of_a_comparison_of_all_pairs(digits, rule):
    pairs = found(digits, rule)
    assert pairs == all_pairs(digits, rule)
    assert pairs or rule == RULE


def test_different_digits_are_hardly_ever_taken_for_copies(digits):
    assert len({row for pair in found(digits) for row in pair}) <= 0.01 * len(digits)


@pytest.mark.parametrize("size", [16, 28, 96])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "edit",
    [
        lambda image: encode(image, "JPEG", quality=50),
        lambda image: encode(image, "WEBP", quality=50),
        lambda image: image.resize((103, 77), Image.Resampling.LANCZOS),
        lambda image: ImageEnhance.Brightness(image).enhance(1.1),
        lambda image: ImageEnhance.Contrast(image).enhance(0.8),
        lambda image: image.convert("L"),
    ],
    ids=["JPEG", "WebP", "rescaled", "brighter", "less contrast", "grey"],
)
def test_edited_photographs_are_found_and_others_are_not(originals, edit, size, channels):
    pixels = np.stack([stored(image, size, channels) for image in [*originals, *map(edit, originals)]])
    pairs = found(pixels)
    assert pairs <= {(n, n + 20) for n in range(20)}
    assert len(pairs) >= 18


@pytest.mark.parametrize(
    "edit",
    [
        lambda image: image.crop((2, 2, image.width - 2, image.height - 2)),
        lambda image: image.rotate(1, Image.Resampling.BICUBIC),
    ],
    ids=["cropped", "turned"],
)
def test_photographs_that_were_moved_a_little_are_found_where_they_are_compared_coarsely(originals, edit):
    pixels = np.stack([stored(image, 160) for image in [*originals, *map(edit, originals)]])
    strictly = NearDuplicates(most_bits=8, least_correlation=0.95, compared_px=None, mirrored=False)
    coarsely = strictly.model_copy(update={"compared_px": 32})
    assert found(pixels, strictly) <= found(pixels, coarsely) <= {(n, n + 20) for n in range(20)}
    assert len(found(pixels, coarsely)) >= 18


@pytest.mark.parametrize("size", [28, 96])
@pytest.mark.parametrize("channels", [1, 3])
def test_mirrored_photographs_are_found_where_that_is_asked_for(originals, size, channels):
    mirrored = [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in originals]
    lighter = [encode(ImageEnhance.Brightness(image).enhance(1.1), "JPEG", quality=80) for image in mirrored]
    pixels = np.stack([stored(image, size, channels) for image in [*originals, *lighter]])
    assert found(pixels) == set()
    pairs = found(pixels, MIRRORED)
    assert pairs <= {(n, n + 20) for n in range(20)}
    assert len(pairs) >= 18


def test_a_picture_that_is_its_own_mirror_image_is_no_copy_of_itself():
    half = np.asarray(photograph(1, 16, 32))
    symmetric = np.concatenate([half, half[:, ::-1]], axis=1)[None]
    assert found(symmetric, MIRRORED) == set()
    assert found(np.repeat(symmetric, 2, axis=0), MIRRORED) == {(0, 1)}  # one pair, as it is and in the mirror


@pytest.mark.parametrize("least_px", [None, 8, 10, 16, 17, 28])
def test_pixels_are_compared_as_means_of_blocks(least_px):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), np.uint8)
    block = 1 if least_px is None else 28 // least_px
    side = 28 // block
    means = duplicates._coarse(pixels, least_px)
    assert means.shape == (2, side, side)
    assert means[1, -1, 0] == pytest.approx(pixels[1, (side - 1) * block : side * block, :block].mean())


def test_pairs_are_rows_of_the_set_when_only_some_rows_are_asked_for():
    pixels = np.stack([stored(photograph(seed)) for seed in (1, 2, 1, 3, 2)])
    assert near_pairs(image_set(pixels), np.array([1, 2, 4]), RULE).tolist() == [[1, 4]]


def test_more_candidates_than_one_comparison_takes_are_all_compared():
    pixels = np.repeat(stored(photograph(1))[None], 60, axis=0)
    assert len(found(pixels)) == 60 * 59 / 2


def test_equally_flat_pictures_are_alike_and_a_flat_one_resembles_no_other():
    flat = np.full((1, 28, 28, 1), 100, np.uint8)
    faint = flat.copy()
    faint[0, 10:20, 10:20] += 1
    varied = stored(photograph(1), 28, 1)[None]
    everything = NearDuplicates(most_bits=16, least_correlation=0.5, compared_px=None, mirrored=False)
    rows = np.concatenate([flat, flat, faint, varied])
    images = image_set(rows)
    images.table["perceptual_hash"] = np.uint64(0)  # so that only the pixels decide
    pairs = near_pairs(images, np.arange(4), everything).tolist()
    assert pairs == [[0, 1], [0, 2], [1, 2]]


@given(pairs=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_components_are_what_can_be_reached(pairs):
    reach = np.eye(10, dtype=bool)
    for one, two in pairs:
        reach[one, two] = reach[two, one] = True
    for _ in range(4):
        reach = reach @ reach
    numbers = connected(np.array(pairs, int).reshape(-1, 2), 10)
    np.testing.assert_array_equal(numbers[:, None] == numbers, reach)
