"""Reading the types that JSON shows as one text, number, boolean or null.

Each is a ``Plan``: the function that reads it, its name in messages, and for every JSON type that it can be read from
a rank that says how well the two fit. Unions try their members in the order of these ranks (lower first).
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import datetime
import decimal
import enum
import uuid
from collections.abc import Callable, Iterable
from pathlib import PurePath
from types import NoneType
from typing import Any

import msgspec

from podium.errors import ConversionError, DeclarationError
from podium.types_path import json_name, mismatch, shown

Convert = Callable[[Any], Any]

# Ranks: how specific a type is about the JSON type that it is read from.
LISTED = 0  # Literal, Enum: a few values only
EXACT = 1  # int from int, str from ... see PARSED
WIDENED = 2  # float from int
PARSED = 3  # date from text: most texts are none
TEXT = 4  # str from text
ANY_TEXT = 5  # Path from text: takes what str takes
OBJECT = 1  # a class with named fields
TUPLE = 1
ARRAY = 2
SET = 3
MAPPING = 2
ANY = 9

KINDS: tuple[type, ...] = (NoneType, bool, int, float, str, list, dict)


@dataclasses.dataclass(slots=True)
class Plan:
    """How one annotation is read from JSON."""

    #: Name in error messages.
    name: str
    convert: Convert
    #: JSON type -> rank.
    fit: dict[type, int]
    #: Whether msgspec.convert(), where it succeeds, gives the same value.
    native: bool = False
    #: JSON keys of an object-like class.
    keys: frozenset[str] = frozenset()


def same(value: Any) -> Any:
    """Return the value itself."""
    return value


ANYTHING = Plan("anything", same, dict.fromkeys(KINDS, ANY), native=True)


def _exact(kind: type) -> Convert:
    expected = json_name(None) if kind is NoneType else json_name(kind())

    def convert(value: Any) -> Any:
        if type(value) is kind:
            return value
        raise mismatch(expected, value)

    return convert


def _int(value: Any) -> int:
    if type(value) is int:
        return value
    # JSON has one kind of number: other languages write 3 as 3.0. Beyond 2**53 a float may stand for another integer.
    if type(value) is float and value.is_integer() and abs(value) <= 2**53:
        return int(value)
    raise mismatch("int", value)


def _float(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise ConversionError("", "expected float, got an int beyond its range") from None
    raise mismatch("float", value)


def _parsed(kind: type, expected: str, fallback: Convert | None = None) -> Convert:
    """Return a converter that lets msgspec parse, and ``fallback`` what msgspec does not know."""

    def convert(value: Any) -> Any:
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError:
            pass
        try:
            if fallback is not None:
                return fallback(value)
        except (TypeError, ValueError, OverflowError):
            pass
        raise ConversionError(
            "", f"expected {expected}, got {shown(value) if type(value) is str else json_name(value)}"
        )

    return convert


def _datetime(value: str) -> datetime.datetime:
    """Parse the ISO 8601 forms beside RFC 3339, such as offsets with seconds; a date alone has no time and is none."""
    if len(value) <= len("2024-01-01"):
        raise ValueError(value)
    return datetime.datetime.fromisoformat(value)


def _seconds(value: float) -> datetime.timedelta:
    if type(value) not in (int, float):
        raise TypeError(value)
    return datetime.timedelta(seconds=value)


def _bytes(kind: Callable[[bytes], Any]) -> Convert:
    def convert(value: Any) -> Any:
        if type(value) is not str:
            raise mismatch("base64 text", value)
        try:
            return kind(base64.b64decode(value, validate=True))
        except (binascii.Error, ValueError):
            raise ConversionError("", f"expected base64 text, got {shown(value)}") from None

    return convert


def _path(kind: type[PurePath]) -> Convert:
    def convert(value: Any) -> PurePath:
        if type(value) is str:
            return kind(value)
        raise mismatch("path", value)

    return convert


_DATE_TIME = "an ISO 8601 date and time"
_TEXT_ONLY = {str: PARSED}
_TEXT_OR_NUMBER = {str: PARSED, int: PARSED, float: PARSED}

SCALARS: dict[Any, Plan] = {
    Any: ANYTHING,
    object: ANYTHING,
    None: Plan("null", _exact(NoneType), {NoneType: EXACT}, native=True),
    NoneType: Plan("null", _exact(NoneType), {NoneType: EXACT}, native=True),
    bool: Plan("bool", _exact(bool), {bool: EXACT}, native=True),
    str: Plan("str", _exact(str), {str: TEXT}, native=True),
    int: Plan("int", _int, {int: EXACT, float: ANY_TEXT}, native=True),
    float: Plan("float", _float, {float: EXACT, int: WIDENED}, native=True),
    datetime.datetime: Plan("datetime", _parsed(datetime.datetime, _DATE_TIME, _datetime), _TEXT_ONLY, native=True),
    datetime.date: Plan("date", _parsed(datetime.date, "an ISO 8601 date"), _TEXT_ONLY, native=True),
    datetime.time: Plan("time", _parsed(datetime.time, "an ISO 8601 time"), _TEXT_ONLY, native=True),
    datetime.timedelta: Plan(
        "timedelta",
        _parsed(datetime.timedelta, "an ISO 8601 duration or a number of seconds", _seconds),
        _TEXT_OR_NUMBER,
        native=True,
    ),
    uuid.UUID: Plan("UUID", _parsed(uuid.UUID, "a UUID"), _TEXT_ONLY, native=True),
    decimal.Decimal: Plan("Decimal", _parsed(decimal.Decimal, "a decimal number"), _TEXT_OR_NUMBER, native=True),
    bytes: Plan("bytes", _bytes(bytes), {str: ANY_TEXT}, native=True),
    bytearray: Plan("bytearray", _bytes(bytearray), {str: ANY_TEXT}, native=True),
    memoryview: Plan("memoryview", _bytes(memoryview), {str: ANY_TEXT}),
    msgspec.UnsetType: Plan("unset", _exact(msgspec.UnsetType), {}, native=True),
}


def text_plan(cls: type) -> Plan | None:
    """Return the plan of a path class or of a subclass of str, int or float; None for other classes."""
    if issubclass(cls, PurePath):
        return Plan(cls.__name__, _path(cls), {str: ANY_TEXT})
    for base in (str, int, float):
        if issubclass(cls, base):
            return _derived(cls, SCALARS[base])
    return None


def _derived(cls: type, base: Plan) -> Plan:
    def convert(value: Any) -> Any:
        return build(cls, base.convert(value))

    return Plan(cls.__name__, convert, dict.fromkeys(base.fit, PARSED))


def build(cls: Callable[..., Any], *arguments: Any, **fields: Any) -> Any:
    """Call a user's class; whatever it objects to becomes a ConversionError.

    Raises ConversionError, and RecursionError and MemoryError, which say nothing about the value.
    """
    try:
        return cls(*arguments, **fields)
    except (RecursionError, MemoryError):
        raise
    except Exception as error:
        name = getattr(cls, "__name__", "the class")
        reason = str(error) if isinstance(error, ValueError) and str(error) else f"{type(error).__name__}: {error}"
        raise ConversionError("", f"refused by {name}: {reason}") from error


def choice_plan(name: str, members: Iterable[tuple[Any, Any]], otherwise: Convert | None = None) -> Plan:
    """Return the plan of an Enum or Literal: pairs of a JSON value and what it stands for.

    ``otherwise`` is asked for values that are not listed; it raises ValueError for what it does not know either.
    """
    table = {}
    for encoded, member in members:
        if type(encoded) not in KINDS or isinstance(encoded, (list, dict)):
            raise DeclarationError(f"{name}: {member!r} cannot be told by a JSON text, number or boolean")
        # bool is apart because True == 1; 1 and 1.0 are the same JSON number.
        table.setdefault((type(encoded) is bool, encoded), member)
    allowed = ", ".join(shown(encoded) for _, encoded in table)
    kinds = {type(encoded) for _, encoded in table}

    def convert(value: Any) -> Any:
        kind = type(value)
        try:
            return table[kind is bool, value]
        except (KeyError, TypeError):
            pass
        try:
            if otherwise is not None and kind in kinds:
                return otherwise(value)
        except (ValueError, KeyError, TypeError):
            pass
        got = shown(value) if kind in KINDS and kind not in (list, dict) else json_name(value)
        raise ConversionError("", f"expected one of {allowed}, got {got}")

    if kinds & {int, float}:
        kinds |= {int, float}
    return Plan(name, convert, dict.fromkeys(kinds, LISTED), native=kinds <= {str, NoneType} or kinds <= {int, float})


def enum_plan(cls: type[enum.Enum], encode: Convert) -> Plan:
    """Return the plan of an Enum: members are told by value, as ``encode`` shows it in JSON.

    Values that are not listed go to the class itself, so ``_missing_`` and combined flags work.
    """
    plan = choice_plan(cls.__name__, [(encode(member.value), member) for member in cls.__members__.values()], cls)
    plan.native = plan.native and not issubclass(cls, enum.Flag) and NoneType not in plan.fit
    return plan
