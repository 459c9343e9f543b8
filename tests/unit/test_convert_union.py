"""Unions: the member that fits best, whatever the order they are written in."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import itertools
import pathlib
import uuid
from typing import Any, Literal, Optional, Union

import msgspec
import pydantic
import pytest

from podium.convert import converter_for, to_json
from podium.errors import ConversionError


@dataclasses.dataclass
class Card:
    number: str
    holder: str = ""


@dataclasses.dataclass
class Cash:
    amount: int


@dataclasses.dataclass
class Base:
    x: int


@dataclasses.dataclass
class Derived(Base):
    y: int = 0


class Cat(msgspec.Struct, tag="cat"):
    name: str


class Dog(msgspec.Struct, tag="dog"):
    name: str


@dataclasses.dataclass
class Created:
    id: int
    kind: Literal["created"] = "created"


@dataclasses.dataclass
class Deleted:
    id: int
    kind: Literal["deleted"] = "deleted"


class Model(pydantic.BaseModel):
    amount: int
    currency: str


class Mood(enum.Enum):
    GOOD = "good"


GUID = uuid.UUID("5a8cb46a-0a5f-4b16-9bee-1ef7a05b559e")
NOON = dt.datetime(2024, 1, 2, 12, tzinfo=dt.UTC)
DAY = dt.date(2024, 1, 2)

#: Members of a union, and values that come back as they are.
FITS: list[tuple[tuple[Any, ...], list[Any]]] = [
    ((int, str, None), [1, "1", None]),
    ((int, float), [1, 1.5, 1.0]),
    ((bool, int, str), [True, 1, "true"]),
    ((Card, Cash), [Card("1"), Cash(5)]),
    ((Card, str), [Card("1"), "1"]),
    ((Card, Cash, None, list[Card]), [Card("1"), None, [Card("2")]]),
    ((Base, Derived), [Base(1), Derived(1, 2)]),
    ((list[Base], list[Derived]), [[Base(1)], [Derived(1, 2)], [Derived(1), Derived(2)]]),
    ((dict[str, Base], dict[str, Derived]), [{"a": Base(1)}, {"a": Derived(1, 2)}]),
    ((Base, dict[str, int]), [Base(1), {"y": 1}, {}]),
    ((list[int], dict[str, int]), [[1], {"a": 1}, [], {}]),
    ((list[int], list[str], set[bool]), [[1], ["a"]]),
    ((tuple[int, str], list[int]), [(1, "a"), [1, 2]]),
    ((dt.date, dt.datetime), [DAY, NOON]),
    ((dt.date, dt.datetime, str, int), [DAY, NOON, "tomorrow", 3]),
    ((uuid.UUID, str), [GUID, "x"]),
    ((decimal.Decimal, int, float), [decimal.Decimal("1.5"), 1, 1.5]),
    ((Mood, str, Literal["none"]), [Mood.GOOD, "bad", "none"]),
    ((bytes, str), ["abcd"]),
    ((pathlib.Path, int), [pathlib.Path("a"), 1]),
    ((Cat, Dog), [Cat("a"), Dog("a")]),
    ((Created, Deleted), [Created(1), Deleted(1)]),
    ((Model, Cash), [Model(amount=1, currency="EUR"), Cash(1)]),
    ((Any, Cash), [Cash(1), 5, "x", [1]]),
]


@pytest.mark.parametrize(("members", "values"), FITS, ids=lambda case: str(case)[:60])
def test_what_goes_out_comes_back_whatever_the_order(members: tuple[Any, ...], values: list[Any]) -> None:
    for order in itertools.islice(itertools.permutations(members), 24):
        convert = converter_for(Union[order])  # noqa: UP007 - members are data here
        for value in values:
            result = convert(to_json(value))
            assert result == value
            assert type(result) is type(value)


def test_unknown_keys_are_ignored_only_if_nothing_fits_whole() -> None:
    convert = converter_for(Base | Derived | Cash)
    assert convert({"x": 1, "other": 2}) == Base(1)
    assert convert({"x": 1, "y": 2, "other": 3}) == Derived(1, 2)
    assert convert({"amount": 1, "other": 3}) == Cash(1)


def test_optional_in_every_spelling() -> None:
    for annotation in (Optional[Card], Card | None, Union[None, Card]):  # noqa: UP007, UP045 - spellings
        convert = converter_for(annotation)
        assert convert(None) is None
        assert convert({"number": "1"}) == Card("1")


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (Card | None, {"number": 5}, "number: expected str, got int"),
        (Card | str | None, {"number": 5}, "number: expected str, got int"),
        (Card | None, 5, "expected Card | null, got int"),
        (int | str, [], "expected int | str, got array"),
        (dt.date | dt.datetime, "soon", 'expected date | datetime, got "soon"'),
        (Literal["a"] | int, "b", 'expected one of "a", got "b"'),
        (
            Card | Cash,
            {"amount": "5"},
            "fits none of Card | Cash (as Cash: amount: expected int, got str; as Card: number: required",
        ),
        (list[int] | list[str], [1, "a"], "fits none of array of int | array of str ("),
    ],
)
def test_refusals(annotation: Any, value: Any, message: str) -> None:
    with pytest.raises(ConversionError) as caught:
        converter_for(annotation)(value)
    assert str(caught.value).startswith(message)
