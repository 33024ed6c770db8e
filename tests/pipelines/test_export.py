"""The stage `export` by itself: its nodes change nothing, and refuse what is wrong before and after the work."""

import importlib.util
from dataclasses import replace

import pytest

from cnn_transfer.exporting import Candidate, ToleranceError, WorseReleaseError
from cnn_transfer.parameters import ParameterError
from cnn_transfer.pipelines.export.nodes import (
    challenge_champion,
    compare_exports,
    draw_challenge,
    release,
    tabulate_exports,
    time_all,
    write_exports,
)
from cnn_transfer.pipelines.export.parameters import ExportParameters
from cnn_transfer.prediction.runtimes import KerasRuntime
from cnn_transfer.run_parameters import parse_run_parameters

MACHINE = {"hardware": {"cpu": "a processor", "cores": 1, "memory_gb": 1.0}}


@pytest.fixture
def block(parameters):
    return parameters["export"] | {"formats": ["saved_model", "onnx"], "timed_calls": 2, "timed_batches": 1}


def run(predictor, shapes, shape_splits, block, releases=()):
    """All nodes but the last: its inputs."""
    files = write_exports(predictor, shapes, shape_splits, block, 0)
    parity = compare_exports(predictor, files, shapes, shape_splits, block, 0.95, 0)
    speed = time_all(predictor, files, shapes, shape_splits, MACHINE, block, 0)
    table, _ = tabulate_exports(parity, speed, block)
    comparison, classes, changes = challenge_champion(predictor, releases, shapes, shape_splits, block, 0.95)
    assert len(draw_challenge(comparison, classes, changes, shapes)) == 2
    return files, parity, speed, table, comparison


def test_wanted_formats_are_written_compared_timed_and_released(predictor, shapes, shape_splits, block):
    version = replace(predictor, version="5")
    before = (version.card, version.references.features.tobytes(), [w.tobytes() for w in network_weights(version)])
    files, *rest = run(version, shapes, shape_splits, block)
    assert {name.split("/")[0] for name in files} == {"saved_model", "model.onnx"}
    made = release(version, files, *rest)
    assert [entry["name"] for entry in made.exports] == ["saved_model", "onnx"]
    assert {"passed", "verdict", "latency_ms", "megabytes"} <= made.exports[0].keys()
    assert made.predictor.version == "5"
    assert made.predictor.card.startswith(version.card.strip())
    assert "a processor" in made.predictor.card
    assert "There is no release of another network before this one." in made.predictor.card
    after = (version.card, version.references.features.tobytes(), [w.tobytes() for w in network_weights(version)])
    assert before == after


def network_weights(predictor):
    return predictor.runtime.network.get_weights()


def test_export_outside_its_tolerance_has_figures_but_no_release(predictor, shapes, shape_splits, block):
    strict = block | {"logits_tolerance": block["logits_tolerance"] | {"onnx": 1e-12}}
    files, parity, speed, table, comparison = run(predictor, shapes, shape_splits, strict)
    assert table.set_index("name")["passed"].dropna().to_dict() == {"saved_model": True, "onnx": False}
    with pytest.raises(ToleranceError, match=r"onnx: logits differ by at most .* \(allowed: 1e-12\)"):
        release(predictor, files, parity, speed, table, comparison)


def blinded(predictor):
    """The same predictor whose network takes every image for one of the first class."""
    network = clone_of(predictor.runtime.network)
    return replace(predictor, runtime=KerasRuntime.of(network), version="blinded", digest="other")


def clone_of(network):
    import keras

    clone = keras.models.clone_model(network)
    clone.set_weights([0 * values for values in network.get_weights()])
    return clone


def test_worse_than_the_release_before_has_figures_but_no_release(predictor, shapes, shape_splits, block):
    few = block | {"formats": ["saved_model"]}
    worse = blinded(predictor)
    *made, comparison = run(worse, shapes, shape_splits, few, [Candidate("1", "1", lambda: predictor)])
    assert (comparison["accuracy"], comparison["verdict"]) == (0.25, "worse")
    assert comparison["worse_classes"] == ["column", "diagonal", "row"]
    with pytest.raises(WorseReleaseError, match=r"25\.0% of 80 test images that neither has seen .*WORSE IN CLASSES"):
        release(worse, *made, comparison)
    asked = few | {"champion": {"refuse": "never", "most_loss": 0}}
    comparison, _, _ = challenge_champion(
        worse, [Candidate("1", "1", lambda: predictor)], shapes, shape_splits, asked, 0.95
    )
    card = release(worse, *made, comparison).predictor.card
    assert "25.0% of 80 test images" in card
    assert card.index("## Exports") < card.index("## Compared with the release before")


def test_images_of_another_run_are_refused_before_anything_is_written(predictor, shapes, shape_splits, block):
    with pytest.raises(ValueError, match="must be those that the predictor"):
        write_exports(predictor, replace(shapes, fingerprint="other"), shape_splits, block, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"formats": []}, r"export\.formats"),
        ({"formats": ["onx"]}, r"export\.formats.*Did you mean onnx"),
        ({"formats": ["onnx", "onnx"]}, "named once each"),
        ({"logits_tolerance": {"onnx": 1e-4}}, "must have a number for litert, saved_model"),
        ({"logits_tolerance": {"saved_model": 1e-4, "onnx": 0, "litert": 1e-3}}, r"export\.logits_tolerance\.onnx"),
        (
            {"logits_tolerance": {"saved_model": 1e-4, "onnx": 1e-4, "litert": 1e-3, "litert_int8": 1e-3}},
            "a number for litert_int8, which it is not for",
        ),
        ({"accuracy_loss": -0.1}, r"export\.accuracy_loss"),
        ({"calibration_images": 0}, r"export\.calibration_images"),
        ({"champion": {"refuse": "sometimes", "most_loss": 0}}, r"export\.champion\.refuse"),
        ({"champion": {"refuse": "never", "most_loss": -1}}, r"export\.champion\.most_loss"),
        ({"tolerance": 1}, "tolerance is not a parameter"),
    ],
)
def test_impossible_parameters_are_named(parameters, changes, message):
    with pytest.raises(ParameterError, match=message):
        ExportParameters.parse(parameters["export"] | changes, "export")


def test_missing_package_stops_the_run_before_its_first_node(parameters, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ai_edge_litert" else found(name))
    parse_run_parameters(parameters, {"evaluate"})
    with pytest.raises(ParameterError, match=r"export\.formats: The formats litert, litert_int8 .*pip install 'cnn-tr"):
        parse_run_parameters(parameters, {"export"})
