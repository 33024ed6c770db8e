import pytest

from cnn_transfer.evaluation.probabilities import confidence_text


@pytest.mark.parametrize(
    ("confidence", "text"),
    [(0.5, "0.5"), (0.98765, "0.988"), (0.9994, "0.999"), (0.99986, "0.9999"), (1 - 1e-7, "0.9999999"), (1.0, "1")],
)
def test_less_than_certain_is_never_called_certain(confidence, text):
    assert confidence_text(confidence) == text
