"""Parameters: typed, within their bounds, and refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainenv.errors import ParameterError
from trainenv.training.method import Method, Stage
from trainenv.training.parameters import Parameter, as_text, checked_parameters


def method_with(*parameters: Parameter) -> Method:
    declared = {each.name: each for each in parameters}
    return Method("probe", Path("probe"), "", stages={"train": Stage("train", file="train.py")}, parameters=declared)


@pytest.mark.parametrize(
    ("kind", "given_value", "value"),
    [
        ("string", "007", "007"),
        ("string", "", ""),
        ("integer", "12", 12),
        ("integer", "-3", -3),
        ("integer", 4.0, 4),
        ("number", "1e-3", 0.001),
        ("number", 2, 2.0),
        ("boolean", "Yes", True),
        ("boolean", "off", False),
        ("boolean", True, True),
        ("array", "[1, 2]", [1, 2]),
        ("object", '{"a": 1}', {"a": 1}),
        ("integer", 2**60 + 1, 2**60 + 1),
        ("integer", np.int64(3), 3),
        ("number", np.float32(0.5), 0.5),
        ("array", (1, 2), [1, 2]),
        ("string", Path("data/train.csv"), "data/train.csv"),
    ],
)
def test_values_become_their_type(kind: str, given_value: object, value: object) -> None:
    found = Parameter("p", kind).checked(given_value)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("kind", "given_value"),
    [
        ("string", 7),
        ("integer", "3.0"),
        ("integer", "three"),
        ("integer", 3.5),
        ("integer", True),
        ("integer", float("inf")),
        ("number", "nan"),
        ("number", "fast"),
        ("number", None),
        ("boolean", "maybe"),
        ("boolean", 1),
        ("integer", "1" * 5000),
        ("number", 10**400),
        ("array", "1, 2"),
        ("array", "[" * 100_000),
        ("object", "[1]"),
    ],
)
def test_other_types_are_refused(kind: str, given_value: object) -> None:
    with pytest.raises(ParameterError, match=f"parameter 'p' can't be .*must be an? {kind}"):
        Parameter("p", kind).checked(given_value)


@pytest.mark.parametrize(
    ("kind", "given_value"),
    [
        ("string", "a\0b"),
        ("string", "\udcff"),
        ("array", "[NaN]"),
        ("array", [object()]),
        ("object", '{"a": 1e999}'),
    ],
)
def test_what_no_record_could_hold_is_refused(kind: str, given_value: object) -> None:
    with pytest.raises(ParameterError, match=r"neither JSON nor a command line can hold it"):
        Parameter("p", kind).checked(given_value)


@pytest.mark.parametrize(
    ("parameter", "given_value", "why"),
    [
        (Parameter("p", "integer", minimum=1), "0", "the minimum is 1"),
        (Parameter("p", "number", maximum=0.5), "0.51", "the maximum is 0.5"),
        (Parameter("p", enum=("relu", "tanh")), "sigmoid", "it must be one of relu, tanh"),
    ],
)
def test_bounds(parameter: Parameter, given_value: str, why: str) -> None:
    with pytest.raises(ParameterError) as caught:
        parameter.checked(given_value)
    assert caught.value.cause == why


def test_bounds_include_themselves() -> None:
    parameter = Parameter("p", "integer", minimum=0, maximum=3)
    assert [parameter.checked(text) for text in ("0", "3")] == [0, 3]


def test_defaults_fill_what_is_not_given() -> None:
    method = method_with(
        Parameter("epochs", "integer", default=3), Parameter("rate", "number"), Parameter("flag", "boolean")
    )
    assert checked_parameters(method, {"flag": "no"}) == {"epochs": 3, "flag": False}


def test_an_unknown_name_gets_the_closest() -> None:
    method = method_with(Parameter("epochs"), Parameter("learning_rate"))
    with pytest.raises(ParameterError, match=r"no parameter 'lerning_rate'\. Did you mean 'learning_rate'\?"):
        checked_parameters(method, {"lerning_rate": "1"})
    with pytest.raises(ParameterError, match="Known are: epochs, learning_rate"):
        checked_parameters(method, {"zzz": "1"})
    with pytest.raises(ParameterError, match="It takes no parameters"):
        checked_parameters(method_with(), {"zzz": "1"})


def test_a_required_value_must_be_given() -> None:
    method = method_with(Parameter("data", required=True))
    with pytest.raises(ParameterError, match=r"needs a value for parameter 'data'\. Give it with --set data=VALUE"):
        checked_parameters(method, {})
    assert checked_parameters(method, {"data": "here"}) == {"data": "here"}


JSON = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
KINDS: dict[type, str] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "array",
    dict: "object",
}


@given(JSON)
def test_what_the_code_gets_reads_back_as_the_same_value(value: Any) -> None:
    parameter = Parameter("p", KINDS[type(value)])
    assert parameter.checked(as_text(value)) == parameter.checked(value) == value


def test_zero_and_false_are_defaults_too() -> None:
    assert Parameter("p", "integer", default=0, minimum=0).to_json() == {
        "type": "integer",
        "default": 0,
        "minimum": 0,
    }
    assert checked_parameters(method_with(Parameter("p", "boolean", default=False)), {}) == {"p": False}
