"""Speed, table, plot, lines and card of the exports."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from cnn_transfer.evaluation import as_svg
from cnn_transfer.exporting import (
    FORMATS,
    card_of_release,
    compare,
    describe_exports,
    draw_exports,
    export_table,
    images_to_compare,
    time_exports,
)
from cnn_transfer.exporting import speed as timing


@pytest.fixture(scope="module")
def parity(predictor, exported, shapes, shape_splits):
    compared = images_to_compare(predictor, shapes, shape_splits, 100, 0)
    return compare(predictor, exported, compared, {"saved_model": 1e-4, "onnx": 1e-4, "litert": 1e-3}, 0.02, 0.95)


@pytest.fixture(scope="module")
def speed(predictor, exported, training_pixels):
    return time_exports(predictor, exported, training_pixels, calls=5, batches=2, threads=1)


@pytest.fixture(scope="module")
def table(parity, speed):
    return export_table(parity, speed)


def test_all_runtimes_are_timed_beside_both_of_keras(speed, exported):
    assert [entry["name"] for entry in speed] == ["keras predict", "keras call", *FORMATS]
    for entry in speed:
        assert 0 < entry["latency_ms"] <= entry["latency_p95_ms"]
        assert entry["images_per_second_32"] > 0
        assert entry["images_per_second_256"] > 0
    of = {entry["name"]: entry for entry in speed}
    assert of["keras predict"]["times_predict"] == of["keras call"]["times_call"] == 1
    assert of["onnx"]["megabytes"] == len(exported["model.onnx"]) / 1e6
    assert of["saved_model"]["megabytes"] > len(exported["saved_model/saved_model.pb"]) / 1e6
    assert of["litert_int8"]["megabytes"] < of["litert"]["megabytes"]


def test_no_more_is_timed_than_time_allows(monkeypatch):
    calls = []
    parts = [np.zeros(1)] * 4
    assert len(timing._seconds({"one": calls.append}, parts)["one"]) == 4
    monkeypatch.setattr(timing, "MOST_SECONDS", 0.0)
    assert len(timing._seconds({"one": calls.append, "other": calls.append}, parts)["other"]) == 1
    assert len(calls) == 5 + 2 * 2  # each first once untimed


def test_batches_of_large_images_are_not_timed(
    predictor, exported, training_pixels, parity, first_release, monkeypatch
):
    """They would take several gigabytes, and are no faster."""
    machine = {"cores": 2, "cpu": "a processor"}
    for limit, known, said in ((32, [32], "images/s, batch 32 |"), (31, [], "images/s |")):
        monkeypatch.setattr(timing, "MOST_BATCH_BYTES", limit * training_pixels[0].nbytes)
        found = time_exports(predictor, exported, training_pixels, calls=1, batches=1, threads=1)
        assert [size for size in (32, 256) if found[0][f"images_per_second_{size}"] is not None] == known
        table = export_table(parity, found)
        card = card_of_release("# Shapes", table, (28, 28, 1), machine, first_release)
        assert said in card
        assert ("| not measured |" in card) == (not known)
        assert isinstance(draw_exports(table, 0.01), Figure)


def test_exports_are_at_least_twice_as_fast_as_predict_with_one_image(speed):
    times = {entry["name"]: entry["times_predict"] for entry in speed}
    assert max(times["onnx"], times["litert_int8"]) > 2


def test_one_table_has_all_figures(table, tmp_path):
    assert table["name"].tolist() == ["keras predict", "keras call", *FORMATS]
    assert table["passed"].isna().tolist() == [True, True, False, False, False, False]
    table.to_parquet(tmp_path / "table.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "table.parquet"), table)


def test_plot_names_what_failed(table):
    assert isinstance(draw_exports(table, 0.01), Figure)
    assert "No export is outside its tolerance" in as_svg(draw_exports(table, 0.01))
    failed = table.assign(passed=table["passed"].where(table["name"] != "onnx", False))
    assert "Outside tolerance (red): onnx" in as_svg(draw_exports(failed, 0.01))


def test_plot_says_what_is_not_shown_and_what_is_allowed_only_where_it_counts(table):
    of_8_bits = table["name"] == "litert_int8"
    shown, unshown = (
        as_svg(draw_exports(table.assign(shown=table["shown"].mask(of_8_bits, known)), 0.01)) for known in (True, False)
    )
    assert "too few validation images" not in shown
    assert "No export is outside its tolerance; too few validation images show that litert_int8 is within it" in unshown
    assert "allowed for 8 bits" in shown
    assert "allowed for 8 bits" not in as_svg(draw_exports(table[~of_8_bits], 0.01))


def test_plot_without_validation_images_is_drawn(parity, speed):
    unknown = [{**entry, **dict.fromkeys([name for name in entry if name.startswith("accuracy")])} for entry in parity]
    assert "No export is outside" in as_svg(draw_exports(export_table(unknown, speed), 0.01))


def test_lines_say_what_passed_and_why(table):
    lines = describe_exports(table.assign(passed=table["passed"].where(table["name"] != "onnx", False)))
    assert len(lines) == 2 * len(FORMATS)
    assert lines[0].startswith("saved_model     passed, ")
    assert lines[2].startswith("onnx            FAILED, ")
    assert "times as fast as Keras's predict" in lines[2]
    assert "(allowed: 1e-04)" in lines[3]


def test_card_says_how_files_compare(table, first_release):
    card = card_of_release(
        "# Shapes\n\nA card.\n", table, (28, 28, 1), {"cores": 2, "cpu": "a processor"},
        first_release | {"notes": ["One.", "Another."]},
    )  # fmt: skip
    assert card.endswith("There is no release of another network before this one.\n\n- One.\n- Another.\n")
    assert card.startswith("# Shapes\n\nA card.\n\n## Exports\n")
    assert "uint8 0–255 of the shape (n, 28, 28, 1)" in card
    for known in FORMATS.values():
        assert f"| `{known.file}` |" in card
        assert f"- `{known.file}`: " in card
    assert "2 cores of\na processor" in card
    assert "| images/s, batch 256 |" in card
    assert "Compared on 100 images, 80 of them validation images" in card
