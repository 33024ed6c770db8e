"""What a node costs."""

import numpy as np
import pandas as pd

from cnn_transfer import resources
from cnn_transfer.resources import count_images, peak_memory_mb, reset_peak_memory


def test_the_peak_is_that_since_the_reset():
    reset_peak_memory()
    before = peak_memory_mb()
    block = np.ones(100_000_000, np.uint8)
    assert peak_memory_mb() > before + 90
    del block
    reset_peak_memory()
    assert peak_memory_mb() < before + 50


def test_a_system_that_does_not_say_it_is_no_error(monkeypatch, tmp_path):
    monkeypatch.setattr(resources, "CLEAR_REFERENCES", tmp_path / "none/none")
    monkeypatch.setattr(resources, "STATUS", tmp_path / "none")
    reset_peak_memory()
    assert peak_memory_mb() is None


def test_images_are_those_trained_else_predicted_else_read(shapes):
    log = pd.DataFrame({"phase": "fit", "images_processed": [0, 320, 640]})
    search = pd.DataFrame({"phase": "fit", "trial": [0, 0, 1], "images_processed": [0, 100, 50]})
    predictions = pd.DataFrame({"id": ["a", "b"], "probability_x": [0.5, 0.5]})
    assert count_images({"images": shapes}, {"log": log, "predictions": predictions}) == 640
    assert count_images({}, {"log": search}) == 150
    assert count_images({"images": shapes}, {"one": predictions, "two": predictions}) == 4
    assert count_images({"images": shapes}, {"text": "none"}) == len(shapes.table)
    assert count_images({}, {"text": "none"}) is None
