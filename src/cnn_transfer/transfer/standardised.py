"""Standardised features that are never copied as a whole: each read computes its part.

Features are (images, features), float32 on disk or in memory; tap after tap, each with its own number of columns. They
are read and multiplied in their own precision, which takes half the time of float64; sums over chunks are float64, and
so is all that `ridge.py` makes of few rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

POOLED_SHARE = 0.1  # of a feature's variance: features that hardly ever move must not explode on new images
CHUNK_NUMBERS = 2**22  # 16 MB of float32


@dataclass(frozen=True)
class StoredRows:
    """Some rows and columns of a larger array, mostly on disk, read when `[rows]` or `[rows, columns]` are asked for.

    Attributes:
        values: (rows, columns) of everything.
        rows: (n,) row numbers, in the wanted order.
        columns: Which columns, one slice after the other.
    """

    values: np.ndarray
    rows: np.ndarray
    columns: Sequence[slice]

    @property
    def shape(self) -> tuple[int, int]:
        """(n, features)."""
        return (len(self.rows), sum(part.stop - part.start for part in self.columns))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what is read."""
        return self.values.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> np.ndarray:
        rows, wanted = key if isinstance(key, tuple) else (key, slice(None))
        start, stop, _ = wanted.indices(self.shape[1])
        parts, before = [], 0
        for part in self.columns:
            first = part.start + max(0, start - before)
            last = min(part.stop, part.start + stop - before)
            if first < last:
                parts.append(self.values[self.rows[rows], first:last])
            before += part.stop - part.start
        return np.concatenate(parts, axis=1)

    def __matmul__(self, kernel: np.ndarray) -> np.ndarray:
        return multiply(self, kernel)

    def loaded(self) -> np.ndarray:
        """All of it in memory."""
        values = np.empty(self.shape, self.dtype)
        for rows in chunks_of(*self.shape):
            values[rows] = self[rows]
        return values


Rows = np.ndarray | StoredRows


@dataclass(frozen=True)
class Standardised:
    """(x - mean) · scale; reads like an array with `[rows]` and `[rows, columns]`, slices or indices.

    Attributes:
        features: (n, features).
        mean: (features,).
        scale: (features,).
    """

    features: Rows
    mean: np.ndarray
    scale: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """(n, features)."""
        return (len(self.features), len(self.mean))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what is read."""
        return precision_of(self.features)

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, key: Any) -> np.ndarray:
        columns = key[1] if isinstance(key, tuple) else slice(None)
        mean, scale = (part[columns].astype(self.dtype) for part in (self.mean, self.scale))
        part = np.asarray(self.features[key] - mean)
        part *= scale
        return part


Features = Rows | Standardised


def precision_of(features: Features) -> np.dtype[Any]:
    """In which features are multiplied: their own where they are float32 or float64, else what holds them."""
    return np.result_type(features.dtype, np.float32)


def standardisation(
    features: Rows, widths: Sequence[int], weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean (features,) and scale (features,): (x - mean) · scale has, over each tap, its weight as mean square norm.

    The variance of a feature is drawn a little towards the mean of its tap, as estimates from few images need.

    Args:
        features: (n, features).
        widths: Features of each tap.
        weights: (taps,) above 0; None: 1 each.
    """
    weights = np.ones(len(widths)) if weights is None else weights
    chunks = list(chunks_of(*features.shape))
    mean = sum((features[rows].sum(axis=0, dtype=float) for rows in chunks), start=np.zeros(features.shape[1]))
    mean /= len(features)
    variance = sum((((features[rows] - mean) ** 2).sum(axis=0) for rows in chunks), start=np.zeros(len(mean)))
    variance /= len(features)
    scales = []
    for weight, own in zip(weights, np.split(variance, np.cumsum(widths)[:-1]), strict=True):
        divisor = np.sqrt((1 - POOLED_SHARE) * own + POOLED_SHARE * max(float(own.mean()), 1e-12))
        norm = np.sqrt((own / divisor**2).sum())
        scales.append(np.sqrt(weight) / (divisor * max(norm, 1e-6)))
    return mean, np.concatenate(scales)


def chunks_of(length: int, width: int) -> Iterator[slice]:
    """Slices of `length`, each with about `CHUNK_NUMBERS` numbers when one index has `width`."""
    step = max(1, CHUNK_NUMBERS // max(1, width))
    return (slice(start, min(length, start + step)) for start in range(0, length, step))


def gram(features: Features, others: Features | None = None) -> np.ndarray:
    """Inner products of rows, (n, m) float64, summed over chunks of columns."""
    n, width = features.shape
    total = np.zeros((n, n if others is None else len(others)))
    for columns in chunks_of(width, max(total.shape)):
        part = features[:, columns]
        total += part @ (part if others is None else others[:, columns]).T
    return total


def multiply(features: Features, kernel: np.ndarray) -> np.ndarray:
    """Features @ kernel, in chunks of rows and the precision of the features."""
    kernel = kernel.astype(precision_of(features), copy=False)
    parts = [features[rows] @ kernel for rows in chunks_of(*features.shape)]
    return np.concatenate(parts) if parts else np.empty((0, kernel.shape[1]))


def rounding(eigenvalues: np.ndarray, precision: Any) -> float:
    """What an eigenvalue of a Gram matrix, in increasing order, may be by rounding alone."""
    return float(max(eigenvalues[-1], 0) * np.sqrt(len(eigenvalues)) * np.finfo(precision).eps)
