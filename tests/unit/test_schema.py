"""The schemas of functions, row by row of the type table; the law behind them is in test_schema_properties."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import inspect
import pathlib
import subprocess
import sys
import typing
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Annotated, Any, Literal, NamedTuple, NoReturn, TypedDict

import attrs
import jsonschema
import msgspec
import pydantic
import pytest

from podium import Task, TaskInProgress, TaskResult
from podium.convert import to_output
from podium.errors import DeclarationError
from podium.schema import schemas_of

DRAFT = "http://json-schema.org/draft-07/schema#"
EMPTY = inspect.Parameter.empty


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Lenient(enum.Enum):
    A = "a"

    @classmethod
    def _missing_(cls, value: object) -> Lenient:
        return cls.A


class Point(NamedTuple):
    x: int
    y: str = "y"


class Movie(TypedDict, total=False):
    title: typing.Required[str]
    year: int


@dataclasses.dataclass
class Item:
    sku: str
    count: int = 1
    note: str = None  # type: ignore[assignment]
    seen: bool = dataclasses.field(init=False, default=False)


@dataclasses.dataclass
class Node:
    children: list[Node]


class Car(msgspec.Struct, tag="car"):
    wheel_count: int = msgspec.field(name="wheelCount")
    owner: str | msgspec.UnsetType = msgspec.UNSET


class Row(msgspec.Struct, array_like=True):
    a: int
    b: str = ""


@attrs.define
class Shelf:
    _label: str


class Person:
    def __init__(self, name: str) -> None:
        self.name = name


class Address(pydantic.BaseModel):
    town: str


class Customer(pydantic.BaseModel):
    name: str = pydantic.Field(alias="fullName", min_length=1)
    pair: tuple[int, str]
    addresses: list[Address] = []
    parent: Customer | None = None


def function_of(annotation: Any, default: Any = EMPTY, returns: Any = inspect.Signature.empty) -> Callable[..., Any]:
    def function(it: Any) -> Any: ...

    parameter = inspect.Parameter("it", inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
    function.__signature__ = inspect.Signature([parameter], return_annotation=returns)  # type: ignore[attr-defined]
    return function


def input_of(function: Callable[..., Any], *, strict: bool = False) -> dict[str, Any]:
    schema = schemas_of(function, strict=strict).input
    jsonschema.Draft7Validator.check_schema(schema)
    assert schema.pop("$schema") == DRAFT
    return schema


def output_of(returns: Any) -> Any:
    schema = schemas_of(function_of(int, returns=returns)).output
    if schema is not None:
        jsonschema.Draft7Validator.check_schema(schema)
        assert schema.pop("$schema") == DRAFT
    return schema


def type_schema(annotation: Any, *, strict: bool = False) -> Any:
    schema = input_of(function_of(annotation), strict=strict)
    found = schema["properties"]["it"]
    if found.keys() == {"$ref"}:
        return schema["definitions"][found["$ref"].removeprefix("#/definitions/")]
    return found


NULL = {"type": "null"}
STRING = {"type": "string"}
INTEGER = {"type": "integer"}
ITEM = {
    "type": "object",
    "properties": {"sku": STRING, "count": INTEGER, "note": {"anyOf": [STRING, NULL]}},
    "required": ["sku"],
}


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (str, STRING),
        (int, INTEGER),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (None, NULL),
        (Any, {}),
        (EMPTY, {}),
        (list, {"type": "array"}),
        (list[Any], {"type": "array"}),
        (typing.List[str], {"type": "array", "items": STRING}),  # noqa: UP006
        (tuple[int, str], {"type": "array", "items": [INTEGER, STRING], "minItems": 2, "maxItems": 2}),
        (tuple[int, ...], {"type": "array", "items": INTEGER}),
        (tuple, {"type": "array"}),
        (tuple[()], {"type": "array", "maxItems": 0}),
        (set[int], {"type": "array", "items": INTEGER}),
        (set, {"type": "array", "items": {"type": ["null", "boolean", "number", "string"]}}),
        (frozenset[str], {"type": "array", "items": STRING}),
        (collections.deque[str], {"type": "array", "items": STRING}),
        (typing.Sequence[int], {"type": "array", "items": INTEGER}),
        (dict, {"type": "object"}),
        (dict[str, Any], {"type": "object"}),
        (typing.Dict[str, int], {"type": "object", "additionalProperties": INTEGER}),  # noqa: UP006
        (
            dict[bool, int],
            {"type": "object", "propertyNames": {"enum": ["true", "false"]}, "additionalProperties": INTEGER},
        ),
        (
            dict[Colour, int],
            {"type": "object", "propertyNames": {"enum": ["red", "green"]}, "additionalProperties": INTEGER},
        ),
        (collections.Counter, {"type": "object", "additionalProperties": INTEGER}),
        (Item, ITEM),
        (Shelf, {"type": "object", "properties": {"label": STRING}, "required": ["label"]}),
        (Person, {"type": "object", "properties": {"name": STRING}, "required": ["name"]}),
        (Movie, {"type": "object", "properties": {"title": STRING, "year": INTEGER}, "required": ["title"]}),
        (
            Point,
            {
                "anyOf": [
                    {"type": "object", "properties": {"x": INTEGER, "y": STRING}, "required": ["x"]},
                    {"type": "array", "items": [INTEGER, STRING], "minItems": 1, "maxItems": 2},
                ]
            },
        ),
        (
            Car,
            {
                "type": "object",
                "properties": {"type": {"enum": ["car"]}, "wheelCount": INTEGER, "owner": STRING},
                "required": ["wheelCount"],
            },
        ),
        (Row, {"type": "array", "items": [INTEGER, STRING], "minItems": 1}),
        (Colour, {"enum": ["red", "green"]}),
        (Lenient, STRING),
        (Literal["a", 1, True], {"enum": ["a", 1, True]}),
        (int | None, {"anyOf": [INTEGER, NULL]}),
        (typing.Optional[int], {"anyOf": [INTEGER, NULL]}),  # noqa: UP045
        (int | bool | Literal["a"], {"anyOf": [INTEGER, {"type": "boolean"}, {"enum": ["a"]}]}),
        (int | Any, {}),
        (pathlib.Path, STRING),
        (typing.NewType("Sku", str), STRING),
        (Annotated[str, "a remark"], STRING),
        (Annotated[str, msgspec.Meta(min_length=1, description="d")], STRING | {"minLength": 1, "description": "d"}),
        (Annotated[Item, msgspec.Meta(title="t")], {"allOf": [{"$ref": "#/definitions/Item"}, {"title": "t"}]}),
        (Annotated[int, pydantic.Field(gt=0)], {"type": "integer", "exclusiveMinimum": 0}),
        (
            pydantic.HttpUrl,
            STRING | {"format": "uri", "minLength": 1, "maxLength": 2083},
        ),
    ],
    ids=str,
)
def test_schema_of_a_type(annotation: Any, expected: Any) -> None:
    assert type_schema(annotation) == expected


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (dt.date, "2024-02-29", "2023-02-29"),
        (dt.datetime, "2024-01-31T10:20:30+01:00", "2024-01-31"),
        (dt.time, "10:20", "25:00"),
        (dt.timedelta, "P1DT2H", "P1Y"),
        (dt.timedelta, 1.5, 1e14),
        (uuid.UUID, "5a8cb46a-0a5f-4b16-9bee-1ef7a05b559e", "5a8cb46a"),
        (decimal.Decimal, "1.50", "1_000"),
        (decimal.Decimal, 3, True),
        (bytes, "AA==", "AA="),
        (bytearray, "", "="),
    ],
)
def test_texts_are_told_by_patterns(annotation: Any, good: Any, bad: Any) -> None:
    validator = jsonschema.Draft7Validator(type_schema(annotation))
    assert validator.is_valid(good)
    assert not validator.is_valid(bad)


def test_dates_and_base64_say_what_they_are() -> None:
    assert type_schema(dt.date)["format"] == "date"
    assert type_schema(bytes)["contentEncoding"] == "base64"


# --- input ---------------------------------------------------------------------------------------------------------


def test_parameters_are_properties_and_those_with_defaults_are_not_required() -> None:
    def function(a: int, b: str = "b", *, c: list[int] = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013

    assert input_of(function) == {
        "type": "object",
        "properties": {"a": INTEGER, "b": STRING, "c": {"anyOf": [{"type": "array", "items": INTEGER}, NULL]}},
        "required": ["a"],
    }


def test_defect_14_one_unusual_parameter_does_not_cost_the_others_their_schema() -> None:
    def function(a: int, b, c: Colour | None, d: dt.date | str, e: Customer) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001

    properties = input_of(function)["properties"]
    assert list(properties) == ["a", "b", "c", "d", "e"]
    assert properties["a"] == INTEGER
    assert properties["b"] == {}
    assert properties["c"] == {"anyOf": [{"enum": ["red", "green"]}, NULL]}


def test_function_without_parameters_takes_an_empty_object() -> None:
    def function() -> None: ...

    assert input_of(function) == {"type": "object", "properties": {}}
    assert input_of(function, strict=True) == {"type": "object", "properties": {}, "additionalProperties": False}


def test_strict_closes_the_input_and_every_object_in_it() -> None:
    def function(item: Item, more: dict[str, list[Movie]]) -> None: ...

    schema = input_of(function, strict=True)
    assert schema["additionalProperties"] is False
    assert {name: part["additionalProperties"] for name, part in schema["definitions"].items()} == {
        "Item": False,
        "Movie": False,
    }
    assert schema["properties"]["more"]["additionalProperties"]["items"] == {"$ref": "#/definitions/Movie"}
    assert "additionalProperties" not in input_of(function)


def test_task_parameter_leaves_the_input_open() -> None:
    def reads_all(task: Task) -> None: ...
    def both(task: Task, a: int) -> None: ...

    for strict in (False, True):
        assert input_of(reads_all, strict=strict) == {"type": "object", "properties": {}}
        assert input_of(both, strict=strict) == {"type": "object", "properties": {"a": INTEGER}, "required": ["a"]}


def test_kwargs_have_their_type() -> None:
    def typed(a: str, **rest: int) -> None: ...
    def untyped(a: str, **rest: Any) -> None: ...

    expected = {"type": "object", "properties": {"a": STRING}, "required": ["a"], "additionalProperties": INTEGER}
    assert input_of(typed) == input_of(typed, strict=True) == expected
    del expected["additionalProperties"]
    assert input_of(untyped) == input_of(untyped, strict=True) == expected


def test_kwargs_of_a_typed_dict_are_named() -> None:
    def function(a: str, **rest: typing.Unpack[Movie]) -> None: ...

    schema = input_of(function, strict=True)
    assert schema["properties"] == {"a": STRING, "title": STRING, "year": INTEGER}
    assert schema["required"] == ["a", "title"]
    assert schema["additionalProperties"] is False


def test_what_partial_fixed_is_absent() -> None:
    def function(a: int, b: str, **rest: int) -> None: ...

    fixed = functools.partial(function, b="b")
    # The key b is ignored, so it may be anything, although other further keys are ints.
    assert input_of(fixed)["properties"] == {"a": INTEGER, "b": {}}


def test_method_has_no_self() -> None:
    class Service:
        def call(self, a: int) -> None: ...

    assert input_of(Service().call)["properties"] == {"a": INTEGER}


def test_recursive_types_refer_to_their_definition() -> None:
    schema = input_of(function_of(Node))
    assert schema["properties"]["it"] == {"$ref": "#/definitions/Node"}
    assert schema["definitions"]["Node"]["properties"]["children"]["items"] == {"$ref": "#/definitions/Node"}


def test_classes_of_one_name_have_a_definition_each() -> None:
    @dataclasses.dataclass
    class Inner:
        a: int

    first = Inner

    @dataclasses.dataclass
    class Inner:  # type: ignore[no-redef]
        b: int

    def function(x: Any, y: Any) -> None: ...

    function.__annotations__ = {"x": first, "y": Inner}
    assert list(input_of(function)["definitions"]) == ["Inner", "Inner_2"]


def test_what_the_converter_cannot_read_is_refused_by_name() -> None:
    with pytest.raises(DeclarationError, match="Iterator"):
        schemas_of(function_of(Iterator[int]))
    with pytest.raises(DeclarationError, match=r"\*args"):
        schemas_of(lambda *args: None)


def test_pydantic_models_have_their_own_schema_in_draft_07() -> None:
    schema = input_of(function_of(Customer | None))
    customer = schema["definitions"]["Customer"]
    assert customer["properties"]["fullName"] == {"minLength": 1, "title": "Fullname", "type": "string"}
    assert customer["properties"]["pair"] == {
        "items": [INTEGER, STRING], "maxItems": 2, "minItems": 2, "title": "Pair", "type": "array",
    }  # fmt: skip
    assert customer["properties"]["addresses"]["items"] == {"$ref": "#/definitions/Address"}
    assert customer["properties"]["parent"]["anyOf"] == [{"$ref": "#/definitions/Customer"}, NULL]
    assert schema["definitions"].keys() == {"Customer", "Address"}


def test_strict_closes_a_pydantic_model_but_not_those_inside_it() -> None:
    schema = input_of(function_of(Customer), strict=True)
    validator = jsonschema.Draft7Validator(schema)
    inner = {"fullName": "n", "pair": [1, "a"], "x": 1}
    assert validator.is_valid({"it": {"fullName": "n", "pair": [1, "a"], "parent": inner}})
    assert not validator.is_valid({"it": inner})


def test_pydantic_type_without_a_schema_may_be_anything() -> None:
    class Odd(pydantic.BaseModel):
        call: Callable[[], None]

    assert type_schema(Odd) == {}


@pytest.mark.parametrize("value", [(1, 2), {"a": 1}, object()])
def test_an_enum_that_no_json_tells_costs_only_the_schema_of_the_output(value: object) -> None:
    odd = enum.Enum("odd", {"MEMBER": value})
    schemas = schemas_of(function_of(int, returns=odd))
    assert (schemas.input["properties"], schemas.output) == ({"it": INTEGER}, None)
    with pytest.raises(DeclarationError, match=r"odd: .*MEMBER"):
        schemas_of(function_of(odd))


# --- output --------------------------------------------------------------------------------------------------------

OUT_ITEM = {
    "type": "object",
    "properties": ITEM["properties"] | {"seen": {"type": "boolean"}},  # type: ignore[operator]
    "required": ["sku", "count", "note", "seen"],
}
WRAPPED_NULL = {"type": "object", "properties": {"result": NULL}, "required": ["result"]}


def wrapped(schema: Any) -> Any:
    return {"type": "object", "properties": {"result": schema}, "required": ["result"]}


@pytest.mark.parametrize(
    ("returns", "expected"),
    [
        (int, wrapped(INTEGER)),
        (None, WRAPPED_NULL),
        (list[str], wrapped({"type": "array", "items": STRING})),
        (Colour, wrapped({"enum": ["red", "green"]})),
        (dict[str, int], {"type": "object", "additionalProperties": INTEGER}),
        (dict, {"type": "object"}),
        (Any, {"type": "object"}),
        (Item, OUT_ITEM),
        (Movie, {"type": "object", "properties": {"title": STRING, "year": INTEGER}, "required": ["title"]}),
        (Point, {"type": "object", "properties": {"x": INTEGER, "y": STRING}, "required": ["x", "y"]}),
        (
            Car,
            {
                "type": "object",
                "properties": {"type": {"enum": ["car"]}, "wheelCount": INTEGER, "owner": STRING},
                "required": ["type", "wheelCount"],
            },
        ),
        (Row, wrapped({"$ref": "#/definitions/Row"})),
        (dict[str, int] | None, {"anyOf": [{"type": "object", "additionalProperties": INTEGER}, WRAPPED_NULL]}),
        (int | str, {"anyOf": [wrapped(INTEGER), wrapped(STRING)]}),
        (TaskInProgress, {"type": "object"}),
        (TaskResult, {"type": "object"}),
        (
            dict[str, int] | TaskInProgress,
            {"anyOf": [{"type": "object", "additionalProperties": INTEGER}, {"type": "object"}]},
        ),
        (Awaitable[int], wrapped(INTEGER)),
        (Coroutine[Any, Any, int], wrapped(INTEGER)),
        (asyncio.Future[int], wrapped(INTEGER)),
        (inspect.Signature.empty, None),
        (NoReturn, None),
        (Iterator[int], None),
        (dict[str, Iterator[int]], {"type": "object"}),
    ],
    ids=str,
)  # fmt: skip
def test_schema_of_an_output(returns: Any, expected: Any) -> None:
    found = output_of(returns)
    if found is not None:
        found.pop("definitions", None)
    assert found == expected


def test_output_s_attributes_that_are_no_parameters_are_there() -> None:
    item = Item("a")
    assert to_output(item).keys() == set(OUT_ITEM["required"])
    jsonschema.Draft7Validator(output_of(Item)).validate(to_output(item))


def test_output_is_open_also_if_strict() -> None:
    schema = schemas_of(function_of(int, returns=Item), strict=True).output
    assert schema is not None
    assert "additionalProperties" not in schema


def test_pydantic_output_is_what_the_model_writes() -> None:
    schema = output_of(Customer)
    assert schema["properties"]["pair"]["items"] == [INTEGER, STRING]
    customer = Customer(fullName="n", pair=(1, "a"))
    jsonschema.Draft7Validator(schema).validate(to_output(customer))


def test_return_type_that_is_missing_at_run_time_costs_the_output_schema_only() -> None:
    def function(a: int) -> Missing: ...  # type: ignore[name-defined]  # noqa: F821

    schemas = schemas_of(function)
    assert schemas.output is None
    assert schemas.input["properties"] == {"a": INTEGER}


def test_coroutine_function_returns_what_it_says() -> None:
    async def function() -> int:
        return 1

    output = schemas_of(function).output
    assert output is not None
    assert output["properties"] == {"result": INTEGER}


def test_pydantic_is_not_loaded_for_schemas_without_it() -> None:
    code = "import sys, podium.schema; podium.schema.schemas_of(lambda a: a); print('pydantic' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
