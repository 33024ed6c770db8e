import numpy as np
import pytest

from cnn_transfer.transfer import standardised
from cnn_transfer.transfer.standardised import Standardised, StoredRows, chunks_of, gram, multiply, standardisation


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(standardised, "CHUNK_NUMBERS", 50)


BOTH = pytest.mark.parametrize(("precision", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-5)])


def data(precision):
    features = np.random.default_rng(0).normal(3, 2, size=(23, 12)).astype(precision)
    return features, Standardised(features, *standardisation(features, [5, 7]))


@BOTH
def test_reads_like_an_array_in_the_precision_of_the_features(precision, tolerance):
    features, rows = data(precision)
    whole = (features.astype(float) - rows.mean) * rows.scale
    assert rows.shape == whole.shape == (len(rows), 12)
    for key in (slice(2, 9), np.array([3, 1]), (slice(None), slice(4, 6)), (slice(1, 3), slice(0, 4))):
        np.testing.assert_allclose(rows[key], whole[key], rtol=tolerance, atol=tolerance)
        assert rows[key].dtype == rows.dtype == precision


@BOTH
def test_products_in_chunks_are_those_of_the_whole(precision, tolerance):
    features, rows = data(precision)
    whole = rows[:].astype(float)
    np.testing.assert_allclose(gram(rows), whole @ whole.T, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(gram(rows, features), whole @ features.T, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(multiply(rows, np.eye(12)), whole, rtol=tolerance)
    assert multiply(rows[:0], np.ones((12, 2))).shape == (0, 2)


def test_whole_numbers_are_read_as_numbers_with_fractions():
    features = np.random.default_rng(0).integers(0, 9, (23, 12))
    mean, scale = standardisation(features, [5, 7])
    rows = Standardised(features, mean, scale)
    assert rows.dtype == np.float64
    np.testing.assert_allclose(rows[:], (features - mean) * scale)
    np.testing.assert_allclose(multiply(features, np.full((12, 1), 0.5))[:, 0], features.sum(axis=1) / 2)


def test_stored_rows_read_like_the_array_they_are_part_of():
    values = np.random.default_rng(0).normal(size=(30, 20)).astype(np.float32)
    picked, columns = np.array([4, 1, 29, 7, 4]), [slice(2, 5), slice(9, 16)]
    rows = StoredRows(values, picked, columns)
    whole = values[picked][:, np.r_[2:5, 9:16]]
    assert (rows.shape, rows.dtype, len(rows)) == (whole.shape, whole.dtype, len(whole))
    by_rows = [slice(1, 3), slice(None, None, 2), np.array([3, 0])]
    by_columns = [(slice(None), slice(start, stop)) for start in range(10) for stop in range(start + 1, 12)]
    for key in by_rows + by_columns + [(np.array([0, 2]), slice(1, 7))]:
        np.testing.assert_array_equal(rows[key], whole[key])
    np.testing.assert_array_equal(rows.loaded(), whole)
    np.testing.assert_allclose(rows @ np.ones((10, 2)), whole @ np.ones((10, 2)), rtol=1e-5)
    mean, scale = standardisation(whole, [3, 7])
    np.testing.assert_array_equal(standardisation(rows, [3, 7]), (mean, scale))
    np.testing.assert_array_equal(Standardised(rows, mean, scale)[1:4], Standardised(whole, mean, scale)[1:4])


def test_chunks_cover_every_index_once():
    np.testing.assert_array_equal(np.concatenate([np.arange(23)[part] for part in chunks_of(23, 12)]), np.arange(23))


def test_weights_are_the_mean_square_norms_of_the_taps():
    features = np.random.default_rng(0).normal(size=(50, 12)) * np.arange(1, 13)
    mean, scale = standardisation(features, [5, 7], np.array([0.5, 1.5]))
    first, second = np.split((features - mean) * scale, [5], axis=1)
    np.testing.assert_allclose([(first**2).sum(axis=1).mean(), (second**2).sum(axis=1).mean()], [0.5, 1.5])


def test_a_tap_that_never_moves_is_finite():
    mean, scale = standardisation(np.ones((5, 3)), [1, 2])
    assert np.isfinite(scale).all()
    np.testing.assert_array_equal(mean, 1)
