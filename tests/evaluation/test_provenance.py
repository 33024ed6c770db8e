"""What a run was made with."""

import json

import pytest

from cnn_transfer.evaluation.provenance import provenance

ENVIRONMENT = {"python": "3.12.1", "packages": {"keras": "3.15", "ray": None}, "hardware": {"cores": 2}}


def test_everything_is_kept_in_a_form_that_json_has():
    parameters = {"seed": 1, "migrate_model": {"grids": (2, 3), "taps": None}, "_course": {"steps": 3}}
    result = provenance(parameters, {"target_images": "abc"}, "float32", ENVIRONMENT)
    assert result["parameters"] == {"seed": 1, "migrate_model": {"grids": [2, 3], "taps": None}}
    assert result["data"] == {"target_images": "abc"}
    assert (result["precision"], result["python"]) == ("float32", "3.12.1")
    assert json.loads(json.dumps(result)) == result


def test_a_part_of_the_environment_that_is_missing_is_named():
    with pytest.raises(KeyError, match="hardware"):
        provenance({}, {}, "float32", {"python": "3.12", "packages": {}})
