"""Every format is written, takes raw pixels and any number of them, and is computed by its own runtime."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from cnn_transfer.exporting import FORMATS, check_formats, export, read_files, write_files
from cnn_transfer.prediction import Predictor, open_runtime


@pytest.fixture(scope="module")
def folder(exported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    write_files(exported, folder)
    return folder


@pytest.mark.parametrize(("name", "tolerance"), [("saved_model", 1e-4), ("onnx", 1e-4), ("litert", 1e-3)])
def test_float_formats_compute_what_keras_computes(folder, name, tolerance, predictor, training_pixels):
    expected, found = predictor.runtime(training_pixels), open_runtime(folder, name)(training_pixels)
    for wanted, output in zip(expected, found, strict=True):
        assert output.dtype == np.float32
        np.testing.assert_allclose(output, wanted, atol=tolerance)


def test_int8_predicts_the_same_classes_but_for_a_few(folder, predictor, training_pixels):
    expected = predictor.runtime(training_pixels).probabilities.argmax(1)
    found = open_runtime(folder, "litert_int8")(training_pixels)
    assert (found.probabilities.argmax(1) == expected).mean() > 0.97
    np.testing.assert_allclose(found.probabilities.sum(1), 1, atol=0.02)


@pytest.mark.parametrize("name", FORMATS)
def test_any_number_of_raw_pixels_is_taken(folder, name, training_pixels):
    runtime = open_runtime(folder, name)
    together = runtime(training_pixels[:5])
    for count in (1, 3):
        np.testing.assert_allclose(runtime(training_pixels[:count]).logits, together.logits[:count], atol=1e-4)


def test_int8_file_is_the_smallest_and_keeps_pixels_and_probabilities_as_they_are(exported, folder):
    from ai_edge_litert.interpreter import Interpreter

    assert len(exported["model_int8.tflite"]) < 0.6 * len(exported["model.tflite"])
    interpreter = Interpreter(model_path=str(folder / "model_int8.tflite"))
    assert [entry["dtype"] for entry in interpreter.get_input_details()] == [np.uint8]
    assert [entry["dtype"] for entry in interpreter.get_output_details()] == [np.float32] * 3
    signature = interpreter.get_signature_list()["serving_default"]
    assert signature["inputs"] == ["pixels"]
    assert set(signature["outputs"]) == {"probabilities", "logits", "features"}


def test_files_are_read_as_they_were_written(folder, exported):
    assert read_files(folder) == exported


def test_unknown_format_names_the_nearest(predictor, training_pixels):
    with pytest.raises(ValueError, match=r"Received: onx\. Did you mean onnx"):
        export(predictor, ["onx"], training_pixels)


def test_missing_package_says_how_to_install_it(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tf2onnx" else found(name))
    check_formats(["saved_model", "litert"])
    with pytest.raises(ModuleNotFoundError, match=r"formats onnx need .*: tf2onnx\. .*pip install 'cnn-transfer\[exp"):
        check_formats(list(FORMATS))


def test_predictor_that_keras_does_not_compute_is_refused(folder, predictor, training_pixels):
    other = replace(predictor, runtime=open_runtime(folder, "onnx"))
    with pytest.raises(ValueError, match=r"one with OnnxRuntime\. Load it with runtime='keras'"):
        export(other, ["saved_model"], training_pixels)


def test_network_that_a_format_cannot_hold_is_named(predictor, training_pixels, monkeypatch):
    def refuse(*_):
        raise TypeError("no such layer")

    broken = replace(FORMATS["onnx"], write=refuse)
    monkeypatch.setitem(FORMATS, "onnx", broken)
    with pytest.raises(RuntimeError, match="network tiny cannot be written as onnx: no such layer"):
        export(predictor, ["onnx"], training_pixels)


def test_logits_of_8_bits_are_not_shifted_on_the_average(folder, predictor, training_pixels):
    found, expected = (
        runtime(training_pixels).logits for runtime in (open_runtime(folder, "litert_int8"), predictor.runtime)
    )
    errors = found - expected
    assert np.abs(errors.mean(axis=0)).max() < 0.5 * errors.std()


def test_network_is_the_same_after_its_export(predictor, training_pixels):
    before = [weights.tobytes() for weights in predictor.runtime.network.get_weights()]
    export(predictor, ["litert_int8"], training_pixels[:20])
    assert [weights.tobytes() for weights in predictor.runtime.network.get_weights()] == before


def test_one_format_alone_of_a_predictor_from_disk(predictor_folder, training_pixels, capfd):
    files = export(Predictor.load(predictor_folder), ["onnx"], training_pixels)
    assert list(files) == ["model.onnx"]
    export(Predictor.load(predictor_folder), ["litert"], training_pixels)
    assert capfd.readouterr().err == ""  # converters talk
