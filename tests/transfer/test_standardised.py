import numpy as np
import pytest

from cnn_transfer.transfer import standardised
from cnn_transfer.transfer.standardised import Standardised, chunks_of, gram, multiply, standardisation


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(standardised, "CHUNK_NUMBERS", 50)


def data():
    features = np.random.default_rng(0).normal(3, 2, size=(23, 12)).astype(np.float32)
    return features, Standardised(features, *standardisation(features, [5, 7]))


def test_reads_like_an_array():
    features, rows = data()
    whole = (features - rows.mean) * rows.scale
    assert rows.shape == whole.shape == (len(rows), 12)
    for key in (slice(2, 9), np.array([3, 1]), (slice(None), slice(4, 6)), (slice(1, 3), slice(0, 4))):
        np.testing.assert_allclose(rows[key], whole[key])
        assert rows[key].dtype == np.float64


def test_products_in_chunks_are_those_of_the_whole():
    features, rows = data()
    whole = rows[:]
    np.testing.assert_allclose(gram(rows), whole @ whole.T)
    np.testing.assert_allclose(gram(rows, features), whole @ features.T)
    np.testing.assert_allclose(multiply(rows, np.eye(12)), whole)
    assert multiply(rows[:0], np.ones((12, 2))).shape == (0, 2)


def test_chunks_cover_every_index_once():
    np.testing.assert_array_equal(np.concatenate([np.arange(23)[part] for part in chunks_of(23, 12)]), np.arange(23))


def test_a_tap_that_never_moves_is_finite():
    mean, scale = standardisation(np.ones((5, 3)), [1, 2])
    assert np.isfinite(scale).all()
    np.testing.assert_array_equal(mean, 1)
