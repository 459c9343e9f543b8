"""Reading arrays, objects and unions, given the plans of what they are made of.

Every level that an error passes adds its own segment of the path. The loops keep ``try`` outside: it costs nothing
until something fails.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from types import NoneType
from typing import TYPE_CHECKING, Any

import msgspec

from podium.convert.path import key_segment, mismatch, shown, within
from podium.convert.scalar import ANYTHING, KINDS, LEAVES, Convert, Fit, Plan, build, same
from podium.errors import ConversionError, DeclarationError

if TYPE_CHECKING:
    from podium.convert.shape import Field, Shape

_CONTAINERS = (list, dict)
_BOOLS = {"true": True, "false": False}
#: Numbers in the keys of objects, as regular expressions that Python and JSON Schema both understand.
INT_KEY = "0|-?[1-9][0-9]*"
NUMBER_KEY = "-?(?:0|[1-9][0-9]*)(?:[.][0-9]+)?(?:[eE][+-]?[0-9]+)?"


def array_plan(item: Plan, make: Callable[[list[Any]], Any], fit: Fit) -> Plan:
    """Return the plan of a container whose items all have one type; ``make`` builds it from a list."""
    read = item.convert

    def convert(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise mismatch("array", value)
        items: list[Any] = []
        try:
            for element in value:
                items.append(read(element))  # noqa: PERF401 - its length tells where an error happened
        except ConversionError as error:
            raise within(f"[{len(items)}]", error) from error.__cause__
        return items if make is list else build(make, items)

    native = item.native and make in (list, tuple, set, frozenset)
    return Plan(_of("array", item), convert, {list: fit}, native=native, keys=item.keys)


def _of(container: str, item: Plan) -> str:
    return container if item is ANYTHING else f"{container} of {item.name}"


def tuple_plan(items: Sequence[Plan]) -> Plan:
    """Return the plan of a tuple whose items have a type each."""
    expected = f"array of {len(items)}"
    readers = [item.convert for item in items]

    def convert(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise mismatch(expected, value)
        if len(value) != len(readers):
            raise ConversionError("", f"expected {expected}, got {len(value)}")
        result: list[Any] = []
        try:
            for read, element in zip(readers, value, strict=True):
                result.append(read(element))
        except ConversionError as error:
            raise within(f"[{len(result)}]", error) from error.__cause__
        return tuple(result)

    keys = frozenset().union(*(item.keys for item in items))
    return Plan("tuple", convert, {list: Fit.EXACT}, native=all(item.native for item in items), keys=keys)


def mapping_plan(key: Plan, item: Plan, make: Callable[[dict[Any, Any]], Any]) -> Plan:
    """Return the plan of a mapping; keys are read from the text that JSON makes of them."""
    text_keys = key is ANYTHING or key is LEAVES[str]
    read_key, read = same if text_keys else _key_reader(key), item.convert

    def convert(value: Any) -> Any:
        if type(value) is not dict:
            raise mismatch("object", value)
        result: dict[Any, Any] = {}
        name = ""
        try:
            for name, element in value.items():
                result[read_key(name)] = read(element)
        except ConversionError as error:
            raise within(key_segment(name), error) from error.__cause__
        except TypeError as error:  # a key that cannot be hashed
            raise ConversionError(key_segment(name), f"key: {error}") from error
        if len(result) != len(value):
            raise ConversionError("", "two keys of the object stand for the same key")
        return result if make is dict else build(make, result)

    native = text_keys and item.native and make is dict
    return Plan(_of("object", item), convert, {dict: Fit.NEAR}, native=native, keys=item.keys)


def _key_reader(key: Plan) -> Convert:
    """Return the converter of object keys. ``5``, ``1.5`` and ``true`` are read as such if the key type takes them.

    An int is written with digits only, and a number of an Enum as JSON writes it, so that keys are told apart.
    """
    rank = key.fit.get(float)

    def simpler(text: str) -> Any:
        if text in _BOOLS and bool in key.fit:
            return _BOOLS[text]
        if int in key.fit and re.fullmatch(INT_KEY, text):
            return int(text)
        if rank not in (None, Fit.LOOSE) and re.fullmatch(NUMBER_KEY, text):
            number = float(text)
            if math.isfinite(number) and (rank != Fit.LISTED or repr(number) == text):
                return number
        raise ValueError(text)

    def convert(text: Any) -> Any:
        try:
            if type(text) is str:
                return key.convert(simpler(text))
        except (ConversionError, ValueError):
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
    cls, name, tag = shape.cls, shape.cls.__name__, shape.tag
    fields = [_reader(field, plan) for field, plan in zip(shape.inputs, plans, strict=True)]
    keys = [field.key for field in shape.inputs]
    known = frozenset(keys) if tag is None else frozenset([*keys, tag[0]])
    refuse_unknown = closed or shape.closed

    def convert(value: Any) -> Any:
        if shape.from_array and isinstance(value, list | tuple):
            value = _by_position(keys, value)
        if type(value) is not dict:
            raise mismatch(name, value)
        if tag is not None:
            _check_tag(*tag, value)
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

    native = shape.native and not closed and all(plan.native for plan in plans)
    return Plan(name, convert, fit_of(shape), native=native, keys=known)


def or_null(plan: Plan) -> Plan:
    """Return the plan of a field or parameter whose default is None: null that its type does not take is None."""
    if plan.fit.get(NoneType) in (Fit.LISTED, Fit.EXACT):
        return plan
    read = plan.convert

    def convert(value: Any) -> Any:
        if value is not None:
            return read(value)
        try:
            return read(None)
        except ConversionError:
            return None

    return Plan(plan.name, convert, plan.fit | {NoneType: Fit.EXACT}, native=plan.native, keys=plan.keys)


def fit_of(shape: Shape) -> dict[type, int]:
    """Return the JSON types that an object-like class is read from."""
    return dict.fromkeys((dict, list) if shape.from_array else (dict,), Fit.EXACT)


def _reader(field: Field, plan: Plan) -> tuple[str, str, Convert, bool]:
    return field.key, field.name, plan.convert, field.required


def _by_position(keys: Sequence[str], value: Sequence[Any]) -> dict[str, Any]:
    if len(value) > len(keys):
        raise ConversionError("", f"expected at most {len(keys)} items, got {len(value)}")
    return dict(zip(keys, value, strict=False))


def _check_tag(key: str, tag: Any, value: dict[str, Any]) -> None:
    found = value.get(key, tag)
    if found != tag or type(found) is bool:  # True == 1
        raise ConversionError(key, f"expected {shown(tag)}, got {shown(value[key])}")


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
            by_kind[kind] = _best(name, [closed_members[i] for i in order], candidates)
        elif candidates:
            by_kind[kind] = _first(name, candidates)

    def convert(value: Any) -> Any:
        read = by_kind.get(type(value))
        if read is None:
            raise mismatch(name, value)
        return read(value)

    fit = {kind: min(plan.fit[kind] for plan in members if kind in plan.fit) for kind in by_kind}
    return Plan(name, convert, fit, native=_native_union(members), keys=frozenset().union(*(m.keys for m in members)))


def _native_union(members: Sequence[Plan]) -> bool:
    """Return whether msgspec picks the same member: null and one other type, or nothing but scalars of their own."""
    others = [plan for plan in members if plan.fit.keys() != {NoneType}]
    return all(plan.native for plan in members) and (
        len(others) == 1 or all(plan in (LEAVES[bool], LEAVES[int], LEAVES[float], LEAVES[str]) for plan in others)
    )


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


def _best(name: str, closed: Sequence[Plan], candidates: Sequence[Plan]) -> Convert:
    """Return a converter that takes the best of ``candidates`` for an array or object."""
    passes = [closed] if list(closed) == list(candidates) else [closed, candidates]

    def convert(value: Any) -> Any:
        problems: dict[str, ConversionError] = {}
        for plans in passes:
            for plan in sorted(plans, key=lambda plan: _distance(plan, value)):
                try:
                    return plan.convert(value)
                except ConversionError as error:
                    problems[plan.name] = error
        tried = "; ".join(f"as {plan}: {error}" for plan, error in problems.items())
        raise ConversionError("", f"fits none of {name} ({tried})")

    return convert


def _distance(plan: Plan, value: Any) -> tuple[int, int, int]:
    """Order plans: the more specific type, then the more keys in common, then the fewer keys in all."""
    shared = len(plan.keys & value.keys()) if type(value) is dict else 0
    return plan.fit[type(value)], -shared, len(plan.keys)


def accelerated(annotation: Any, plan: Plan) -> Plan:
    """Let msgspec try first, if it gives the same values and knows the type."""
    if not plan.native:
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
        except Exception:  # noqa: S110 - whatever it was: the careful way succeeds, or says it better
            pass  # and not in here, where a refusal would have this one as its context
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
