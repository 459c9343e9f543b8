"""From what a function returned to JSON: never a repr, never a silent change."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import json
import pathlib
import sys
import threading
import types
import uuid
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypedDict, TypeVar

import attrs
import msgspec
import pydantic
import pytest

from podium.convert import to_json, to_output
from podium.errors import ConversionError

if TYPE_CHECKING:
    from nowhere import Missing  # type: ignore[import-not-found]

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Item:
    sku: str
    colour: Colour = Colour.RED
    _private: int = 1
    computed: int = dataclasses.field(init=False, default=3)
    factor: dataclasses.InitVar[int] = 5


@dataclasses.dataclass
class Unresolvable:
    value: Missing


@dataclasses.dataclass
class Box(Generic[T]):
    content: T


@dataclasses.dataclass(slots=True)
class Half:
    a: int
    b: int = dataclasses.field(init=False)


class Movie(TypedDict):
    day: dt.date


class Point(NamedTuple):
    x: int
    y: Colour = Colour.RED


@attrs.define
class Wheel:
    size: int
    _secret: str = "s"


class Person(pydantic.BaseModel):
    born: dt.date
    tags: set[str] = pydantic.Field(default_factory=set, alias="labels")
    score: float = 0.0


class Rows(pydantic.RootModel[list[int]]):
    pass


@pydantic.dataclasses.dataclass
class Checked:
    day: dt.date


class Car(msgspec.Struct, rename="camel", tag="car"):
    wheel_count: int
    state: int | msgspec.UnsetType = msgspec.UNSET


class Row(msgspec.Struct, array_like=True):
    a: int
    b: dt.date


class Account:
    def __init__(self, owner: str, limit: decimal.Decimal) -> None:
        self.owner, self.limit, self._lock = owner, limit, threading.Lock()


class Forgetful:
    def __init__(self, name: str) -> None:
        self.other = name


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "a lie"


UntypedPair = collections.namedtuple("UntypedPair", "a b")  # noqa: PYI024 - untyped on purpose
GUID = uuid.UUID("5a8cb46a-0a5f-4b16-9bee-1ef7a05b559e")
DAY = dt.date(2024, 1, 2)
NOON = dt.datetime(2024, 1, 2, 12, tzinfo=dt.UTC)
CYCLE: dict[str, Any] = {"a": 1}
CYCLE["deep"] = [{"again": CYCLE}]
LOOP: list[Any] = []
LOOP.append(LOOP)
SELF = Box[Any](None)
SELF.content = SELF


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("secret", [pydantic.SecretStr("k"), pydantic.SecretBytes(b"k"), pydantic.Secret[int](3)])
def test_secrets_stay_secret(secret: Any) -> None:
    assert to_json({"a": [secret]}) == {"a": ["**********"]}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (5, 5),
        (-(2**63), -(2**63)),
        (2**63 - 1, 2**63 - 1),
        (1.5, 1.5),
        ("ä\0", "ä\0"),
        ([1, "a", None], [1, "a", None]),
        ((1, (2,)), [1, [2]]),
        ({3}, [3]),
        (frozenset({3}), [3]),
        (collections.deque([1]), [1]),
        (range(3), [0, 1, 2]),
        ({"a": 1}.keys(), ["a"]),
        ({"a": 1}.values(), [1]),
        (types.MappingProxyType({"a": (1,)}), {"a": [1]}),
        (collections.ChainMap({"a": 1}, {"b": 2}), {"b": 2, "a": 1}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (DAY, "2024-01-02"),
        (NOON, "2024-01-02T12:00:00+00:00"),
        (dt.time(1, 2, 3), "01:02:03"),
        (dt.timedelta(days=-1, seconds=5, microseconds=3), "-PT86394.999997S"),
        (GUID, str(GUID)),
        (decimal.Decimal("1.50"), "1.50"),
        (b"abc", "YWJj"),
        (bytearray(b"abc"), "YWJj"),
        (memoryview(b"abc"), "YWJj"),
        (pathlib.PurePosixPath("a/b"), "a/b"),
        (Colour.RED, "red"),
        (Level.LOW, 1),
        (Text("truth"), "truth"),
        (pydantic.HttpUrl("https://a.example/x"), "https://a.example/x"),
        (pydantic.ByteSize(3000), 3000),
        ({1: "a", Level.LOW.name: 2}, {"1": "a", "LOW": 2}),
        (
            {Colour.RED: 1, GUID: 2, DAY: 3, 1.5: 4, True: 5},
            {"red": 1, str(GUID): 2, "2024-01-02": 3, "1.5": 4, "true": 5},
        ),
        (Item("a"), {"sku": "a", "colour": "red", "_private": 1, "computed": 3}),
        ([Item("a")], [{"sku": "a", "colour": "red", "_private": 1, "computed": 3}]),
        (Unresolvable(5), {"value": 5}),
        (Box(Box(DAY)), {"content": {"content": "2024-01-02"}}),
        (Movie(day=DAY), {"day": "2024-01-02"}),
        (Point(1), {"x": 1, "y": "red"}),
        (UntypedPair(1, DAY), {"a": 1, "b": "2024-01-02"}),
        (Wheel(1), {"size": 1, "secret": "s"}),
        (Person(born=DAY, labels={"x"}), {"born": "2024-01-02", "labels": ["x"], "score": 0.0}),
        (Rows([1, 2]), [1, 2]),
        (Checked(DAY), {"day": "2024-01-02"}),
        (Car(4), {"type": "car", "wheelCount": 4}),
        (Row(1, DAY), [1, "2024-01-02"]),
        (Account("o", decimal.Decimal("1.5")), {"owner": "o", "limit": "1.5"}),
    ],
    ids=lambda case: str(type(case).__name__),
)
def test_values_with_a_json_form(value: Any, expected: Any) -> None:
    result = to_json(value)
    assert result == expected
    assert type(result) is type(expected)
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"n": float("nan")}, "result.n: nan cannot be JSON: return None or a text instead"),
        ([1, float("-inf")], "result[1]: -inf cannot be JSON: return None or a text instead"),
        ({"a": {"b c": [threading.Lock()]}}, 'result.a["b c"][0]: a value of type _thread.lock cannot be JSON'),
        ((n for n in [1]), "result: a value of type generator cannot be JSON: make it a list"),
        (print, "result: a value of type builtin_function_or_method cannot be JSON"),
        (Item, "result: a value of type type cannot be JSON"),
        (object(), "result: a value of type object cannot be JSON"),
        ([1j], "result[0]: a value of type complex cannot be JSON"),
        (Forgetful("x"), "result: a value of type {module}.Forgetful cannot be JSON: "),
        (Half(1), "result: a value of type {module}.Half cannot be JSON: "),
        ({(1, 2): 3}, "result[tuple]: a key of type tuple cannot be a JSON key"),
        ({None: 3}, "result[null]: a key of type NoneType cannot be a JSON key"),
        ({float("nan"): 3}, "result[float]: nan cannot be JSON"),
        ({1: 1, "1": 2}, "result: two keys of the dict become the same JSON key"),
        ({"id": 2**63}, "result.id: int beyond 64 bits: return it as text"),
        ({"t": "a\ud800"}, "result.t: the text holds half of a surrogate pair, which is no character"),
        ({"a\ud800": 1}, 'result["a\\ud800"]: the text holds half of a surrogate pair'),
        ({"p": pathlib.PurePosixPath("a\udcff")}, "result.p: the text holds half of a surrogate pair"),
        (CYCLE, "result: contains itself, at deep[0].again"),
        ({"x": [CYCLE]}, "result.x[0].deep: contains itself, at [0].again.deep"),
        (LOOP, "result: contains itself, at [0]"),
        ({"x": SELF}, "result.x: contains itself, at content"),
        (nested(3000), "result[0][0][0][0][0][0]"),
        ([Person(born=DAY, score=float("nan"))], "result[0].score: nan cannot be JSON"),
    ],
    ids=lambda case: str(type(case).__name__),
)
def test_defect_08_what_cannot_be_json_is_an_error_with_path_and_type(value: Any, message: str) -> None:
    with pytest.raises(ConversionError) as caught:
        to_output(value)
    assert str(caught.value).startswith(message.format(module=__name__) if "{module}" in message else message)
    assert caught.value.path.startswith("result")
    assert len(str(caught.value)) < 300


def test_depth_is_limited_and_the_limit_can_be_reached() -> None:
    assert to_json(nested(500)) == nested(500)
    with pytest.raises(ConversionError, match="nested more than 500 levels deep"):
        to_json(nested(501))
    with pytest.raises(ConversionError, match="nested more than 500 levels deep"):
        to_json({"a": nested(100_000)})


def test_deep_python_stacks_do_not_change_the_kind_of_error() -> None:
    def at_depth(frames: int) -> Any:
        return at_depth(frames - 1) if frames else to_json(nested(500))

    with pytest.raises(ConversionError, match="nested more than 500 levels deep"):
        at_depth(sys.getrecursionlimit() - 300)


def test_shared_objects_are_no_cycle() -> None:
    shared = {"a": 1}
    assert to_json([shared, shared]) == [{"a": 1}, {"a": 1}]


def test_output_is_an_object_as_it_is_or_the_result() -> None:
    assert to_output({"a": DAY}) == {"a": "2024-01-02"}
    assert to_output(Point(1)) == {"x": 1, "y": "red"}
    assert to_output(Car(4)) == {"type": "car", "wheelCount": 4}
    assert to_output(Account("o", decimal.Decimal(1))) == {"owner": "o", "limit": "1"}
    assert to_output(Rows([1])) == {"result": [1]}
    for value, expected in ((None, None), (5, 5), ([1], [1]), ((1,), [1]), ({1}, [1]), ("a", "a"), (Colour.RED, "red")):
        assert to_output(value) == {"result": expected}


def test_defect_08_an_enum_inside_a_dict_is_its_value() -> None:
    assert to_output({"state": Colour.RED, "levels": [Level.LOW]}) == {"state": "red", "levels": [1]}


def test_defect_17_a_dataclass_is_its_fields_at_the_top_and_inside() -> None:
    # One function makes the output of def and async def alike, so the two cannot differ.
    fields = {"sku": "a", "colour": "red", "_private": 1, "computed": 3}
    assert to_output(Item("a")) == fields
    assert to_output({"item": Item("a")}) == {"item": fields}
    assert to_output([Item("a")]) == {"result": [fields]}


def test_the_value_itself_is_not_changed() -> None:
    source = {"a": [1, {"b": (2,)}], 5: "x"}
    result = to_json(source)
    result["a"].append("more")
    assert source == {"a": [1, {"b": (2,)}], 5: "x"}


class Generic_:  # noqa: N801 - stands for numpy.generic
    def __init__(self, value: Any) -> None:
        self.value = value

    def tolist(self) -> Any:
        return self if self.value is ... else self.value


class Array(Generic_):
    pass


def test_numpy_values_are_read_by_their_own_conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    numpy = types.ModuleType("numpy")
    numpy.generic, numpy.ndarray = Generic_, Array  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "numpy", numpy)
    assert to_json({"n": Generic_(5), "v": Array([[1.5], [2.5]])}) == {"n": 5, "v": [[1.5], [2.5]]}
    with pytest.raises(ConversionError, match=r"^v\[1\]: nan cannot be JSON"):
        to_json({"v": Array([1.0, float("nan")])})
    with pytest.raises(ConversionError, match=r"^a value of type .*Generic_ cannot be JSON"):
        to_json(Generic_(...))
