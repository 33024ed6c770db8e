"""Attribution without gradients, on networks that are known to look at one place."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from cnn_transfer.evaluation.occlusion import occlusion_map, overlay

SIDE = 24


def looks_at(rows, columns):
    """Logits of two classes: the brightness of a part of the picture speaks for class 1."""

    def compute(pixels):
        bright = pixels[:, rows, columns].mean(axis=(1, 2, 3)) / 255
        return np.stack([1 - 2 * bright, 2 * bright - 1], axis=1).astype(np.float32)

    return compute


def constant(pixels):
    return np.tile(np.array([[0.5, -1.0, 2.0]], np.float32), (len(pixels), 1))


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)


@pytest.mark.parametrize("place", ["upper left", "lower right"])
def test_the_map_lies_where_the_network_looks(place, picture):
    half = slice(0, SIDE // 2) if place == "upper left" else slice(SIDE // 2, SIDE)
    picture[half, half] = np.where(picture[half, half] > 128, 255, 200)
    compute = looks_at(half, half)
    values = np.abs(occlusion_map(compute, picture, 1))
    assert values.shape == (SIDE, SIDE)
    assert values.dtype == np.float32
    assert values[half, half].sum() > 0.6 * values.sum()  # of a quarter of the picture
    row, column = np.unravel_index(values.argmax(), values.shape)
    assert half.start <= row < half.stop
    assert half.start <= column < half.stop


def test_what_speaks_for_one_of_two_classes_speaks_against_the_other():
    picture = np.zeros((SIDE, SIDE, 1), np.uint8)
    picture[4:8, 4:8] = 255
    compute = looks_at(slice(4, 8), slice(4, 8))
    for_bright, for_dark = (occlusion_map(compute, picture, class_index) for class_index in (1, 0))
    assert for_bright[5, 5] > 0.1
    np.testing.assert_allclose(for_dark, -for_bright, atol=1e-6)


def test_a_network_that_sees_nothing_gets_zeros_and_nothing_is_painted(picture):
    values = occlusion_map(constant, picture, 2)
    assert (values == 0).all()
    assert (np.asarray(Image.open(io.BytesIO(overlay(values))))[..., 3] == 0).all()


def test_the_same_image_gets_the_same_map_in_at_most_150_computations(picture):
    computed = []

    def counted(pixels):
        assert pixels.dtype == np.uint8
        computed.append(len(pixels))
        return looks_at(slice(0, 9), slice(3, 20))(pixels)

    first = occlusion_map(counted, picture, 1)
    assert sum(computed) <= 150
    assert max(computed) <= 32
    assert (first == occlusion_map(counted, picture, 1)).all()


def test_the_overlay_is_orange_for_and_blue_against():
    values = np.zeros((10, 12), np.float32)
    values[1, 2], values[7, 8] = 2.0, -2.0
    image = Image.open(io.BytesIO(overlay(values, scale=2)))
    assert image.mode == "RGBA"
    assert image.size == (24, 20)
    plain = np.asarray(Image.open(io.BytesIO(overlay(values))))
    assert tuple(plain[1, 2]) == (213, 94, 0, 255)
    assert tuple(plain[7, 8]) == (0, 114, 178, 255)
    assert plain[0, 0, 3] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixels": np.zeros((SIDE, SIDE), np.uint8)}, "pixels must be one image"),
        ({"pixels": np.zeros((SIDE, SIDE, 3), np.float32)}, "pixels must be one image"),
        ({"class_index": 3}, "class_index must be from 0 to 2. Received: 3"),
        ({"places": 1}, "places must be at least 2"),
        ({"compute": lambda pixels: np.full((len(pixels), 3), np.nan)}, "logits must be finite"),
    ],
)
def test_rejects_what_cannot_be_explained(picture, change, message):
    arguments = {"compute": constant, "pixels": picture, "class_index": 0} | change
    with pytest.raises(ValueError, match=message):
        occlusion_map(**arguments)


def test_neither_keras_nor_tensorflow_is_imported():
    script = "import sys, cnn_transfer.evaluation.occlusion; print({'keras', 'tensorflow', 'kedro'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "set()\n"
    )
