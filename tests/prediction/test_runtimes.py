"""Each runtime computes its file; ONNX Runtime without TensorFlow and Keras, from several threads."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest

from cnn_transfer.exporting import write_files
from cnn_transfer.prediction import RUNTIMES, open_runtime

LABELLED_BY_ONNX = """
import sys
from cnn_transfer.prediction import Predictor

table = Predictor.load(sys.argv[1], runtime="onnx", threads=1)(sys.argv[2])
print(len(table), table["predicted"].nunique())
print(*(name for name in ("tensorflow", "keras", "kedro", "torch") if name in sys.modules), sep=",")
"""


@pytest.fixture(scope="module")
def folder(predictor, exported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("released") / "1" / "release"
    predictor.save(folder)
    write_files(exported, folder)
    return folder


COMPUTES = """
import sys
from pathlib import Path
import numpy as np
from cnn_transfer.prediction import open_runtime

pixels = np.load(sys.argv[3])
open_runtime(Path(sys.argv[1]), sys.argv[2])(pixels)
"""


@pytest.mark.parametrize("name", ["onnx", "litert", "litert_int8"])
def test_runtime_writes_nothing_to_the_terminal(folder, name, shapes, tmp_path):
    np.save(tmp_path / "pixels.npy", shapes.pixels(np.arange(3)))
    command = [sys.executable, "-c", COMPUTES, folder, name, tmp_path / "pixels.npy"]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("name", RUNTIMES)
def test_runtime_gives_the_same_from_several_threads(folder, name, shapes):
    runtime = open_runtime(folder, name, threads=1)
    rows = [np.arange(start, start + 1 + start % 3) for start in range(24)]
    expected = [runtime(shapes.pixels(part)) for part in rows]
    assert [len(outputs.logits) for outputs in expected] == [len(part) for part in rows]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda part: runtime(shapes.pixels(part)), rows))
    for wanted, got in zip(expected, found, strict=True):
        for first, second in zip(wanted, got, strict=True):
            np.testing.assert_allclose(first, second, atol=1e-5)


def test_onnx_labels_images_without_tensorflow_and_keras(folder, class_folder):
    done = subprocess.run(
        [sys.executable, "-c", LABELLED_BY_ONNX, str(folder), str(class_folder / "blob")],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    labelled, imported = done.stdout.splitlines()
    assert labelled.startswith("100 ")
    assert imported == ""


@pytest.mark.parametrize("name", ["onnx", "litert"])
def test_missing_package_says_how_to_install_it(folder, name, monkeypatch):
    package = {"onnx": "onnxruntime", "litert": "ai_edge_litert"}[name]
    for module in (package, f"{package}.interpreter"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        ModuleNotFoundError, match=rf"needs the package {package}.*pip install 'cnn-transfer\[export\]'"
    ):
        open_runtime(folder, name)


@pytest.mark.parametrize(
    ("name", "file"),
    [("onnx", "model.onnx"), ("litert", "model.tflite"), ("saved_model", "saved_model/saved_model.pb")],
)
def test_damaged_file_of_a_runtime_is_named(folder, name, file, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    (damaged / file).write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"damaged") as raised:
        open_runtime(damaged, name)
    assert len(str(raised.value).splitlines()) == 1


def test_network_with_code_of_its_own_is_refused(tmp_path):
    inputs = keras.Input((28, 28, 1), dtype="uint8")
    outputs = keras.layers.Lambda(lambda pixels: pixels + 1)(inputs)
    keras.Model(inputs, outputs).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"not Keras's own: a Lambda layer\. Code from a model file is not"):
        open_runtime(tmp_path, "keras")
