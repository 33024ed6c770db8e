"""Errors that are told in their own words: where in the code it was raised helps nobody to mend a set of images."""

from __future__ import annotations

from cnn_transfer.exporting.release import ToleranceError
from cnn_transfer.images import UnusableSetError


def refusal(error: BaseException | None) -> str | None:
    """What to tell the user; None: the error is a defect, whose traceback is needed.

    Args:
        error: Kedro raises another one from those of data sets.
    """
    while error is not None:
        if isinstance(error, UnusableSetError | ToleranceError):
            return str(error)
        error = error.__cause__
    return None
