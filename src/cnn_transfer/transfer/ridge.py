"""Ridge regression on class scores, with exact leave-one-out errors for all penalties from one decomposition.

Targets are +1 for the class of an image and -1 for the others. With weights w, the intercept unpenalised, and
X the features centred at their weighted mean,

    scores = argmin  Σ w_i |y_i - b - x_i A|² + λ |A|²
    H      = w/Σw + U diag(s² / (s² + λ)) Uᵀ,      √w X = U diag(s) Vᵀ

and the error of an image left out is (y_i - ŷ_i) / (1 - H_ii) (Hoerl and Kennard 1970; Allen 1974). The term w/Σw is
the intercept: without it every image would predict itself as soon as there are more features than images. Images that
come with moved copies, or are of one group, are left out together: (I - H_gg)⁻¹ (y_g - ŷ_g). Where such rows g are more
than the eigenvalues, the inverse is taken of a matrix of their number instead (Woodbury's identity).

The decomposition is that of the smaller Gram matrix: images by images, or features by features in chunks of images.
Products of many rows are made in the features' precision, which in float32 takes half the time; all else is float64.
Of few images, whose classes a small penalty may tell apart, 1 - H is less than the rounding of float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy

from cnn_transfer.transfer.groups import rows_left_out
from cnn_transfer.transfer.standardised import CHUNK_NUMBERS, Features, chunks_of, precision_of, rounding

RELATIVE_PENALTIES = np.logspace(-6, 2, 33)  # times the mean eigenvalue of the Gram matrix
MOST_DOUBLE_ROWS = 2048  # whose products are float64: a fifth to two fifths more time for 1,800 rows
CLASS_BALANCE = 0.5  # 0: every image weighs the same, 1: every class


@dataclass(frozen=True)
class Ridge:
    """A linear map from features to class scores.

    Attributes:
        kernel: (features, classes).
        intercept: (classes,).
        penalty: The chosen λ.
        left_out: Scores of each image when it, its copies and its group are left out, (images, classes); none for one
            penalty.
        path: One row a penalty: `penalty`, `error` (mean squared error of images left out), `accuracy`.
    """

    kernel: np.ndarray
    intercept: np.ndarray
    penalty: float
    left_out: np.ndarray
    path: pd.DataFrame

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Class scores of (n, features), (n, classes)."""
        return np.asarray(features @ self.kernel.astype(precision_of(features)) + self.intercept)


def class_targets(classes: np.ndarray, n_classes: int) -> np.ndarray:
    """+1 for the class of each image and -1 for the others: (n, n_classes) float64."""
    return np.where(classes[:, None] == np.arange(n_classes), 1.0, -1.0)


def class_weights(classes: np.ndarray) -> np.ndarray:
    """Weight of each image, (n,) with mean 1: one of a class of c images weighs c ** -CLASS_BALANCE.

    Where all classes weigh the same, the many images of a large one say too little; where all images do, a class of few
    is hardly learnt. Half-way, left-out images have the lowest log loss (`benchmarks/uneven_classes.py`).
    """
    own = np.bincount(classes)[classes]
    weights = (own / own.mean()) ** -CLASS_BALANCE  # 1 to the last bit where classes are even
    return np.asarray(weights / weights.mean())


def fit_ridge(
    features: Features,
    targets: np.ndarray,
    weights: np.ndarray | None = None,
    copies: int = 1,
    penalties: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> Ridge:
    """Fit for all penalties, and keep the one with the smallest leave-one-out error.

    Args:
        features: (n, features); memory-mapped, or standardised when read, is fine. Copies of an image follow it.
        targets: (n, classes).
        weights: (n,) above 0; None: all 1. They count for the errors, too.
        copies: Rows an image.
        penalties: Increasing λ; None: `RELATIVE_PENALTIES` times the mean eigenvalue.
        groups: (n / copies,) a number for each group of images, left out together; None: each image by itself.
    """
    weights = np.ones(len(features)) if weights is None else np.asarray(weights, float)
    basis = _decompose(features, targets, weights)
    if penalties is None:
        penalties = RELATIVE_PENALTIES * max(basis.eigenvalues.sum() / min(len(features), features.shape[1]), 1e-12)
    together = rows_left_out(len(features) // copies, copies, groups)
    errors = np.zeros(len(penalties))
    hits = np.zeros(len(penalties))
    for rows, left_out in _left_out(basis, features, targets, weights, copies, together, penalties):
        wanted, weight = targets[rows], weights[rows]
        errors += np.einsum("pic,i->p", (left_out - wanted) ** 2, weight) / targets.shape[1]
        hits += ((left_out.argmax(axis=2) == wanted.argmax(axis=1)) * weight).sum(axis=1)
    total = weights[::copies].sum()
    path = pd.DataFrame({"penalty": penalties, "error": errors / total, "accuracy": hits / total})
    penalty = float(penalties[int(errors.argmin())])
    kept = np.empty((len(features) // copies, targets.shape[1]))
    for rows, left_out in _left_out(basis, features, targets, weights, copies, together, np.array([penalty])):
        kept[rows // copies] = left_out[0]
    kernel = basis.kernel(penalty, features, weights)
    return Ridge(kernel, basis.target_mean - basis.feature_mean @ kernel, penalty, kept, path)


def fit_ridge_at(features: np.ndarray, targets: np.ndarray, weights: np.ndarray, penalty: float) -> Ridge:
    """Fit for one penalty, without leaving anything out.

    Args:
        features: (n, features).
        targets: (n, classes), any numbers.
        weights: (n,) above 0.
        penalty: λ.
    """
    share = weights / weights.sum()
    mean, target_mean = share @ features, share @ targets
    root = np.sqrt(weights)[:, None]
    rows, wanted = _centred(features, mean, root, precision_of(features)), root * (targets - target_mean)
    if len(rows) <= rows.shape[1]:
        gram = (rows @ rows.T).astype(float)
        gram[np.diag_indices_from(gram)] += penalty
        kernel = rows.T @ scipy.linalg.solve(gram, wanted, assume_a="pos")
    else:
        gram = (rows.T @ rows).astype(float)
        gram[np.diag_indices_from(gram)] += penalty
        kernel = scipy.linalg.solve(gram, rows.T @ wanted, assume_a="pos")
    nothing = np.empty((0, targets.shape[1]))
    return Ridge(kernel, target_mean - mean @ kernel, penalty, nothing, pd.DataFrame())


@dataclass(frozen=True)
class _Basis:
    """Eigenvectors of the weighted, centred Gram matrix, of images or of features."""

    feature_mean: np.ndarray  # (features,)
    target_mean: np.ndarray  # (classes,)
    eigenvalues: np.ndarray  # (rank,), s²
    of_images: np.ndarray | None  # (n, rank), U
    of_features: np.ndarray | None  # (features, rank), V
    projected_targets: np.ndarray  # (rank, classes), Uᵀ √w (Y - mean)

    def rows(self, features: Features, weights: np.ndarray, rows: np.ndarray | slice) -> np.ndarray:
        """Rows of U."""
        if self.of_images is not None:
            return self.of_images[rows]
        root = np.sqrt(weights[rows, None])
        centred = _centred(features[rows], self.feature_mean, root, _precision_of_products(features))
        return np.asarray(centred @ (self.of_features / np.sqrt(self.eigenvalues)).astype(centred.dtype), float)

    def kernel(self, penalty: float, features: Features, weights: np.ndarray) -> np.ndarray:
        """A = V diag(s / (s² + λ)) Uᵀ √w Y, (features, classes)."""
        if self.of_features is not None:
            shrunk = np.sqrt(self.eigenvalues) / (self.eigenvalues + penalty)
            return np.asarray((self.of_features * shrunk) @ self.projected_targets)
        vectors = self.rows(features, weights, slice(None))
        dual = (vectors / (self.eigenvalues + penalty)) @ self.projected_targets * np.sqrt(weights[:, None])
        kernel = np.zeros((features.shape[1], dual.shape[1]))
        for rows in chunks_of(*features.shape):
            centred = _centred(features[rows], self.feature_mean, np.ones(1), _precision_of_products(features))
            kernel += centred.T @ dual[rows].astype(centred.dtype)
        return kernel


def _decompose(features: Features, targets: np.ndarray, weights: np.ndarray) -> _Basis:
    n, width = features.shape
    share, precision = weights / weights.sum(), _precision_of_products(features)
    feature_mean = sum((share[rows] @ features[rows] for rows in chunks_of(n, width)), start=np.zeros(width))
    target_mean = share @ targets
    root = np.sqrt(weights)[:, None]
    centred_targets = root * (targets - target_mean)
    if n <= width:
        gram = np.zeros((n, n))
        for columns in chunks_of(width, n):
            part = _centred(features[:, columns], feature_mean[columns], root, precision)
            gram += part @ part.T
        values, vectors = _eigen(gram, precision)
        return _Basis(feature_mean, target_mean, values, vectors, None, vectors.T @ centred_targets)
    gram, cross = np.zeros((width, width)), np.zeros((width, targets.shape[1]))
    for rows in chunks_of(n, width):
        part = _centred(features[rows], feature_mean, root[rows], precision)
        gram += part.T @ part
        cross += part.T @ centred_targets[rows].astype(precision)
    values, vectors = _eigen(gram, precision)
    return _Basis(feature_mean, target_mean, values, None, vectors, (vectors / np.sqrt(values)).T @ cross)


def _precision_of_products(features: Features) -> np.dtype[Any]:
    return np.dtype(float) if len(features) <= MOST_DOUBLE_ROWS else precision_of(features)


def _centred(features: np.ndarray, mean: np.ndarray, root: np.ndarray, precision: np.dtype[Any]) -> np.ndarray:
    """√w (x - mean) in a precision."""
    return np.asarray(np.subtract(features, mean.astype(precision), dtype=precision) * root.astype(precision))


def _eigen(gram: np.ndarray, precision: Any) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues above the rounding of products in a precision, and their vectors."""
    values, vectors = np.linalg.eigh(gram)
    kept = values > rounding(values, precision)
    return values[kept], vectors[:, kept]


def _left_out(
    basis: _Basis,
    features: Features,
    targets: np.ndarray,
    weights: np.ndarray,
    copies: int,
    together: Sequence[np.ndarray],
    penalties: np.ndarray,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of images (not of their copies), and their scores when left out: (penalties, rows, classes)."""
    rank = max(1, len(basis.eigenvalues))
    for units in together:
        step = max(1, CHUNK_NUMBERS // (rank * units.shape[1]))
        for start in range(0, len(units), step):
            rows = units[start : start + step]
            errors = _errors_left_out(basis, features, targets, weights, rows, penalties)
            images = rows[:, ::copies].ravel()
            yield images, targets[images] - errors[:, :, ::copies].reshape(len(penalties), len(images), -1)


def _errors_left_out(
    basis: _Basis, features: Features, targets: np.ndarray, weights: np.ndarray, rows: np.ndarray, penalties: np.ndarray
) -> np.ndarray:
    """Of rows (units, size), each unit left out: (penalties, units, size, classes)."""
    units, size = rows.shape
    values = basis.eigenvalues
    root = np.sqrt(weights[rows.ravel()])[:, None]
    centred = root * (targets[rows.ravel()] - basis.target_mean)
    own = basis.rows(features, weights, rows.ravel())
    hat_rows = np.concatenate([own, root / np.sqrt(weights.sum())], axis=1)  # the last column is the intercept's
    grouped = hat_rows.reshape(units, size, -1)
    squared = hat_rows**2 if size == 1 else None
    inner = grouped.transpose(0, 2, 1) @ grouped if size > hat_rows.shape[1] else None
    errors = np.empty((len(penalties), units, size, targets.shape[1]))
    for index, penalty in enumerate(penalties):
        factor = np.append(values / (values + penalty), 1.0)
        residual = (centred - own @ (factor[:-1, None] * basis.projected_targets)).reshape(units, size, -1)
        if squared is not None:
            errors[index] = residual / (1 - squared @ factor)[:, None, None]
        elif inner is None:
            hat = (grouped * factor) @ grouped.transpose(0, 2, 1)
            errors[index] = np.linalg.solve(np.eye(size) - hat, residual)
        else:
            small = np.linalg.solve(np.diag(1 / factor) - inner, grouped.transpose(0, 2, 1) @ residual)
            errors[index] = residual + grouped @ small
    return np.asarray(errors / root.reshape(units, size, 1))
