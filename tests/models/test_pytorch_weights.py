import contextlib
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from cnn_transfer.models import pytorch_weights, read_pytorch_weights

DATA = Path(__file__).parent / "data"
FORMS = ["zip.pt", "legacy.pt"]


@pytest.fixture(scope="module")
def tensors():
    with np.load(DATA / "tensors.npz") as stored:
        return dict(stored)


@pytest.fixture
def zip_with(tmp_path):
    """Copy the checkpoint with some members of its archive replaced, or left out where None."""

    def write(**members):
        path = tmp_path / "changed.pt"
        with zipfile.ZipFile(DATA / "zip.pt") as source, zipfile.ZipFile(path, "w") as copy:
            for name in source.namelist():
                content = members.pop(name.split("/", 1)[1].replace("/", "_").replace(".", "_"), source.read(name))
                if content is not None:
                    copy.writestr(name, content)
        assert not members
        return path

    return write


@pytest.fixture
def legacy_with(tmp_path):
    """Write a file of the old form whose content is the given pickle."""

    def write(content, keys=(), version=1001, machine=None):
        path = tmp_path / "old.pt"
        machine = {"little_endian": True} if machine is None else machine
        head = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, version, machine)]
        path.write_bytes(b"".join([*head, content, pickle.dumps(list(keys), 2)]))
        return path

    return write


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def tensor_pickle(storage="FloatStorage", length=2, offset=0, shape=(2,), strides=(1,), view=""):
    """The pickle of {"w": tensor}, written out since nobody here can import torch."""

    def numbers(values):
        return "(" + "".join(f"I{value}\n" for value in values) + "t"

    persistent = f"(Vstorage\nctorch\n{storage}\nV0\nVcpu\nI{length}\n{view}tQ"
    arguments = f"({persistent}I{offset}\n{numbers(shape)}{numbers(strides)}I00\nNt"
    return f"(dVw\nctorch._utils\n_rebuild_tensor_v2\n{arguments}Rs.".encode()


@pytest.mark.parametrize("form", FORMS)
def test_reads_every_type_and_layout_as_pytorch_does(form, tensors):
    weights = read_pytorch_weights(DATA / form)
    assert list(weights) == list(tensors)
    for name, expected in tensors.items():
        assert weights[name].dtype == expected.dtype, name
        np.testing.assert_array_equal(weights[name], expected, err_msg=name, strict=True)


@pytest.mark.parametrize("form", FORMS)
def test_arrays_own_their_memory_also_when_the_tensors_shared_it(form):
    weights = read_pytorch_weights(DATA / form)
    assert all(array.flags.writeable and array.flags.c_contiguous for array in weights.values())
    weights["shared_row"][:] = -1
    assert (weights["shared_column"] >= 0).all()


def test_reads_the_tensor_that_the_tests_write_by_hand(zip_with):
    path = zip_with(data_pkl=tensor_pickle(), data_0=struct.pack("<2f", 1.5, -2.0))
    np.testing.assert_array_equal(read_pytorch_weights(path)["w"], np.float32([1.5, -2.0]))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_a_checkpoint_that_calls_a_command_is_refused_and_nothing_is_run(
    form, protocol, zip_with, legacy_with, tmp_path
):
    trace = tmp_path / "trace"
    attack = pickle.dumps(OrderedDict(w=Call(os.system, f"touch {trace}")), protocol)
    path = zip_with(data_pkl=attack) if form == "zip" else legacy_with(attack)
    with pytest.raises(ValueError, match=rf"asks for {os.name}\.system, which weights do not need; nothing was run"):
        read_pytorch_weights(path)
    assert not trace.exists()


def test_an_attack_in_the_first_pickle_of_the_old_form_is_refused_too(tmp_path):
    path, trace = tmp_path / "attack.pt", tmp_path / "trace"
    path.write_bytes(pickle.dumps(Call(os.system, f"touch {trace}")))
    with pytest.raises(ValueError, match=r"system, which weights do not need; nothing was run"):
        read_pytorch_weights(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    "name",
    [
        "builtins\neval", "builtins\ngetattr", "torch\nload", "torch\nFloatStorage.__init__", "copyreg\n_reconstructor",
        "torch._utils\n_rebuild_qtensor", "collections\nOrderedDict.fromkeys", "numpy.core.multiarray\nscalar",
    ],
)  # fmt: skip
def test_every_other_name_is_refused_and_named(name, zip_with):
    with pytest.raises(ValueError, match=rf"asks for {name.replace(chr(10), '.')}, which"):
        read_pytorch_weights(zip_with(data_pkl=f"c{name}\n.".encode()))


@pytest.mark.parametrize(
    "name", ["torch\nFloatStorage", "torch._utils\n_rebuild_tensor_v2", "collections\nOrderedDict"]
)
@pytest.mark.parametrize("state", ["(N(dVname\nVLongStorage\nst", "(dVname\nVLongStorage\ns"])
def test_a_pickle_cannot_change_what_the_reader_is_made_of(name, state, zip_with):
    """BUILD sets attributes of whatever a pickle got hold of."""
    with pytest.raises(ValueError, match="not a readable PyTorch checkpoint"):
        read_pytorch_weights(zip_with(data_pkl=f"c{name}\n{state}b.".encode()))
    assert not hasattr(pytorch_weights._rebuild_tensor, "name")
    assert not hasattr(OrderedDict, "name")
    assert read_pytorch_weights(DATA / "zip.pt")["float32"].dtype == np.float32


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([1, 2], "it holds a list"),
        ({"epoch": 3}, "'epoch' is a int"),
        ({"state_dict": {"w": 1}}, "state_dict is a mapping itself; if it holds the weights, save that mapping alone"),
        ({3: 1}, "3 is a int"),
    ],
)
def test_another_structure_is_refused_with_what_it_holds(content, problem, zip_with):
    path = zip_with(data_pkl=pickle.dumps(content))
    with pytest.raises(
        ValueError, match=rf"changed\.pt is not .*: {problem}.*torch\.save\(model\.state_dict\(\), path\)"
    ):
        read_pytorch_weights(path)


@pytest.mark.parametrize(
    ("tensor", "problem"),
    [
        ({"shape": (3,)}, r"w of shape \(3,\).*reaches beyond its 2 numbers"),
        ({"offset": 1}, "reaches beyond its 2 numbers"),
        ({"strides": (2,)}, "reaches beyond its 2 numbers"),
        ({"shape": (2, 2), "strides": (0, 1)}, "reaches beyond its 2 numbers"),
        ({"shape": (2**40,), "strides": (0,)}, "reaches beyond its 2 numbers"),
        ({"strides": (-1,)}, "impossible tensor"),
        ({"offset": -1}, "impossible tensor"),
        ({"shape": (1, 2)}, "impossible tensor"),
        ({"length": 3}, "data/0 has 8 bytes instead of 12"),
        ({"length": -1}, "where a storage of numbers was expected"),
        ({"storage": "ComplexFloatStorage"}, r"asks for torch\.ComplexFloatStorage"),
        ({"view": "I1\n"}, "a view of another one"),
    ],
)
def test_a_tensor_that_cannot_be_is_refused(tensor, problem, zip_with):
    with pytest.raises(ValueError, match=problem):
        read_pytorch_weights(zip_with(data_pkl=tensor_pickle(**tensor), data_0=bytes(8)))


def test_a_storage_that_is_described_in_two_ways_is_refused(zip_with):
    first, second = (f"(Vstorage\nctorch\n{kind}Storage\nV0\nVcpu\nI2\ntQ" for kind in ("Float", "Int"))
    with pytest.raises(ValueError, match="describes storage 0 in two ways"):
        read_pytorch_weights(zip_with(data_pkl=f"({first}{second}t.".encode()))


def test_incomplete_and_foreign_archives_are_refused(zip_with, tmp_path):
    with pytest.raises(ValueError, match="data/0 has 0 bytes instead of"):
        read_pytorch_weights(zip_with(data_0=None))
    with pytest.raises(ValueError, match=r"without data\.pkl, but with zip/"):
        read_pytorch_weights(zip_with(data_pkl=None))
    with pytest.raises(ValueError, match="big-endian"):
        read_pytorch_weights(zip_with(byteorder=b"big"))


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        ({"version": 1000}, "version 1000 on"),
        ({"machine": {"little_endian": False}}, "instead of 1001 in little-endian order"),
        ({"keys": ["0"]}, r"lists the storages \['0'\], but its tensors use \[\]"),
    ],
)
def test_the_old_form_of_another_version_or_machine_is_refused(head, problem, legacy_with):
    assert read_pytorch_weights(legacy_with(pickle.dumps({}))) == {}
    with pytest.raises(ValueError, match=problem):
        read_pytorch_weights(legacy_with(pickle.dumps({}), **head))


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n", b"weights", pickle.dumps({"w": 1}), bytes(1000)])
def test_another_kind_of_file_is_refused(content, tmp_path):
    path = tmp_path / "other.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="neither a zip archive nor in the format before PyTorch"):
        read_pytorch_weights(path)


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_is_cut_off_anywhere_is_refused(form, tmp_path):
    path, content = tmp_path / form, (DATA / form).read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="not a readable PyTorch checkpoint"):
            read_pytorch_weights(path)


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_file_gives_arrays_or_an_error_of_ours(form, tmp_path):
    path, content = tmp_path / form, (DATA / form).read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 3):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        with contextlib.suppress(ValueError):
            weights = read_pytorch_weights(path)
            assert all(isinstance(array, np.ndarray) for array in weights.values())


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.pt"):
        read_pytorch_weights(tmp_path / "none.pt")
