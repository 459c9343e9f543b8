"""Reading the types that are not made of others: scalars, texts, bare list and dict.

Each is a ``Plan``: the function that reads it, its name in messages, and for every JSON type that it can be read from
a rank that says how well the two fit. Unions try their members in the order of these ranks (lower first).
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import enum
import re
import uuid
from collections.abc import Callable, Iterable
from pathlib import PurePath
from types import NoneType
from typing import Any

import msgspec

from podium.bundle import Bundle
from podium.convert.path import json_name, mismatch, shown
from podium.errors import ConversionError, DeclarationError

Convert = Callable[[Any], Any]


class Fit(enum.IntEnum):
    """How specific a type is about the JSON values it is read from; unions try low numbers first."""

    #: Literal, Enum: a few values.
    LISTED = 0
    #: int from int, a class from an object, a tuple from an array.
    EXACT = 1
    #: float from int, list from an array, dict from an object.
    NEAR = 2
    #: date from text, set from an array.
    PARSED = 3
    #: str from text.
    TEXT = 4
    #: Path from text, int from 3.0: something else fits as well or better.
    LOOSE = 5
    ANYTHING = 9


KINDS: tuple[type, ...] = (NoneType, bool, int, float, str, list, dict)


class Plan(Bundle, eq=False):
    """How one annotation is read from JSON."""

    #: Name in error messages.
    name: str
    convert: Convert
    #: JSON type -> rank.
    fit: dict[type, int]
    #: Whether msgspec.convert(), where it succeeds, gives the same value.
    native: bool = False
    #: JSON keys of an object-like class, or of those inside a container.
    keys: frozenset[str] = frozenset()


def same(value: Any) -> Any:
    """Return the value itself."""
    return value


ANYTHING = Plan("anything", same, dict.fromkeys(KINDS, Fit.ANYTHING), native=True)


def _exact(kind: type) -> Convert:
    expected = json_name(kind())

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


_DAY = (
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_LEAP_YEAR = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
_DATE = f"(?!0000)(?:[0-9]{{4}}-{_DAY}|{_LEAP_YEAR}-02-29)"
_HOUR = "(?:[01][0-9]|2[0-3])"
#: The offset from UTC in the texts of times and datetimes.
OFFSET = f"(?:[Zz]|[+-]{_HOUR}(?::?[0-5][0-9])?|[+-]{_HOUR}:[0-5][0-9]:[0-5][0-9](?:[.][0-9]+)?)"
_TIME = f"{_HOUR}:[0-5][0-9](?::[0-5][0-9](?:[.,][0-9]+)?)?{OFFSET}?"
_SOME, _WHOLE = "[0-9]+(?:[.][0-9]+)?", "[0-9]+"
_HEX = "[0-9a-fA-F]"

#: The texts that stand for a value of a type, as a regular expression that Python and JSON Schema both understand.
TEXTS: dict[type, str] = {
    dt.date: _DATE,
    dt.datetime: f"{_DATE}[Tt ]{_TIME}",
    dt.time: _TIME,
    # Only the last number may have a fraction.
    dt.timedelta: f"[+-]?[Pp](?:{_SOME}[Dd]|(?:{_WHOLE}[Dd])?[Tt](?:{_SOME}[Hh]|(?:{_WHOLE}[Hh])?"
    f"(?:{_SOME}[Mm]|(?:{_WHOLE}[Mm])?{_SOME}[Ss])))",
    uuid.UUID: f"{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}}|{_HEX}{{32}}",
    decimal.Decimal: "[+-]?(?:(?:[0-9]+(?:[.][0-9]*)?|[.][0-9]+)(?:[eE][+-]?[0-9]{1,17})?|Infinity|s?NaN[0-9]*)",
    bytes: "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?",
}


def _parsed(kind: type, expected: str, *, further: Convert | None = None, number: Convert | None = None) -> Convert:
    """Return a converter that lets msgspec parse texts of the type, and ``further`` those that msgspec does not know.

    ``number`` reads numbers, which are refused otherwise.
    """
    texts = TEXTS[kind]

    def convert(value: Any) -> Any:
        try:
            if type(value) is str and re.fullmatch(texts, value):
                return _text_by_msgspec(value, kind, further)
            if number is not None and type(value) in (int, float):
                return number(value)
        except (ValueError, OverflowError, msgspec.ValidationError):
            pass
        raise ConversionError(
            "", f"expected {expected}, got {shown(value) if type(value) is str else json_name(value)}"
        )

    return convert


def _text_by_msgspec(value: str, kind: type, further: Convert | None) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        if further is None:
            raise
    return further(value)


def _datetime(value: str) -> dt.datetime:
    """Parse the forms beside RFC 3339: offsets with seconds, times without."""
    return dt.datetime.fromisoformat(value.upper())


def _time(value: str) -> dt.time:
    return dt.time.fromisoformat(value.upper())


def _seconds(value: float) -> dt.timedelta:
    return dt.timedelta(seconds=value)


def _decimal(value: float) -> decimal.Decimal:
    return msgspec.convert(value, decimal.Decimal)


def _bytes(kind: Callable[[bytes], Any]) -> Convert:
    def convert(value: Any) -> Any:
        if type(value) is not str:
            raise mismatch("base64 text", value)
        if not re.fullmatch(TEXTS[bytes], value):
            raise ConversionError("", f"expected base64 text, got {shown(value)}")
        return kind(base64.b64decode(value))

    return convert


def _path(kind: type[PurePath]) -> Convert:
    def convert(value: Any) -> PurePath:
        if type(value) is str:
            return kind(value)
        raise mismatch("path", value)

    return convert


_DATE_TIME = "an ISO 8601 date with a time, such as 2024-01-31T10:20:30Z"
_TEXT_ONLY: dict[type, int] = {str: Fit.PARSED}
_TEXT_OR_NUMBER: dict[type, int] = {str: Fit.PARSED, int: Fit.PARSED, float: Fit.PARSED}

LEAVES: dict[Any, Plan] = {
    Any: ANYTHING,
    object: ANYTHING,
    None: Plan("null", _exact(NoneType), {NoneType: Fit.EXACT}, native=True),
    NoneType: Plan("null", _exact(NoneType), {NoneType: Fit.EXACT}, native=True),
    bool: Plan("bool", _exact(bool), {bool: Fit.EXACT}, native=True),
    str: Plan("str", _exact(str), {str: Fit.TEXT}, native=True),
    int: Plan("int", _int, {int: Fit.EXACT, float: Fit.LOOSE}, native=True),
    float: Plan("float", _float, {float: Fit.EXACT, int: Fit.NEAR}, native=True),
    dt.datetime: Plan("datetime", _parsed(dt.datetime, _DATE_TIME, further=_datetime), _TEXT_ONLY, native=True),
    dt.date: Plan(
        "date", _parsed(dt.date, "an ISO 8601 date without a time, such as 2024-01-31"), _TEXT_ONLY, native=True
    ),
    dt.time: Plan(
        "time", _parsed(dt.time, "an ISO 8601 time, such as 10:20:30", further=_time), _TEXT_ONLY, native=True
    ),
    dt.timedelta: Plan(
        "timedelta",
        _parsed(dt.timedelta, "an ISO 8601 duration or a number of seconds", number=_seconds),
        _TEXT_OR_NUMBER,
        native=True,
    ),
    uuid.UUID: Plan("UUID", _parsed(uuid.UUID, "a UUID"), _TEXT_ONLY, native=True),
    # Not native: msgspec also reads 1_000, spaces around a number and the digits of other scripts.
    decimal.Decimal: Plan("Decimal", _parsed(decimal.Decimal, "a decimal number", number=_decimal), _TEXT_OR_NUMBER),
    bytes: Plan("bytes", _bytes(bytes), {str: Fit.LOOSE}, native=True),
    bytearray: Plan("bytearray", _bytes(bytearray), {str: Fit.LOOSE}, native=True),
    memoryview: Plan("memoryview", _bytes(memoryview), {str: Fit.LOOSE}),
    list: Plan("array", _exact(list), {list: Fit.NEAR}, native=True),
    dict: Plan("object", _exact(dict), {dict: Fit.NEAR}, native=True),
}


def text_plan(cls: type) -> Plan | None:
    """Return the plan of a path class or of a subclass of str, int or float; None for other classes."""
    if issubclass(cls, PurePath):
        return Plan(cls.__name__, _path(cls), {str: Fit.LOOSE})
    for base in (str, int, float):
        if issubclass(cls, base):
            return _derived(cls, LEAVES[base])
    return None


def _derived(cls: type, base: Plan) -> Plan:
    def convert(value: Any) -> Any:
        return build(cls, base.convert(value))

    fit: dict[type, int] = {kind: Fit.LOOSE if rank == Fit.LOOSE else Fit.PARSED for kind, rank in base.fit.items()}
    return Plan(cls.__name__, convert, fit)


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


def choice_plan(what: str, members: Iterable[tuple[Any, Any]], otherwise: Convert | None = None) -> Plan:
    """Return the plan of an Enum or Literal: pairs of a JSON value and what it stands for.

    ``otherwise`` is asked for values that are not listed; it raises ValueError for what it does not know either.
    """
    table: dict[tuple[bool, Any], Any] = {}
    for encoded, member in members:
        if type(encoded) not in KINDS or isinstance(encoded, (list, dict)):
            raise DeclarationError(f"{what}: {member!r} cannot be told by a JSON text, number or boolean")
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
        except (ValueError, KeyError, TypeError, ConversionError):
            pass
        got = shown(value) if kind in KINDS and kind not in (list, dict) else json_name(value)
        raise ConversionError("", f"expected one of {allowed}, got {got}")

    if kinds & {int, float}:
        kinds |= {int, float}
    return Plan(
        what, convert, dict.fromkeys(kinds, Fit.LISTED), native=kinds <= {str, NoneType} or kinds <= {int, float}
    )


def enum_plan(cls: type[enum.Enum], encode: Convert) -> Plan:
    """Return the plan of an Enum: members are told by value, as ``encode`` shows it in JSON.

    Values that are not listed go to the class itself, so ``_missing_`` and combined flags work.
    """
    flags = issubclass(cls, enum.Flag)
    listed = list(zip(values_of(cls, encode), cls.__members__.values(), strict=True))
    plan = choice_plan(cls.__name__, listed, _combined(cls) if flags else cls)
    plan.native = plan.native and not flags and NoneType not in plan.fit
    return plan


def values_of(cls: type[enum.Enum], encode: Convert) -> list[Any]:
    """Return the values of an Enum's members in JSON, aliases included.

    Raises DeclarationError for one that is an array or object there, or no JSON at all.
    """
    values = []
    for member in cls.__members__.values():
        try:
            value = encode(member.value)
        except ConversionError as error:
            raise DeclarationError(f"{cls.__name__}: {member!r}: {error}") from error
        if isinstance(value, (list, dict)):
            raise DeclarationError(f"{cls.__name__}: {member!r} cannot be told by a JSON text, number or boolean")
        values.append(value)
    return values


def _combined(cls: Any) -> Convert:
    def convert(value: Any) -> Any:
        if value < 0 and cls._boundary_ is not enum.KEEP:
            raise ValueError(value)  # what a negative number stands for depends on how many flags there are
        return cls(_int(value))

    return convert
