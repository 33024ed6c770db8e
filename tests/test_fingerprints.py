"""What tells that a node would make the same again: its code, the libraries, its parameters."""

from types import SimpleNamespace

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node

from cnn_transfer import fingerprints
from cnn_transfer.fingerprints import Fingerprints


def test_the_code_of_a_node_is_all_that_it_imports_and_the_libraries_below(monkeypatch):
    found = Fingerprints(DataCatalog(), SimpleNamespace())

    def code(changed=""):
        for part in ("_source", "_release"):
            monkeypatch.setattr(fingerprints, part, lambda name: f"{name} changed" if name == changed else name)
        found._code.clear()
        return found._code_of("cnn_transfer.transfer.plan")

    unchanged = code()
    counts = ["cnn_transfer.transfer.plan", "cnn_transfer.transfer.ridge", "tensorflow"]
    others = ["cnn_transfer.serving.app", "fastapi"]
    assert [code(name) != unchanged for name in counts + others] == [True, True, True, False, False]


def read(*values):
    return values


@pytest.mark.parametrize(
    ("changed", "counts"), [({"workers": 2}, False), ({"run_id": "b"}, False), ({"seed": 2}, True)], ids=str
)
def test_parameters_count_that_change_what_is_made(changed, counts):
    def value(parameters):
        names = [f"params:{name}" for name in parameters]
        entries = dict(zip(names, map(MemoryDataset, parameters.values()), strict=True))
        catalog = DataCatalog({**entries, "parameters": MemoryDataset(parameters)})
        records = SimpleNamespace(run_id="a", contents={}, digests=dict)
        return [Fingerprints(catalog, records).of(Node(read, given, "made")).value for given in (names, "parameters")]

    usual = {"seed": 1, "workers": 1, "run_id": "a"}
    pairs = zip(value(usual), value(usual | changed), strict=True)
    assert [one != other for one, other in pairs] == [counts, counts]
