import pytest

from cnn_transfer.evaluation.probabilities import confidence_text, percent_text


@pytest.mark.parametrize(
    ("confidence", "text"),
    [(0.5, "0.5"), (0.98765, "0.988"), (0.9994, "0.999"), (0.99986, "0.9999"), (1 - 1e-7, "0.9999999"), (1.0, "1")],
)
def test_less_than_certain_is_never_called_certain(confidence, text):
    assert confidence_text(confidence) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0%"), (0.0004, "0.04%"), (0.95, "95%"), (0.998, "99.8%"), (0.99999, "99.999%"), (1.0, "100%")],
)
def test_only_the_whole_is_written_as_one_hundred_per_cent(share, text):
    assert percent_text(share) == text
