"""Reading arrays, objects and unions, given the plans of what they are made of.

Every level that an error passes adds its own segment of the path. The loops keep ``try`` outside: it costs nothing
until something fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from types import NoneType
from typing import Any

import msgspec

from podium.errors import ConversionError, DeclarationError
from podium.types_path import key_segment, mismatch, shown, within
from podium.types_scalar import ANYTHING, KINDS, OBJECT, SCALARS, TUPLE, Convert, Plan, build, same
from podium.types_shape import Shape

_PLAIN = frozenset({NoneType, bool, int, float, str})
_CONTAINERS = (list, dict)


def array_plan(item: Plan, make: Callable[[list[Any]], Any], rank: int) -> Plan:
    """Return the plan of a container whose items all have one type; ``make`` builds it from a list."""
    if item is ANYTHING and make is list:
        return Plan("array", _bare(list), {list: rank}, native=True)
    read = item.convert

    def convert(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise mismatch("array", value)
        items, index = [], 0
        try:
            for index, element in enumerate(value):  # noqa: B007 - the handler tells where it happened
                items.append(read(element))
        except ConversionError as error:
            raise within(f"[{index}]", error) from error.__cause__
        return items if make is list else build(make, items)

    return Plan("array", convert, {list: rank}, native=item.native and make in (list, tuple, set, frozenset))


def tuple_plan(items: Sequence[Plan]) -> Plan:
    """Return the plan of a tuple whose items have a type each."""
    expected = f"array of {len(items)}"
    readers = [item.convert for item in items]

    def convert(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise mismatch(expected, value)
        if len(value) != len(readers):
            raise ConversionError("", f"expected {expected}, got {len(value)}")
        result, index = [], 0
        try:
            for index, (read, element) in enumerate(zip(readers, value, strict=True)):  # noqa: B007 - as above
                result.append(read(element))
        except ConversionError as error:
            raise within(f"[{index}]", error) from error.__cause__
        return tuple(result)

    return Plan("tuple", convert, {list: TUPLE}, native=all(item.native for item in items))


def mapping_plan(key: Plan, item: Plan, make: Callable[[dict[Any, Any]], Any], rank: int) -> Plan:
    """Return the plan of a mapping; keys are read from the text that JSON makes of them."""
    text_keys = key is ANYTHING or key is SCALARS[str]
    if text_keys and item is ANYTHING and make is dict:
        return Plan("object", _bare(dict), {dict: rank}, native=True)
    read_key, read = same if text_keys else _key_reader(key), item.convert

    def convert(value: Any) -> Any:
        if type(value) is not dict:
            raise mismatch("object", value)
        result: dict[Any, Any] = {}
        name = ""
        try:
            for name, element in value.items():  # noqa: B007 - the handler tells where it happened
                result[read_key(name)] = read(element)
        except ConversionError as error:
            raise within(key_segment(name), error) from error.__cause__
        except TypeError as error:  # a key that cannot be hashed
            raise ConversionError(key_segment(name), f"key: {error}") from error
        if len(result) != len(value):
            raise ConversionError("", "two keys of the object stand for the same key")
        return result if make is dict else build(make, result)

    return Plan("object", convert, {dict: rank}, native=text_keys and item.native and make is dict)


def _bare(kind: type) -> Convert:
    expected = "array" if kind is list else "object"

    def convert(value: Any) -> Any:
        if type(value) is kind:
            return value
        raise mismatch(expected, value)

    return convert


def _key_reader(key: Plan) -> Convert:
    """Return the converter of object keys. ``5``, ``1.5`` and ``true`` are read as such if the key type takes them."""
    numbers = bool(key.fit.keys() & {bool, int, float})

    def convert(text: Any) -> Any:
        try:
            if numbers and type(text) is str:
                number = msgspec.json.decode(text)
                if type(number) in (bool, int, float):
                    return key.convert(number)
        except (ConversionError, msgspec.DecodeError, UnicodeError):
            pass  # not a number of this type: it may still be a text
        try:
            return key.convert(text)
        except ConversionError as error:
            raise ConversionError("", f"key: {error.problem}") from error.__cause__

    return convert


def object_plan(shape: Shape, plans: Sequence[Plan], *, closed: bool) -> Plan:
    """Return the plan of an object-like class; ``plans`` belong to ``shape.inputs``.

    Keys that are not fields are ignored, or refused if ``closed``.
    """
    cls, name = shape.cls, shape.cls.__name__
    fields = [
        (field.key, field.name, plan.convert, field.required) for field, plan in zip(shape.inputs, plans, strict=True)
    ]
    tag_key, tag = shape.tag or ("", None)
    known = frozenset(key for key, *_ in fields) | ({tag_key} if shape.tag else set())
    refuse_unknown = closed or shape.closed

    def convert(value: Any) -> Any:
        if shape.from_array and isinstance(value, list | tuple):
            if len(value) > len(fields):
                raise ConversionError("", f"expected at most {len(fields)} items, got {len(value)}")
            value = {key: item for (key, *_), item in zip(fields, value, strict=False)}
        if type(value) is not dict:
            raise mismatch(name, value)
        if shape.tag and value.get(tag_key, tag) != tag:
            raise ConversionError(tag_key, f"expected {shown(tag)}, got {shown(value[tag_key])}")
        given: dict[str, Any] = {}
        key = ""
        try:
            for key, attribute, read, required in fields:
                if key in value:
                    given[attribute] = read(value[key])
                elif required:
                    raise missing("the object", value)
        except ConversionError as error:
            raise within(key_segment(key), error) from error.__cause__
        if refuse_unknown and not known.issuperset(value):
            raise unknown(name, value, known)
        return build(cls, **given)

    fit = {dict: OBJECT, list: TUPLE} if shape.from_array else {dict: OBJECT}
    native = shape.native and not closed and all(plan.native for plan in plans)
    return Plan(name, convert, fit, native=native, keys=known)


def missing(owner: str, value: dict[str, Any]) -> ConversionError:
    """Return the error for a key that is required and absent."""
    return ConversionError(
        "", f"required, but {owner} has no such key (it has: {', '.join(map(str, value)) or 'none'})"
    )


def unknown(owner: str, value: dict[str, Any], known: frozenset[str]) -> ConversionError:
    """Return the error for the first key that ``owner`` does not know."""
    key = next(key for key in value if key not in known)
    return ConversionError(key_segment(key), f"unknown key ({owner} has: {', '.join(sorted(known)) or 'none'})")


def union_plan(members: Sequence[Plan], closed_members: Sequence[Plan]) -> Plan:
    """Return the plan of a union: of the members that take a value's JSON type, the one that fits best.

    First every member has to take the value whole, then with unknown keys ignored; each time from the most specific
    type to the least, classes by the number of keys that they share with the value. So the order in which the members
    are written does not matter, except between types that JSON cannot tell apart.
    """
    name = " | ".join(dict.fromkeys(plan.name for plan in members))
    by_kind: dict[type, Convert] = {}
    for kind in KINDS:
        order = sorted((i for i, plan in enumerate(members) if kind in plan.fit), key=lambda i: members[i].fit[kind])
        candidates = [members[i] for i in order]
        if len(candidates) == 1:
            by_kind[kind] = candidates[0].convert
        elif candidates and kind in _CONTAINERS:
            by_kind[kind] = _best(name, kind, [closed_members[i] for i in order], candidates)
        elif candidates:
            by_kind[kind] = _first(name, candidates)

    def convert(value: Any) -> Any:
        read = by_kind.get(type(value))
        if read is None:
            raise mismatch(name, value)
        return read(value)

    fit = {kind: min(plan.fit[kind] for plan in members if kind in plan.fit) for kind in by_kind}
    several = [plan for plan in members if plan.fit.keys() != {NoneType}]
    native = all(plan.native for plan in members) and (
        len(several) == 1
        or all(plan.fit.keys() <= _PLAIN and plan.name in {"bool", "int", "float", "str"} for plan in several)
    )
    return Plan(name, convert, fit, native=native, keys=frozenset().union(*(plan.keys for plan in members)))


def _first(name: str, candidates: Sequence[Plan]) -> Convert:
    """Return a converter that takes the first of ``candidates`` that a scalar fits."""

    def convert(value: Any) -> Any:
        for plan in candidates:
            try:
                return plan.convert(value)
            except ConversionError:
                continue
        raise ConversionError("", f"expected {name}, got {shown(value)}")

    return convert


def _best(name: str, kind: type, closed: Sequence[Plan], candidates: Sequence[Plan]) -> Convert:
    """Return a converter that takes the best of ``candidates`` for an array or object."""
    passes = [closed] if list(closed) == list(candidates) else [closed, candidates]

    def convert(value: Any) -> Any:
        problems: dict[str, ConversionError] = {}
        for plans in passes:
            if kind is dict:
                keys = value.keys()
                plans = sorted(plans, key=lambda plan: (plan.fit[kind], -len(plan.keys & keys), len(plan.keys)))
            for plan in plans:
                try:
                    return plan.convert(value)
                except ConversionError as error:
                    problems[plan.name] = error
        tried = "; ".join(f"as {plan}: {error}" for plan, error in problems.items())
        raise ConversionError("", f"fits none of {name} ({tried})")

    return convert


def accelerated(annotation: Any, plan: Plan) -> Plan:
    """Let msgspec try first, if it gives the same values and knows the type."""
    if not plan.native or plan.convert in (_bare(list), _bare(dict)):
        return plan
    try:
        msgspec_reader(annotation)
    except DeclarationError:
        plan.native = False
        return plan
    careful, fast = plan.convert, msgspec.convert

    def convert(value: Any) -> Any:
        try:
            return fast(value, annotation)
        except Exception:  # noqa: BLE001 - whatever it was: the careful way succeeds or says it better
            return careful(value)

    plan.convert = convert
    return plan


_MSGSPEC_TEXT = re.compile(r"(?P<problem>.*?)(?: - at `(?:key` in `)?\$\.?(?P<path>.*)`)?", re.DOTALL)


def msgspec_reader(annotation: Any) -> Convert:
    """Return a converter that is msgspec's own, with errors in podium's notation.

    Raises DeclarationError if msgspec does not support the type.
    """
    try:
        msgspec.convert(None, annotation)
    except msgspec.ValidationError:
        pass
    except Exception as error:
        raise DeclarationError(f"no JSON value can become this type: {error}") from error

    def convert(value: Any) -> Any:
        try:
            return msgspec.convert(value, annotation)
        except msgspec.ValidationError as error:
            match = _MSGSPEC_TEXT.fullmatch(str(error))
            assert match is not None
            problem = match["problem"].replace("`", "")
            raise ConversionError(match["path"] or "", problem[:1].lower() + problem[1:]) from error.__cause__

    return convert
