"""What a node costs."""

import threading
import time

import numpy as np
import pandas as pd

from cnn_transfer import resources
from cnn_transfer.resources import SECONDS_BETWEEN_LOOKS, MemoryWatch, count_images


def test_the_peak_is_that_since_the_reset():
    watch = MemoryWatch()
    watch.reset()
    before = watch.peak_mb()
    block = np.ones(100_000_000, np.uint8)
    time.sleep(4 * SECONDS_BETWEEN_LOOKS)
    del block
    assert watch.peak_mb() > before + 90
    watch.reset()
    assert watch.peak_mb() < before + 50
    assert sum(thread.name == "memory" for thread in threading.enumerate()) >= 1


def test_a_file_that_is_mapped_is_no_memory_of_ones_own(tmp_path):
    np.ones(100_000_000, np.uint8).tofile(tmp_path / "file")
    watch = MemoryWatch()
    watch.reset()
    before = watch.peak_mb()
    mapped = np.memmap(tmp_path / "file", np.uint8, "r")
    assert mapped.sum() == 100_000_000
    assert watch.peak_mb() < before + 50


def test_a_system_that_does_not_say_it_is_no_error(monkeypatch, tmp_path):
    for status in (tmp_path / "none", tmp_path / "other"):
        (tmp_path / "other").write_text("VmHWM: 5 kB\n")
        monkeypatch.setattr(resources, "STATUS", status)
        watch = MemoryWatch()
        watch.reset()
        assert watch.peak_mb() is None


def test_images_are_those_trained_else_predicted_else_read(shapes):
    log = pd.DataFrame({"phase": "fit", "images_processed": [0, 320, 640]})
    search = pd.DataFrame({"phase": "fit", "trial": [0, 0, 1, 1], "images_processed": [0, 100, 0, 50]})
    predictions = pd.DataFrame({"id": ["a", "b"], "probability_x": [0.5, 0.5]})
    assert count_images({"images": shapes}, {"log": log, "predictions": predictions}) == 640
    assert count_images({}, {"log": search}) == 150
    assert count_images({"images": shapes}, {"one": predictions, "two": predictions}) == 4
    assert count_images({"images": shapes}, {"text": "none"}) == len(shapes.table)
    assert count_images({}, {"text": "none"}) is None


def test_what_a_fit_goes_on_from_and_networks_that_were_only_judged_are_not_trained(shapes):
    trials = {"probe": [30], "fit": [30, 130], "goes on": [150, 250], "50% fit": [250], "75% fit": [250]}
    rows = [(trial, "fine-tuning", images) for trial in trials for images in trials[trial]]
    log = pd.DataFrame(rows, columns=["trial", "phase", "images_processed"])
    assert count_images({}, {"log": log}) == 200
    judged = log[log["trial"] == "probe"]
    assert count_images({"images": shapes}, {"log": judged}) == len(shapes.table)
