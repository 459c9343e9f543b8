"""Generated Python types, values of them, and JSON: what the property tests of conversion and schemas share."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import json
import pathlib
import uuid
from types import GenericAlias
from typing import Any, Literal, NamedTuple, TypedDict

from hypothesis import strategies as st

Typed = tuple[Any, st.SearchStrategy[Any]]
Values = st.SearchStrategy[Any]


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mixed(enum.Enum):
    A = 1
    B = "b"
    C = 2.5


class Point(NamedTuple):
    x: int
    y: str = "y"


class Movie(TypedDict, total=False):
    title: str
    year: int


@dataclasses.dataclass(frozen=True)
class Leaf:
    text: str
    count: int = 0


@dataclasses.dataclass
class Node:
    value: int | str | None
    leaf: Leaf | dt.date | None = None
    children: list[Node] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Loose:
    count: int = None  # type: ignore[assignment]
    leaf: Leaf = None  # type: ignore[assignment]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
INTS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
ZONES = st.one_of(
    st.none(),
    st.just(dt.UTC),
    st.integers(-86_399, 86_399).map(lambda seconds: dt.timezone(dt.timedelta(seconds=seconds))),
)
LEAVES = st.builds(Leaf, TEXT, INTS)
NODES: Values = st.recursive(
    st.builds(Node, INTS | TEXT | st.none(), LEAVES | st.dates() | st.none()),
    lambda nodes: st.builds(Node, INTS, st.none(), st.lists(nodes, max_size=2)),
    max_leaves=4,
)
SCALARS: list[Typed] = [
    (str, TEXT),
    (int, INTS),
    (float, FLOATS),
    (bool, st.booleans()),
    (None, st.none()),
    (dt.date, st.dates()),
    (dt.datetime, st.datetimes(timezones=ZONES)),
    (dt.time, st.times(timezones=ZONES)),
    (dt.timedelta, st.timedeltas()),
    (uuid.UUID, st.uuids()),
    (decimal.Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (bytes, st.binary(max_size=8)),
    (pathlib.PurePosixPath, TEXT.map(pathlib.PurePosixPath)),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Mixed, st.sampled_from(Mixed)),
    (Literal["a", 1, True], st.sampled_from(["a", 1, True])),
    (Leaf, LEAVES),
]
OBJECTS: list[Typed] = [
    (Point, st.builds(Point, INTS, TEXT)),
    (Movie, st.fixed_dictionaries({}, optional={"title": TEXT, "year": INTS})),
    (Node, NODES),
    (Loose, st.builds(Loose, INTS | st.none(), LEAVES | st.none())),
]


def containers(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    def lists(typed: Typed) -> list[Typed]:
        kind, values = typed
        some = st.lists(values, max_size=3)
        return [
            (GenericAlias(list, kind), some),
            (GenericAlias(tuple, (kind, ...)), some.map(tuple)),
            (GenericAlias(collections.deque, kind), some.map(collections.deque)),
            (GenericAlias(dict, (str, kind)), st.dictionaries(TEXT, values, max_size=3)),
            (GenericAlias(dict, (int, kind)), st.dictionaries(INTS, values, max_size=3)),
            (GenericAlias(dict, (dt.date, kind)), st.dictionaries(st.dates(), values, max_size=3)),
            (kind | None if kind is not None else None, values | st.none()),
            (made(kind), st.builds(made(kind), values)),
        ]

    def pairs(first: Typed, second: Typed) -> Typed:
        return GenericAlias(tuple, (first[0], second[0])), st.tuples(first[1], second[1])

    return st.one_of(inner.flatmap(lambda typed: st.sampled_from(lists(typed))), st.builds(pairs, inner, inner))


_MADE: dict[Any, Any] = {}


def made(kind: Any) -> Any:
    """Return a dataclass with one field of that type."""
    return _MADE.setdefault(kind, dataclasses.make_dataclass(f"Made{len(_MADE)}", [("it", kind), ("n", int, 1)]))


SETS: list[Typed] = [
    container
    for kind, values in SCALARS
    for container in (
        (GenericAlias(set, kind), st.sets(values, max_size=3)),
        (GenericAlias(frozenset, kind), st.frozensets(values, max_size=3)),
    )
]
TYPES = st.recursive(st.sampled_from([*SCALARS, *OBJECTS, *SETS]), containers, max_leaves=3)
CASES = TYPES.flatmap(lambda typed: st.tuples(st.just(typed[0]), typed[1]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | st.text(max_size=5) | st.sampled_from(["red", "2024-01-02"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.sampled_from(["x", "text"]), inner, max_size=3)
    ),
    max_leaves=5,
)


def over_the_wire(value: Any) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))


def mutate(value: Any, replacement: Any, turns: list[int]) -> Any:
    """Replace one part of a JSON value, found by taking ``turns`` into it."""
    if not turns or not isinstance(value, list | dict) or not value:
        return replacement
    turn, *rest = turns
    if isinstance(value, list):
        index = turn % len(value)
        return [*value[:index], mutate(value[index], replacement, rest), *value[index + 1 :]]
    key = list(value)[turn % len(value)]
    return {**value, key: mutate(value[key], replacement, rest)}
