"""Groups of images: what is left out together, and how sure a mean over images is.

Images of one group (a patient, a video, near duplicates) are alike in more than their class. An image whose group is
still there when it is left out is recognised, and what is said of it flatters the head; so an image is left out with
its moved copies and all images of its group.
"""

from __future__ import annotations

import numpy as np

from cnn_transfer.images.reasons import UnusableSetError

CHANCE = 0.025  # that a mean seems clearly above 0 when it is not


def rows_left_out(images: int, copies: int = 1, groups: np.ndarray | None = None) -> list[np.ndarray]:
    """Rows of features that are left out together.

    Args:
        images: How many.
        copies: Rows an image, which follow one another.
        groups: (images,) a number for each group; None: every image is one of its own.

    Returns:
        One array for each size of a group, (groups of that size, rows), the smallest first. In each group, the rows of
        an image follow one another.

    Raises:
        UnusableSetError: When all images are of one group.
        ValueError: When the groups are of another number of images.
    """
    if groups is None:
        return [np.arange(images * copies).reshape(images, copies)]
    if len(groups) != images:
        raise ValueError(f"groups must hold one number an image. Expected {images}, received {len(groups)}.")
    codes, counts = np.unique(groups, return_inverse=True, return_counts=True)[1:]
    if len(counts) < 2:
        raise UnusableSetError(
            f"All {images} labelled training images are of one group: none can be left out to judge a head by. Label "
            "images of another group, or divide this one."
        )
    in_order = np.argsort(codes, kind="stable")
    firsts = np.cumsum(counts) - counts
    found = []
    for size in np.unique(counts):
        members = in_order[firsts[counts == size][:, None] + np.arange(size)]
        rows = members[:, :, None] * copies + np.arange(copies)
        found.append(rows.reshape(len(members), size * copies))
    return found


def mean_and_error(values: np.ndarray, groups: np.ndarray | None = None) -> tuple[float, float]:
    """A mean over images and its standard error, in which images of one group are not independent.

    The jackknife that leaves one group out, and at least the error of as many images by themselves: the sum over groups
    of the squared sums of deviations (Liang and Zeger 1986) is too small where groups are few and unequal (MacKinnon,
    Nielsen and Webb 2023).

    Args:
        values: (n,), of at least two groups.
        groups: (n,) a number for each group; None: every image is one of its own.
    """
    mean = float(values.mean())
    codes = np.arange(len(values)) if groups is None else np.unique(groups, return_inverse=True)[1]
    off, sizes = values - mean, np.bincount(codes)
    left_out = np.bincount(codes, off) / (1 - sizes / len(values))
    squares = max((left_out**2).sum() * (len(sizes) - 1) / len(sizes), (off**2).sum())
    return mean, float(np.sqrt(squares) / len(values))


def clear_errors(images: int, groups: np.ndarray | None = None, tests: int = 1) -> float:
    """Standard errors from which on a mean over images is clearly above 0: 1.96 of many groups, more of few.

    Student's quantile, with one degree of freedom less than groups of one size that these are worth (Kish 1965).

    Args:
        images: How many.
        groups: (images,) a number for each group; None: every image is one of its own.
        tests: Means of which none should seem clear by chance (Bonferroni).
    """
    from scipy.special import stdtrit

    number = images if groups is None else images**2 / (np.unique(groups, return_counts=True)[1] ** 2).sum()
    return float(stdtrit(max(1.0, number - 1), 1 - CHANCE / tests))
