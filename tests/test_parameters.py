from typing import Literal

import pytest
from pydantic import Field, ValidationError

from cnn_transfer.parameters import ParameterError, Parameters, did_you_mean


class Inner(Parameters):
    batch_size: int = Field(ge=1, le=64)
    mode: Literal["fast", "slow"] = "fast"


class Outer(Parameters):
    learning_rate: float = Field(gt=0, le=1)
    inner: Inner
    several: tuple[Inner, ...] = ()
    maybe: Inner | None = None


GOOD = {"learning_rate": 0.1, "inner": {"batch_size": 8}}


def test_a_good_block_becomes_a_frozen_model():
    block = Outer.parse(GOOD, "stage")
    assert block.learning_rate == 0.1
    assert block.inner.batch_size == 8
    with pytest.raises(ValidationError, match="frozen"):
        block.learning_rate = 0.2


def test_a_mistyped_key_is_named_with_the_nearest_spelling_and_what_is_allowed():
    with pytest.raises(ParameterError) as caught:
        Outer.parse(GOOD | {"learning_rte": 0.2}, "stage")
    assert str(caught.value) == (
        "stage.learning_rte is not a parameter. Did you mean learning_rate? "
        "Allowed: learning_rate, inner, several, maybe."
    )


@pytest.mark.parametrize(
    ("block", "key"),
    [
        ({"inner": {"batch_size": 8, "batch_sise": 4}}, "stage.inner.batch_sise"),
        ({"several": [{"batch_size": 8}, {"batch_size": 8, "batch_sise": 4}]}, "stage.several.1.batch_sise"),
        ({"maybe": {"batch_size": 8, "batch_sise": 4}}, "stage.maybe.batch_sise"),
    ],
)
def test_a_mistyped_nested_key_is_compared_with_the_keys_of_its_own_block(block, key):
    with pytest.raises(ParameterError) as caught:
        Outer.parse(GOOD | block, "stage")
    assert str(caught.value) == f"{key} is not a parameter. Did you mean batch_size? Allowed: batch_size, mode."


def test_a_key_like_no_other_gets_no_suggestion():
    with pytest.raises(ParameterError, match=r"zzz is not a parameter\. Allowed"):
        Outer.parse(GOOD | {"zzz": 1}, "")


def test_a_missing_key_is_named():
    with pytest.raises(ParameterError, match=r"^stage\.inner is missing: it has no default\.$"):
        Outer.parse({"learning_rate": 0.1}, "stage")


def test_a_value_out_of_bounds_is_named_with_the_bound_and_what_was_received():
    with pytest.raises(ParameterError) as caught:
        Outer.parse(GOOD | {"learning_rate": 3}, "stage")
    message = str(caught.value)
    assert message.startswith("stage.learning_rate: ")
    assert "less than or equal to 1" in message
    assert "Received: 3." in message


def test_all_bad_keys_are_named_at_once():
    with pytest.raises(ParameterError) as caught:
        Outer.parse({"learning_rate": -1, "inner": {"batch_size": 0, "mode": "quick"}}, "stage")
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "stage.learning_rate",
        "stage.inner.batch_size",
        "stage.inner.mode",
    ]
    assert "'fast' or 'slow'" in lines[2]
    assert isinstance(caught.value.__cause__, ValidationError)


@pytest.mark.parametrize("block", [None, 3, "text", [1, 2]])
def test_a_block_that_is_no_mapping_is_refused(block):
    with pytest.raises(ParameterError, match="stage must be a mapping with the keys learning_rate, inner"):
        Outer.parse(block, "stage")


def test_suggestion_needs_a_near_word():
    assert did_you_mean("blok2", ["block1", "block2"]) == "Did you mean block2? "
    assert did_you_mean("qqqq", ["block1", "block2"]) == ""


def test_what_is_no_list_or_no_block_is_told_in_words_of_yaml():
    class Shapes(Parameters):
        labels: tuple[int, ...]
        names: dict[str, int]
        inner: Inner

    with pytest.raises(ParameterError) as caught:
        Shapes.parse({"labels": 5, "names": "a", "inner": 3}, "stage")
    assert str(caught.value).splitlines() == [
        "stage.labels: Input should be a list, such as [1, 2]. Received: 5.",
        "stage.names: Input should be a block of names and values. Received: 'a'.",
        "stage.inner: Input should be a block of names and values. Received: 3.",
    ]
