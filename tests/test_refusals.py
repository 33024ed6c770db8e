import errno
import os

import pytest
from kedro.io import DatasetError

from cnn_transfer.exporting.release import ToleranceError
from cnn_transfer.images import NoAnswerError, NoRoomError, UnusableSetError
from cnn_transfer.models import UnusableNetworkError
from cnn_transfer.refusals import leaves_the_run_whole, refusal


def saved(error, name="target_features"):
    """What Kedro makes of an error while it saves."""
    wrapped = DatasetError(f"{name}: Failed while saving data to dataset X(filepath=...).\n{error}")
    wrapped.__cause__ = error
    return wrapped


@pytest.mark.parametrize("kind", [UnusableSetError, UnusableNetworkError, ToleranceError, NoRoomError, NoAnswerError])
def test_what_users_can_mend_is_told_even_where_kedro_wraps_it(kind):
    assert refusal(kind("No image in x.")) == "No image in x."
    assert refusal(saved(kind("No image in x."))) == "No image in x."


def test_a_defect_keeps_its_traceback():
    defect = ValueError("not enough values to unpack")
    defect.__context__ = UnusableSetError("met and handled before")
    assert refusal(defect) is None


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.ENOSPC, "Error writing bytes to file"),  # as Arrow says it
        RuntimeError(f"Can't write data (error message = '{os.strerror(errno.ENOSPC)}')"),  # as HDF5 does
    ],
)
def test_a_full_disk_is_told_with_what_did_not_fit(error):
    told = refusal(saved(error))
    assert told.startswith("No space left on device: there was no room for target_features. Delete")
    assert "a file of this run" in refusal(error)


def test_a_file_that_is_larger_than_one_may_be_is_not_told_to_delete_others():
    too_large = saved(OSError(errno.EFBIG, "Error writing bytes to file"))
    assert refusal(too_large).startswith("File too large: target_features is larger than a file may be here. Let TRAN")
    assert leaves_the_run_whole(too_large)


def test_other_errors_of_a_disk_are_not_called_full():
    assert refusal(saved(PermissionError(errno.EACCES, "Permission denied"))) is None


def test_a_run_can_go_on_unless_its_images_or_parameters_are_wrong():
    full = saved(OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)))
    for error, expected in (
        (full, True),
        (saved(NoRoomError("Not enough room.")), True),
        (saved(NoAnswerError("11 images could not be read.")), True),
        (ValueError("a defect"), True),
        (UnusableSetError("No image in x."), False),
    ):
        assert leaves_the_run_whole(error) is expected
