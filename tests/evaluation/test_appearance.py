import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cnn_transfer.evaluation import appearance as module
from cnn_transfer.evaluation.appearance import ASPECTS, appearance

NAMES = [aspect.name for aspect in ASPECTS]


@pytest.fixture
def photographs():
    """Grey shapes with soft edges, (12, 48, 48, 3) uint8."""
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.normal(size=(12, 48, 48)), (0, 3, 3))
    shapes = 110 + 60 * np.sign(smooth) * np.minimum(1, np.abs(smooth) / 0.02)
    return np.repeat(shapes[..., None], 3, axis=-1).astype(np.uint8)


def changes(before, after):
    return dict(zip(NAMES, (appearance(after) - appearance(before)).mean(axis=0), strict=True))


def test_figures_of_images_that_can_be_counted():
    flat = np.full((1, 16, 16, 1), 90, np.uint8)
    assert appearance(flat)[0].tolist() == [90, 0, 0, 0, 0, 0, 0]
    halves = flat.copy()
    halves[:, :, 8:] = 110
    (figures,) = appearance(halves)
    assert figures[:2].tolist() == [100, 10]
    assert figures[NAMES.index("noise")] < 0.1 < figures[NAMES.index("fine detail")]
    coloured = np.stack([flat[..., 0], flat[..., 0] + 40, flat[..., 0] - 10], axis=-1)
    assert appearance(coloured)[0, NAMES.index("colour")] == 50
    assert appearance(coloured)[0, 0] == 100


def test_noise_is_told_from_edges(photographs):
    rng = np.random.default_rng(1)
    noisy = np.clip(photographs + rng.normal(0, 20, photographs.shape), 0, 255).astype(np.uint8)
    found = changes(photographs, noisy)
    assert found["noise"] > 0.7
    assert abs(found["brightness"]) < 2
    assert found["coarse detail"] < 0.2 < found["noise"]


def test_blur_takes_the_finest_detail_first(photographs):
    blurred = gaussian_filter(photographs, (0, 1.5, 1.5, 0))
    found = changes(photographs, blurred)
    assert found["fine detail"] < found["detail"] < found["coarse detail"] < 0.02


def test_another_light(photographs):
    darker = changes(photographs, photographs // 2)
    assert darker["brightness"] == pytest.approx(-photographs.mean() / 2, abs=1)
    assert darker["contrast"] < -10


def test_figures_do_not_depend_on_how_many_images_are_worked_on_at_once(photographs, monkeypatch):
    whole = appearance(photographs)
    monkeypatch.setattr(module, "CHUNK_PIXELS", 5 * 48 * 48)
    np.testing.assert_allclose(appearance(photographs), whole, rtol=1e-6)
    assert appearance(photographs[:0]).shape == (0, 7)
    assert np.isfinite(appearance(photographs[:2, :8, :8])).all()  # as small as an image may be
