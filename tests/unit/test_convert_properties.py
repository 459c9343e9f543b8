"""Laws of the converters, on generated types and values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Union
from unittest import mock

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from generated_types import CASES, JSON, OBJECTS, SCALARS, TYPES, Typed, mutate, over_the_wire
from podium.convert import converter_for, to_json, to_output
from podium.errors import ConversionError

if TYPE_CHECKING:
    from podium.convert.scalar import Plan


def outcome(annotation: Any, value: Any) -> tuple[str, Any]:
    try:
        return "read", converter_for(annotation)(value)
    except ConversionError as error:
        return "refused", str(error)


@given(CASES)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_goes_out_comes_back_equal(case: tuple[Any, Any]) -> None:
    annotation, value = case
    assert converter_for(annotation)(over_the_wire(to_json(value))) == value


@given(CASES, JSON, st.lists(st.integers(0, 5), max_size=4))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_json_is_read_or_refused_the_same_with_and_without_msgspec(
    case: tuple[Any, Any], replacement: Any, turns: list[int]
) -> None:
    annotation, value = case
    data = mutate(to_json(value), replacement, turns)
    with mock.patch("podium.convert.decode.accelerated", _unchanged):
        careful = outcome(annotation, data)
    fast = outcome(annotation, data)
    assert fast == careful
    assert type(fast[1]) is type(careful[1])


def _unchanged(_annotation: Any, plan: Plan) -> Plan:
    return plan


@given(JSON)
@settings(max_examples=300, deadline=None)
def test_any_json_meets_every_kind_of_type(value: Any) -> None:
    for annotation, _ in [*SCALARS, *OBJECTS]:
        status, result = outcome(annotation, value)
        assert status == "read" or "$" not in result or "$" in json.dumps(value)


@given(JSON)
@settings(max_examples=200, deadline=None)
def test_json_goes_out_as_it_is_or_is_refused(value: Any) -> None:
    try:
        result = to_json(value)
    except ConversionError:
        return  # an integer beyond 64 bits, or half a surrogate pair
    assert result == value
    assert to_output({"value": value}) == {"value": value}


@given(st.lists(TYPES, min_size=2, max_size=4), JSON)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_union_reads_or_refuses_any_json(members: list[Typed], value: Any) -> None:
    outcome(Union[tuple(kind for kind, _ in members)], value)  # noqa: UP007 - members are data here
