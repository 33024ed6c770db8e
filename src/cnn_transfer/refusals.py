"""Errors that are told in their own words: where in the code it was raised helps nobody to mend a set of images."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator

from kedro.io.core import VersionNotFoundError

from cnn_transfer.exporting import ToleranceError, WorseReleaseError
from cnn_transfer.images import NoAnswerError, NoRoomError, UnusableSetError
from cnn_transfer.models import UnusableNetworkError

FULL = {number: os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)}  # what the system says
PASSING = (NoAnswerError, NoRoomError)  # the same run may go on once its surroundings are mended
TOLD = (UnusableSetError, UnusableNetworkError, ToleranceError, WorseReleaseError, VersionNotFoundError, *PASSING)
SAVED = re.compile(r"(\S+): Failed while saving data")  # Kedro's words


def refusal(error: BaseException | None) -> str | None:
    """What to tell the user; None: the error is a defect, whose traceback is needed.

    Args:
        error: Kedro raises another one from those of data sets.
    """
    saved = None
    for cause in _causes(error):
        if isinstance(cause, TOLD):
            return str(cause)
        saved = saved or SAVED.match(str(cause))
        if said := _full(cause):
            file = saved[1] if saved else "a file of this run"
            if said == FULL[errno.EFBIG]:
                return (
                    f"{said}: {file} is larger than a file may be here. Let TRANSFER_STORE name a disk whose file "
                    "system takes larger ones, or raise the limit where ulimit -f shows one."
                )
            return (
                f"{said}: there was no room for {file}. Delete what is not needed, such as the versions of old runs "
                "(docs/production.md says how), or let TRANSFER_STORE name another disk."
            )
    return None


def leaves_the_run_whole(error: BaseException | None) -> bool:
    """Whether the same run can go on once its surroundings are mended; not where its images or parameters are wrong."""
    return not refusal(error) or any(isinstance(cause, PASSING) or _full(cause) for cause in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _full(error: BaseException) -> str | None:
    """What the system says where a file does not fit, by number or in the words of a library; None: another error."""
    number = error.errno if isinstance(error, OSError) else None
    said = [words for each, words in FULL.items() if each == number or words in str(error)]
    return said[0] if said else None
