"""The law of the schemas: a value is valid exactly when the converter takes it."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import inspect
import json
from collections.abc import Mapping, Sequence
from types import GenericAlias
from typing import Annotated, Any, Generic, Literal, NewType, TypeVar, Union

import attrs
import jsonschema
import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from typing_extensions import TypeAliasType

from generated_types import CASES, SCALARS, TEXT, TYPES, Colour, Leaf, Level, Typed, mutate
from podium.binding import Binder
from podium.convert import converter_for, to_json, to_output
from podium.convert.scalar import TEXTS
from podium.errors import ConversionError
from podium.models import Task
from podium.schema import schemas_of
from podium.schema.parts import DRAFT
from podium.schema.table import TypeSchemas

LAW = settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
#: Texts that are almost something: dates, times, numbers, keys, base64, and their like in other scripts.
TRICKY = [
    "", " ", "\n", "null", "true", "True", "red", "RED", "a", "1", "-1", "-0", "0", "01", "+1", "1.0", "1.50",
    "-0.0", "1e5", "1e-400", ".5", "5.", "1_000", " 1", "1\n", "NaN", "sNaN", "nan", "-Infinity", "inf",
    "\u0661", "0x10", "2024-01-31", "2024-02-29", "2023-02-29", "2000-02-29", "1900-02-29", "2024-02-30",
    "2024-04-31", "0000-01-01", "0000-02-29", "0004-02-29", "2024-1-31", "20240131", "2024-01-31\n", "2024-13-01",
    "2024-W05-3", "2024-00-10", "2024-01-31T10:20:30Z", "2024-01-31 10:20:30", "2024-01-31t10:20z",
    "2024-01-31T10:20:30.1234567", "2024-01-31T10", "2024-01-31T10:20:30,5", "2024-01-31T24:00:00",
    "2024-01-31T10:20:60", "2024-01-31T10:20:30+0100", "2024-01-31T10:20:30+01", "2024-01-31T10:20:30+01:00:10.5",
    "2024-01-31T10:20:30-24:00", "2024-01-31T10:20:30 Z", "20240131T102030", "9999-12-31T23:59:59.9999999",
    "2024-02-30T10:20:30Z", "2024-01-31_10:20:30", "2024-01-31T10:20:30Z\n", "10:20", "10:20:30", "24:00",
    "10:20:30z", "T10:20", "1020", "102030+01:00", "10:20+01:00", "23:59:59.9999999", "10:20:30+23:59:59.999999",
    "P1D", "p1dt1h", "P", "PT", "P1DT", "P1W", "PT1.5H", "PT1.5H1S", "P1.5D", "-P1D", "P-1D", "PT1S1M", "PT.5S",
    "P1D\n", "PT0.0000001S", "P1DT1H1M1.5S", "5a8cb46a-0a5f-4b16-9bee-1ef7a05b559e",
    "5A8CB46A0A5F4B169BEE1EF7A05B559E", "{5a8cb46a-0a5f-4b16-9bee-1ef7a05b559e}",
    "5a8cb46a0a5f-4b16-9bee-1ef7a05b559e", "AA==", "AA=", "AAA=", "AAAA", "AAAA====", "AB==", "AA==\n", "-_==",
    "\u00e9",
]  # fmt: skip
TEXTS_LIKE_VALUES = (
    st.sampled_from(TRICKY) | TEXT | st.one_of([st.from_regex(TEXTS[kind], fullmatch=True) for kind in TEXTS])
)
NUMBERS = st.sampled_from([0, 1, 2, 3, -1, 1.0, 2.0, 2.5, -0.0, 2**53, 86_400_000_000_000, -86_399_999_913_600, 1e13])
#: Any JSON, but for numbers beyond the range of the type that reads them.
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | TEXTS_LIKE_VALUES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            TEXTS_LIKE_VALUES | st.sampled_from(["it", "n", "x", "y", "text", "count", "title"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
MUTATIONS = st.lists(st.tuples(VALUES, st.lists(st.integers(0, 5), max_size=4)), max_size=2)


class Permission(enum.Flag):
    READ = 1
    WRITE = 2


class Gaps(enum.Flag):
    A = 1
    C = 4


class Mode(enum.IntFlag):
    A = 1
    B = 2


class Half(enum.Enum):
    ZERO = 0
    HALF = 0.5
    WHOLE = 1.0


class Name(str):
    __slots__ = ()


class Number(int):
    pass


class Car(msgspec.Struct, tag="car"):
    wheel_count: int = msgspec.field(name="wheelCount")
    owner: str | msgspec.UnsetType = msgspec.UNSET
    born: dt.date = None  # type: ignore[assignment]


class Bike(msgspec.Struct, tag=1, tag_field="kind", forbid_unknown_fields=True):
    gears: float | None = None


class Person:
    def __init__(self, name: str, age: int = 0, *, parents: list[Person] | None = None) -> None:
        self.name, self.age, self.parents = name, age, parents or []


@attrs.define
class Shelf:
    _label: str
    books: dict[Name, int] = attrs.field(factory=dict)
    secret: int = attrs.field(init=False, default=1)


T = TypeVar("T")


@dataclasses.dataclass
class Box(Generic[T]):
    content: T
    start: dataclasses.InitVar[int] = 0
    ready: bool = dataclasses.field(init=False, default=True)


UserId = NewType("UserId", int)
Json = TypeAliasType("Json", "dict[str, Json] | list[Json] | str | int | None")
Meta = msgspec.Meta
#: Types with some JSON that is near to their values.
FURTHER: list[tuple[Any, list[Any]]] = [
    (Permission, [0, 1, 3, 4, 3.0, -1, True]),
    (Gaps, [0, 1, 2, 4, 5, 5.0, 7, -1]),
    (Mode, [0, 3, 9, -1, 2.0]),
    (Half, [0, 0.0, 0.5, 1, 1.0, True, False]),
    (Name, ["a"]),
    (Number, [1, 2.0]),
    (Number | decimal.Decimal, [1.0, "1.0", 2.5]),
    (Car, [{"type": "car", "wheelCount": 4}, {"wheelCount": 4, "owner": None}, {"type": "bus", "wheelCount": 4}]),
    (Bike, [{"kind": 1}, {"kind": True}, {"kind": 1.0, "gears": 3}, {"kind": 1, "x": 1}]),
    (Car | Bike, [{"type": "car", "wheelCount": 4}, {"kind": 1, "gears": None}]),
    (Person, [{"name": "n", "parents": [{"name": "p", "parents": None}]}, {"name": "n", "age": None}]),
    (Shelf, [{"label": "l", "books": {"a": 1}}, {"label": "l", "secret": 1}, {"_label": "l"}]),
    (Box[int], [{"content": 1, "start": 2}, {"content": "1"}, {"content": 1, "ready": False}]),
    (Box[Box[str]] | Box[int], [{"content": {"content": "x"}}, {"content": 1}]),
    (UserId, [1, 1.0, "1"]),
    (Json, [{"a": [1, {"b": None}]}, [1.5]]),
    (list[Json], [[{"a": [1.0]}], [True]]),
    (dict[Any, int], [{"a": 1}]),
    (dict[bool, int], [{"true": 1, "True": 1}, {"false": 0}, {"1": 1}]),
    (dict[float, int], [{"1": 1}, {"1.5": 1}, {"-0": 1}, {"1e5": 1}, {"nan": 1}]),
    (dict[Level, int], [{"1": 1}, {"2.0": 1}, {"2.00": 1}, {"3": 1}, {"LOW": 1}]),
    (dict[Half, int], [{"0": 1}, {"-0.0": 1}, {"0.5": 1}, {"0.50": 1}, {"1": 1}, {"1.0": 1}]),
    (dict[int | dt.date, int], [{"1": 1}, {"2024-01-31": 1}, {"x": 1}]),
    (dict[int | str, int], [{"1": 1}, {"x": 1}]),
    (dict[Literal["a", 1, True], int], [{"a": 1}, {"1": 1}, {"true": 1}, {"True": 1}]),
    (dict[UserId, int], [{"1": 1}, {"1.0": 1}]),
    (dict[tuple[int, int], int], [{}, {"1": 1}]),
    (dict[None, int], [{}, {"null": 1}]),
    (dict[Annotated[str, Meta(min_length=2)], int], [{"ab": 1}, {"a": 1}]),
    (collections.Counter[Colour], [{"red": 1}, {"red": 1.5}, {"blue": 1}]),
    (collections.Counter, [{"x": 1.0}]),
    (collections.OrderedDict[str, bool], [{"x": True}]),
    (Mapping[int, list[int]], [{"1": [1]}]),
    (set[Any], [[1, "a", None], [[1]], [{}]]),
    (frozenset, [[1, [1]]]),
    (tuple[()], [[], [1]]),
    (tuple, [[1, "a"]]),
    (list, [[1]]),
    (dict, [{"a": 1}]),
    (object, [1]),
    (Sequence[int], [[1, 2.0]]),
    (Annotated[int, Meta(ge=0, lt=10, multiple_of=2)], [0, 2, 3, 10, -2, 4.0]),
    (Annotated[str, Meta(pattern="^a", max_length=2)], ["ab", "b", "abc"]),
    (Annotated[list[int], Meta(min_length=1, max_length=2)], [[], [1], [1, 2, 3]]),
    (Annotated[dict[str, int], Meta(min_length=1)], [{}, {"a": 1}]),
    (Annotated[dt.datetime, Meta(tz=True)], ["2024-01-31T10:20:30Z", "2024-01-31T10:20:30", "2024-01-31T10:20+01:00"]),
    (Annotated[dt.time, Meta(tz=False)], ["10:20:30Z", "10:20:30", "10:20"]),
    (Annotated[Leaf, Meta(description="a leaf")], [{"text": "a"}]),
    (Annotated[int | str, Meta(title="t")], [1, "a"]),
]


class Validator:
    """The schema of a type, as jsonschema reads it."""

    def __init__(self, schema: dict[str, Any]) -> None:
        jsonschema.Draft7Validator.check_schema(schema)
        self._validator = jsonschema.Draft7Validator(schema, format_checker=jsonschema.FormatChecker())
        self.schema = schema

    @classmethod
    def of(cls, annotation: Any, *, closed: bool) -> Validator:
        schemas = TypeSchemas(closed=closed)
        schema = schemas.of(annotation)
        return cls({"$schema": DRAFT, "allOf": [schema], "definitions": schemas.definitions})

    def takes(self, value: Any) -> bool:
        return bool(self._validator.is_valid(value))


#: Refusals that no schema can foresee, as the docstring of podium.schema says.
UNFORESEEN = ("stand for the same key", "unhashable type", "hash a signaling NaN")


def reads(convert: Any, value: Any) -> bool | None:
    """Return whether a converter takes a value, None if it refuses what no schema can know."""
    try:
        convert(value)
    except ConversionError as error:
        return None if any(words in str(error) for words in UNFORESEEN) else False
    return True


def changed(value: Any, mutations: list[tuple[Any, list[int]]]) -> Any:
    for replacement, turns in mutations:
        value = mutate(value, replacement, turns)
    return value


def agree(annotation: Any, value: Any, *, closed: bool) -> None:
    validator = Validator.of(annotation, closed=closed)
    said, done = validator.takes(value), reads(converter_for(annotation, closed=closed), value)
    assert done in (said, None), (
        f"{annotation} of {json.dumps(value)}: schema {said}, converter {done}: {validator.schema}"
    )


@given(CASES, MUTATIONS, st.booleans())
@LAW
def test_schema_takes_what_the_converter_takes_of_values_and_their_mutations(
    case: tuple[Any, Any], mutations: list[tuple[Any, list[int]]], closed: bool
) -> None:
    annotation, value = case
    data = changed(to_json(value), mutations)
    agree(annotation, data, closed=closed)


@given(TYPES, VALUES, st.booleans())
@LAW
def test_schema_takes_what_the_converter_takes_of_any_json(typed: Typed, value: Any, closed: bool) -> None:
    agree(typed[0], value, closed=closed)


@pytest.mark.parametrize(("annotation", "samples"), FURTHER, ids=[str(kind) for kind, _ in FURTHER])
def test_schema_takes_the_samples_that_the_converter_takes(annotation: Any, samples: list[Any]) -> None:
    for value in samples:
        agree(annotation, value, closed=False)
        agree(annotation, value, closed=True)


@given(st.sampled_from(FURTHER).flatmap(lambda row: st.tuples(st.just(row[0]), st.sampled_from(row[1]))), MUTATIONS)
@LAW
def test_schema_of_special_types_takes_what_the_converter_takes(
    case: tuple[Any, Any], mutations: list[tuple[Any, list[int]]]
) -> None:
    annotation, value = case
    agree(annotation, changed(value, mutations), closed=False)


@pytest.mark.parametrize("value", TRICKY)
def test_schema_takes_the_tricky_texts_that_the_converter_takes(value: str) -> None:
    for annotation, _ in SCALARS:
        agree(annotation, value, closed=False)


@pytest.mark.parametrize(
    "kind", [kind for kind, _ in SCALARS if isinstance(kind, type)], ids=lambda kind: kind.__name__
)
def test_schema_takes_the_tricky_keys_that_the_converter_takes(kind: Any) -> None:
    for key in TRICKY:
        agree(GenericAlias(dict, (kind, int)), {key: 1}, closed=False)


@given(st.lists(TYPES, min_size=2, max_size=4), st.data(), MUTATIONS, st.booleans())
@LAW
def test_schema_of_a_union_takes_what_the_converter_takes(
    members: list[Typed], data: st.DataObject, mutations: list[tuple[Any, list[int]]], closed: bool
) -> None:
    annotation: Any = Union[tuple(kind for kind, _ in members)]  # noqa: UP007 - members are data here
    value = to_json(data.draw(data.draw(st.sampled_from(members))[1]))
    agree(annotation, changed(value, mutations), closed=closed)


def function_of(
    parameters: dict[str, tuple[Any, Any]], returns: Any = inspect.Signature.empty, rest: Any = None
) -> Any:
    """Return a function with those parameters: name -> annotation and default."""

    def function(**values: Any) -> Any:
        return values

    found = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
        for name, (annotation, default) in parameters.items()
    ]
    if rest is not None:
        found.append(inspect.Parameter("rest", inspect.Parameter.VAR_KEYWORD, annotation=rest))
    function.__signature__ = inspect.Signature(found, return_annotation=returns)  # type: ignore[attr-defined]
    return function


DEFAULTS = st.sampled_from([inspect.Parameter.empty, None, 5])


@given(
    st.dictionaries(st.sampled_from("abc"), st.tuples(CASES, DEFAULTS), max_size=3),
    st.sampled_from([None, None, int, Leaf, inspect.Parameter.empty]),
    st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=2),
    st.sets(st.sampled_from("abc"), max_size=1),
    MUTATIONS,
    st.booleans(),
)
@LAW
def test_input_is_valid_exactly_when_the_function_would_be_called(
    parameters: dict[str, tuple[tuple[Any, Any], Any]],
    rest: Any,
    further: dict[str, Any],
    missing: set[str],
    mutations: list[tuple[Any, list[int]]],
    strict: bool,
) -> None:
    signature = {name: (case[0], default) for name, (case, default) in parameters.items()}
    function = function_of(signature, rest=rest)
    data = {name: to_json(case[1]) for name, (case, _) in parameters.items() if name not in missing}
    data = changed(data, mutations)
    assume(isinstance(data, dict))
    data |= further
    binder = Binder.compile(function, strict=strict)
    validator = Validator(schemas_of(function, strict=strict).input)
    called = reads(lambda value: binder.arguments(Task(input_data=value)), data)
    assert called in (validator.takes(data), None), f"{signature} of {json.dumps(data)}: {validator.schema}"


@given(CASES)
@LAW
def test_output_of_a_function_is_valid(case: tuple[Any, Any]) -> None:
    annotation, value = case
    schema = schemas_of(function_of({}, returns=annotation)).output
    assert schema is not None
    Validator(schema)._validator.validate(to_output(value))
