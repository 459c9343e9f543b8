"""Turn any Python value into JSON builtins, or say where and why that is impossible.

Nothing is ever shown by its ``repr``: what has no JSON form is an error that names the path and the type.
The encoder of a class is chosen once; each level of nesting costs one Python frame.
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import enum
import math
import sys
import uuid
from collections import abc
from collections.abc import Callable
from functools import lru_cache
from pathlib import PurePath
from types import NoneType
from typing import Any

import msgspec

from podium.convert.path import key_segment, type_name, within
from podium.convert.pydantic_models import is_pydantic, pydantic_encoder
from podium.convert.shape import members_of, tag_of
from podium.errors import ConversionError

#: Deeper values are refused: servers and other languages stop reading at about this depth.
MAX_DEPTH = 500
#: Conductor's integers are Java longs.
_MIN_INT, _MAX_INT = -(2**63), 2**63 - 1
_SHOWN_PATH = 80

Encode = Callable[[Any, int], Any]


class _TooDeepError(ConversionError):
    """Nesting has no end in sight; ``offender`` is the container at the limit."""

    def __init__(self, path: str, problem: str, offender: Any, *, is_cycle: bool = False) -> None:
        super().__init__(path, problem)
        self.offender = offender
        self.is_cycle = is_cycle


def to_json(value: Any) -> Any:
    """Return a value as JSON builtins: dict, list, str, int, float, bool or None.

    Containers are copied. Raises ConversionError with the path of the first part that cannot be JSON.
    """
    try:
        return _encoder(type(value))(value, 0)
    except RecursionError:
        raise ConversionError("", f"nested more than {MAX_DEPTH} levels deep") from None


def check_depth(text: bytes, value: dict[str, Any]) -> None:
    """Raise ConversionError if a task's input is nested more deeply than what may be sent; ``text`` is the task's JSON.

    Readers have limits of their own, which are not the same in every version of Python.
    """
    for part in value.values():
        if type(part) is dict or type(part) is list:
            break
    else:  # flat, as most inputs are
        return
    if text.count(b"{") + text.count(b"[") <= MAX_DEPTH:
        return
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            part
            for container in level
            for part in (container.values() if type(container) is dict else container)
            if type(part) is dict or type(part) is list
        ]
        if not level:
            return
    raise ConversionError("inputData", f"nested more than {MAX_DEPTH} levels deep")


def _encoder(cls: Any) -> Encode:
    return _BUILTINS.get(cls) or _encoder_of(cls)


def _same(value: Any, _depth: int) -> Any:
    return value


def _str(value: str, _depth: int) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ConversionError("", "the text holds half of a surrogate pair, which is no character") from None
    return value


def _int(value: int, _depth: int) -> int:
    if _MIN_INT <= value <= _MAX_INT:
        return value
    raise ConversionError("", "int beyond 64 bits: return it as text")


def _float(value: float, _depth: int) -> float:
    if math.isfinite(value):
        return value
    raise ConversionError("", f"{value} cannot be JSON: return None or a text instead")


def _list(source: Any, depth: int) -> list[Any]:
    if depth > MAX_DEPTH:
        raise _too_deep(source)
    result: list[Any] = []
    try:
        for item in source:
            kind: Any = type(item)
            result.append((_BUILTINS.get(kind) or _encoder_of(kind))(item, depth + 1))
    except ConversionError as error:
        raise _outside(f"[{len(result)}]", error, source) from error.__cause__
    return result


def _dict(source: Any, depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise _too_deep(source)
    result: dict[str, Any] = {}
    key: Any = None
    try:
        for key, item in source.items():
            if type(key) is not str or not key.isascii():
                key = _key(key)  # noqa: PLW2901 - from here on, also in messages, it is JSON's
            kind: Any = type(item)
            result[key] = (_BUILTINS.get(kind) or _encoder_of(kind))(item, depth + 1)
    except ConversionError as error:
        raise _outside(key_segment(key), error, source) from error.__cause__
    if len(result) != len(source):
        raise ConversionError("", "two keys of the dict become the same JSON key")
    return result


def _key(key: Any) -> str:
    """Return a dict's key as JSON's text: what ``dict[int, ...]`` and the like read back."""
    encoded = _encoder(type(key))(key, 0)
    if type(encoded) is str:
        return encoded
    if type(encoded) is bool:
        return "true" if encoded else "false"
    if type(encoded) in {int, float}:
        return repr(encoded)
    raise ConversionError("", f"a key of type {type_name(type(key))} cannot be a JSON key")


def _too_deep(value: Any) -> _TooDeepError:
    return _TooDeepError("", f"nested more than {MAX_DEPTH} levels deep", value)


def _outside(segment: str, error: ConversionError, container: Any) -> ConversionError:
    """Return the error as seen from the container that ``segment`` is in.

    To meet the offender again on the way out means that it contains itself; its outermost place is told.
    """
    if not isinstance(error, _TooDeepError):
        return within(segment, error)
    outer = within(segment, error)
    if container is error.offender:
        through = error.problem if error.is_cycle else f"contains itself, at {outer.path}"
        return _TooDeepError("", through, container, is_cycle=True)
    path = outer.path if len(outer.path) <= _SHOWN_PATH else outer.path[:_SHOWN_PATH] + "..."
    return _TooDeepError(path, error.problem, error.offender, is_cycle=error.is_cycle)


def _then(convert: Callable[[Any], Any]) -> Encode:
    """Return the encoder of a class whose instances ``convert`` turns into something that can be encoded."""

    def encode(value: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise _too_deep(value)
        simpler = convert(value)
        return _encoder(type(simpler))(simpler, depth)

    return encode


def _base64(value: Any, _depth: int) -> str:
    return base64.b64encode(value).decode()


def _iso(value: Any, _depth: int) -> str:
    text: str = value.isoformat()
    return text


def _text(value: Any, _depth: int) -> str:
    return _str(str(value), 0)


def _duration(value: dt.timedelta, _depth: int) -> str:
    exact = dt.timedelta(value.days, value.seconds, value.microseconds)
    text: str = msgspec.to_builtins(exact)
    return text


_BUILTINS: dict[type, Encode] = {
    str: _str,
    int: _int,
    float: _float,
    bool: _same,
    NoneType: _same,
    list: _list,
    tuple: _list,
    dict: _dict,
}

#: For these classes and their subclasses; the first that matches decides.
_FAMILIES: tuple[tuple[tuple[type, ...], Encode], ...] = (
    ((enum.Enum,), _then(lambda member: member.value)),
    ((str,), _then(str.__str__)),
    ((int,), _then(int.__int__)),
    ((float,), _then(float.__float__)),
    ((dt.date, dt.time), _iso),  # datetime is a date
    ((dt.timedelta,), _duration),
    ((uuid.UUID, decimal.Decimal, PurePath), _text),
    ((bytes, bytearray, memoryview), _base64),
)
_COLLECTIONS: tuple[tuple[tuple[type, ...], Encode], ...] = (
    ((abc.Mapping,), _dict),
    ((abc.Sequence, abc.Set, abc.ValuesView), _list),
)


@lru_cache(maxsize=1024)
def _encoder_of(cls: type) -> Encode:
    numpy = sys.modules.get("numpy")
    if numpy is not None and issubclass(cls, numpy.generic | numpy.ndarray):
        return _then(_from_numpy)
    if (known := _family(cls, _FAMILIES)) is not None:
        return known
    if is_pydantic(cls):
        return _then(pydantic_encoder(cls))
    return _object(cls) or _family(cls, _COLLECTIONS) or _refuse


def _family(cls: type, families: tuple[tuple[tuple[type, ...], Encode], ...]) -> Encode | None:
    return next((encode for classes, encode in families if issubclass(cls, classes)), None)


def _from_numpy(value: Any) -> Any:
    simple = value.tolist()
    if type(simple) is type(value):
        raise ConversionError("", f"a value of type {type_name(type(value))} cannot be JSON")
    return simple


def _object(cls: type) -> Encode | None:
    """Return the encoder of an object-like class: its fields as an object."""
    if issubclass(cls, msgspec.Struct) and cls.__struct_config__.array_like:
        return _then(lambda value: [getattr(value, name) for name in cls.__struct_fields__])
    members = members_of(cls)
    if members is None:
        return None
    tag = tag_of(cls)
    constant = {} if tag is None else dict([tag])

    def encode(value: Any, depth: int) -> dict[str, Any]:
        if depth > MAX_DEPTH:
            raise _too_deep(value)
        result, key = dict(constant), ""
        try:
            for name, key in members:
                item = getattr(value, name)
                if item is not msgspec.UNSET:
                    result[key] = _encoder(type(item))(item, depth + 1)
        except ConversionError as error:
            raise _outside(key_segment(key), error, value) from error.__cause__
        except AttributeError as error:
            raise ConversionError("", f"a value of type {type_name(cls)} cannot be JSON: {error}") from error
        return result

    return encode


def _refuse(value: Any, _depth: int) -> Any:
    hint = ": make it a list" if isinstance(value, abc.Iterator) else ""
    raise ConversionError("", f"a value of type {type_name(type(value))} cannot be JSON{hint}")
