"""Where a run's id comes from, and what it pins."""

import pytest

from cnn_transfer.parameters import ParameterError
from cnn_transfer.run_identity import given_run_id


@pytest.mark.parametrize(
    ("parameters", "variable", "expected"),
    [
        (None, None, None),
        ({}, "nightly-3", "nightly-3"),
        ({"run_id": "mine"}, "nightly-3", "mine"),
        ({"run_id": 20261124}, None, "20261124"),
        ({}, "2026-11-24T00.00.00.000Z_scheduled+00.00", "2026-11-24T00.00.00.000Z_scheduled+00.00"),
    ],
)
def test_the_id_comes_from_the_parameter_else_from_the_environment(parameters, variable, expected, monkeypatch):
    monkeypatch.delenv("TRANSFER_RUN_ID", raising=False)
    if variable is not None:
        monkeypatch.setenv("TRANSFER_RUN_ID", variable)
    assert given_run_id(parameters) == expected


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("scheduled__2026-11-24T00:00:00", "Use scheduled__2026-11-24T00-00-00"),
        ("a/b", "Use a-b"),
        ("..", "Leave it out"),
        ("", "Leave it out"),
        (".hidden", "Use hidden"),
        ("é" * 3, "Leave it out"),
        ("x" * 129, "Use x"),
    ],
)
def test_characters_that_are_no_folder_everywhere_are_refused_with_the_nearest_valid_id(wrong, nearest, monkeypatch):
    monkeypatch.setenv("TRANSFER_RUN_ID", wrong)
    with pytest.raises(
        ParameterError, match="The environment variable TRANSFER_RUN_ID must be 1 to 128 letters"
    ) as told:
        given_run_id({})
    assert nearest in str(told.value)


@pytest.mark.parametrize("read", [1.5, True])
def test_what_yaml_has_made_of_an_id_is_refused_with_how_to_give_it_as_it_stands(read):
    with pytest.raises(ParameterError, match=rf"The parameter run_id must .* Received: {read}.*\"run_id='0123'\""):
        given_run_id({"run_id": read})
