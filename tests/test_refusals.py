import pytest
from kedro.io import DatasetError

from cnn_transfer.exporting.release import ToleranceError
from cnn_transfer.images import UnusableSetError
from cnn_transfer.refusals import refusal


@pytest.mark.parametrize("kind", [UnusableSetError, ToleranceError])
def test_what_users_can_mend_is_told_even_where_kedro_wraps_it(kind):
    assert refusal(kind("No image in x.")) == "No image in x."
    wrapped = DatasetError("Failed while loading data")
    wrapped.__cause__ = kind("No image in x.")
    assert refusal(wrapped) == "No image in x."


def test_a_defect_keeps_its_traceback():
    defect = ValueError("not enough values to unpack")
    defect.__context__ = UnusableSetError("met and handled before")
    assert refusal(defect) is None
