"""From JSON to Python types: every row of the supported table, and what each refuses."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import pathlib
import typing
import uuid
from collections.abc import Iterable, Mapping, Reversible, Sequence
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Required,
    Self,
    TypedDict,
    TypeVar,
)

import attrs
import msgspec
import pydantic
import pytest
from typing_extensions import TypeAliasType

from podium.convert import converter_for
from podium.convert.shape import Field, shape_of
from podium.errors import ConversionError, DeclarationError

T = TypeVar("T")
Number = TypeVar("Number", int, str)
Sku = NewType("Sku", str)
UTC = dt.UTC


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"

    @classmethod
    def _missing_(cls, value: object) -> Colour | None:
        return cls.RED if value == "rouge" else None


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Size(enum.StrEnum):
    S = "s"


class Mixed(enum.Enum):
    YES = True
    TEXT = "x"
    DAY = dt.date(2024, 1, 2)
    NONE = None


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Item:
    sku: str
    count: int = 1
    tags: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(kw_only=True, slots=True)
class Special(Item):
    factor: dataclasses.InitVar[int] = 1
    size: int = dataclasses.field(init=False, default=5)
    seen: list[int] = dataclasses.field(default_factory=list)

    def __post_init__(self, factor: int) -> None:
        self.seen = [factor]


@dataclasses.dataclass(init=False)
class OwnInit:
    total: int

    def __init__(self, a: int, b: int = 2) -> None:
        self.total = a + b


@dataclasses.dataclass
class Positive:
    value: int

    def __post_init__(self) -> None:
        if self.value == 0:
            raise KeyError("zero")
        if self.value < 0:
            raise ValueError("must be positive")


@dataclasses.dataclass
class Node:
    value: int
    next: Node | None = None
    children: list[Node] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Loose:
    sku: str = None  # type: ignore[assignment]
    tags: list[Item] = dataclasses.field(default=None)  # type: ignore[arg-type]
    either: Item | Point = None  # type: ignore[assignment]
    count: typing.Final[int] = None  # type: ignore[assignment]
    own: Mixed = None  # type: ignore[assignment]


@attrs.define
class LooseAttrs:
    size: int = None  # type: ignore[assignment]


class LooseTuple(NamedTuple):
    size: int = None  # type: ignore[assignment]


class LooseStruct(msgspec.Struct):
    size: int = None  # type: ignore[assignment]


class LoosePlain:
    def __init__(self, size: int = None) -> None:  # type: ignore[assignment]  # noqa: RUF013
        self.size = size


@dataclasses.dataclass
class Box(Generic[T]):
    content: T
    more: list[T] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Pair(Box[list[T]], Generic[T]):
    other: T | None = None


@dataclasses.dataclass
class IntPair(Pair[int]):
    pass


class Movie(TypedDict, total=False):
    title: Required[str]
    year: int


class Film(Movie):
    director: NotRequired[str]
    length: int


class Point(NamedTuple):
    x: int
    y: int = 0


def upper(text: str) -> str:
    return text.upper()


@attrs.define
class Wheel:
    size: int = attrs.field(validator=attrs.validators.gt(0))
    _secret: str = "s"
    spokes: list[int] = attrs.field(factory=list)
    hidden: int = attrs.field(init=False, default=3)
    name: str = attrs.field(default="n", converter=upper)


class Person(pydantic.BaseModel):
    name: str
    born: dt.date | None = None
    tags: list[str] = pydantic.Field(default_factory=list, alias="labels")


class StrictPerson(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    born: dt.date


@pydantic.dataclasses.dataclass
class Checked:
    value: int


class Car(msgspec.Struct, rename="camel", tag="car"):
    wheel_count: int
    owner_name: str | None = None
    state: int | msgspec.UnsetType = msgspec.UNSET
    load: Item | Wheel | None = None


class Closed(msgspec.Struct, forbid_unknown_fields=True):
    a: int


class Row(msgspec.Struct, array_like=True):
    a: int
    b: str


class Account:
    def __init__(self, owner: str, items: list[Item], *, limit: decimal.Decimal | None = None) -> None:
        self.owner, self.items, self.limit = owner, items, limit


class Code(str):
    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        if not value.isupper():
            raise ValueError("must be upper case")
        return super().__new__(cls, value)


class Holder(Generic[T]):
    def __init__(self, content: list[T]) -> None:
        self.content = content


Json = TypeAliasType("Json", "dict[str, Json] | list[Json] | str | int | float | bool | None")


@dataclasses.dataclass
class Document:
    body: Json


PARIS = dt.timezone(dt.timedelta(hours=2))
GUID = "5a8cb46a-0a5f-4b16-9bee-1ef7a05b559e"

ACCEPTED: list[tuple[Any, Any, Any]] = [
    # scalars
    (str, "x", "x"),
    (int, 5, 5),
    (int, 3.0, 3),
    (int, 2**70, 2**70),
    (float, 1.5, 1.5),
    (float, 2, 2.0),
    (bool, True, True),
    (None, None, None),
    (Any, {"a": [1]}, {"a": [1]}),
    (object, [1], [1]),
    (Sku, "s", "s"),
    (T, 1, 1),
    (Number, "x", "x"),
    (Code, "AB", Code("AB")),
    # texts
    (dt.date, "2024-01-31", dt.date(2024, 1, 31)),
    (dt.datetime, "2024-01-31T10:20:30Z", dt.datetime(2024, 1, 31, 10, 20, 30, tzinfo=UTC)),
    (dt.datetime, "2024-01-31T10:20:30.5+02:00", dt.datetime(2024, 1, 31, 10, 20, 30, 500_000, PARIS)),
    (dt.datetime, "2024-01-31T10:20:30.000+0000", dt.datetime(2024, 1, 31, 10, 20, 30, tzinfo=UTC)),
    (dt.datetime, "2024-01-31T10:20:30", dt.datetime(2024, 1, 31, 10, 20, 30)),  # noqa: DTZ001 - read as it is
    (dt.time, "10:20:30", dt.time(10, 20, 30)),
    (dt.time, "12:00", dt.time(12)),
    (dt.time, "12:00+02:00", dt.time(12, tzinfo=PARIS)),
    (list[dt.time], ["12:00"], [dt.time(12)]),
    (dt.datetime | dt.date, "2024-01-31", dt.date(2024, 1, 31)),
    (dt.timedelta, "PT1H30M", dt.timedelta(minutes=90)),
    (dt.timedelta, 90, dt.timedelta(seconds=90)),
    (dt.timedelta, 1.5, dt.timedelta(seconds=1.5)),
    (uuid.UUID, GUID, uuid.UUID(GUID)),
    (decimal.Decimal, "1.50", decimal.Decimal("1.50")),
    (decimal.Decimal, 0.1, decimal.Decimal("0.1")),
    (decimal.Decimal, 3, decimal.Decimal(3)),
    (bytes, "YWJj", b"abc"),
    (bytearray, "YWJj", bytearray(b"abc")),
    (pathlib.Path, "/tmp/x", pathlib.Path("/tmp/x")),
    (pathlib.PurePosixPath, "a/b", pathlib.PurePosixPath("a/b")),
    # choices
    (Colour, "green", Colour.GREEN),
    (Colour, "rouge", Colour.RED),
    (Level, 2, Level.HIGH),
    (Level, 2.0, Level.HIGH),
    (Size, "s", Size.S),
    (Mixed, True, Mixed.YES),
    (Mixed, "x", Mixed.TEXT),
    (Mixed, "2024-01-02", Mixed.DAY),
    (Mixed, None, Mixed.NONE),
    (Rights, 3, Rights.READ | Rights.WRITE),
    (Literal["a", 2, True], 2, 2),
    (Literal["a", 2, True], True, True),
    (Literal["a", None], None, None),  # noqa: PYI061 - the case under test
    (Literal[Colour.RED], "red", Colour.RED),
    # arrays
    (list, [1, "a"], [1, "a"]),
    (typing.List, [1], [1]),  # noqa: UP006
    (list[int], [1, 2.0], [1, 2]),
    (list[Item], [{"sku": "a"}], [Item("a")]),
    (tuple, [1, "a"], (1, "a")),
    (typing.Tuple, [1, "a"], (1, "a")),  # noqa: UP006
    (tuple[()], [], ()),
    (typing.Tuple[()], [], ()),  # noqa: UP006
    (tuple[int, str], [1, "a"], (1, "a")),
    (tuple[int, ...], [1, 2], (1, 2)),
    (set, [1, 1], {1}),
    (set[str], ["a", "a"], {"a"}),
    (frozenset[Level], [1], frozenset({Level.LOW})),
    (collections.deque[int], [1, 2], collections.deque([1, 2])),
    (Sequence[Item], [{"sku": "a"}], [Item("a")]),
    (Iterable[int], [1], [1]),
    (typing.AbstractSet[int], [1], {1}),
    # objects
    (dict, {"a": 1}, {"a": 1}),
    (dict[str, int], {"a": 1}, {"a": 1}),
    (dict[int, str], {"5": "x"}, {5: "x"}),
    (dict[bool, int], {"true": 1}, {True: 1}),
    (dict[float, int], {"1.5": 1}, {1.5: 1}),
    (dict[Level, int], {"1": 1}, {Level.LOW: 1}),
    (dict[Colour, Item], {"red": {"sku": "a"}}, {Colour.RED: Item("a")}),
    (dict[dt.date, int], {"2024-01-31": 1}, {dt.date(2024, 1, 31): 1}),
    (dict[int | str, int], {"5": 1, "x": 2}, {5: 1, "x": 2}),
    (dict[uuid.UUID, int], {GUID: 1}, {uuid.UUID(GUID): 1}),
    (Mapping[str, list[int]], {"a": [1]}, {"a": [1]}),
    (collections.OrderedDict[str, int], {"b": 1, "a": 2}, collections.OrderedDict(b=1, a=2)),
    (collections.Counter[str], {"b": 2}, collections.Counter(b=2)),
    (collections.Counter, {"b": 2}, collections.Counter(b=2)),
    # classes
    (Item, {"sku": "a", "extra": 1}, Item("a", 1, [])),
    (Special, {"sku": "a", "factor": 4, "size": 9, "seen": [7]}, Special(sku="a", factor=4)),
    (OwnInit, {"a": 1}, OwnInit(1)),
    (Node, {"value": 1, "next": {"value": 2}, "children": [{"value": 3}]}, Node(1, Node(2), [Node(3)])),
    (Box[int], {"content": 1, "more": [2]}, Box(1, [2])),
    (Box[Item], {"content": {"sku": "a"}}, Box(Item("a"))),
    (Box, {"content": [1]}, Box([1])),
    (IntPair, {"content": [1], "more": [[2]], "other": 3}, IntPair([1], [[2]], 3)),
    (Pair[str], {"content": ["1"], "other": "3"}, Pair(["1"], [], "3")),
    (Movie, {"title": "t", "extra": 1}, {"title": "t"}),
    (Film, {"title": "t", "length": 90, "director": "d"}, {"title": "t", "length": 90, "director": "d"}),
    (Point, {"x": 1}, Point(1)),
    (Point, [1, 2], Point(1, 2)),
    (Wheel, {"size": 1, "secret": "t", "hidden": 9, "name": "x"}, Wheel(1, "t", name="x")),
    (
        Person,
        {"name": "n", "born": "2000-01-02", "labels": ["a"]},
        Person(name="n", born=dt.date(2000, 1, 2), labels=["a"]),
    ),
    (StrictPerson, {"born": "2000-01-02"}, StrictPerson(born=dt.date(2000, 1, 2))),
    (Checked, {"value": 1}, Checked(1)),
    (list[Person | Item], [{"sku": "a"}, {"name": "n"}], [Item("a"), Person(name="n")]),
    (Car, {"type": "car", "wheelCount": 4, "x": 1}, Car(4)),
    (Car, {"wheelCount": 4, "state": 1, "load": {"size": 3}}, Car(4, None, 1, Wheel(3))),
    (Row, [1, "x"], Row(1, "x")),
    (Document, {"body": {"a": [1, {"b": None}]}}, Document({"a": [1, {"b": None}]})),
    # limits
    (Annotated[int, msgspec.Meta(ge=1)], 1, 1),
    (Annotated[int, "a remark"], 1, 1),
    (Annotated[int, pydantic.Field(gt=1)], 2, 2),
    (pydantic.HttpUrl, "https://a.example/x", pydantic.HttpUrl("https://a.example/x")),
    (pydantic.HttpUrl | str, "https://a.example/x", pydantic.HttpUrl("https://a.example/x")),
    (pydantic.HttpUrl | str, "a.example", "a.example"),
    (pydantic.HttpUrl | None, None, None),
    (dict[str, pydantic.SecretStr], {"key": "k"}, {"key": pydantic.SecretStr("k")}),
    (pydantic.Secret[int], 3, pydantic.Secret(3)),
    (pydantic.ByteSize, "3KB", pydantic.ByteSize(3000)),
    (pydantic.PositiveInt | str, "5", "5"),
    (Annotated[collections.deque[int], msgspec.Meta(max_length=1)], [1], collections.deque([1])),
    (Annotated[str, msgspec.Meta(pattern="^a")] | None, "ab", "ab"),
]

NO_INTS: list[tuple[Any, str]] = [
    ("x", "expected array, got str"), ({"a": 1}, "expected array, got object"), (["x"], "[0]: expected int, got str"),
]  # fmt: skip

REFUSED: list[tuple[Any, Any, str]] = [
    (str, 5, "expected str, got int"),
    (str, None, "expected str, got null"),
    (int, "5", "expected int, got str"),
    (int, True, "expected int, got bool"),
    (int, 3.5, "expected int, got float"),
    (int, 1e300, "expected int, got float"),
    (float, "1", "expected float, got str"),
    (float, True, "expected float, got bool"),
    (float, 10**400, "expected float, got an int beyond its range"),
    (bool, 1, "expected bool, got int"),
    (None, 0, "expected null, got int"),
    (
        dt.date,
        "2024-01-31T00:00:00",
        'expected an ISO 8601 date without a time, such as 2024-01-31, got "2024-01-31T00:00:00"',
    ),
    (
        dt.datetime,
        "2024-01-31",
        'expected an ISO 8601 date with a time, such as 2024-01-31T10:20:30Z, got "2024-01-31"',
    ),
    (dt.datetime, 1706696430000, "expected an ISO 8601 date with a time, such as 2024-01-31T10:20:30Z, got int"),
    (dt.time, "noon", 'expected an ISO 8601 time, such as 10:20:30, got "noon"'),
    (dt.time, "12", 'expected an ISO 8601 time, such as 10:20:30, got "12"'),
    (dt.time, 12, "expected an ISO 8601 time, such as 10:20:30, got int"),
    (dt.timedelta, "soon", 'expected an ISO 8601 duration or a number of seconds, got "soon"'),
    (dt.timedelta, 1e300, "expected an ISO 8601 duration or a number of seconds, got float"),
    (uuid.UUID, "x" * 100, f'expected a UUID, got "{"x" * 59}...'),
    (decimal.Decimal, "one", 'expected a decimal number, got "one"'),
    (decimal.Decimal, True, "expected a decimal number, got bool"),
    (bytes, "abc", 'expected base64 text, got "abc"'),
    (bytes, "äöü=", 'expected base64 text, got "\\u00e4\\u00f6\\u00fc="'),
    (pathlib.Path, 5, "expected path, got int"),
    (Code, "ab", "refused by Code: must be upper case"),
    (Colour, "blue", 'expected one of "red", "green", got "blue"'),
    (Colour, "RED", 'expected one of "red", "green", got "RED"'),
    (Level, True, "expected one of 1, 2, got true"),
    (Mixed, [1], 'expected one of true, "x", "2024-01-02", null, got array'),
    (Rights, 9, "expected one of 1, 2, got 9"),
    (Literal[1], True, "expected one of 1, got true"),
    (list, {"a": 1}, "expected array, got object"),
    (list[int], "x", "expected array, got str"),
    *((kind[int], value, error) for kind in (Iterable, Reversible) for value, error in NO_INTS),
    (list[Iterable[int]], ["x"], "[0]: expected array, got str"),
    (list[int], [1, "x"], "[1]: expected int, got str"),
    (tuple[int, str], [1], "expected array of 2, got 1"),
    (tuple[int, str], [1, 2], "[1]: expected str, got int"),
    (tuple[int, str], {}, "expected array of 2, got object"),
    (tuple[()], [1], "expected array of 0, got 1"),
    (tuple[()], {}, "expected array of 0, got object"),
    (list[tuple[()]], [[], [1]], "[1]: expected array of 0, got 1"),
    (set, [[1]], "refused by set: TypeError: unhashable type: 'list'"),
    (dict, [], "expected object, got array"),
    (dict[str, int], {"a": "x"}, "a: expected int, got str"),
    (dict[int, int], {"a": 1}, "a: key: expected int, got str"),
    (dict[float, int], {"1": 1, "1.0": 2}, "two keys of the object stand for the same key"),
    (dict[str, list[Item]], {"a b": [{"sku": 1}]}, '["a b"][0].sku: expected str, got int'),
    (Item, "x", "expected Item, got str"),
    (Item, {"count": 1}, "sku: required, but the object has no such key (it has: count)"),
    (Item, {"sku": None}, "sku: expected str, got null"),
    (Positive, {"value": -1}, "refused by Positive: must be positive"),
    (Positive, {"value": 0}, "refused by Positive: KeyError: 'zero'"),
    (list[Positive], [{"value": -1}], "[0]: refused by Positive: must be positive"),
    (Node, {"value": 1, "next": {"value": 2, "children": [{}]}}, "next.children[0].value: required"),
    (Box[int], {"content": "x"}, "content: expected int, got str"),
    (Holder[int], {"content": ["x"]}, "content[0]: expected int, got str"),
    (Json, ({"a": [{1}]}), "a[0]: expected object of Json | array of Json | str | int | float | bool | null, got set"),
    (Movie, {"year": 1}, "title: required"),
    (Point, [1, 2, 3], "expected at most 2 items, got 3"),
    (Point, ["x"], "x: expected int, got str"),
    (Wheel, {"size": 0}, "refused by Wheel: 'size' must be > 0: 0"),
    (Person, {"labels": [1]}, "name: field required (and 1 more)"),
    (Person, {"name": "n", "labels": ["a", 1]}, "labels[1]: input should be a valid string"),
    (list[Person], [{"name": 1}], "[0].name: input should be a valid string"),
    (Car, {"type": "bike", "wheelCount": 1}, 'type: expected "car", got "bike"'),
    (Car, {"wheelCount": "x"}, "wheelCount: expected int, got str"),
    (Closed, {"a": 1, "b": 2}, "b: unknown key (Closed has: a)"),
    (Row, [1, 2], "[1]: expected str, got int"),
    (Account, {"owner": "o", "items": [{"sku": "a", "tags": [1]}]}, "items[0].tags[0]: expected str, got int"),
    (Annotated[int, msgspec.Meta(ge=1)], 0, "expected int >= 1"),
    (Annotated[int, msgspec.Meta(ge=1)], 0.0, "expected int >= 1"),
    (Annotated[int, pydantic.Field(gt=1)], 1, "input should be greater than 1"),
    (pydantic.SecretStr, 5, "input should be a valid string"),
    (list[pydantic.HttpUrl], ["x"], "[0]: input should be a valid URL"),
    (Annotated[collections.deque[int], msgspec.Meta(max_length=1)], [1, 2], "expected array of length <= 1"),
    (list[Annotated[str, msgspec.Meta(min_length=1)]], ["a", ""], "[1]: expected str of length >= 1"),
]


def ids(cases: list[tuple[Any, Any, Any]]) -> list[str]:
    return [f"{getattr(kind, '__name__', kind)}-{str(value)[:20]}" for kind, value, _ in cases]


@pytest.mark.parametrize(("annotation", "value", "expected"), ACCEPTED, ids=ids(ACCEPTED))
def test_accepted(annotation: Any, value: Any, expected: Any) -> None:
    result = converter_for(annotation)(value)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(("annotation", "value", "message"), REFUSED, ids=ids(REFUSED))
def test_refused(annotation: Any, value: Any, message: str) -> None:
    with pytest.raises(ConversionError) as caught:
        converter_for(annotation)(value)
    assert str(caught.value).startswith(message)
    assert "$" not in str(caught.value)


class Permission(enum.Flag):
    READ = 1
    WRITE = 2


class Numbered(msgspec.Struct, tag=1):
    pass


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (dt.datetime, "2024-01-31T10:20z", dt.datetime(2024, 1, 31, 10, 20, tzinfo=dt.UTC)),
        (dt.datetime, "2024-01-31 10:20:30,5", dt.datetime(2024, 1, 31, 10, 20, 30, 500_000)),  # noqa: DTZ001
        (dt.time, "10:20z", dt.time(10, 20, tzinfo=dt.UTC)),
        (Permission, 3, Permission.READ | Permission.WRITE),
        (Permission, 3.0, Permission.READ | Permission.WRITE),
        (dict[float, int], {"1": 1, "2.50": 2, "1e3": 3}, {1.0: 1, 2.5: 2, 1000.0: 3}),
    ],
)
def test_other_ways_to_write_it(annotation: Any, value: Any, expected: Any) -> None:
    assert converter_for(annotation)(value) == expected


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        *(
            (dt.datetime, text)
            for text in ("20240131T102030", "2024-W05-3T10:20:30", "2024-01-31T10", "2024-01-31_10:20")
        ),
        *((dt.time, text) for text in ("T10:20", "102030+01:00", "10:20\n")),
        *((decimal.Decimal, text) for text in ("1_000", " 1", "1\n", "\u0661")),
        (bytes, "AAAA===="),
        (dict[int, int], {"1.0": 1}),
        (dict[int, int], {" 1": 1}),
        (dict[int, int], {"-0": 1}),
        (dict[bool, int], {" true": 1}),
        (Permission, -1),
        (Permission, 4),
        (Numbered, {"type": True}),
    ],
)
def test_what_only_looks_like_a_value_is_refused(annotation: Any, value: Any) -> None:
    for kind, given in ((annotation, value), (list[annotation], [value])):
        with pytest.raises(ConversionError):
            converter_for(kind)(given)


def test_null_for_a_default_of_none_is_none_also_for_pydantic_s_types() -> None:
    @dataclasses.dataclass
    class Link:
        url: pydantic.HttpUrl = None  # type: ignore[assignment]

    assert converter_for(Link)({"url": None}) == Link()


@pytest.mark.parametrize("closed", [False, True])
def test_field_whose_default_is_none_takes_null(closed: bool) -> None:
    nulls = dict.fromkeys(["sku", "tags", "either", "count", "own"])
    loose = converter_for(Loose, closed=closed)(nulls)
    assert loose == Loose(own=Mixed.NONE)  # a type that has a meaning for null keeps it
    for kind in (LooseAttrs, LooseTuple, LooseStruct, LoosePlain):
        assert converter_for(kind, closed=closed)({"size": None}).size is None
        assert converter_for(list[kind], closed=closed)([{"size": None}, {"size": 5}])[1].size == 5  # type: ignore[valid-type]
        with pytest.raises(ConversionError, match="size: expected int, got str"):
            converter_for(kind, closed=closed)({"size": "x"})


def test_shape_tells_which_fields_take_null_beside_their_type() -> None:
    shape = shape_of(Loose)
    assert shape is not None
    assert all(field.nullable for field in shape.inputs)
    assert not any(field.nullable for kind in (Item, Point, Wheel, Closed) for field in fields_of(kind))


def fields_of(kind: Any) -> tuple[Field, ...]:
    shape = shape_of(kind)
    assert shape is not None
    return shape.inputs


def test_plain_class() -> None:
    account = converter_for(Account)({"owner": "o", "items": [{"sku": "a"}], "limit": "1.5"})
    assert (account.owner, account.items, account.limit) == ("o", [Item("a")], decimal.Decimal("1.5"))


def test_the_cause_of_a_refusal_is_kept() -> None:
    with pytest.raises(ConversionError) as caught:
        converter_for(dict[str, list[Positive]])({"a": [{"value": 0}]})
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.path == "a[0]"


def test_unknown_keys_are_refused_on_request() -> None:
    cases: list[tuple[Any, Any, str]] = [
        (Item, {"sku": "a", "x": 1}, "x: unknown key (Item has: count, sku, tags)"),
        (list[Movie], [{"title": "t", "x": 1}], "[0].x: unknown key (Movie has: title, year)"),
        (Car, {"wheelCount": 1, "type": "car", "x": 1}, "x: unknown key"),
        (Person, {"name": "n", "x": 1}, "x: unknown key (Person has: born, labels, name)"),
        (Item | None, {"sku": "a", "x": 1}, "x: unknown key"),
        (Item | Wheel, {"sku": "a", "x": 1}, "fits none of Item | Wheel (as Item: x: unknown key"),
    ]
    for annotation, value, message in cases:
        with pytest.raises(ConversionError) as caught:
            converter_for(annotation, closed=True)(value)
        assert str(caught.value).startswith(message)


class ByChoice(pydantic.BaseModel):
    user: int = pydantic.Field(validation_alias=pydantic.AliasChoices("userId", pydantic.AliasPath("user", "id")))


class ByName(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(populate_by_name=True)
    user: int = pydantic.Field(alias="userId")


class WrittenByAlias(pydantic.BaseModel):
    user: int = pydantic.Field(validation_alias="theUser", serialization_alias="userId")


class NameOnly(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(validate_by_name=True, validate_by_alias=False)
    user: int = pydantic.Field(alias="userId")


@pydantic.dataclasses.dataclass(config=pydantic.ConfigDict(populate_by_name=True))
class NamedData:
    user: int = pydantic.Field(alias="userId")


@pytest.mark.parametrize(
    ("model", "taken", "refused"),
    [
        (ByChoice, [{"userId": 1}, {"user": {"id": 1}}], {"userId": 1, "id": 1}),
        (ByName, [{"userId": 1}, {"user": 1}], {"userId": 1, "x": 1}),
        (WrittenByAlias, [{"theUser": 1}], {"theUser": 1, "user": 1}),
        (NameOnly, [{"user": 1}], {"user": 1, "userId": 1}),
        (NamedData, [{"userId": 1}, {"user": 1}], {"user": 1, "x": 1}),
    ],
)
def test_known_keys_of_a_pydantic_model_are_those_that_pydantic_reads(model: Any, taken: Any, refused: Any) -> None:
    convert = converter_for(model, closed=True)
    for value in taken:
        assert convert(value).user == 1
    with pytest.raises(ConversionError, match="unknown key"):
        convert(refused)


class Abstract(typing.Protocol):
    def run(self) -> None: ...


class Untyped:
    def __init__(self, x) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        self.x = x


class NotJson(enum.Enum):
    PAIR = (1, 2)


class NotAtAll(enum.Enum):
    OBJECT = object()


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (typing.Callable[[], None], "no JSON value can become"),
        (type[int], "no JSON value can become type"),
        (complex, "no JSON value can become complex"),
        (Abstract, "no JSON value can become"),
        (Untyped, "no JSON value can become .*Untyped"),
        (list[complex], "no JSON value can become complex"),
        (tuple[int, *tuple[str, ...]], "no JSON value can become"),
        (NotJson, "NotJson: .* cannot be told by a JSON text, number or boolean"),
        (NotAtAll, "NotAtAll: .*OBJECT.*: a value of type object cannot be JSON"),
        (Annotated[int, msgspec.Meta(min_length=1)], "Can only set `min_length`"),
        (Annotated[Untyped, pydantic.Field()], "pydantic cannot read"),
        (pydantic.Secret, "pydantic cannot read"),
        ("Nowhere", "the name Nowhere cannot be resolved here"),
    ],
)
def test_types_that_no_json_becomes_are_refused_at_declaration(annotation: Any, message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        converter_for(annotation)


def test_a_class_inside_a_function_may_contain_itself() -> None:
    @dataclasses.dataclass
    class Local:
        inner: Local | None = None

    assert converter_for(Local)({"inner": {}}) == Local(Local())


def test_endless_nesting_is_a_conversion_error() -> None:
    data: dict[str, Any] = {"value": 1}
    for _ in range(5000):
        data = {"value": 1, "next": data}
    with pytest.raises(ConversionError, match="nested too deeply"):
        converter_for(Node)(data)
